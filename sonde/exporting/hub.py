"""Export to a folder for plain transformers, with a card whose code turns its output into depth."""

from pathlib import Path

from transformers import pipeline

from sonde import models
from sonde.exporting.comparing import compare_raw, make_picture, merge_adapters, predict_raw
from sonde.models import DepthModel
from sonde.models.plain import DECODE, describe_padding
from sonde.units import UNITS


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
    image = make_picture(*model.spec.network_size(480, 640))
    before = predict_raw(model, image)
    merge_adapters(model)
    models.save(model, folder)
    (folder / "README.md").write_text(render_card(model, licence))
    pipe = pipeline("depth-estimation", model=str(folder), device="cpu", trust_remote_code=False)
    after = pipe(image)["predicted_depth"] * model.spec.scale
    compare_raw(before, after, model.name, folder)


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
