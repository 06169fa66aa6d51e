"""The row of a whole run: `sonde train fixed-camera` against a script with transformers' Trainer and PEFT."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from sonde import recipes
from sonde.bench.fixed import CAPTURES, save_network, write_bench
from sonde.bench.processes import ProcessResult, run_command, run_in_process
from sonde.bench.rows import BenchRow
from sonde.recipes import Recipe

SIZE = (386, 516)
"""(height, width) of the captures."""
LEFT_OUT = 0
"""The capture that the plain side leaves out; the other fits take as long, and are not run."""


def measure_fixed_camera(quick: bool) -> BenchRow:
    """Seconds of `sonde train fixed-camera` on five renders of 386x516, in a process of its own, from start to report.

    The plain side is transformers' Trainer with PEFT's LoRA on the same network (the encoder of the recipe under a head
    of pixels), at the same input size, one image a step. It makes the fits that give the same result: one without each
    capture, to be scored on it, and one with all captures to ship, each with the optimizer steps of the recipe's full
    fit (`choose.steps`). Sonde's short fits, which compare benches, are counted on its own side alone, and so are its
    start, checks and report. One of the plain fits is run, and its seconds times six are the figure; `plain_fit_s` is
    that one fit alone. Errors are those of the capture that it leaves out.
    """
    size = (96, 128) if quick else SIZE
    asked = ["choose.steps=6", "model.input_pixels=12288"] if quick else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        root = write_bench(folder / "set", size)
        recipe = recipes.load("fixed-camera", [*asked, f"data.root={root}", f"output_dir={folder / 'run'}"])
        words = ["train", "fixed-camera", *asked, f"data.root={root}", f"output_dir={recipe.output_dir}"]
        ours = run_command([sys.executable, "-m", "sonde", *words])
        plain = _fit_plain(recipe, root, folder)
        errors = {"mae_mm_sonde": _measure_left_out(Path(recipe.output_dir), root)}
        errors["mae_mm_plain"] = json.loads((folder / "plain.json").read_text())
    fits = CAPTURES + 1
    return BenchRow(
        ours.seconds,
        fits * plain.figure,
        "s",
        fits * plain.figure / ours.seconds,
        {"sonde": ours.peak_mb, "plain": plain.peak_mb},
        note=f"plain: one of {fits} fits measured, times {fits}",
        figures=errors | {"plain_fit_s": plain.figure},
    )


def _fit_plain(recipe: Recipe, root: Path, folder: Path) -> ProcessResult:
    assert recipe.choose is not None
    height, width = json.loads((Path(recipe.output_dir) / "best" / "sonde.json").read_text())["input_size"]
    network = save_network(folder / "network")
    return run_in_process(
        "plain-fixed", network, root, height, width, recipe.choose.steps, LEFT_OUT, folder / "plain.json"
    )


def _measure_left_out(run: Path, root: Path) -> float:
    """Error of the run's own prediction of the capture that the plain side leaves out, millimetres."""
    name = sorted(path.stem for path in (root / "images").iterdir())[LEFT_OUT]
    depth = np.load(root / "depth" / f"{name}.npy", allow_pickle=False)
    answer = 1000 * np.load(run / "left-out" / f"{name}.npy", allow_pickle=False)
    return float(np.abs(answer - depth)[np.isfinite(depth)].mean())
