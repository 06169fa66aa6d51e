"""One self-contained HTML page about a run: what it scored against what, its curves, and its worst cases as pictures.

The page loads nothing, so that it can be mailed; numbers are those of `metrics.json`, beside it. `report.md` says the
same in text, for a pull request or a wiki.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from jaxtyping import Float
from jinja2 import Environment, StrictUndefined
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from sonde import files
from sonde.datasets import Capture
from sonde.evaluation import (
    TRIVIAL,
    WORDS,
    Evaluation,
    Run,
    bench_of,
    best_trivial,
    headings,
    height_table,
    judged,
    range_table,
    read_choice,
    read_run,
    score_with_baselines,
    spoken,
    table,
)
from sonde.files.images import INVALID_GREY
from sonde.metrics import LARGER_IS_BETTER
from sonde.report.charts import INK, Curves, binned, draw_charts
from sonde.types import DepthArray, MaskArray, RGBArray
from sonde.units import UNITS

__all__ = [
    "INK",
    "Curves",
    "Gallery",
    "Panel",
    "binned",
    "caution",
    "colour_error",
    "finish",
    "headline",
    "number",
    "write",
]

TEMPLATE = Path(__file__).parent / "report.html"
"""The page; beside it its Markdown."""

ERRORS = "RdBu_r"
"""Error in colour: blue where the prediction is too near, red where it is too far."""


class Panel(NamedTuple):
    """One capture in small: every n-th pixel, so that invalid pixels stay what they are. Metres."""

    id: str
    scores: dict[str, float]
    image: RGBArray
    depth: DepthArray
    mask: MaskArray
    prediction: DepthArray


class Gallery:
    """Keeps, of captures as they are scored, the worst ones in small and a sample of errors against depth.

    Args:
        worst: how many captures to keep, by mean absolute error (where it is scored).
        width: of a kept picture, at most, in pixels.
        pixels: how many of each capture enter the sample, about.
    """

    def __init__(self, worst: int = 10, width: int = 420, pixels: int = 4000):
        self.worst, self.width, self.pixels = worst, width, pixels
        self.panels: list[Panel] = []
        """Worst first."""
        self._errors: list[Float[np.ndarray, "n 2"]] = []

    def add(self, capture: Capture, prediction: DepthArray, row: dict[str, Any]) -> None:
        """Look at one scored capture; `evaluate` calls this."""
        truth = capture.depth[capture.mask]
        pairs = np.stack([truth, prediction[capture.mask] - truth], axis=1)
        self._errors.append(pairs[:: max(1, len(pairs) // self.pixels)])
        step = max(1, -(-capture.depth.shape[1] // self.width))
        small = capture.depth[::step, ::step]
        image = files.resize_image(capture.image, (small.shape[0], small.shape[1]))
        scores = {name: value for name, value in row.items() if name not in WORDS}
        mask = capture.mask[::step, ::step]
        self.panels.append(Panel(capture.id, scores, image, small, mask, prediction[::step, ::step]))
        self.panels.sort(key=_goodness)
        del self.panels[self.worst :]

    @property
    def errors(self) -> Float[np.ndarray, "n 2"]:
        """True depth and signed error (prediction - truth) of the sampled pixels, metres."""
        return np.concatenate([np.zeros((0, 2)), *self._errors])


def _goodness(panel: Panel) -> float:
    """By mean absolute error, or where that is not scored by AbsRel or else by the first metric; larger is better."""
    length = [name for name in panel.scores if name.startswith("mae_") and name[4:] in UNITS]
    name = next(name for name in (*length, "abs_rel", *panel.scores) if name in panel.scores)
    return panel.scores[name] if name.startswith(LARGER_IS_BETTER) else -panel.scores[name]


def told(training: Mapping[str, float]) -> str:
    """`Curves.training` in words."""
    skipped, scaled = training["skipped_steps"], training.get("scaler_skips", 0)
    passed = f", {scaled:.0f} passed over by float16's scaler" if scaled else ""
    wait = f"{100 * training['data_wait']:.1f} % of their time waiting for data"
    return f"{training['steps']:.0f}, {f'{skipped:.0f} skipped' if skipped else 'none skipped'}{passed}, {wait}"


def finish(folder: Path) -> Path | None:
    """Score a finished run on its held-out captures: `metrics.json`, `per_image.csv` and `report.html`.

    Where no captures were kept for the test, those that chose the checkpoint are scored, and the page says so; where
    every capture trained, the answers to captures left out by which the run was chosen. Without those nothing is
    written.
    """
    run = read_run(folder)
    part = run and judged(run)
    if part is None:
        return None
    gallery = Gallery()
    scoreboard = score_with_baselines(folder, part=part, watch=gallery.add)
    list(scoreboard.values())[-1].write(folder, scoreboard)
    return write(folder, scoreboard, gallery)


def write(folder: Path, scoreboard: Mapping[str, Evaluation], gallery: Gallery) -> Path:
    """Write FOLDER/report.html, and report.md beside it.

    Args:
        folder: a run folder; `recipe.yaml`, `split.json`, `metrics.jsonl` and `environment.json` are read where
            they are there.
        scoreboard: evaluations by row name; the last row is the run's own model.
        gallery: of the captures scored with the run's own model.
    """
    contents = _contents(folder, scoreboard, gallery)
    for template in (TEMPLATE.with_suffix(".md"), TEMPLATE):
        escaped = template.suffix == ".html"
        page = Environment(autoescape=escaped, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        page.filters["number"] = number
        with files.atomic_write(folder / template.name) as tmp_path:
            tmp_path.write_text(page.from_string(template.read_text()).render(contents), encoding="utf-8")
    return folder / "report.html"


def _contents(folder: Path, scoreboard: Mapping[str, Evaluation], gallery: Gallery) -> dict[str, Any]:
    """What the templates show."""
    own, run = list(scoreboard.values())[-1], read_run(folder)
    curves = Curves.read(folder / "metrics.jsonl")
    steps = [("steps", told(training)) for training in [curves.training()] if training]
    return {
        "title": _title(folder, run),
        "unit": own.unit,
        "own": own,
        "main": own.main,
        "held": "left-out " if own.left_out else "held-out " if run else "",
        "headline": headline(scoreboard),
        "caution": " ".join([*_notes(scoreboard), caution(run, own)]).strip(),
        "facts": _facts(run, own) + steps,
        "rows": _rows(scoreboard),
        "intervals": _intervals(own, list(table(scoreboard)[list(scoreboard)[-1]])),
        "ratio": _ratio(own),
        "tables": _tables(own),
        "words": WORDS,
        "names": [name for name in own.rows[0] if not name.endswith("]")],
        "charts": draw_charts(curves, gallery.errors, own, curves.kept(run.recipe) if run else None),
        "bench": _bench(folder, own.unit),
        "panels": _panels(gallery.panels, own),
        "gradients": {"depth": _gradient("Spectral"), "error": _gradient(ERRORS)},
        "settings": _settings(folder, run, own),
    }


def number(value: float, digits: int = 4) -> str:
    """To so many significant digits, never with an exponent where the number is at least one."""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")


def headline(scoreboard: Mapping[str, Evaluation]) -> list[str]:
    """How the last row's mean error compares: with the best answer that does not look at the image, then with others.

    Where the last row does not beat that answer, the first sentence says so with figures and what to try.
    """
    *rivals, (name, own) = scoreboard.items()
    best = best_trivial(scoreboard)
    against = [] if own.headline or best is None else [best]
    against += [label for label, _ in rivals if label not in TRIVIAL]
    first = [own.headline] if own.headline else []
    return [*first, *(_compared(name, own, label, scoreboard[label]) for label in against)]


def _compared(name: str, own: Evaluation, label: str, rival: Evaluation) -> str:
    """A sentence about two mean errors."""
    mine, theirs = (scored.metrics[own.main.metric] for scored in (own, rival))
    times = f"{theirs / mine:.{0 if theirs > 10 * mine else 1}f} times " if mine else ""
    better = f"{times}lower" if mine < theirs else "not lower"
    value = f"{number(theirs, 3)} {own.main.unit}".strip()
    return f"The mean error of {spoken(name)} is {better} than that of {spoken(label)} ({value})."


def _notes(scoreboard: Mapping[str, Evaluation]) -> list[str]:
    """The notes of the last row, and what the others have beyond them, under their names."""
    *rivals, (_, own) = scoreboard.items()
    others = [f"{row}: {note}" for row, scored in rivals for note in scored.notes if note not in own.notes]
    return [*own.notes, *others]


def caution(run: Run | None, own: Evaluation) -> str:
    """What must be known before the numbers are believed; empty where nothing weakens them."""
    if run is None:
        return ""
    seen = RANGE_SEEN if run.recipe.data.range == "all" and run.recipe.model.encoding and not own.left_out else ""
    return " ".join(filter(None, (seen, _flattered(run, own))))


RANGE_SEEN = (
    "The range of the encoding is of all captures (data.range: all): the model was told the nearest and the farthest "
    "depth of the captures scored here."
)


def _flattered(run: Run, own: Evaluation) -> str:
    """Why the scores are better than those of new captures would be; or that they are few."""
    scored = set(own.settings["ids"])
    few = f"{len(scored)} captures are too few to claim an accuracy; they show that the path holds."
    if own.left_out:
        return few if len(scored) < 5 else ""
    if scored & set(run.parts["train"]) and not own.settings.get("known"):
        return "Captures the model was trained on are among those scored: these numbers flatter it."
    chose = run.recipe.train.get("max_steps") != 0  # without a step there is no checkpoint to choose
    if scored & set(run.parts["validation"]) or (chose and not run.parts["validation"]):
        return "The captures scored here also chose the checkpoint: these numbers flatter the model a little."
    return few if len(scored) < 5 else ""


def _title(folder: Path, run: Run | None) -> str:
    name = folder.resolve().name
    if run is None:
        return name
    model = Path(run.recipe.model.origin).name
    return f"{model} on {Path(run.recipe.data.root).name} · {name}"


def _rows(scoreboard: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """The table, with the best of every column marked."""
    numbers = table(scoreboard)
    best = {
        name: (max if name.startswith("δ") else min)(row[name] for row in numbers.values())
        for name in next(iter(numbers.values()))
    }
    return [
        {
            "label": label,
            "cells": [(name, number(value), value == best[name]) for name, value in row.items()],
        }
        for label, row in numbers.items()
    ]


def _intervals(own: Evaluation, columns: list[str]) -> list[str]:
    """Of each column of the table, a dash where it has none; empty where none were asked for."""
    if not own.intervals:
        return []
    found = {heading: own.intervals[metric] for heading, metric in headings(own).items()}
    return [
        f"{number(found[name].low, 3)} to {number(found[name].high, 3)}" if name in found else "\N{EN DASH}"
        for name in columns
    ]


def _tables(own: Evaluation) -> dict[str, dict[str, dict[str, Any]]]:
    """Title -> row -> heading -> number of the errors by depth and by height, where there are some."""
    tables = {"By true depth": range_table(own), "By height above the bench": height_table(own)}
    return {title: rows for title, rows in tables.items() if rows}


def _ratio(own: Evaluation) -> str:
    """Of true to predicted depth, in a sentence; empty where no metres were claimed."""
    if not own.scale_ratio:
        return ""
    median, mean = number(own.scale_ratio["median"]), number(own.scale_ratio["mean"])
    return f"True median depth is {median} times the predicted one (the median over captures; their mean is {mean})."


def _facts(run: Run | None, own: Evaluation) -> list[tuple[str, str]]:
    facts = [("protocol", own.protocol), ("scored", f"{len(own.rows)} captures of {own.settings['data']}")]
    if own.intervals:
        found, over = own.intervals[own.main.metric], "scenes" if "scene" in own.rows[0] else "captures"
        words = f"{number(found.low, 3)} to {number(found.high, 3)} {own.main.unit}".strip()
        facts.append((f"{own.settings['ci']:g} % interval, {over} drawn again", words))
    if run is None:
        return facts
    lora = run.recipe.lora
    every = "every weight" if run.recipe.train.get("max_steps") != 0 else "the head, on frozen features"
    adapters = f"LoRA r={lora.get('r', 8)}" if lora else every
    head = " and the head" if lora and run.recipe.model.train_head else ""
    counts = ", ".join(f"{len(ids)} {part}" for part, ids in run.parts.items())
    choice = read_choice(run.folder)
    facts += [("chosen", choice.fact)] if choice is not None else []
    return [
        ("model", run.recipe.model.origin),
        ("trained", adapters + head),
        ("captures", counts),
        *facts,
    ]


def _settings(folder: Path, run: Run | None, own: Evaluation) -> list[tuple[str, str]]:
    """Titles and texts of what it takes to do it again."""
    settings = [("Protocol", yaml.safe_dump(own.settings["protocol"], sort_keys=False))]
    if run is not None:
        seed = run.recipe.data.split.seed
        parts = [f"{part} ({len(ids)}): {' '.join(ids)}" for part, ids in run.parts.items()]
        settings.append(("Split", "\n".join([f"seed {seed}", *parts])))
        settings.append(("Recipe", (folder / "recipe.yaml").read_text()))
    spec = folder / "best" / "sonde.json"
    if spec.is_file():
        settings.append(("Model", yaml.safe_dump(json.loads(spec.read_text()), sort_keys=False)))
    environment = folder / "environment.json"
    versions = json.loads(environment.read_text()) if environment.is_file() else own.settings["versions"]
    return [*settings, ("Environment", yaml.safe_dump(versions, sort_keys=False))]


def _panels(panels: list[Panel], own: Evaluation) -> list[dict[str, Any]]:
    """Pictures as data URIs with their scales; the error's is one for all, so that captures compare."""
    looks = [_look(panel, own.relative) for panel in panels]
    errors = [np.abs(look.error)[panel.mask] for panel, look in zip(panels, looks, strict=True) if panel.mask.any()]
    span = float(f"{np.percentile(np.concatenate(errors), 98):.2g}") if errors else 0.0
    return [_panel(panel, look, min(span, look.most), own) for panel, look in zip(panels, looks, strict=True)]


