"""The performance table: sonde against the plain alternative, as ratios measured in one run on this machine."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sonde import files, models
from sonde.bench.inference import (
    measure_ceiling,
    measure_eval,
    measure_first_map,
    measure_folder,
    measure_packaged,
    measure_small,
    measure_small_int8,
)
from sonde.bench.inputs import make_maps, save_random_network, write_captures, write_photographs
from sonde.bench.page import render_page
from sonde.bench.plain import PlainCaptures, score_in_numpy
from sonde.bench.processes import ProcessResult, run_in_process, time_in_turn
from sonde.bench.rows import BenchRow, BenchTable
from sonde.bench.serving import measure_serving
from sonde.bench.training import measure_fixed_camera
from sonde.renamed import keep_old_names
from sonde.spelling import nearest

CAPTURE = (1200, 1944)
"""(height, width) of the published captures."""
PUBLISHED = (756, 1260)
"""(height, width) of the published recipe's network input."""


def bench(only: str | None = None, *, quick: bool = False) -> BenchTable:
    """Measure every row of the table, or one.

    Args:
        only: a name in ROWS.
        quick: small sizes, which show that a row runs but not how fast.

    Raises:
        ValueError: no such row.
    """
    if only is not None and only not in ROWS:
        raise ValueError(f"No row {only!r}: {nearest(only, list(ROWS))}")
    return BenchTable({name: measure(quick) for name, measure in ROWS.items() if only in (None, name)})


def write_page(table: BenchTable, path: Path) -> None:
    """Write the table as a page, docs/speed.md, with the machine that it was measured on."""
    about = {name: (measure.__doc__ or "").strip() for name, measure in ROWS.items()}
    with files.atomic_write(path) as tmp_path:
        tmp_path.write_text(render_page(table, about), encoding="utf-8")


def measure_decoding(quick: bool) -> BenchRow:
    """Training samples per second at 1200x1944, from the second epoch on; the plain side decodes every time."""
    from sonde.datasets import DecodedSet, DepthDataset, open_set

    with tempfile.TemporaryDirectory() as folder:
        root = write_captures(Path(folder) / "set", CAPTURE, 2 if quick else 6)
        captures = open_set("zivid", root)
        samples = DepthDataset(DecodedSet(captures, PUBLISHED, Path(folder) / "cache"), range(len(captures)))
        plain = PlainCaptures(root, PUBLISHED)
        # The first epoch fills the cache.
        for index in range(len(samples)):
            samples[index]
        ours, theirs = time_in_turn(lambda i: samples[i], lambda i: plain[i], len(samples), rounds=1 if quick else 3)
    return BenchRow(1 / ours, 1 / theirs, "samples/s", theirs / ours)


def measure_training(quick: bool) -> BenchRow:
    """Seconds per capture of the published recipe on Depth Anything V2 Small, reading included.

    The plain side is transformers' Trainer with PEFT.
    """
    size = (126, 210) if quick else (378, 630)
    with tempfile.TemporaryDirectory() as folder:
        network = save_random_network(Path(folder) / "small")
        root = write_captures(Path(folder) / "set", (120, 194) if quick else CAPTURE, 4)
        runs: dict[str, list[ProcessResult]] = {"sonde": [], "plain": []}
        # In turn: if the machine becomes slower or faster, both sides do.
        for _ in range(1 if quick else 3):
            for side, results in runs.items():
                results.append(run_in_process(side, network, root, *size, folder))
    seconds = {side: float(np.median([result.figure for result in results])) for side, results in runs.items()}
    memory = {side: float(np.median([result.peak_mb for result in results])) for side, results in runs.items()}
    unit = f"s per capture at {size[0]}x{size[1]}"
    return BenchRow(seconds["sonde"], seconds["plain"], unit, seconds["plain"] / seconds["sonde"], memory)


def measure_labelling(quick: bool) -> BenchRow:
    """Images of 1 MP per second that Depth Anything V2 Small labels, files included.

    The plain side is transformers' forward pass alone, on tensors in memory, one image at a time as in sonde. Sonde
    reads JPEGs, predicts each image twice for its confidence, and writes 16-bit PNGs and the manifest.
    """
    from transformers import AutoModelForDepthEstimation

    from sonde import labelling

    count, rounds = (2, 1) if quick else (8, 5)
    with tempfile.TemporaryDirectory() as folder:
        network = save_random_network(Path(folder) / "small")
        teacher = models.load_network(network)
        plain = AutoModelForDepthEstimation.from_pretrained(network, trust_remote_code=False).eval()
        if quick:
            teacher.spec = replace(teacher.spec, short_side=126)
        photos = write_photographs(Path(folder) / "images", (864, 1152), count)
        pixels = torch.rand(1, 3, *teacher.spec.network_size(864, 1152))
        # Labelling keeps what is already in a folder, so every call needs a new one.
        outputs = iter(range(10 * rounds))

        def label_photos(_: int) -> None:
            labelling.label(teacher, photos, Path(folder) / f"labels-{next(outputs)}", chunk=count)

        @torch.inference_mode()
        def run_network(_: int) -> None:
            for _ in range(count):
                plain(pixel_values=pixels)

        label_photos(0)
        run_network(0)
        ours, theirs = time_in_turn(label_photos, run_network, 1, rounds)
    return BenchRow(count / ours, count / theirs, "images/s", theirs / ours)


def measure_scoring(quick: bool) -> BenchRow:
    """Maps of 1200x1944 per second, aligned in depth and scored by every metric; the plain side is NumPy.

    Memory is the increase during one call: 100 maps in sonde, one map in NumPy, which takes them one by one.
    """
    from sonde.align import ALIGN
    from sonde.metrics import METRICS, score

    count, rounds = (1, 1) if quick else (20, 5)
    size = (120, 194) if quick else CAPTURE
    maps = make_maps(size)
    pred, target, mask = (torch.from_numpy(array)[None] for array in maps)

    def score_maps(_: int) -> None:
        score(ALIGN["affine"](pred, target, mask), target, mask, METRICS)

    ours, theirs = time_in_turn(score_maps, lambda _: score_in_numpy(*maps), count, rounds)
    sides = {"sonde": ("scored", 2 if quick else 100, *size), "plain": ("plain-scored", 1, *size)}
    memory = {side: run_in_process(*words).figure for side, words in sides.items()}
    return BenchRow(1 / ours, 1 / theirs, "maps/s", theirs / ours, memory)


ROWS: dict[str, Callable[[bool], BenchRow]] = {
    "small": measure_small,
    "small-int8": measure_small_int8,
    "ceiling": measure_ceiling,
    "packaged": measure_packaged,
    "folder": measure_folder,
    "eval": measure_eval,
    "first-map": measure_first_map,
    "decoding": measure_decoding,
    "training": measure_training,
    "fixed-camera": measure_fixed_camera,
    "labelling": measure_labelling,
    "scoring": measure_scoring,
    "serving": measure_serving,
}
"""Name → how a row is measured."""

keep_old_names(
    __name__,
    {
        "decoding": "measure_decoding",
        "training": "measure_training",
        "labelling": "measure_labelling",
        "scoring": "measure_scoring",
        "plain_loss": "sonde.bench.plain.compute_published_loss",
        "plain_scores": "sonde.bench.plain.score_in_numpy",
        "RUNS": "sonde.bench.processes.SIDES",
    },
)
