"""docs/reference-map.md is true: commands run, names and settings are there, and both sides of a formula agree."""

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from inspect import getdoc
from itertools import count
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from reference_map import PAGE, ROOT, Claim, Entry, at, claims, entries, is_a_key, rendered, resolved, value_in
from scipy.io import savemat
from small_captures import picture, plane_depth, write_bench
from small_networks import saved, small_depth_anything
from test_driving_evaluation import write_kitti
from transformers import AutoModelForDepthEstimation

from sonde import cli, evaluation, exporting, labelling, models, recipes, scenes

HUB = ("depth-anything/Depth-Anything-V2-Small-hf",)
"""What a command names that has to be fetched; a small network takes its place."""

ROADS = (
    "model.name=CKPT max_depth=80 crop_h=32 crop_w=64 train.max_steps=1 workers=0 batch_size=2 data.cache=null "
    'data.split="{test: 2, validation: 2, group: null}"'
)
TINY = {
    "lora-zivid": "model.name=RELATIVE model.input_size=[28,42] train.num_train_epochs=1",
    "fixed-camera": "model.name=RELATIVE",
    "teacher-dav2": "train.max_steps=1",
    "student-reference": (
        "model.name=METRIC model.input_size=[28,42] data.measured.root=BENCH data.measured.format=zivid "
        "data.measured.render={} train.max_steps=1 train.dataloader_num_workers=0 train.per_device_train_batch_size=2"
    ),
    "metric-driving": ROADS,
    "metric-driving-plateau": ROADS,
    "metric-driving-cyclic": ROADS,
}
"""Recipe → what keeps a run of it short; before the words of a command, which win."""


TRAINED = {
    "RUN": ("sonde train lora-zivid data.root=BENCH",),
    "STUDENT": ("sonde train student-reference data.root=LABELS",),
    "FROZEN": ("sonde train student-reference data.root=LABELS model.encoder_learning_rate=0",),
    "ROADRUN": (
        "sonde train metric-driving --dataset DrivingStereo --data_path ROOT --max_depth 80.0 --max_depth_eval 80.0 "
        "--crop_h 352 --crop_w 704",
        "crop_h=32 crop_w=64",
    ),
}
"""Word → the command of the page that makes this run."""

Maker = Callable[["Home", Path], Path]


class Home:
    """A folder with what a command's CAPITALS stand for; each is made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.numbers = folder, {}, count()

    def place(self, word: str) -> str:
        """The path, or folder that is not there yet for OUT, that stands for a word."""
        if word in ("OUT", "FILE", "MORE"):
            return f"{word.lower()}{next(self.numbers)}"
        if word not in self.made:
            self.made[word] = MAKERS[word](self, self.folder / "given" / word.lower())
        return str(self.made[word])

    def words(self, text: str) -> list[str]:
        """A command's words behind `sonde`."""
        for name in HUB:
            text = text.replace(name, "RELATIVE")
        return [
            re.sub(r"\b[A-Z][A-Z0-9]{2,}\b(?!_)", lambda found: self.place(found[0]), word)
            for word in shlex.split(text)
        ]

    def run(self, claim: Claim) -> list[str]:
        """The words of a claim with what keeps it short."""
        verb, *rest = self.words(claim.text.removeprefix("sonde "))
        if verb != "train":
            return [verb, *rest, *self.words(claim.entry.tiny)]
        recipe, *rest = rest
        rest = [*self.words(TINY[recipe]), *rest, *self.words(claim.entry.tiny)]
        if "--resume" in rest:
            return [verb, recipe, *rest, f"output_dir={self.place('RESUMED')}"]
        return [verb, recipe, *rest]


def _metric(home: Home, folder: Path) -> Path:
    torch.manual_seed(0)
    config = small_depth_anything(depth_estimation_type="metric", max_depth=20)
    network = AutoModelForDepthEstimation.from_config(config)
    models.reinit_head(network)
    network.save_pretrained(folder)
    return folder


def _ckpt(home: Home, folder: Path) -> Path:
    torch.manual_seed(0)
    exporting.export(models.build("b0", max_depth=80), to="glpdepth", out=folder)
    return next(folder.glob("*.ckpt")).rename(folder / "epoch_08_model.ckpt")


def _photos(home: Home, folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(number, 48, 64)).save(folder / f"{number}.jpg")
    return folder


def _labels(home: Home, folder: Path) -> Path:
    labelling.label(home.place("METRIC"), home.place("IMAGES"), folder, workers=1)
    return folder


