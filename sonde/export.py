"""Take a model out of sonde: a merged Hugging Face folder that plain transformers loads, compared with the original."""

import sys
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel

from sonde import Verb, models
from sonde.models import DepthModel
from sonde.recipes import nearest

TOLERANCE = 1e-4
"""Largest difference allowed between the merged network and the original, in the raw answer's [0, 1]."""


def export(model: str | Path | DepthModel, *, to: str = "hf", out: Path | str | None = None) -> Path:
    """Write a model in another format and return where it lies.

    Args:
        model: any name `sonde.load` takes, or a loaded model (left as it is).
        to: a name in EXPORTERS.
        out: an empty or new folder; `<model>-<to>` beside a run by default.

    Raises:
        ValueError: an unknown format, a folder in use, or a result that differs from the original.
    """
    if to not in EXPORTERS:
        raise ValueError(f"No export format {to!r}: {nearest(to, list(EXPORTERS))}")
    name = model.name if isinstance(model, DepthModel) else str(model)
    folder = (
        Path(out) if out else Path(f"{name.rstrip('/').replace('/', '-') if not Path(name).exists() else name}-{to}")
    )
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: give a new folder with --out, so that nothing is overwritten.")
    source = model if isinstance(model, DepthModel) else models.load(model)
    EXPORTERS[to](source, folder)
    return folder


def to_hugging_face(model: DepthModel, folder: Path) -> None:
    """A merged network, its image processor, and a card with the five lines that turn its answer into millimetres."""
    from dataclasses import replace

    network = model.network
    if isinstance(network, PeftModel):
        network = network.merge_and_unload()
    meaning = replace(model.meaning, base=None, fingerprint=None)
    merged = DepthModel(network, meaning, str(folder)).eval()
    models.save(merged, folder)
    (folder / "README.md").write_text(card(merged))


def card(model: DepthModel) -> str:
    """The model card: what the numbers mean, and how to get them without sonde."""
    encoding, unit = model.meaning.encoding, model.meaning.unit
    if encoding is None:
        meaning = "relative inverse depth: larger is nearer, up to an unknown scale and shift"
        lines = 'depth = pipe(image)["predicted_depth"]  # relative inverse depth, the image\'s size'
    else:
        per_metre = {"m": 1.0, "cm": 100.0, "mm": 1000.0}[unit]
        low, high = encoding["min_depth"] * per_metre, encoding["max_depth"] * per_metre
        meaning = f"{encoding['name']} encoding of depth from {low:.2f} to {high:.2f} {unit}"
        lines = "\n".join(
            (
                'value = pipe(image)["predicted_depth"].clamp(0, 1)',
                'code = pipe.model.config.sonde["encoding"]  # depth range in metres',
                f'low, high = {per_metre:g} * code["min_depth"], {per_metre:g} * code["max_depth"]',
                f"depth_{unit} = {DECODE[encoding['name']]}",
            )
        )
    return CARD.format(meaning=meaning, lines=lines, describe=model.describe())


DECODE = {
    "inverse": "1 / (value * (1 / low - 1 / high) + 1 / high)",
    "linear": "low + value * (high - low)",
    "log": "low * (high / low) ** value",
}

CARD = """---
pipeline_tag: depth-estimation
library_name: transformers
---

# Depth model exported from sonde

{describe}. The network answers {meaning}.

```python
from transformers import pipeline
pipe = pipeline("depth-estimation", model="PATH")
{lines}
```
"""

EXPORTERS: dict[str, Callable[[DepthModel, Path], None]] = {"hf": to_hugging_face}
sys.modules[__name__].__class__ = Verb
