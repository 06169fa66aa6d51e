"""Sound inputs that hostile ones are made from: a bench, a network, a run, labels, scores. Each is built once."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from small_bench import write  # pyright: ignore[reportMissingImports]
from small_captures import picture  # pyright: ignore[reportMissingImports]
from small_networks import saved  # pyright: ignore[reportMissingImports]

PLACE = "SONDE_FAULTS_SOUND"
"""The environment variable that names the folder of sound inputs."""
FEW = str(Path(__file__).parents[1] / "few.yaml")
SHORT_RUN = (
    "model.input_size=[64,96]",
    "data.cache=null",
    "train.max_steps=3",
    "train.warmup_steps=1",
    "train.eval_steps=1",
    "train.save_steps=1",
    "train.per_device_train_batch_size=1",
)
"""Overrides of the tests' recipe: three steps with a checkpoint after each."""


def sound(name: str) -> Path:
    """The path of a sound input, or of a file below one; it is built in a process of its own if it is not there yet."""
    name, _, below = name.partition("/")
    path = Path(os.environ[PLACE]) / name
    if not path.exists():
        try:
            _in_child(lambda: _build(name, path))
        except RuntimeError:
            shutil.rmtree(path, ignore_errors=True)  # half of it would pass for sound the next time
            raise
    return path / below


def copied(name: str, to: str, *more: Callable[[], object]) -> Callable[[], None]:
    """A step of a case: a copy of a sound input, to be damaged."""

    def make() -> None:
        shutil.copytree(sound(name), to)
        for step in more:
            step()

    return make


def copied_file(name: str, to: str) -> Callable[[], None]:
    """A step of a case: a copy of a sound file, to be damaged."""
    return lambda: (shutil.copyfile(sound(name), to), None)[1]


def resolve(word: str) -> str:
    """A word of a command line; @NAME alone, or after KEY=, becomes the path of that sound input."""
    key, mark, name = word.partition("@")
    return f"{key}{sound(name)}" if mark and (not key or key.endswith("=")) else word


def run_words(words: tuple[str, ...]) -> None:
    """`sonde WORDS…` in this process; raises SystemExit."""
    from runpy import run_module

    sys.argv = ["sonde", *map(resolve, words)]
    run_module("sonde", run_name="__main__")


def write_photos(folder: Path, count: int = 3) -> None:
    """Small photographs p0.png, p1.png …"""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(picture(index, 40, 56)).save(folder / f"p{index}.png")


def write_pairs(root: Path, count: int = 3) -> None:
    """A set of the folder layout: rgb/p0.png, depth/p0.png in millimetres, dataset.json."""
    write_photos(root / "rgb", count)
    (root / "depth").mkdir()
    for index in range(count):
        levels = np.full((40, 56), 900 + 10 * index, np.uint16) + np.arange(56, dtype=np.uint16)
        Image.fromarray(levels).save(root / "depth" / f"p{index}.png")
    (root / "dataset.json").write_text('{"depth_scale": 0.001, "unit": "mm", "rotated_bits": 0}')


def write_points(path: Path) -> None:
    """Measured points of the sound photographs: twice what the sound network answers, so that a scale fits them."""
    import sonde

    model, rows = sonde.load(sound("network")), ["image,x,y,depth"]
    for image in sorted(sound("photos").iterdir()):
        depth = 2 * model.predict(image).depth
        rows += [f"{image},{x},{y},{depth[y, x]}" for x, y in ((5, 5), (30, 9), (44, 31))]
    path.write_text("\n".join(rows) + "\n")


def _with_calibration(path: Path) -> None:
    shutil.copytree(sound("network"), path)
    run_words(("calibrate", str(path), "--points", "@points.csv"))


BUILDERS: dict[str, Callable[[Path], object]] = {
    "photos": write_photos,
    "several-photos": lambda path: write_photos(path, 24),
    "many-photos": lambda path: write_photos(path, 70),  # more than one chunk of labels
    "bench": lambda path: write(path, 6),
    "large-bench": lambda path: write(path, 16),
    "rendered": lambda path: run_words(("data", "synth", "bench", str(path), "-n", "4", "--size", "48,64")),
    "pairs": write_pairs,
    "many-pairs": lambda path: write_pairs(path, 24),
    "points.csv": write_points,
    "network": lambda path: saved("glpn", path),
    "run": lambda path: run_words(("train", FEW, "data.root=@bench", f"output_dir={path}", *SHORT_RUN)),
    "labels": lambda path: run_words(("label", "@network", "@photos", str(path), "--no-confidence")),
    "scored": lambda path: run_words(
        ("eval", "@network", "--data", "@bench", "-o", str(path), "--keep", f"{path}-kept")
    ),
    "predicted": lambda path: run_words(("predict", "@photos", "-m", "@network", "-o", str(path), "--save", "npy")),
    "scored-kept": lambda path: sound("scored"),  # the builder of the scores leaves it
    "calibrated": _with_calibration,
    "exported.onnx": lambda path: run_words(("export", "@network", "--to", "onnx", "-o", str(path), "--size", "64,96")),
}
"""Name -> what writes it to a path."""


def _build(name: str, path: Path) -> None:
    try:
        BUILDERS[name](path)
    except SystemExit as stop:
        if stop.code not in (0, None):
            raise


def _in_child(work: Callable[[], None]) -> None:
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("A sound input could not be built; the standard error says why.")
