"""Take a model out of sonde: a merged Hugging Face folder that plain transformers loads, compared with the original."""

import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from transformers import pipeline

from sonde import Verb, cards, models
from sonde.datasets.contract import UNITS
from sonde.models import DepthModel
from sonde.recipes import nearest

TOLERANCE = 1e-4
"""Largest difference allowed between the written network's raw answer and the original's, as a share of its largest."""


def export(model: str | Path | DepthModel, *, to: str = "hf", out: Path | str | None = None) -> Path:
    """Write a model in another format and return where it lies; the folder appears only when it is complete.

    Args:
        model: any name `sonde.load` takes, or a loaded model (left as it is).
        to: a name in EXPORTERS.
        out: an empty or new folder; `<model>-<to>`, beside a run, by default.

    Raises:
        ValueError: an unknown format, a folder in use, or a result that differs from the original.
    """
    if to not in EXPORTERS:
        raise ValueError(f"No export format {to!r}: {nearest(to, list(EXPORTERS))}")
    folder = Path(out) if out else _beside(model.name if isinstance(model, DepthModel) else str(model), to)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: give a new folder with --out, so that nothing is overwritten.")
    original = (deepcopy(model) if isinstance(model, DepthModel) else models.load(model)).cpu().eval()
    licence, original.name = cards.licence_of(original.name), folder.name
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an export that was stopped
    EXPORTERS[to](original, partial, licence)
    partial.replace(folder)
    return folder


def to_hugging_face(model: DepthModel, folder: Path, licence: str) -> None:
    """A merged network, its image processor, and a card with the few lines that turn its answer into millimetres.

    The model itself is merged. The bench of a fixed camera goes with it, and the card's lines add it.

    Raises:
        ValueError: a network that plain transformers does not have, or one that gives other answers there.
    """
    if not type(model.network.config).__module__.startswith("transformers."):
        raise ValueError(
            f"Plain transformers cannot hold this network ({model.network.config.model_type}): use it with sonde.load, "
            "or export a model that is GLPN or Depth Anything throughout."
        )
    image = _picture(*model.meaning.network_size(480, 640))
    before = _raw(model, image)
    if isinstance(model.network, PeftModel):
        model.network = model.network.merge_and_unload()
    model.meaning = replace(model.meaning, base=None, fingerprint=None)
    models.save(model, folder)
    (folder / "README.md").write_text(card(model, licence))
    after = (
        pipeline("depth-estimation", model=str(folder), device="cpu")(image)["predicted_depth"] * model.meaning.scale
    )
    difference = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{folder} answers otherwise than {model.name} (by {difference:.2g} of its largest value): it is kept for "
            "a look, and nothing was exported."
        )


def card(model: DepthModel, licence: str) -> str:
    """The model card: its licence, what the numbers mean, and how to get them without sonde."""
    meaning, bench = model.meaning, model.background
    focal = meaning.canonical_focal
    answers, lines, answer = _reading(model)
    if focal is not None:
        answers += f", as a camera of {focal:g} pixels focal length would see it"
    if model.calibration is not None:
        lines += f"\ncalibrated_m = {model.calibration.formula(answer)}"
    kinds = ((FOCAL, focal is not None), (PADDED, meaning.pads), (SMALL, meaning.short_side and not meaning.input_size))
    notes = [note.format(step=meaning.multiple, side=meaning.short_side) for note, holds in kinds if holds]
    if bench is not None:
        size = "x".join(map(str, bench.depth.shape[::-1]))
        notes.append(BENCH.format(size=size, kind=BENCHES.get(bench.kind, f"captured empty as {bench.kind}")))
    return CARD.format(
        meaning=answers,
        imports="from transformers import pipeline" if bench is None else IMPORTS,
        lines=lines,
        notes="".join(f" {note}" for note in notes),
        describe=model.describe(),
        name=model.name,
        licence=licence,
    )


