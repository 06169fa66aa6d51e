"""The main jobs offline: adapt sonde-tiny to a rendered bench; distil it into a student with pseudo-labels."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from sonde import evaluation, files, labelling, models, recipes, scenes, training
from sonde.datasets import Capture
from sonde.recipes import Recipe
from sonde.renamed import keep_old_names
from sonde.runs import open_captures, read_run
from sonde.training.resuming import read_recorded_recipe, read_state
from sonde.types import DepthArray, RGBArray

CAPTURES = 58
"""The size of the published set."""
SIZE = (240, 320)
"""(height, width) of the rendered captures."""
SEED = 7
"""Seed of the rendered bench."""

SMALL = (120, 160)
"""(height, width) of the renders of `distil`."""
SYNTHETIC = {"room": 240, "bench": 120, "road": 120}
"""Family → captures with exact depth for the student without a teacher: the families that sonde-tiny learnt from."""
UNLABELED, JUDGES = 480, 100
"""Road images: for the teacher to label; and with measured depth, half to choose checkpoints and half to score."""
SEEDS = {"synthetic": 21, "unlabeled": 22, "judges": 23}
LABELLER, VIEWS = "sonde-lite", (0.8, 1.0, 1.25)
"""The teacher, and the sizes at which it sees each image that it labels."""
TEACHER, ON_SYNTHETIC, ON_LABELS = "teacher", "student on synthetic", "student on pseudo-labels"
PICTURES = 6
"""Rows of comparison.png: image, truth, teacher, both students."""

Show = Callable[[str, int, int, dict[str, float]], None]
"""Called with a task, the steps done, all steps, and the newest numbers."""


@dataclass(frozen=True)
class Distillation:
    """The teacher and both students, scored on the same captures."""

    table: dict[str, dict[str, float]]
    """Model → heading → score."""
    images: int
    """Number of captures scored."""
    runs: dict[str, Path]
    """Student → run folder."""

    def document(self) -> dict[str, object]:
        """The result as JSON, as table.json holds it."""
        runs = {name: str(folder) for name, folder in self.runs.items()}
        return {"table": self.table, "images": self.images, "runs": runs}


def render(output: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Render the bench, or what a stopped demo left to render; returns its root."""
    root = output / "bench"
    scenes.synth("bench", root, CAPTURES, seed=SEED, height=SIZE[0], width=SIZE[1], progress=progress)
    return root


def adapt(root: Path, output: Path, listener: training.Listener | None = None) -> Path:
    """Adapt and score with the recipe `demo`; returns the run folder: a new one, or that of a run that was stopped."""
    return _train_next(recipes.load("demo", list_overrides(root, output, output / "run")), listener)


def list_overrides(root: Path, output: Path, run: Path) -> list[str]:
    """The overrides that tell the recipe `demo` where to read and write."""
    return [f"data.root={root}", f"output_dir={run}", f"data.cache={output / 'cache'}"]


def distil(output: Path, show: Show, overrides: list[str] | None = None) -> Distillation:
    """Train a student on synthetic images and one on pseudo-labels; score both, and the teacher, on road images.

    The students are the same network with the same random start, the same recipe `student-distill`, and as many images
    and steps; only their data differ. The function leaves `table.json` and `comparison.png` in the output folder.

    Args:
        output: a folder; renders and labels already there are kept.
        show: called after every picture, label and step.
        overrides: of the recipe, for both students.
    """
    synthetic = [
        _render_family(family, output / f"synthetic-{family}", images, SEEDS["synthetic"], show)
        for family, images in SYNTHETIC.items()
    ]
    unlabeled = _render_family("road", output / "unlabeled", UNLABELED, SEEDS["unlabeled"], show)
    judges = _render_family("road", output / "judges", JUDGES, SEEDS["judges"], show)
    labels = output / "labels"

    def show_labels(done: int, total: int) -> None:
        show("labelling", done, total, {})

    labelling.label(LABELLER, unlabeled / "rgb", labels, size="network", views=VIEWS, progress=show_labels)
    first, *also = ({"format": "folder", "root": str(root)} for root in synthetic)
    data: dict[str, dict[str, object]] = {
        ON_SYNTHETIC: {**first, "also": also},
        ON_LABELS: {"format": "pseudo", "root": str(labels)},
    }
    runs = {name: _train_student(name, part, judges, output, show, overrides) for name, part in data.items()}
    return _compare_models(output, runs)


