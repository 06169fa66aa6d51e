"""Initial weights: drawn so that a network built from a config learns."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import GLPNForDepthEstimation

from sonde.models.network import FAMILIES, DepthModel


def reinit_head(network: nn.Module) -> None:
    """Give a network built from a config weights that can learn: those of He and Glorot, and a live last layer.

    transformers draws every layer with a standard deviation of 0.02. With those weights Depth Anything's last ReLU is
    dead (the map is 0 everywhere and the loss stays constant), and in narrow encoders the residual branches return
    almost 0.

    Raises:
        ValueError: an ensemble.
    """
    family = FAMILIES[str(network.config.model_type)]  # pyright: ignore[reportAttributeAccessIssue]
    if not family.last:
        raise ValueError("An ensemble has no random weights: draw its networks one at a time, and join them.")
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    last = network.get_submodule(family.last)
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.normal_(last.weight, std=0.02)
    nn.init.constant_(last.bias, 0.0 if family.sigmoid else 0.5)
    if not family.sigmoid and hasattr(network.config, "depth_estimation_type"):  # pyright: ignore[reportAttributeAccessIssue]
        calibrate_head(network, last)


@torch.no_grad()
def answer_evenly(model: DepthModel) -> None:
    """Let a network predict 1/2 everywhere for any image: the last layer's weights are 0 until it learns."""
    last = model.network.get_submodule(model.family.last)
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 0.0 if model.sigmoid else 0.5)


@torch.no_grad()
def calibrate_head(network: nn.Module, last: nn.Conv2d) -> None:
    """Scale and shift the last layer so that its output on noise is 0.5 ± 0.1, for any size and seed.

    The decoder is deep: the spread of the last layer's input, and so the share of pixels that its ReLU passes, varies
    strongly with the seed.
    """
    answers: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, inputs, output: answers.append(torch.as_tensor(output)))
    training = network.training
    network.eval()(pixel_values=torch.randn(1, 3, 112, 112))
    network.train(training)
    hook.remove()
    assert last.bias is not None
    scale = 0.1 / answers[0].std().clamp_min(1e-6)
    last.weight.mul_(scale)
    last.bias.copy_(0.5 - scale * (answers[0].mean() - last.bias))


@torch.no_grad()
def deepen(network: nn.Module, depths: Sequence[int]) -> GLPNForDepthEstimation:
    """A GLPN with more attention blocks and the same output, as a start for training (Net2Net, Chen et al., 2016).

    A new block is a copy of the last one of its stage. Its two residual branches end in zeros, so that it adds nothing
    before it is trained.

    Args:
        network: a GLPN; it stays unchanged.
        depths: number of blocks in each stage, at least as many as it has.

    Raises:
        ValueError: another architecture, another number of stages, or fewer blocks.
    """
    if not isinstance(network, GLPNForDepthEstimation):
        raise ValueError(f"model.depths is for GLPN, and this is {type(network).__name__}: leave it out.")
    config = deepcopy(network.config)
    if len(depths) != len(config.depths) or any(new < old for new, old in zip(depths, config.depths, strict=True)):
        raise ValueError(f"model.depths={[*depths]}: give {len(config.depths)} numbers of at least {config.depths}.")
    config.depths = [*depths]
    larger = GLPNForDepthEstimation(config)
    larger.load_state_dict(network.state_dict(), strict=False)
    for blocks, known in zip(larger.glpn.encoder.block, network.glpn.encoder.block, strict=True):
        assert isinstance(blocks, nn.ModuleList) and isinstance(known, nn.ModuleList)
        for block in blocks[len(known) :]:
            block.load_state_dict(known[-1].state_dict())
            for name in ("attention.output.dense", "mlp.dense2"):
                last = block.get_submodule(name)
                assert isinstance(last, nn.Linear)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
    return larger.train(network.training)
