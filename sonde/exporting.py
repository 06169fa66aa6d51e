"""Export a model, with adapters merged, for plain transformers or GLPDepth's scripts, and compare the result."""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from transformers import pipeline

from sonde import architectures, cards, files, models
from sonde.models import DepthModel
from sonde.models.plain import DECODE, describe_padding
from sonde.options import takes
from sonde.options.export import ExportOptions
from sonde.recipes.words import read_max_depth
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.units import UNITS

log = logging.getLogger("sonde")

TOLERANCE = 1e-4
"""Largest difference allowed between the raw outputs of written network and original, relative to the maximum."""


NEW_FOLDER = "give a new folder with --out"


@takes(ExportOptions)
def export(model: str | Path | DepthModel, *, options: ExportOptions) -> Path:
    """Write a model in another format and return its folder, which appears only when it is complete.

    Args:
        model: any name `sonde.load` takes, or a loaded model (it stays unchanged).
        options: the options below, as one value.

    Raises:
        ValueError: an unknown format or one that cannot hold the model, a folder that is not empty, or a result that
            differs from the original.
    """
    to = options.to
    if to not in EXPORTERS:
        raise ValueError(f"to={to!r} is no export format: {nearest(to, list(EXPORTERS))}")
    folder = options.out or _choose_folder(model.name if isinstance(model, DepthModel) else str(model), to)
    files.check_output(folder)
    files.refuse_filled(folder, NEW_FOLDER)
    loaded = deepcopy(model) if isinstance(model, DepthModel) else models.load(model, max_depth=options.max_depth)
    original = loaded.cpu().eval()
    licence, original.name = cards.find_licence(original.name), folder.name
    with files.write_folder(folder, NEW_FOLDER) as partial:
        EXPORTERS[to](original, partial, licence)
    return folder


def to_hugging_face(model: DepthModel, folder: Path, licence: str) -> None:
    """Write the merged network, its image processor, and a card with the code that turns its output into depth.

    The given model itself is merged. The bench of a fixed camera is written too, and the card's code adds it.

    Raises:
        ValueError: plain transformers does not have this network, or gives other outputs with it.
    """
    if not type(model.network.config).__module__.startswith("transformers."):
        raise ValueError(
            f"Plain transformers cannot hold this network ({model.network.config.model_type}): use it with sonde.load, "
            "or export a model that is GLPN or Depth Anything throughout."
        )
    image = _make_picture(*model.spec.network_size(480, 640))
    before = _predict_raw(model, image)
    _merge(model)
    models.save(model, folder)
    (folder / "README.md").write_text(render_card(model, licence))
    pipe = pipeline("depth-estimation", model=str(folder), device="cpu", trust_remote_code=False)
    after = pipe(image)["predicted_depth"] * model.spec.scale
    _compare(before, after, model.name, folder)


def to_glpdepth(model: DepthModel, folder: Path, licence: str) -> None:
    """Write a state_dict for GLPDepth's own scripts, read it back and compare; and a card that states its depth range.

    The given model itself is merged. The file is named after the folder, unless that name suggests another range.

    Raises:
        ValueError: such a file cannot hold the model.
    """
    reason = _find_obstacle(model)
    if reason is not None:
        raise ValueError(f"--to glpdepth cannot hold this model: {reason}.")
    metres = models.find_max_depth(model)
    assert metres is not None
    image = _make_picture(*model.spec.network_size(480, 640))
    before = _predict_raw(model, image)
    _merge(model)
    named = read_max_depth(model.name) in (None, metres)
    path = folder / f"{model.name if named else 'model'}.ckpt"
    torch.save(architectures.to_glpdepth(model.network.state_dict()), path)
    again = models.load(path, max_depth=metres)
    after = _predict_raw(again, image)
    _compare(before, after, model.name, folder)
    # The renaming must be exact, not only close: every tensor comes back bit for bit.
    written, own = again.network.state_dict(), model.network.state_dict()
    assert all(torch.equal(written[name], value) for name, value in own.items())
    architectures.use_glpdepth_norms(again.network)
    apart = float((_predict_raw(again, image) - after).abs().max())
    (folder / "README.md").write_text(render_glpdepth_card(model, licence, path.name, apart))
    changes = architectures.describe_glpdepth_changes(model.network.config)
    if changes is not None:
        log.warning("%s: %s", path.name, changes)


