"""What others call a loss is what docs/recipes.md says it is here; `student-reference` trains with one of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_captures import picture, write_bench
from small_networks import saved, small_depth_anything
from transformers import AutoModelForDepthEstimation

from sonde import labelling, models, recipes, training
from sonde.losses import feature_alignment, weigh
from sonde.recipes import Recipe

Array = np.ndarray
DOCS = Path(__file__).parents[1] / "docs" / "recipes.md"


def rows() -> dict[str, str]:
    """Their name → ours, as the documentation's table has them."""
    table = DOCS.read_text().partition("| their name | ours | formula |\n")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    return {theirs: ours.strip("`") for theirs, ours, _ in cells}


def root_of(d: Array, share: float) -> float:
    return float(np.sqrt(np.mean(d**2) - share * np.mean(d) ** 2))


def least(sizes: Array, share: float = 0.1) -> Array:
    """Which are not among the largest share of all."""
    order = np.argsort(np.argsort(sizes))
    return order < len(sizes) - int(len(sizes) * share)


def slopes(d: Array) -> Array:
    """The absolute sums of Sobel's two kernels at each pixel whose nine are there."""
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return np.array(
        [
            sum(abs((turned * d[y : y + 3, x : x + 3]).sum()) for turned in (kernel, kernel.T))
            for y in range(d.shape[0] - 2)
            for x in range(d.shape[1] - 2)
        ]
    )


def normal(values: Array) -> Array:
    centred = (
        values - np.sort(values.ravel())[(values.size - 1) // 2]
    )  # the lower of two middle values, as MiDaS has it
    return centred / np.abs(centred).mean()


def trimmed_reference(p: Array, t: Array) -> float:
    d = np.log(p) - np.log(t)
    steep = slopes(d)
    return root_of(d.ravel()[least(np.abs(d).ravel())], 0.5) + 0.5 * steep[least(steep)].mean()


def scales(p: Array, t: Array) -> float:
    """L_gm of MiDaS, at every n-th pixel."""
    total = 0.0
    for n in (1, 2, 4, 8):
        r = (normal(p) - normal(t))[::n, ::n]
        total += (np.abs(np.diff(r, axis=0)).sum() + np.abs(np.diff(r, axis=1)).sum()) / r.size
    return total


def notebook(p: Array, t: Array) -> float:
    total = np.abs(p - t).mean()
    for axis in (0, 1):
        dear = np.where(np.abs(np.diff(t, axis=axis)) > 0.02, 11, 1)
        total += 3 * (dear * np.abs(np.diff(p - t, axis=axis))).mean()
    return total


def trimmed_ssi(p: Array, t: Array) -> float:
    error = np.abs(normal(p) - normal(t)).ravel()
    return error[least(error)].mean()


def features(p: Array, t: Array) -> float:
    """L_feat of the rows as tokens."""
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(p, t, strict=True)]
    return float(np.mean([1 - cos for cos in cosines if cos <= 0.85]))


def log_ratio(p: Array, t: Array) -> Array:
    return np.log(p) - np.log(t)


FORMULAS: dict[str, Callable[[Array, Array], float]] = {
    "Student reference: L_ssi": lambda p, t: root_of(log_ratio(p, t), 0.5),
    "Student reference: L_gm": lambda p, t: slopes(log_ratio(p, t)).mean(),
    "Student reference: top-10 % masking, here of L_ssi": lambda p, t: root_of(
        log_ratio(p, t).ravel()[least(np.abs(log_ratio(p, t)).ravel())], 0.5
    ),
    "Student reference: both together, with the masking": trimmed_reference,
    "Depth Anything, MiDaS: L_ssi": lambda p, t: np.abs(normal(p) - normal(t)).mean(),
    "Depth Anything V2, on pseudo-labels: L_ssi without the top 10 %": trimmed_ssi,
    "Depth Anything, MiDaS: L_gm": scales,
    "Depth Anything: L_feat": features,
    "GLPDepth, metric Depth Anything V2: SiLog": lambda p, t: root_of(log_ratio(p, t), 0.5),
    "BTS: SILog": lambda p, t: 10 * root_of(log_ratio(p, t), 0.85),
    "Zivid notebook: masked L1 + 3 · gradient": notebook,
}
"""Each row's formula, written once more and in NumPy."""


def test_every_row_of_the_table_is_held_to_a_formula():
    assert list(rows()) == list(FORMULAS)


