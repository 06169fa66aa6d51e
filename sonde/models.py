"""Any depth network as RGB → Prediction: loading by name, and the preprocessing that belongs to the network.

A `DepthModel` takes RGB in [0, 1] at any size and answers at that size. Training, prediction and export all
read the network through it, so they cannot disagree on sizes, means or units.
"""

import json
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from huggingface_hub.errors import LocalEntryNotFoundError
from jaxtyping import Float
from peft import PeftModel
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForDepthEstimation,
    DPTImageProcessorPil,
    GLPNImageProcessorPil,
    PreTrainedModel,
)

from sonde import architectures, files
from sonde.adapters import load_adapter
from sonde.encoding import ENCODINGS, Encoding
from sonde.recipes import nearest
from sonde.types import Depth, Image, Prediction, RGBArray, Space

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped model's folder: sonde-tiny."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Meaning:
    """What a network's numbers mean and what it wants to see; stored beside the weights as `sonde.json`."""

    space: Space
    short_side: int | None
    """The network's input keeps the aspect at this short side; None keeps the image's own size."""
    multiple: int
    """Height and width the network sees are multiples of this."""
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    input_size: tuple[int, int] | None = None
    """A fixed (height, width), whatever the image's aspect."""
    encoding: dict[str, Any] | None = None
    """Name and range (m) of the encoding whose [0, 1] the network regresses; None: the network answers as is."""
    unit: str = "m"
    """The unit its data was measured in, restored on output."""
    base: str | None = None
    """For an adapter: the name its base is loaded by."""
    fingerprint: str | None = None
    """For an adapter: `fingerprint` of the base it was trained on."""

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) the network sees for an image of this size."""
        if self.input_size is not None:
            return self.input_size
        step = self.multiple
        if self.short_side is None:  # downwards, as transformers' processor for such networks
            return max(step, height // step * step), max(step, width // step * step)
        scale = self.short_side / min(height, width)

        def fit(side: int) -> int:
            return max(step, round(side * scale / step) * step)

        return fit(height), fit(width)


class Family(NamedTuple):
    """How one transformers architecture is read."""

    meaning: Meaning
    head: tuple[str, ...]
    """The modules of the depth head, for training it beside adapters."""
    last: str
    """The last convolution, whose affine map the closed-form start sets."""
    sigmoid: bool = False
    """Whether a sigmoid follows it (else a ReLU)."""
    read: Callable[[Any, int], Depth] = lambda outputs, width: outputs.predicted_depth
    """(outputs, width of the image in pixels) → the quantity the space names."""


class DepthModel(nn.Module):
    """A depth network with its own preprocessing: RGB in [0, 1] at any size in, a `Prediction` at that size out."""

    network: Any  # a transformers depth model, or PEFT's wrapper around one
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, meaning: Meaning, name: str):
        super().__init__()
        self.network = network
        self.meaning = meaning
        self.name = name
        self.register_buffer("mean", torch.tensor(meaning.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(meaning.std).view(1, 3, 1, 1), persistent=False)

    @property
    def space(self) -> Space:
        """What the predictions claim."""
        return self.meaning.space

    @property
    def encoding(self) -> Encoding | None:
        """The encoding the network regresses, if any."""
        spec = self.meaning.encoding
        return ENCODINGS[spec["name"]](spec["min_depth"], spec["max_depth"]) if spec else None

    @property
    def family(self) -> Family:
        """How this network's architecture is read."""
        return FAMILIES[self.network.config.model_type]

    def prepare(self, rgb: Image) -> Float[Tensor, "b 3 H W"]:
        """The network's input: resized (bicubic, antialiased) and standardised."""
        height, width = rgb.shape[-2:]
        size = self.meaning.network_size(height, width)
        if size != (height, width):
            rgb = functional.interpolate(rgb, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return (rgb - self.mean) / self.std

    def respond(self, network: nn.Module, rgb: Image) -> Float[Tensor, "b H W"]:
        """The raw answer at the network's own size; `network` is this model's, or a wrapper around it."""
        return self.family.read(network(pixel_values=self.prepare(rgb)), rgb.shape[-1])

    def forward(self, rgb: Image) -> Prediction:
        """Depth at the image's size: metres in space `metric`, larger is nearer in `disparity`."""
        return self.finish(self.respond(self.network, rgb), rgb.shape[-2], rgb.shape[-1])

    def finish(self, raw: Depth, height: int, width: int) -> Prediction:
        """A raw answer, resized and decoded."""
        if raw.shape[-2:] != (height, width):
            resized = functional.interpolate(raw[:, None], (height, width), mode="bicubic", align_corners=False)
            # Bicubic overshoots: kept inside the answer's own range, so no disparity turns negative.
            raw = resized[:, 0].clamp(raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True))
        encoding = self.encoding
        depth = raw if encoding is None else encoding.decode(raw)
        return Prediction(depth.float(), self.space)

    @torch.inference_mode()
    def predict(self, image: str | Path | PILImage.Image | RGBArray) -> Prediction:
        """Depth (h, w) float32 of one image: a path, a PIL image or an (h, w, 3) uint8 array."""
        training = self.training
        self.eval()
        rgb = torch.from_numpy(as_array(image)).to(self.mean.device).permute(2, 0, 1)[None].float() / 255
        prediction = self(rgb)
        self.train(training)
        return prediction._replace(depth=prediction.depth[0].cpu().numpy())

    def describe(self) -> str:
        """One line: name, parameters, space and range."""
        count = sum(parameter.numel() for parameter in self.parameters())
        encoding = self.meaning.encoding
        span = "" if encoding is None else f", {encoding['min_depth']:.3f} to {encoding['max_depth']:.3f} m"
        return f"{self.name}: {count / 1e6:.1f} M parameters, {self.space}{span}"