def _find_obstacle(model: DepthModel) -> str | None:
    """Why GLPDepth's scripts would give another depth with these tensors, and what to do; None: no reason."""
    kind = model.network.config.model_type
    if kind != "glpn":
        return f"it is a {kind} network, and GLPDepth's code builds GLPN alone; try --to hf"
    spec, odd = model.spec, architectures.find_glpdepth_difference(model.network.config)
    found = (
        (spec.background is not None, f"it answers depth above the bench of a fixed camera; {KEPT}"),
        (spec.encoding is not None, f"it answers an encoding of depth, and GLPDepth a share of metres; {ANEW}"),
        (spec.space != "metric", f"it answers relative depth, and GLPDepth metres; {ANEW}"),
        ((spec.mean, spec.std) != models.PLAIN, f"it sees standardised images, and there RGB in [0, 1]; {ANEW}"),
        (spec.canonical_focal is not None, f"it answers for a canonical focal, and GLPDepth has no camera; {KEPT}"),
        (model.calibration is not None, "its metres come from a calibration: first `sonde calibrate MODEL --undo`"),
        (odd is not None, f"{odd}; {KEPT}"),
    )
    return next((reason for holds, reason in found if holds), None)


def render_glpdepth_card(model: DepthModel, licence: str, file: str, apart: float) -> str:
    """The card of a GLPDepth file: its licence, the depth range that every command needs, and what differs there.

    Args:
        model: the model that was written.
        licence: the licence of its weights.
        file: name of the file beside the card.
        apart: largest difference of GLPDepth's depth on a test picture, in metres.
    """
    metres, changes = models.find_max_depth(model), architectures.describe_glpdepth_changes(model.network.config)
    assert metres is not None
    notes, spec = [] if changes is None else [changes], model.spec
    if not spec.pads:
        size = "a short side of {}" if spec.input_size is None else "{1}x{0}"
        shown = size.format(*(spec.input_size or [spec.short_side]))
        notes.append(f"In sonde the network saw images resized to {shown} pixels; GLPDepth resizes none.")
    return GLPDEPTH_CARD.format(
        describe=model.describe(),
        licence=licence,
        name=model.name,
        file=file,
        metres=int(metres) if metres == int(metres) else metres,
        apart=apart,
        notes="".join(f" {note}" for note in notes),
    )


def _merge(model: DepthModel) -> None:
    """Merge the adapters into the network and remove the base from the spec; the model is changed in place."""
    if isinstance(model.network, PeftModel):
        model.network = model.network.merge_and_unload()
    model.spec = replace(model.spec, base=None, fingerprint=None, base_max_depth=None)


def _compare(before: torch.Tensor, after: torch.Tensor, name: str, folder: Path) -> None:
    difference = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{folder} gives another output than {name} (different by {difference:.2g} of the largest value): nothing "
            "was exported, and the folder is kept for inspection."
        )


def render_card(model: DepthModel, licence: str) -> str:
    """The model card: its licence, the meaning of its output, and the code to use it without sonde."""
    spec, bench = model.spec, model.background
    focal = spec.canonical_focal
    answers, lines, answer = _describe_output(model)
    if focal is not None:
        answers += f", as a camera of {focal:g} pixels focal length would see it"
    if model.calibration is not None:
        lines += f"\ncalibrated_m = {model.calibration.formula(answer)}"
    notes = [*([] if focal is None else [FOCAL]), *describe_padding(spec)]
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