@pytest.mark.parametrize("theirs", FORMULAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_ours_is_their_formula(theirs: str, seed: int):
    draw = np.random.default_rng(seed)
    p, t = draw.uniform(0.5, 2.0, (2, 19, 23))
    ours = yaml.safe_load(rows()[theirs])
    if "align_features" in ours:  # tokens of either sign, of which five agree
        p, t = p - 1.25, np.concatenate([p[:5] - 1.24, t[5:] - 1.25])
    expected = FORMULAS[theirs](p, t)
    pred, target = torch.from_numpy(p)[None], torch.from_numpy(t)[None]
    if "align_features" in ours:
        recipe = Recipe.model_validate(ours).align_features
        assert recipe is not None
        found = recipe.weight * feature_alignment(pred, target, recipe.tolerance)
    else:
        found = sum(weigh(pred, target, torch.ones_like(pred, dtype=torch.bool), Recipe(loss=ours).loss).values())
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_packaged_recipe_has_the_loss_of_the_table_and_the_reference_settings():
    recipe = recipes.load("student-reference")
    combined = yaml.safe_load(rows()["Student reference: both together, with the masking"])
    assert recipe.loss == Recipe(loss=combined).loss
    assert (recipe.model.size, recipe.model.encoder) == ("small", "facebook/dinov2-small")
    assert recipe.model.input_size == (518, 518) and recipe.model.encoding is None and recipe.model.max_depth
    published = {
        "num_train_epochs": 20,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
    }
    assert published.items() <= recipe.train.items()
    assert (recipe.augment.flip, recipe.augment.brightness, recipe.augment.contrast) == (0.5, 0.1, 0.1)
    assert round(recipe.augment.crop * 518) == 490


def metric(folder: Path, max_depth: int) -> Path:
    """A folder of a network that answers metres."""
    torch.manual_seed(0)
    config = small_depth_anything(depth_estimation_type="metric", max_depth=max_depth)
    network = AutoModelForDepthEstimation.from_config(config)
    models.reinit_head(network)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A folder of photos, labels of them by a metric teacher, judges, and a network to draw students like."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "photos").mkdir()
    for index in range(6):
        Image.fromarray(picture(index, 40 + 8 * index, 60)).save(folder / "photos" / f"{index}.png")
    labelling.label(metric(folder / "teacher", 2), folder / "photos", folder / "labels", workers=1)
    write_bench(folder / "judges", 6)
    metric(folder / "student", 8)
    return folder


def words(room: Path, *more: str) -> list[str]:
    """Overrides of student-reference for a run of seconds: a student that starts four times too far."""
    return [
        f"model.name={room / 'student'}",
        "model.init=random",
        "model.input_size=[28,42]",
        f"data.root={room / 'labels'}",
        f"data.measured.root={room / 'judges'}",
        "data.measured.format=zivid",
        f"data.cache={room / 'cache'}",
        "train.logging_steps=1",
        "train.max_steps=20",
        "train.learning_rate=3e-3",
        "train.eval_strategy=steps",
        "train.eval_steps=20",
        "train.save_strategy=steps",
        "train.save_steps=20",
        "train.per_device_train_batch_size=6",
        "train.dataloader_num_workers=0",
        f"output_dir={room / 'run'}",
        *more,
    ]


@pytest.fixture(scope="module")
def run(room) -> Path:
    """Twenty steps of student-reference."""
    return training.train("student-reference", words(room))


def test_a_student_of_metres_learns_from_a_metric_teacher_by_it(run, room):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    silog = [line["silog"] for line in lines if "silog" in line]
    assert len(silog) == 20 and silog[0] > 0.5 and np.mean(silog[-3:]) < 0.6 * silog[0]
    scores = json.loads((run / "metrics.json").read_text())
    assert scores["protocol"] == "metric" and scores["data"] == str(room / "judges")
    assert models.load(run).space == "metric"
    assert recipes.load(run).loss == recipes.load("student-reference").loss


def test_the_second_phase_starts_from_the_first_as_the_documentation_writes_it(run, room):
    own = [word for word in words(room) if not word.startswith("model.name") and not word.startswith("model.init")]
    more = [f"model.name={run}", "train.learning_rate=5e-5", "train.num_train_epochs=15", "output_dir=elsewhere"]
    plan = training.prepare(recipes.load("student-reference", [*own, *more]))
    assert models.hash_weights(plan.model.network) == models.hash_weights(models.load_network(run).network)
    assert plan.model.space == "metric" and plan.recipe.loss["silog"].trim == 0.1


def test_a_run_cannot_go_on_under_another_trim(run, room):
    with pytest.raises(ValueError, match=r"loss changed from \{'silog': \{'weight': 1\.0, 'trim': 0\.1\}"):
        training.train("student-reference", words(room, "train.max_steps=30", "loss.silog.trim=0.2"), resume=True)


def test_a_relative_teachers_labels_are_refused_and_the_sentence_says_what_to_do(room, tmp_path):
    relative = saved("depth_anything", tmp_path / "relative")
    labelling.label(relative, room / "photos", tmp_path / "labels", workers=1)
    others = words(room, f"data.root={tmp_path / 'labels'}", f"output_dir={tmp_path / 'run'}")
    with pytest.raises(ValueError, match=r"disparity without a unit, .* or a metric model's labels\.$"):
        training.train("student-reference", others)
    with pytest.raises(ValueError, match=r"logarithm.*`silog` here, train .* the recipe student-reference") as caught:
        training.train("student-reference", [*others, f"model.name={relative}"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "trim,said",
    [
        ("1.2", "trim=1.2: expected a share"),
        ("1", "trim=1: expected a share"),
        ("-0.1", "trim=-0.1: expected a share"),
        (".nan", "trim: nan is not a finite number"),
    ],
)
def test_a_trim_that_is_no_share_is_refused_before_any_work(trim, said, tmp_path):
    with pytest.raises(ValueError, match=rf"^loss\.silog\.{said}"):
        training.train(
            "demo",
            [f"loss.silog.trim={trim}", "loss.silog=1", "data.render={bench: 2}", f"data.root={tmp_path / 'renders'}"],
        )
    assert not list(tmp_path.iterdir())