def _reading(model: DepthModel) -> tuple[str, str, str]:
    """What the network answers, the lines that make depth of it, and their result, in metres where it has a unit."""
    meaning = model.meaning
    encoding, focal, scale = meaning.encoding, meaning.canonical_focal, meaning.scale
    zoom = "" if focal is None else f"focal / {focal:g} * "
    if encoding is None and meaning.space != "metric":
        answers = "inverse depth up to an unknown scale and shift: larger is nearer"
        return answers, 'disparity = pipe(image)["predicted_depth"]', "disparity"
    unit = "m" if encoding is None else meaning.unit
    per_metre = round(1 / UNITS[unit])
    if encoding is None:
        answers = "depth in metres" if scale == 1 else f"depth as a share of {scale:g} m"
        factor = "" if scale == 1 else f"{scale!r} * "
        lines, answer = f'depth_m = {zoom}{factor}pipe(image)["predicted_depth"]', "depth_m"
    else:
        ends = [encoding[end] * per_metre for end in ("min_depth", "max_depth")]
        answers = f"the {encoding['name']} encoding of depth from {ends[0]:.2f} to {ends[1]:.2f} {unit}"
        decode = DECODE[encoding["name"]]
        lines = DECODED.format(per_metre=per_metre, unit=unit, decode=f"{zoom}({decode})" if zoom else decode)
        answer = f"(depth_{unit} / {per_metre})"
    if model.background is not None:
        reference = per_metre * (meaning.background or 0.0)
        answers += f", as if the bench of its fixed camera lay at {reference:.2f} {unit} everywhere"
        lines += "\n" + ABOVE_BENCH.format(name=model.name, unit=unit, per_metre=per_metre)
    return answers, lines, answer


def _beside(name: str, to: str) -> Path:
    """Beside a folder or a file; a hub id's folder here."""
    name = name.rstrip("/").removesuffix(".pth").removesuffix(".ckpt")
    return Path(f"{name if Path(name).parent.exists() else name.replace('/', '-')}-{to}")


def _picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@torch.inference_mode()
def _raw(model: DepthModel, image: Image.Image) -> torch.Tensor:
    rgb = torch.from_numpy(models.as_array(image)).permute(2, 0, 1)[None].float() / 255
    return model.respond(model.network, rgb)[0]


DECODED = """\
value = pipe(image)["predicted_depth"].clamp(0, 1)
low, high = ({per_metre} * pipe.model.config.sonde["encoding"][end] for end in ("min_depth", "max_depth"))
depth_{unit} = {decode}"""

DECODE = {
    "inverse": "1 / (value * (1 / low - 1 / high) + 1 / high)",
    "linear": "low + value * (high - low)",
    "log": "low * (high / low) ** value",
}

ABOVE_BENCH = """\
bench = torch.from_numpy(numpy.load(cached_file("{name}", "background.npy")))[None, None]
bench = torch.nn.functional.interpolate(bench, depth_{unit}.shape, mode="bilinear")[0, 0]
depth_{unit} += {per_metre} * (bench - pipe.model.config.sonde["background"])"""

IMPORTS = """\
import numpy, torch
from transformers import pipeline
from transformers.utils import cached_file"""

CARD = """\
---
license: {licence}
pipeline_tag: depth-estimation
library_name: transformers
---

# {name}

{describe}. The network answers {meaning}.

```python
{imports}
pipe = pipeline("depth-estimation", model="{name}")
{lines}
```

`image` is a path, a URL or a PIL image; the answer is a (height, width) tensor of its size.{notes} Exported from sonde.
"""
FOCAL = "`focal` is the camera's own focal length (fx), in pixels of what the network sees."
PADDED = (
    "At sides that are multiples of {step} this is sonde's answer to rounding; at others transformers makes the image "
    "smaller, where sonde pads it and cuts the answer."
)
SMALL = (
    "An image whose short side is below {side} pixels is enlarged to that first: transformers may take a smaller size, "
    "and then answers otherwise than sonde."
)
BENCH = (
    "The bench is `background.npy`, {size} pixels of metres ({kind}), and `background.png` shows it: the image must be "
    "of that camera, where it stood then, at any scale."
)
BENCHES = {"farthest": "the farthest depth of its captures", "median": "the median depth of its captures"}

EXPORTERS: dict[str, Callable[[DepthModel, Path, str], None]] = {"hf": to_hugging_face}
sys.modules[__name__].__class__ = Verb
