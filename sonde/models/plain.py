"""The code that uses a model's folder without sonde: plain transformers, and PEFT for an adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sonde import files
from sonde.architectures import PUBLISHED
from sonde.encoding import EncodingFields
from sonde.models.naming import is_hub_id
from sonde.models.spec import BASE, SPEC, ModelSpec, spec_from_json
from sonde.spelling import fence_code
from sonde.types import Space

ADAPTER = "adapter_config.json"
REMEDY = "copy the whole folder again"

RANGED = ("GLPNForDepthEstimation", "DepthAnythingForDepthEstimation")
"""Networks whose answer is multiplied by the `max_depth` of their config."""
READ = (*RANGED, "DPTForDepthEstimation")
"""Networks of transformers whose answer is the quantity that sonde reads."""
OWN_NETWORKS = ("PixelDepth", "LiteForDepthEstimation")
"""Networks that plain transformers does not know."""

DECODE = {
    "inverse": "1 / (value * (1 / low - 1 / high) + 1 / high)",
    "inverse_notebook": "1 / (value * (1 / low - 1 / high) + 1 / high + {epsilon:g})",
    "linear": "low + value * (high - low)",
    "log": "low * (high / low) ** value",
}
"""Encoding -> Python that decodes `value` in [0, 1] to depth between `low` and `high`; `epsilon` is 1e-3 per metre."""

PADDED = (
    "At sides that are multiples of {step} this is sonde's answer to rounding; at others transformers makes the image "
    "smaller, where sonde pads it and cuts the answer."
)
SMALL = (
    "An image whose short side is below {side} pixels is enlarged to that first: transformers may take a smaller size, "
    "and then answers otherwise than sonde."
)
OWN = """
**Without sonde**: plain transformers does not load this network, which is sonde's own; `sonde.load` does.
"""
USE = """
**Without sonde**: plain transformers{peft} load{s} this folder; the last lines make {meaning} of the answer.

{code}

`image` is a path, a URL or a PIL image; the answer is a tensor of its size.{notes}
"""
FOLDER = 'folder = "."  # this one; of a model on the hub, what huggingface_hub.snapshot_download gives'
IMPORTS = ("import numpy", "import torch")
PEFT = "from peft import PeftModel"
TRANSFORMERS = "from transformers import AutoImageProcessor, AutoModelForDepthEstimation, pipeline"
LOAD = "AutoModelForDepthEstimation.from_pretrained"
PIPE = 'pipe = pipeline("depth-estimation", model=network, image_processor=AutoImageProcessor.from_pretrained(folder))'


def describe_use(folder: Path) -> str:
    """The Markdown that says how the model of a folder is used without sonde; empty where the folder holds no model.

    Raises:
        ValueError: a document in the folder that cannot be read.
    """
    if not (folder / SPEC).is_file():
        return ""
    with files.reading(folder / SPEC, REMEDY):
        spec = spec_from_json(_read(folder / SPEC))
    adapted, kind = (folder / ADAPTER).is_file(), _name_network(folder)
    beside = (folder / BASE / "config.json").is_file()
    if kind in OWN_NETWORKS or spec.head == "pixels":
        return OWN
    if kind not in READ or (adapted and not beside and not is_hub_id(_name_base(folder))):
        return ""
    imports = [*(IMPORTS if spec.background is not None else ()), *([PEFT] if adapted else []), TRANSFORMERS]
    meaning, answer = _write_answer(spec)
    network = _write_loading(folder, spec) if adapted else [f"network = {LOAD}(folder)"]
    return USE.format(
        peft=" and PEFT" if adapted else "",
        s="" if adapted else "s",
        meaning=meaning,
        code=fence_code("\n".join([*imports, "", FOLDER, *network, PIPE, *answer]), "python"),
        notes="".join(f" {note}" for note in _list_notes(spec)),
    )


def describe_padding(spec: ModelSpec) -> list[str]:
    """Where transformers prepares an image otherwise than sonde, one sentence each."""
    kinds = ((PADDED, spec.pads), (SMALL, spec.short_side and not spec.input_size))
    return [note.format(step=spec.multiple, side=spec.short_side) for note, holds in kinds if holds]


def _name_network(folder: Path) -> str:
    """The class of a folder's network, or of an adapter's base; empty where the folder does not say it."""
    if (folder / ADAPTER).is_file():
        return str((_read(folder / ADAPTER).get("auto_mapping") or {}).get("base_model_class", ""))
    return str((_read(folder / "config.json").get("architectures") or [""])[0])


def _write_loading(folder: Path, spec: ModelSpec) -> list[str]:
    """The lines that load an adapter on its base: beside it, or from the hub."""
    beside, metres = (folder / BASE / "config.json").is_file(), _find_range(folder, spec)
    place = f'f"{{folder}}/{BASE}"' if beside else f'"{_name_base(folder)}"'
    more = "" if metres is None else f", max_depth={metres}"
    return [f"base = {LOAD}({place}{more})", "network = PeftModel.from_pretrained(base, folder).merge_and_unload()"]


def _name_base(folder: Path) -> str:
    return str(_read(folder / ADAPTER).get("base_model_name_or_path"))


def _find_range(folder: Path, spec: ModelSpec) -> int | None:
    """The `max_depth` that a base must be loaded with; None for that of its own config."""
    if _name_network(folder) not in RANGED:
        return None
    path = folder / BASE / "config.json"
    if spec.encoding is None:
        return None if path.is_file() else PUBLISHED.get(_name_base(folder))
    return None if path.is_file() and _read(path).get("max_depth") == 1 else 1


def _write_answer(spec: ModelSpec) -> tuple[str, list[str]]:
    """What the code makes of the network's answer, and the lines that do it."""
    seen = 'pipe(image)["predicted_depth"]'
    if spec.encoding is None and spec.space != "metric":
        return _name_space(spec.space), [f"disparity = {seen}"]
    if spec.encoding is None:
        lines = [f"depth = {seen}" if spec.scale == 1 else f"depth = {spec.scale!r} * {seen}"]
    else:
        lines = _write_decoding(spec.encoding, seen)
    if spec.canonical_focal is not None:
        lines.append(f"depth = depth * focal / {spec.canonical_focal:g}  # focal: fx in pixels of the network's input")
    if spec.background is not None:
        lines += [
            'bench = torch.from_numpy(numpy.load(f"{folder}/background.npy"))[None, None]',
            'bench = torch.nn.functional.interpolate(bench, depth.shape[-2:], mode="bilinear")[0, 0]',
            f"depth = depth + bench - {spec.background!r}  # the bench of the fixed camera",
        ]
    return "depth in metres", lines


def _write_decoding(encoding: EncodingFields, seen: str) -> list[str]:
    low, high = float(encoding["min_depth"]), float(encoding["max_depth"])
    return [
        f"value = {seen}.clamp(0, 1)",
        f"low, high = {low!r}, {high!r}  # metres: the range of the encoding, as in {SPEC}",
        f"depth = {DECODE[encoding['name']].format(epsilon=1e-3)}",
    ]


def _name_space(space: Space) -> str:
    return "depth up to a scale" if space == "scale" else "inverse depth up to an unknown scale and shift"


def _list_notes(spec: ModelSpec) -> list[str]:
    notes = describe_padding(spec)
    if spec.background is not None:
        notes.append("The image must be of the bench's own camera, where it stood then, at any scale.")
    return notes


def _read(path: Path) -> Mapping[str, Any]:
    with files.reading(path, REMEDY):
        return files.parse_json(files.read_text(path), dict[str, Any])