def _typed(text: str, tiny: str = "") -> Maker:
    """What a training command leaves."""

    def make(home: Home, folder: Path) -> Path:
        words = [*home.run(Claim(Entry(theirs="", ours=[text], tiny=tiny), text)), f"output_dir={folder}"]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
            patch.setattr("sys.argv", ["sonde", *words])
            cli.main()
        assert not stop.value.code
        return folder

    return make


def _rooms(home: Home, folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    for number in range(4):
        Image.fromarray(picture(number, 48, 64)).save(folder / "images" / f"{number}.png")
        np.save(folder / "depth" / f"{number}.npy", (plane_depth(48, 64) + number / 5).astype(np.float32))
    return folder


def _links(home: Home, folder: Path) -> Path:
    lines = ["file_name\tcdn_link", *(f"sa_{n:06}.tar\thttps://bench.invalid/{n}" for n in range(12))]
    folder.with_suffix(".txt").write_text("\n".join(lines))
    return folder.with_suffix(".txt")


def _nyu(home: Home, folder: Path) -> Path:
    folder.mkdir()
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = np.stack([picture(0, 480, 640)]).transpose(0, 3, 2, 1)
        file["rawDepths"] = np.linspace(1, 5, 480 * 640, dtype=np.float32).reshape(1, 480, 640).transpose(0, 2, 1)
        cells = file.create_dataset("scenes", (1, 1), h5py.ref_dtype)
        cells[0, 0] = file.create_dataset("#refs#/0", data=np.array([list(b"kitchen_0004")], np.uint16).T).ref
    savemat(folder / "splits.mat", {"testNdxs": np.array([[1]]), "trainNdxs": np.array([[1]])})
    return folder


def _scored(model: str) -> Maker:
    def make(home: Home, folder: Path) -> Path:
        evaluation.evaluate(home.place(model), "zivid-mm", home.place("BENCH"), align="disparity", out=folder)
        return folder

    return make


def _predictions(home: Home, folder: Path) -> Path:
    roads = home.place("ROADS")
    evaluation.evaluate(home.place("CKPT"), "driving-stereo", roads, format="driving_stereo", max_depth=80, keep=folder)
    return folder


def _roads(home: Home, folder: Path) -> Path:
    scenes.synth("road", folder / "DrivingStereo", 8, height=48, width=96, workers=1)
    return folder


def _theirs(home: Home, folder: Path) -> Path:
    torch.save({"model_state_dict": {"head.weight": torch.zeros(1)}}, folder.with_suffix(".pt"))
    return folder.with_suffix(".pt")


def _da2k(home: Home, folder: Path) -> Path:
    (folder / "images" / "indoor").mkdir(parents=True)
    Image.fromarray(picture(0, 48, 64)).save(folder / "images" / "indoor" / "0.png")
    pair = {"point1": [5, 5], "point2": [40, 60], "closer_point": "point1"}
    (folder / "annotations.json").write_text(json.dumps({"images/indoor/0.png": [pair]}))
    return folder


MAKERS: dict[str, Maker] = {
    "BENCH": lambda home, folder: scenes.synth("bench", folder, 6, height=48, width=64, workers=1),
    "BENCH58": lambda home, folder: write_bench(folder, 58),
    "IMAGES": _photos,
    "IMAGE": lambda home, folder: Path(home.place("IMAGES"), "0.jpg"),
    "RELATIVE": lambda home, folder: saved("depth_anything", folder),
    "MODEL": lambda home, folder: Path(home.place("RELATIVE")),
    "METRIC": _metric,
    "LABELS": _labels,
    "CKPT": _ckpt,
    "THEIRS": _theirs,
    "LINKS": _links,
    "ROOT": _roads,
    "ROADS": lambda home, folder: Path(home.place("ROOT"), "DrivingStereo"),
    "ROOMS": _rooms,
    "KITTIS": lambda home, folder: write_kitti(folder / "kitti").parent,
    "KITTI": lambda home, folder: Path(home.place("KITTIS"), "kitti"),
    "NYU": _nyu,
    "SPLITS": lambda home, folder: Path(home.place("NYU"), "splits.mat"),
    "DA2K": _da2k,
    "RESUMED": lambda home, folder: Path(shutil.copytree(home.place("RUN"), folder)),
    "ADAPTER": lambda home, folder: next(Path(home.place("RUN"), "checkpoints").glob("checkpoint-*")),
    "PREDICTIONS": _predictions,
    "ONE": _scored("RELATIVE"),
    "OTHER": _scored("RUN"),
    **{word: _typed(*lines) for word, lines in TRAINED.items()},
}
"""Word → what makes it in a folder of that name, if it takes one."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Home]:
    """Where the commands run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        (folder / "given").mkdir()
        patch.chdir(folder)
        yield Home(folder)


def of(kind: str) -> pytest.MarkDecorator:
    """Every claim of a kind as `claim`."""
    return pytest.mark.parametrize("claim", claims(kind), ids=str)


def test_the_page_is_what_the_table_makes():
    assert PAGE.read_text() == rendered(), "make it again: python tests/reference_map.py > docs/reference-map.md"


@of("command")
def test_a_command_of_the_page_runs(claim, home, sonde, monkeypatch):
    if claim.entry.run_by:
        assert (ROOT / claim.entry.run_by).is_file()
        return
    made = [word for word, (text, *_) in TRAINED.items() if text == claim.text]
    if made and "--dry-run" not in claim.entry.tiny:
        assert Path(home.place(made[0]), "report.html").is_file()
        return
    monkeypatch.setattr(labelling, "plan", partial(labelling.plan, seconds=0.2))  # a minute otherwise
    said = sonde(*home.run(claim))
    assert said.code == claim.entry.exit, said.text + said.errors
    for words in claim.entry.says:
        assert words in said.text + said.errors


@of("left")
def test_a_run_leaves_what_the_page_says(claim, home):
    assert Path(home.place("RUN"), claim.text.removeprefix("RUN/")).exists()


@of("path")
def test_a_file_of_the_page_is_here(claim):
    assert (ROOT / claim.text).exists()


@of("target")
def test_make_has_the_target(claim):
    assert f"\n{claim.text.removeprefix('make ')}:" in (ROOT / "Makefile").read_text()


@of("extra")
def test_the_extra_can_be_installed(claim):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert claim.text.partition("[")[2].rstrip("]'") in extras


@of("name")
def test_a_name_of_the_page_is_there_and_explained(claim):
    found = resolved(claim.text)
    assert getdoc(found) if callable(found) or isinstance(found, ModuleType) else found is not None


@of("setting")
def test_a_recipe_has_what_the_page_says(claim):
    recipe, _, setting = claim.text.partition(": ")
    key, _, value = setting.partition("=")
    found, said = value_in(recipe, key), yaml.safe_load(value)
    found = list(found) if isinstance(found, tuple) else found
    assert found == (float(said) if isinstance(found, float) else said)


@of("field")
def test_a_recipe_may_have_the_key(claim):
    key, given, _ = claim.text.partition("=")
    assert is_a_key(key)
    if given:
        recipes.load("lora-zivid", [claim.text])


@pytest.mark.parametrize(
    ("section", "entry"), [pytest.param(*pair, id=pair[1].theirs[:40]) for pair in entries() if pair[1].check]
)
def test_their_formula_and_ours_have_the_number_of_the_page(section, entry):
    numbers = {**section.numbers, **entry.check.given}
    theirs, ours = (at(expression, numbers) for expression in (entry.check.theirs, entry.check.ours))
    np.testing.assert_allclose(ours, theirs, rtol=entry.check.within)
    np.testing.assert_allclose(theirs, entry.check.value, rtol=max(entry.check.within, 1e-6))


def test_an_encoder_at_a_rate_of_0_stays_to_the_bit(home):
    before, after = (models.load_network(home.place(word)).network.state_dict() for word in ("METRIC", "FROZEN"))
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(kept for name, kept in same.items() if name.startswith("backbone."))
    assert not all(same.values())


def test_the_statistics_are_the_notebooks(home, sonde):
    said = sonde("data", "stats", home.place("BENCH"), "--json").json
    z = np.stack([np.load(path)[..., 2] for path in sorted(Path(home.place("BENCH"), "depth").glob("*.npy"))])
    seen = np.isfinite(z) & (z > 0) & (z < 10_000)
    assert [said["captures"], said["min"], said["max"]] == [len(z), z[seen].min(), z[seen].max()]
    assert said["valid"] == pytest.approx(seen.mean()) and 0 < said["valid"] < 1
    assert [each["median"] for each in said["each"]] == [np.median(a[b]) for a, b in zip(z, seen, strict=True)]
