"""GLPN with SegFormer's six encoders as transformers configs, and GLPDepth's own checkpoints in transformers' names.

GLPN (arXiv 2201.07436) is a Mix Transformer (arXiv 2105.15203), whose four stages a decoder of one width fuses, and a
sigmoid times `max_depth`. What is published has the encoder b4.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor
from transformers import GLPNConfig

from sonde.architectures.foreign import Renames, encoder, held, one_less, renamed


class MiT(NamedTuple):
    """One Mix Transformer; heads (1, 2, 5, 8) and key reductions (8, 4, 2, 1) are the same in all."""

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
"""Hub id → metres it was trained to end at; both were converted with a config that says 10."""


def glpn(size: str | MiT, *, max_depth: float | int, decoder_width: int = 64) -> GLPNConfig:
    """The config of a size, for depth up to `max_depth` metres; of a fraction it holds what `held` says."""
    shape = MIT_SIZES[size] if isinstance(size, str) else size
    return GLPNConfig(
        hidden_sizes=shape.widths,
        depths=shape.depths,
        num_attention_heads=(1, 2, 5, 8),
        decoder_hidden_size=decoder_width,
        max_depth=held(max_depth)[0],
    )


def load_mit(network: Any, name: str) -> None:
    """Give GLPN's encoder the weights of a SegFormer's.

    Args:
        network: a `GLPNModel`; changed in place.
        name: a hub id such as nvidia/mit-b4, or a local folder of any SegFormer.

    Raises:
        ValueError: nothing of that name, or an encoder of another kind or size.
    """
    source = encoder(name, "segformer", "a SegFormer's Mix Transformer such as nvidia/mit-b4")
    wanted, found = (MiT(tuple(c.hidden_sizes), tuple(c.depths)) for c in (network.config, source.config))
    if wanted != found:
        raise ValueError(
            f"model.encoder={name} has widths {found.widths} and depths {found.depths}, and this model.size needs "
            f"{wanted.widths} and {wanted.depths}: nvidia/mit-b0 to -b5 go with b0 to b5."
        )
    network.load_state_dict(renamed(source.state_dict(), FROM_SEGFORMER, {}))


def converted(state: Mapping[str, Tensor], name: str) -> tuple[GLPNConfig, dict[str, Tensor]]:
    """GLPDepth's own checkpoint as (config, state in transformers' names); `from_official` says more.

    Raises:
        ValueError: a file name that does not say which range it was trained for.
    """
    metres = next((metres for known, metres in PUBLISHED.items() if known.rpartition("-")[2] in name.lower()), None)
    if metres is None:
        raise ValueError(f"{name} does not say how far it sees: put kitti (80 m) or nyu (10 m) in the file's name.")
    blocks = [re.match(r"encoder\.block(\d)\.(\d+)\.norm1\.weight", key) for key in state]
    stages = [int(block[1]) for block in blocks if block]
    widths = tuple(len(state[f"encoder.patch_embed{stage}.proj.weight"]) for stage in (1, 2, 3, 4))
    shape = MiT(widths, tuple(stages.count(stage) for stage in (1, 2, 3, 4)))
    config = glpn(shape, max_depth=metres, decoder_width=len(state["decoder.bot_conv.weight"]))
    return config, renamed(state, FROM_GLPDEPTH, {"self.kv.": ("self.key.", "self.value.")})


FROM_GLPDEPTH: Renames = {
    r"^encoder\.norm(\d)": one_less("glpn.encoder.layer_norm.{}"),
    r"^encoder\.patch_embed(\d)": one_less("glpn.encoder.patch_embeddings.{}"),
    r"^encoder\.block(\d)": one_less("glpn.encoder.block.{}"),
    r"\.norm(\d)\.": r".layer_norm_\1.",
    r"\.norm\.": ".layer_norm.",
    r"\.attn\.q\.": ".attention.self.query.",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.attn\.": ".attention.self.",
    r"\.fc(\d)\.": r".dense\1.",
    r"^decoder\.bot_conv": "decoder.stages.0.convolution",
    r"^decoder\.skip_conv(\d)": r"decoder.stages.\1.convolution",
    r"^decoder\.fusion(\d)\.conv(\d)": r"decoder.stages.\1.fusion.convolutional_layer\2",
    r"^last_layer_depth": "head.head",
}
FROM_SEGFORMER: Renames = {
    # transformers 5's names inside; earlier ones are GLPN's already.
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
