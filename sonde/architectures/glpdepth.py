"""GLPN: SegFormer's six encoders as transformers configs, and GLPDepth's checkpoints under transformers' names.

GLPN (arXiv 2201.07436) is a Mix Transformer (arXiv 2105.15203), a decoder of one width that fuses its four stages, and
a sigmoid times `max_depth`. The published networks have the encoder b4.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import GLPNConfig, PreTrainedModel

from sonde.architectures.foreign import Renames, load_foreign_encoder, rename_state, split_max_depth
from sonde.recipes.words import read_max_depth


class MiT(NamedTuple):
    """One Mix Transformer. All have attention heads (1, 2, 5, 8) and key reductions (8, 4, 2, 1)."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    """Layers of each stage."""


WIDE = (64, 128, 320, 512)
MIT_SIZES: dict[str, MiT] = {
    "b0": MiT((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": MiT(WIDE, (2, 2, 2, 2)),
    "b2": MiT(WIDE, (3, 4, 6, 3)),
    "b3": MiT(WIDE, (3, 4, 18, 3)),
    "b4": MiT(WIDE, (3, 8, 27, 3)),
    "b5": MiT(WIDE, (3, 6, 40, 3)),
}
PUBLISHED: dict[str, int] = {"vinvino02/glpn-kitti": 80, "vinvino02/glpn-nyu": 10}
"""Hub id → the depth range it was trained with, in metres. The configs of both say 10."""


def glpn(size: str | MiT, *, max_depth: float | int, decoder_width: int = 64) -> GLPNConfig:
    """The config of a size, for depth up to `max_depth` metres; a fraction of metres is split by `split_max_depth`."""
    shape = MIT_SIZES[size] if isinstance(size, str) else size
    return GLPNConfig(
        hidden_sizes=shape.widths,
        depths=shape.depths,
        num_attention_heads=(1, 2, 5, 8),
        decoder_hidden_size=decoder_width,
        max_depth=split_max_depth(max_depth)[0],
    )


def load_mit(network: PreTrainedModel, name: str) -> None:
    """Copy a SegFormer's weights into GLPN's encoder.

    Args:
        network: a `GLPNModel`; changed in place.
        name: a hub id such as nvidia/mit-b4, or a local folder of any SegFormer.

    Raises:
        ValueError: no such encoder, or one of another kind or size.
    """
    source = load_foreign_encoder(name, "segformer", "a SegFormer's Mix Transformer such as nvidia/mit-b4")
    wanted, found = (MiT(tuple(c.hidden_sizes), tuple(c.depths)) for c in (network.config, source.config))
    if wanted != found:
        raise ValueError(
            f"model.encoder={name} has widths {found.widths} and depths {found.depths}, and this model.size needs "
            f"{wanted.widths} and {wanted.depths}: nvidia/mit-b0 to -b5 go with b0 to b5."
        )
    network.load_state_dict(rename_state(source.state_dict(), FROM_SEGFORMER, {}))


def convert_checkpoint(
    state: Mapping[str, Tensor], name: str, max_depth: float | int | None
) -> tuple[GLPNConfig, dict[str, Tensor], float]:
    """Convert GLPDepth's own checkpoint; returns what `from_official` returns. `max_depth` overrides the file's name.

    Raises:
        ValueError: neither `max_depth` nor the file's name gives the depth range.
    """
    metres = read_max_depth(name) if max_depth is None else max_depth
    if metres is None:
        raise ValueError(
            f"{name} does not hold the metres at which its depth ends: give them as --max_depth 80 (max_depth=80 in "
            "Python, model.max_depth=80 in a recipe), or put kitti (80 m) or nyu (10 m) in the file's name."
        )
    # No file holds its size: the widths and depths are read from the shapes and names of its tensors.
    blocks = [re.match(r"encoder\.block(\d)\.(\d+)\.norm1\.weight", key) for key in state]
    stages = [int(block[1]) for block in blocks if block]
    widths = tuple(len(state[f"encoder.patch_embed{stage}.proj.weight"]) for stage in (1, 2, 3, 4))
    shape = MiT(widths, tuple(stages.count(stage) for stage in (1, 2, 3, 4)))
    config = glpn(shape, max_depth=metres, decoder_width=len(state["decoder.bot_conv.weight"]))
    return (
        config,
        rename_state(state, FROM_GLPDEPTH, {"self.kv.": ("self.key.", "self.value.")}),
        split_max_depth(metres)[1],
    )


def to_glpdepth(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a GLPN's state to GLPDepth's names; keys and values share one matrix. The inverse of `convert_checkpoint`.

    If the first stage and the decoder differ in width, a convolution joins them. GLPDepth does not have it; here it
    is called `decoder.skip_conv3`.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".self.key." in key:
            other = state[key.replace(".self.key.", ".self.value.")]
            found[key.replace(".self.key.", ".self.kv.")] = torch.cat([value, other])
        elif ".self.value." not in key:
            found[key] = value
    return rename_state(found, TO_GLPDEPTH, {})


def find_glpdepth_difference(config: GLPNConfig) -> str | None:
    """Describe the first setting, beyond widths and depths, in which a GLPN differs from GLPDepth's code; None if none.

    The tensors alone do not show it: such a network can load in GLPDepth and give other depth there.
    """
    usual = glpn("b4", max_depth=1)
    for setting in ("num_attention_heads", "sr_ratios", "mlp_ratios", "patch_sizes", "strides"):
        own, theirs = (list(getattr(one, setting)) for one in (config, usual))
        if own != theirs:
            return f"its {setting} are {own}, and GLPDepth's {theirs}"
    return None


def describe_glpdepth_changes(config: GLPNConfig) -> str | None:
    """Say what to change in GLPDepth's code, which builds b4, so that it loads a GLPN's state; None if nothing."""
    widths, depths, decoder = tuple(config.hidden_sizes), tuple(config.depths), config.decoder_hidden_size
    if (MiT(widths, depths), decoder) == (MIT_SIZES["b4"], 64):
        return None
    if decoder != widths[0]:
        return (
            f"GLPDepth's code cannot hold this network: its decoder of {decoder} channels meets a first stage of "
            f"{widths[0]}, and the convolution between them, decoder.skip_conv3, is sonde's own. sonde reads the file."
        )
    return (
        "GLPDepth's code builds the encoder b4 alone: before it loads this file, its models/model.py must build widths "
        f"{list(widths)} and depths {list(depths)}, channels_in = {list(widths[:0:-1])} and channels_out = {decoder}."
    )


def use_glpdepth_norms(network: nn.Module) -> None:
    """Let a GLPN's layer norms of layers and stages add 1e-6 to the variance, as GLPDepth's do.

    transformers adds 1e-5, whatever `layer_norm_eps` says, and a saved network does not keep the change.
    """
    for name, module in network.named_modules():
        if re.search(r"layer_norm[._]\d$", name) and isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


NAMES: dict[str, str] = {
    # GLPDepth's name → transformers' name. GLPDepth counts stages from 1, transformers from 0.
    **{f"encoder.norm{stage + 1}.": f"glpn.encoder.layer_norm.{stage}." for stage in range(4)},
    **{f"encoder.patch_embed{stage + 1}.proj.": f"glpn.encoder.patch_embeddings.{stage}.proj." for stage in range(4)},
    **{
        f"encoder.patch_embed{stage + 1}.norm.": f"glpn.encoder.patch_embeddings.{stage}.layer_norm."
        for stage in range(4)
    },
    **{f"encoder.block{stage + 1}.": f"glpn.encoder.block.{stage}." for stage in range(4)},
    ".norm1.": ".layer_norm_1.",
    ".norm2.": ".layer_norm_2.",
    ".attn.q.": ".attention.self.query.",
    ".attn.kv.": ".attention.self.kv.",
    ".attn.proj.": ".attention.output.dense.",
    ".attn.sr.": ".attention.self.sr.",
    ".attn.norm.": ".attention.self.layer_norm.",
    ".mlp.fc1.": ".mlp.dense1.",
    ".mlp.fc2.": ".mlp.dense2.",
    "decoder.bot_conv.": "decoder.stages.0.convolution.",
    **{f"decoder.skip_conv{stage}.": f"decoder.stages.{stage}.convolution." for stage in (1, 2, 3)},
    **{f"decoder.fusion{stage}.conv": f"decoder.stages.{stage}.fusion.convolutional_layer" for stage in (1, 2, 3)},
    "last_layer_depth.": "head.head.",
}
FROM_GLPDEPTH: Renames = {re.escape(theirs): own for theirs, own in NAMES.items()}
TO_GLPDEPTH: Renames = {re.escape(own): theirs for theirs, own in NAMES.items()}
FROM_SEGFORMER: Renames = {
    # Names of transformers 5. Those of earlier versions are GLPN's names already.
    r"^stages\.(\d)\.(patch_embeddings|layer_norm)\.": r"encoder.\2.\1.",
    r"^stages\.(\d)\.blocks\.": r"encoder.block.\1.",
    r"\.layernorm_before\.": ".layer_norm_1.",
    r"\.layernorm_after\.": ".layer_norm_2.",
    r"\.attention\.q_proj\.": ".attention.self.query.",
    r"\.attention\.k_proj\.": ".attention.self.key.",
    r"\.attention\.v_proj\.": ".attention.self.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
    r"\.sequence_reduction\.layer_norm\.": ".self.layer_norm.",
    r"\.sequence_reduction\.sequence_reduction\.": ".self.sr.",
    r"\.fc(\d)\.": r".dense\1.",
}
