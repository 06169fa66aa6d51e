"""Several relative models as one network, whose answer is the mean of theirs."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import AutoModelForDepthEstimation

from sonde import architectures
from sonde.adapters import is_adapted
from sonde.models.network import DepthModel


def join(models: Sequence[DepthModel], name: str = "ensemble") -> DepthModel:
    """One model of copies of several, that sees images as the first one does.

    Args:
        models: two or more plain relative ones without adapters, which see the same input.
        name: of the result.

    Raises:
        ValueError: a model that is none of these, by its name.
    """
    first, step = models[0].spec, max(model.spec.multiple for model in models)
    for model in models:
        spec = model.spec
        if model.space != "disparity" or spec.encoding is not None or is_adapted(model.network):
            raise ValueError(f"{model.name} is not a plain relative model: only such models are joined.")
        alike = (spec.mean, spec.std, spec.input_size) == (first.mean, first.std, first.input_size)
        if not alike or step % spec.multiple:
            raise ValueError(f"{model.name} sees images otherwise than {models[0].name}: they cannot be joined.")
    config = architectures.ensemble([model.network.config for model in models])
    network = AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)
    for member, model in zip(network.members, models, strict=True):
        member.load_state_dict(model.network.state_dict())
    return DepthModel(network, replace(first, multiple=step), name).eval()
