"""Several relative networks as one: its answer is the mean of theirs.

Networks of different kinds err at different places, so their mean errs less than each of them. A relative answer has a
scale and a shift of its own, so each answer is first brought to mean 0 and deviation 1; the result has the first
network's mean and deviation.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForDepthEstimation, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import DepthEstimatorOutput

MOST_MEMBERS = 8
FLATTEST = 1e-6
"""The smallest deviation that an answer is divided by: that of a wall may be 0."""


@no_type_check  # transformers lets every config take any keyword, which its signature does not say
class EnsembleConfig(PreTrainedConfig):
    """The configs of the networks, each as a dictionary with its `model_type`."""

    model_type = "depth_ensemble"

    members: list | None = None
    depth_estimation_type: str = "relative"


def ensemble(members: Sequence[PreTrainedConfig]) -> EnsembleConfig:
    """The config of networks together."""
    described = [member.to_diff_dict() for member in members]
    return EnsembleConfig(members=[{key: one[key] for key in one if key != "sonde"} for one in described])


class EnsembleForDepthEstimation(PreTrainedModel):
    """The whole network, as transformers saves and loads it."""

    config: EnsembleConfig
    config_class = EnsembleConfig
    main_input_name = "pixel_values"
    _no_split_modules: list[str] = []  # noqa: RUF012 - transformers' own spelling

    def __init__(self, config: EnsembleConfig):
        super().__init__(config)
        self.members = nn.ModuleList(_build_member(member) for member in _check_members(config.members))
        self.post_init()

    def forward(self, pixel_values: Tensor, **kwargs: object) -> DepthEstimatorOutput:
        """Standardised images (b, 3, h, w), of a size that all take, to `predicted_depth` (b, h, w)."""
        answers = torch.stack([member(pixel_values=pixel_values).predicted_depth for member in self.members])
        centre = answers.mean((2, 3), keepdim=True)
        spread = (answers - centre).square().mean((2, 3), keepdim=True).sqrt()
        alike = ((answers - centre) / spread.clamp(min=FLATTEST)).mean(0)
        depth = (alike * spread[0] + centre[0]).relu()
        return DepthEstimatorOutput(predicted_depth=depth)  # pyright: ignore[reportArgumentType]


def _check_members(members: object) -> list[dict[str, Any]]:
    if not isinstance(members, list) or not 2 <= len(members) <= MOST_MEMBERS:
        raise ValueError(f"its members are {type(members).__name__}, expected a list of 2 to {MOST_MEMBERS} configs")
    for member in members:
        if not isinstance(member, dict) or member.get("model_type") in (None, EnsembleConfig.model_type):
            raise ValueError("a member of it is no config of a single network")
    return members


def _build_member(member: dict[str, Any]) -> PreTrainedModel:
    fields = {key: value for key, value in member.items() if key != "auto_map"}  # code that it names is never run
    config = CONFIG_MAPPING[member["model_type"]].from_dict(fields)
    return AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)


AutoConfig.register(EnsembleConfig.model_type, EnsembleConfig)
AutoModelForDepthEstimation.register(EnsembleConfig, EnsembleForDepthEstimation)