def _describe_output(model: DepthModel) -> tuple[str, str, str]:
    """The meaning of the network's output, the code that makes depth of it, and an expression for depth in metres."""
    spec = model.spec
    encoding, focal, scale = spec.encoding, spec.canonical_focal, spec.scale
    focal_scale = "" if focal is None else f"focal / {focal:g} * "
    if encoding is None and spec.space != "metric":
        answers = "inverse depth up to an unknown scale and shift: larger is nearer"
        return answers, 'disparity = pipe(image)["predicted_depth"]', "disparity"
    unit = "m" if encoding is None else spec.unit
    per_metre = round(1 / UNITS[unit])
    if encoding is None:
        answers = "depth in metres" if scale == 1 else f"depth as a share of {scale:g} m"
        factor = "" if scale == 1 else f"{scale!r} * "
        lines, answer = f'depth_m = {focal_scale}{factor}pipe(image)["predicted_depth"]', "depth_m"
    else:
        ends = [encoding[end] * per_metre for end in ("min_depth", "max_depth")]
        answers = f"the {encoding['name']} encoding of depth from {ends[0]:.2f} to {ends[1]:.2f} {unit}"
        decode = DECODE[encoding["name"]].format(epsilon=1e-3 / per_metre)
        lines = DECODED.format(
            per_metre=per_metre, unit=unit, decode=f"{focal_scale}({decode})" if focal_scale else decode
        )
        answer = f"(depth_{unit} / {per_metre})"
    if model.background is not None:
        reference = per_metre * (spec.background or 0.0)
        answers += f", as if the bench of its fixed camera lay at {reference:.2f} {unit} everywhere"
        lines += "\n" + ABOVE_BENCH.format(name=model.name, unit=unit, per_metre=per_metre)
    return answers, lines, answer


def _choose_folder(name: str, to: str) -> Path:
    """A folder beside the model's own folder or file; for a hub id, one in the current folder."""
    name = str(models.ModelSource(name).path) if models.is_weight_file(name) else name.rstrip("/")
    name = name.removesuffix(Path(name).suffix) if models.is_weight_file(name) else name
    return Path(f"{name if Path(name).parent.exists() else name.replace('/', '-')}-{to}")


def _make_picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@torch.inference_mode()
def _predict_raw(model: DepthModel, image: Image.Image) -> torch.Tensor:
    rgb = torch.from_numpy(models.as_array(image)).permute(2, 0, 1)[None].float() / 255
    raw = model.forward_raw(model.network, rgb)[0]
    models.check_finite(raw, model.name)
    return raw


DECODED = """\
value = pipe(image)["predicted_depth"].clamp(0, 1)
low, high = ({per_metre} * pipe.model.config.sonde["encoding"][end] for end in ("min_depth", "max_depth"))
depth_{unit} = {decode}"""

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
BENCH = (
    "The bench is `background.npy`, {size} pixels of metres ({kind}), and `background.png` shows it: the image must be "
    "of that camera, where it stood then, at any scale."
)
BENCHES = {"farthest": "the farthest depth of its captures", "median": "the median depth of its captures"}

KEPT = "export it with --to hf, which keeps that"
ANEW = "export it with --to hf, or train model.size=b4 with model.max_depth=80 model.encoding=null"
GLPDEPTH_CARD = """\
---
license: {licence}
pipeline_tag: depth-estimation
---

# {name}

{describe}. `{file}` is a state_dict in GLPDepth's own names. It does not hold where depth ends, at {metres} m: every
command says it.

```sh
python ./code/test.py --ckpt_dir {file} --max_depth {metres} --dataset DrivingStereo --data_path ROOT --do_evaluate
sonde eval {file} --max_depth {metres} --on driving_stereo:ROOT@driving-stereo
sonde predict IMAGES -m {file} --max_depth {metres} -o OUT
```

The first line is GLPDepth's own. Its network sees RGB in [0, 1] at the image's own size, whose sides must be multiples
of 32. Its layer norms add another constant to the variance than transformers': on a test picture the answers differ by
up to {apart:.2g} m.{notes} Exported from sonde.
"""

EXPORTERS: dict[str, Callable[[DepthModel, Path, str], None]] = {"hf": to_hugging_face, "glpdepth": to_glpdepth}

keep_old_names(__name__, {"card": "render_card", "glpdepth_card": "render_glpdepth_card"})