MADE = {"farthest": "the farthest depth on which captures agree", "median": "the median depth of the captures"}
"""How a bench was made, in words; a name that is not here is the file of a capture of the empty bench."""


def _bench(folder: Path, unit: str) -> dict[str, Any] | None:
    """The bench that a run's model knows, as two pictures; None where it knows none."""
    bench = bench_of(folder / "best")
    if bench is None:
        return None
    step = max(1, -(-bench.depth.shape[1] // 420))
    depth, image = bench.depth[::step, ::step], np.ascontiguousarray(bench.image[::step, ::step])
    low, high = (float(end) for end in np.percentile(depth, [2, 98]))
    colours = files.colour_depth(depth, None, low, high, space="metric")
    scale = _scale("depth", low / UNITS[unit], high / UNITS[unit], unit)
    pictures = [_picture("RGB", image, None), _picture("depth", colours, scale)]
    return {"made": MADE.get(bench.kind, bench.kind), "pictures": pictures, "ends": scale}


class PanelColours(NamedTuple):
    """What of a panel is coloured: depth and its error in metres; of a relative model disparity, and error by depth."""

    truth: DepthArray
    answer: DepthArray
    error: DepthArray
    most: float
    """Where the error's colours end at the latest."""


def _look(panel: Panel, relative: bool) -> PanelColours:
    error = panel.prediction - panel.depth
    if not relative:
        return PanelColours(panel.depth, panel.prediction, error, np.inf)
    depth = np.where(panel.mask, panel.depth, 1)
    return PanelColours(1 / depth, 1 / panel.prediction, error / depth, 1.0)


def _panel(panel: Panel, look: PanelColours, span: float, own: Evaluation) -> dict[str, Any]:
    values, unit, space = look.truth[panel.mask], own.unit, "disparity" if own.relative else "metric"
    low, high = (float(end) for end in np.percentile(values, [2, 98])) if values.size else (0.0, 1.0)
    near, far = (1 / high, 1 / low) if own.relative else (low, high)
    depths = _scale("depth", near / UNITS[unit], far / UNITS[unit], unit)
    errors = (100 * span, "%") if own.relative else (span / UNITS[unit], unit)
    truth = files.colour_depth(look.truth, panel.mask, low, high, space=space)
    prediction = files.colour_depth(look.answer, None, low, high, space=space)
    error = colour_error(look.error, panel.mask, span)
    pictures = [
        ("RGB", panel.image, None),
        ("ground truth", truth, depths),
        ("prediction", prediction, depths),
        ("prediction \N{MINUS SIGN} ground truth", error, _scale("error", -errors[0], *errors)),
    ]
    labels = headings(own)
    return {
        "id": panel.id,
        "scores": " · ".join(f"{label} {number(panel.scores[name], 3)}" for label, name in labels.items()),
        "pictures": [_picture(*each) for each in pictures],
    }


def _picture(title: str, picture: RGBArray, scale: dict[str, str] | None) -> dict[str, Any]:
    return {"title": title, "uri": _data_uri(picture), "scale": scale}


def _scale(kind: str, low: float, high: float, unit: str) -> dict[str, str]:
    sign = "+" if kind == "error" else ""
    return {"kind": kind, "low": f"{low:{sign}.4g}", "high": f"{high:{sign}.4g} {unit}"}


def colour_error(error: DepthArray, mask: MaskArray, span: float) -> RGBArray:
    """Signed error in colour, white at 0; full colour at -span and span; untrusted pixels grey."""
    share = np.clip(np.where(mask, error, 0) / (2 * span or 1) + 0.5, 0, 1)
    colours = (colormaps[ERRORS](share)[..., :3] * 255).astype(np.uint8)
    colours[~mask] = INVALID_GREY
    return colours


def _gradient(name: str) -> str:
    """The stops of a CSS gradient."""
    return ", ".join(to_hex(colormaps[name](share)) for share in np.linspace(0, 1, 17))


def _data_uri(image: RGBArray) -> str:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=88, method=4)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
