"""Networks with new weights: Depth Anything V2, GLPN or EfficientNet-Lite by size."""

from dataclasses import replace

from transformers import AutoModelForDepthEstimation, PreTrainedConfig

from sonde import architectures
from sonde.models.loading import load_network
from sonde.models.network import DepthModel, read_spec
from sonde.models.start import calibrate_head, reinit_head


def build(
    size: str, *, init: str = "random", encoder: str | None = None, max_depth: float | int | None = None
) -> DepthModel:
    """Depth Anything V2, GLPN or EfficientNet-Lite of a size.

    Args:
        size: small, base, large or giant for Depth Anything V2; b0 to b5 for GLPN, named after its encoder; lite0 to
            lite2 for EfficientNet-Lite.
        init: `pretrained` loads the released relative weights from the hub; `random` draws weights from torch's
            generator.
        encoder: pretrained weights for the encoder of a random start. DINOv2's or SegFormer's: a hub id or a local
            folder. EfficientNet-Lite's: `imagenet`, or a .pth file.
        max_depth: metres at which a random start's metric head ends; None for a relative head, which GLPN does not
            have.

    Raises:
        ValueError: weights that were never released or cannot be loaded, or settings that contradict each other.
    """
    if size in architectures.MIT_SIZES:
        return _build_glpn(size, init, encoder, max_depth)
    if size in architectures.LITE_SIZES:
        return _build_lite(size, init, encoder, max_depth)
    released = architectures.SIZES[size].released
    if init == "pretrained":
        if encoder is not None or max_depth is not None:
            raise ValueError("model.encoder and model.max_depth need random weights: set model.init=random.")
        if released is None:
            raise ValueError(f"Depth Anything V2 {size} was never released: set model.init=random and model.encoder.")
        return load_network(released)
    model = _draw(architectures.depth_anything(size, max_depth=max_depth), max_depth, f"Depth Anything V2 {size}")
    if encoder is not None:
        architectures.load_encoder(model.network.backbone, encoder)
        # Other features reach the last layer now; its range was set for the random ones.
        calibrate_head(model.network, model.network.head.conv3)
    return model


def _build_glpn(size: str, init: str, encoder: str | None, max_depth: float | int | None) -> DepthModel:
    if init == "pretrained":
        known = " or ".join(architectures.PUBLISHED)
        raise ValueError(f"GLPN {size} has no single release: set model.name={known}, or model.init=random.")
    if max_depth is None:
        raise ValueError(
            f"model.size={size} predicts metres and needs model.max_depth, such as 80 (road) or 10 (rooms)."
        )
    model = _draw(architectures.glpn(size, max_depth=max_depth), max_depth, f"GLPN {size}")
    if encoder is not None:
        architectures.load_mit(model.network.glpn, encoder)
    return model


def _build_lite(size: str, init: str, encoder: str | None, max_depth: float | int | None) -> DepthModel:
    if init == "pretrained":
        raise ValueError(
            f"model.size={size} has no released depth weights: set model.init=random, with model.encoder=imagenet for "
            "a pretrained encoder."
        )
    model = _draw(architectures.lite(size, max_depth=max_depth), max_depth, f"EfficientNet-{size.capitalize()}")
    if encoder is not None:
        architectures.load_imagenet(model.network.encoder, size, encoder)
        calibrate_head(model.network, model.network.head.conv3)
    return model


def _draw(config: PreTrainedConfig, max_depth: float | int | None, name: str) -> DepthModel:
    """A model with new weights; the part of its range that the config cannot hold goes into its spec."""
    network = AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)
    reinit_head(network)
    scale = 1.0 if max_depth is None else architectures.split_max_depth(max_depth)[1]
    return DepthModel(network, replace(read_spec(network), scale=scale), name).eval()
