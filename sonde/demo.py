"""The main jobs, offline: adapt sonde-tiny to a rendered bench; distil it into a student through pseudo-labels."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from sonde import evaluation, files, labelling, models, recipes, scenes, training
from sonde.datasets import Capture
from sonde.types import DepthArray, RGBArray

CAPTURES = 58
"""As many as the published set has."""
SIZE = (240, 320)
"""(height, width) of the rendered captures."""
SEED = 7
"""Of the rendered bench."""

SMALL = (120, 160)
"""(height, width) of the renders of `distil`."""
SYNTHETIC = {"room": 240, "bench": 120, "road": 120}
"""What the student without a teacher learns from: exact depth of every family sonde-tiny was taught by."""
UNLABELED, JUDGES = 480, 100
"""Road images: those the teacher labels; others with measured depth, half to choose checkpoints, half to score."""
SEEDS = {"synthetic": 21, "unlabeled": 22, "judges": 23}
TEACHER, ON_SYNTHETIC, ON_LABELS = "teacher", "student on synthetic", "student on pseudo-labels"
PICTURES = 6
"""Rows of comparison.png: image, truth, teacher, both students."""

Show = Callable[[str, int, int, dict[str, float]], None]
"""(what is being done, done, of, newest numbers)."""


def render(output: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Render the bench, or go on where a stopped demo left off; returns its root."""
    root = output / "bench"
    scenes.synth("bench", root, CAPTURES, seed=SEED, height=SIZE[0], width=SIZE[1], progress=progress)
    return root


def adapt(root: Path, output: Path, listener: training.Listener | None = None) -> Path:
    """Adapt and score with the recipe `demo`; returns the run folder, new each time."""
    return training.train("demo", settings(root, output, _new(output, "run")), listener=listener)


def settings(root: Path, output: Path, run: Path) -> list[str]:
    """Where the recipe `demo` reads and writes."""
    return [f"data.root={root}", f"output_dir={run}", f"data.cache={output / 'cache'}"]


def distil(output: Path, show: Show, overrides: list[str] | None = None) -> dict[str, Any]:
    """Teacher, student on synthetic images, student on pseudo-labels, scored on images of the unlabeled kind.

    Both students are the same network from the same random start, by the same recipe `student-distill`, with as many
    images and steps; only what they learn from differs. `table.json` and `comparison.png` are left in the output.

    Args:
        output: a folder; renders and labels already there are kept.
        show: told of every picture, label and step.
        overrides: of the recipe, for both students.

    Returns:
        The table (row -> heading -> score), of how many images it is, and where the runs are.
    """
    synthetic = [
        _render(family, output / f"synthetic-{family}", n, "synthetic", show) for family, n in SYNTHETIC.items()
    ]
    unlabeled = _render("road", output / "unlabeled", UNLABELED, "unlabeled", show)
    judges = _render("road", output / "judges", JUDGES, "judges", show)
    labels = output / "labels"
    labelling.label(
        "sonde-tiny", unlabeled / "rgb", labels, size="network",
        progress=lambda done, total: show("labelling", done, total, {}),
    )  # fmt: skip
    first, *also = ({"format": "folder", "root": str(root)} for root in synthetic)
    data = {ON_SYNTHETIC: first | {"also": also}, ON_LABELS: {"format": "pseudo", "root": str(labels)}}
    runs = {name: _student(name, part, judges, output, show, overrides) for name, part in data.items()}
    return _compare(output, runs)


def _render(family: str, root: Path, count: int, seed: str, show: Show) -> Path:
    height, width = SMALL
    return scenes.synth(
        family, root, count, seed=SEEDS[seed], height=height, width=width, layout="folder", rigs=0,
        progress=lambda done: show(f"rendering {root.name}", done, count, {}),
    )  # fmt: skip


def _student(
    name: str, data: dict[str, Any], judges: Path, output: Path, show: Show, overrides: list[str] | None
) -> Path:
    recipe = recipes.load("student-distill").model_dump()
    measured = {"format": "folder", "root": str(judges)}
    recipe["data"] |= data | {"measured": measured, "cache": str(output / "cache")}
    recipe["output_dir"] = str(_new(output, name.replace(" ", "-")))
    return training.train(recipe, overrides, listener=partial(show, f"training the {name}"))


def _new(output: Path, name: str) -> Path:
    return next(path for path in (output / f"{name}-{number}" for number in range(1, 10_000)) if not path.exists())


def _compare(output: Path, runs: dict[str, Path]) -> dict[str, Any]:
    """All three on the captures kept for the test: the table, and pictures of a few."""
    run = evaluation.read_run(runs[ON_LABELS])
    assert run is not None
    captures, ids = evaluation.open_captures(run.recipe), run.parts["test"]
    scoreboard: dict[str, evaluation.Evaluation] = {}
    pictures: list[list[RGBArray]] = [[], []]
    for name, model in {TEACHER: "sonde-tiny", **runs}.items():
        gallery = Panels(PICTURES)
        scoreboard[name] = evaluation.evaluate(
            models.load(model), "affine-disparity", captures, ids=ids, watch=gallery.add
        )
        pictures[:2] = gallery.images, gallery.truths
        pictures.append(gallery.answers)
    sheet = np.concatenate([np.concatenate(column) for column in pictures], axis=1)
    files.write_rgb(
        output / "comparison.png",
        np.concatenate([_heading(["image", "truth", *scoreboard], SMALL[1]), sheet]),
    )
    table = evaluation.table(scoreboard)
    document = {"table": table, "images": len(ids), "runs": {name: str(folder) for name, folder in runs.items()}}
    with files.atomic_write(output / "table.json") as tmp_path:
        tmp_path.write_text(json.dumps(document, indent=1) + "\n")
    return document


def _heading(titles: list[str], width: int, height: int = 24) -> RGBArray:
    """A strip with a title above each column of that width."""
    strip = PILImage.new("RGB", (width * len(titles), height), "white")
    draw = ImageDraw.Draw(strip)
    for number, title in enumerate(titles):
        draw.text((width * (number + 0.5), height / 2), title, "black", ImageFont.load_default(11), anchor="mm")
    return np.array(strip)


class Panels:
    """Of the first captures scored: image, truth and answer, disparity in the truth's colours."""

    def __init__(self, count: int):
        self.count = count
        self.images: list[RGBArray] = []
        self.truths: list[RGBArray] = []
        self.answers: list[RGBArray] = []

    def add(self, capture: Capture, prediction: DepthArray, row: dict[str, Any]) -> None:
        """Look at one scored capture; `evaluate` calls this."""
        if len(self.images) == self.count:
            return
        truth = 1 / np.where(capture.mask, capture.depth, 1)
        low, high = (float(end) for end in np.percentile(truth[capture.mask], [2, 98]))
        self.images.append(capture.image)
        self.truths.append(files.colour_depth(truth, capture.mask, low, high, space="disparity"))
        self.answers.append(files.colour_depth(1 / prediction, None, low, high, space="disparity"))