def load(name: str | Path, *, init: str = "pretrained") -> DepthModel:
    """The depth model of a name, in evaluation mode.

    Args:
        name: `sonde-tiny`, a hub id, a Hugging Face folder, a run folder (base + adapter, or whole), or an official
            `depth_anything_v2_*.pth`.
        init: `random` keeps the architecture and draws new weights from torch's generator.

    Raises:
        ValueError: nothing of that name; the message names what would work.
    """
    path = Path(name)
    if str(name) == "sonde-tiny":
        model = _from_folder(WEIGHTS, init)
    elif not str(name):
        raise ValueError(f"The model's name is empty. {ALTERNATIVES}")
    elif path.suffix == ".pth":
        model = _from_official(path)
    elif (path / "best").is_dir():
        model = load(path / "best", init=init)
    elif (path / "adapter_config.json").is_file():
        model = _from_adapter(path)
    elif path.is_dir():
        model = _from_folder(path, init)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        model = _from_hub(str(name), init)
    else:
        raise ValueError(f"No model {str(name)!r}: {nearest(str(name), ['sonde-tiny'])} {ALTERNATIVES}")
    model.name = str(name)
    return model.eval()


def fingerprint(network: nn.Module) -> str:
    """A short hash that changes with any tensor: an adapter must meet the base it was trained on."""
    digest = sha256()
    for key, value in sorted(network.state_dict().items()):
        flat = value.detach().reshape(-1)
        sampled = flat[:: max(1, flat.numel() // 64)].to("cpu", torch.float32)
        digest.update(key.encode() + sampled.numpy().tobytes())
    return digest.hexdigest()[:16]


def save(model: DepthModel, folder: Path) -> None:
    """Write a folder `load` takes back: an adapter (PEFT's own format) or a whole network, with `sonde.json`.

    A whole network also carries the meaning in its config, where transformers keeps it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meaning = asdict(model.meaning)
    if isinstance(model.network, PeftModel):
        # The base by its name, not by a machine's path; and no look-up of a vocabulary on the hub.
        model.network.peft_config["default"].base_model_name_or_path = model.meaning.base
        model.network.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        model.network.config.sonde = meaning
        model.network.save_pretrained(folder)
        image_processor(model.meaning).save_pretrained(folder)
    (folder / MEANING).write_text(json.dumps(meaning, indent=2) + "\n")


def image_processor(meaning: Meaning) -> DPTImageProcessorPil | GLPNImageProcessorPil:
    """transformers' image processor that prepares an image as `DepthModel.prepare` does."""
    if meaning.short_side is None and meaning.input_size is None:
        return GLPNImageProcessorPil(
            size_divisor=meaning.multiple,
            resample=PILImage.Resampling.BICUBIC,
            do_normalize=True,
            image_mean=list(meaning.mean),
            image_std=list(meaning.std),
        )
    side = meaning.short_side or meaning.multiple
    height, width = meaning.input_size or (side, side)
    return DPTImageProcessorPil(
        size={"height": height, "width": width},
        keep_aspect_ratio=meaning.input_size is None,
        ensure_multiple_of=1 if meaning.input_size else meaning.multiple,
        resample=PILImage.Resampling.BICUBIC,
        image_mean=list(meaning.mean),
        image_std=list(meaning.std),
    )


def meaning_of(network: PreTrainedModel) -> Meaning:
    """What a network's numbers mean: as stored in its config by sonde, else by its family.

    Raises:
        ValueError: an architecture sonde does not read.
    """
    config = network.config
    stored = getattr(config, "sonde", None)
    if stored is not None:
        return _thawed(stored)
    if config.model_type not in FAMILIES:
        raise ValueError(f"{config.model_type} networks are not read by sonde; expected one of {', '.join(FAMILIES)}.")
    meaning = FAMILIES[config.model_type].meaning
    if config.model_type == "dpt":  # cuts its tokens into a square: it sees only the size it was trained at
        side = (config.backbone_config or config).image_size
        meaning = replace(meaning, input_size=(side, side))
    metric = getattr(config, "depth_estimation_type", None) == "metric"
    return replace(meaning, space="metric") if metric else meaning


def as_array(image: str | Path | PILImage.Image | RGBArray) -> RGBArray:
    """An image of any accepted kind as (h, w, 3) uint8.

    Raises:
        ValueError: an array of another shape or type.
    """
    if isinstance(image, str | Path):
        return files.read_rgb(Path(image))
    if isinstance(image, PILImage.Image):
        return files.rgb_from_pil(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Expected an (h, w, 3) uint8 image, got {image.dtype} of shape {image.shape}.")
    return image


def _from_folder(folder: Path, init: str) -> DepthModel:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no model: expected config.json, adapter_config.json or a run folder with best/.")
    if init == "pretrained" and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ValueError(f"{folder} holds a config but no weights (model.safetensors): the file is missing.")
    network = _network(str(folder), init, local_files_only=True)
    return DepthModel(network, meaning_of(network), str(folder))


def _from_hub(name: str, init: str) -> DepthModel:
    try:
        if _hub_answers():
            network = _network(name, init)
        else:
            network = _network(snapshot_download(name, local_files_only=True), init, local_files_only=True)
    except LocalEntryNotFoundError:
        reason = "it cannot be reached, and the model is not in the local cache"
        raise ValueError(f"{name} could not be had from the Hugging Face hub: {reason}. {ALTERNATIVES}") from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} could not be had from the Hugging Face hub: {reason} {ALTERNATIVES}") from None
    return DepthModel(network, meaning_of(network), name)


def _hub_answers() -> bool:
    """Asked once and briefly: the hub's own client would retry for most of a minute."""
    try:
        if not HF_HUB_OFFLINE:
            urlopen(Request(ENDPOINT, method="HEAD"), timeout=5).close()
            return True
    except HTTPError:
        return True  # what it says of the model, its own client will tell
    except OSError:
        pass
    return False


def _network(name: str, init: str, local_files_only: bool = False) -> PreTrainedModel:
    if init == "random":
        config = AutoConfig.from_pretrained(name, local_files_only=local_files_only)
        network = AutoModelForDepthEstimation.from_config(config)
        revive(network)
        return network
    return AutoModelForDepthEstimation.from_pretrained(name, local_files_only=local_files_only, dtype=torch.float32)


def _from_official(path: Path) -> DepthModel:
    if not path.is_file():
        raise ValueError(f"No file {path}: expected an official depth_anything_v2_*.pth.")
    try:
        with warnings.catch_warnings(action="ignore"):  # a foreign pickle is refused below, in our words
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as weights ({str(error).splitlines()[0]}); download it anew."
        ) from None
    config, renamed = architectures.from_official(state, path.name)
    network = AutoModelForDepthEstimation.from_config(config)
    network.load_state_dict(renamed)
    return DepthModel(network, meaning_of(network), str(path))


def _from_adapter(folder: Path) -> DepthModel:
    path = folder / MEANING
    if not path.is_file():
        raise ValueError(f"{folder} is a plain adapter without {MEANING}: load it with peft on its base network.")
    meaning = _thawed(json.loads(path.read_text()))
    base = load(meaning.base or "sonde-tiny")
    if meaning.fingerprint not in (None, fingerprint(base.network)):
        raise ValueError(
            f"{folder} was trained on other weights of {meaning.base} than those loaded now; its numbers would be "
            "wrong. Use the sonde version or the base it was trained with."
        )
    return DepthModel(load_adapter(base.network, folder), meaning, str(folder))


def _thawed(stored: dict[str, Any]) -> Meaning:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return Meaning(**fields)


def revive(network: nn.Module) -> None:
    """Give a network built from a config weights that learn: He and Glorot's, and a positive last bias.

    transformers draws every layer with a standard deviation of 0.02. Under it Depth Anything's last ReLU is dead
    (the map is 0 everywhere and the loss stays flat), and in narrow encoders the residual branches answer next to 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    family = FAMILIES[str(network.config.model_type)]  # pyright: ignore[reportAttributeAccessIssue]
    last = network.get_submodule(family.last)
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.normal_(last.weight, std=0.02)
    nn.init.constant_(last.bias, 0.0 if family.sigmoid else 0.5)


def _depth_pro(outputs: Any, width: int) -> Depth:
    """Depth Pro answers inverse depth for a canonical focal length, and the field of view in degrees."""
    inverse = outputs.predicted_depth
    if outputs.field_of_view is not None:
        focal = 0.5 * width / torch.tan(0.5 * torch.deg2rad(outputs.field_of_view))
        inverse = inverse * (width / focal).view(-1, 1, 1)
    return 1 / inverse.clamp(1e-4, 1e4)


ALTERNATIVES = (
    "Without a network: sonde-tiny, a local Hugging Face folder, a run folder, or a depth_anything_v2_*.pth file."
)
MEANING = "sonde.json"

FAMILIES: dict[str, Family] = {
    "depth_anything": Family(Meaning("disparity", 518, 14), ("head",), "head.conv3"),
    "dpt": Family(Meaning("disparity", 384, 32, *HALF), ("head",), "head.head.4"),
    "glpn": Family(Meaning("metric", None, 32, *PLAIN), ("decoder", "head.head"), "head.head.2", sigmoid=True),
    "zoedepth": Family(Meaning("metric", 384, 32, *HALF), ("metric_head",), "relative_head.conv3"),
    "depth_pro": Family(
        Meaning("metric", None, 1536, *HALF, input_size=(1536, 1536)),
        ("head",),
        "head.layers.4",
        read=_depth_pro,
    ),
}