def _render_family(family: str, root: Path, images: int, seed: int, show: Show) -> Path:
    height, width = SMALL

    def progress(done: int) -> None:
        show(f"rendering {root.name}", done, images, {})

    return scenes.synth(
        family, root, images, seed=seed, height=height, width=width, layout="folder", rigs=0, progress=progress
    )


def _train_student(
    name: str, data: dict[str, object], judges: Path, output: Path, show: Show, overrides: list[str] | None
) -> Path:
    recipe = recipes.load("student-distill").model_dump()
    measured = {"format": "folder", "root": str(judges)}
    recipe["data"] |= data | {"measured": measured, "cache": str(output / "cache")}
    recipe["output_dir"] = str(output / name.replace(" ", "-"))
    return _train_next(recipes.load(recipe, overrides), partial(show, f"training the {name}"))


def _train_next(recipe: Recipe, listener: training.Listener | None) -> Path:
    """Train in the first free one of OUTPUT_DIR-1, OUTPUT_DIR-2, …; a run of this recipe that was stopped goes on."""
    for number in count(1):
        run = Path(f"{recipe.output_dir}-{number}")
        own = recipe.model_copy(update={"output_dir": str(run)})
        state = read_state(run)
        if state == "empty":
            return training.train(own, listener=listener)
        if state == "stopped" and read_recorded_recipe(run, own) == own:
            return training.train(own, resume=True, listener=listener)
    raise AssertionError("numbers do not end")


def _compare_models(output: Path, runs: dict[str, Path]) -> Distillation:
    """Score all three on the test captures, and write the table and pictures of a few."""
    run = read_run(runs[ON_LABELS])
    assert run is not None
    captures, ids = open_captures(run.recipe), run.parts["test"]
    scoreboard: dict[str, evaluation.Evaluation] = {}
    galleries: dict[str, Panels] = {}
    for name, model in {TEACHER: LABELLER, **runs}.items():
        galleries[name] = Panels(PICTURES)
        scoreboard[name] = evaluation.evaluate(
            models.load(model), "affine-disparity", captures, ids=ids, watch=galleries[name].add
        )
    files.write_rgb(output / "comparison.png", _draw_comparison(galleries))
    result = Distillation(evaluation.table(scoreboard), len(ids), runs)
    with files.atomic_write(output / "table.json") as tmp_path:
        tmp_path.write_text(json.dumps(result.document(), indent=1) + "\n")
    return result


def _draw_comparison(galleries: dict[str, "Panels"]) -> RGBArray:
    """A column of images, one of truths, and one of every model's predictions, with titles."""
    # Every gallery holds the same images and truths.
    shared = galleries[TEACHER]
    columns = [shared.images, shared.truths, *(gallery.answers for gallery in galleries.values())]
    sheet = np.concatenate([np.concatenate(column) for column in columns], axis=1)
    return np.concatenate([_draw_titles(["image", "truth", *galleries], SMALL[1]), sheet])


def _draw_titles(titles: list[str], width: int, height: int = 24) -> RGBArray:
    """A strip, (height, n width, 3), with each title in the middle of its column."""
    strip = PILImage.new("RGB", (width * len(titles), height), "white")
    draw = ImageDraw.Draw(strip)
    for number, title in enumerate(titles):
        draw.text((width * (number + 0.5), height / 2), title, "black", ImageFont.load_default(11), anchor="mm")
    return np.array(strip)


class Panels:
    """Pictures of the first captures that are scored: image, truth and prediction.

    Disparity is shown in colours; the truth's own range sets those of both.

    Args:
        count: number of captures.
    """

    def __init__(self, count: int):
        self.count = count
        self.images: list[RGBArray] = []
        self.truths: list[RGBArray] = []
        self.answers: list[RGBArray] = []

    def add(self, capture: Capture, prediction: DepthArray, row: object) -> None:
        """Add a scored capture, unless there are enough; `evaluate` calls this as its watcher."""
        if len(self.images) == self.count:
            return
        truth = 1 / np.where(capture.mask, capture.depth, 1)
        low, high = (float(end) for end in np.percentile(truth[capture.mask], [2, 98]))
        self.images.append(capture.image)
        self.truths.append(files.colour_depth(truth, capture.mask, low, high, space="disparity"))
        self.answers.append(files.colour_depth(1 / prediction, None, low, high, space="disparity"))


keep_old_names(__name__, {"settings": "list_overrides"})
