"""Rows of prediction and scoring: from files to depth, against transformers' pipeline or the bare network."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sonde import models
from sonde.bench.inputs import write_captures, write_photographs
from sonde.bench.processes import run_command, time_in_turn
from sonde.bench.rows import BenchRow
from sonde.types import RGBArray

SIDE = 518
"""Pixels of a side of Depth Anything V2's usual input."""
SUFFIXES = {runtime: suffix for suffix, runtime in models.SUFFIXES.items()}
PHOTOGRAPH = (384, 512)
"""(height, width) of the photographs of a folder."""
CAPTURE = (1200, 1944)
"""(height, width) of the published captures."""
PACKAGED = ("sonde-lite", "sonde-tiny")
"""The models of the package, first the one that `sonde predict` takes."""


def measure_small(quick: bool) -> BenchRow:
    """Seconds from a JPEG to the depth map by Depth Anything V2 Small in fp32 at 518x518, by the fastest CPU runtime.

    The plain side is the depth pipeline of transformers on the same files, with as many threads.
    """
    return _compare_small(quick, "fp32")


def measure_small_int8(quick: bool) -> BenchRow:
    """As `small`, with the network in int8. Its weights are random, so that only its speed is measured here."""
    return _compare_small(quick, "int8")


def _compare_small(quick: bool, precision: str) -> BenchRow:
    from transformers import pipeline

    side, rounds = (126, 1) if quick else (SIDE, 7)
    with tempfile.TemporaryDirectory() as place:
        folder, files = save_small(Path(place) / "small", side), Path(place) / "images"
        paths = sorted(write_photographs(files, (2 * side, 2 * side), 2).iterdir())
        written = {runtime: write_exported(folder, runtime, precision) for runtime in ("onnx", "openvino")}
        ours = {runtime: models.load(path, device="cpu") for runtime, path in written.items()}
        plain = pipeline("depth-estimation", model=str(folder), device="cpu", trust_remote_code=False)
        fastest = min(ours, key=lambda runtime: _time_best(lambda: ours[runtime].predict(paths[0])))
        mine, theirs = time_sides(
            lambda: ours[fastest].predict(paths[0]), lambda: plain(str(paths[0]))["predicted_depth"], rounds
        )
        scripts = {"sonde": (LOADED, written[fastest]), "plain": (PIPELINE, folder)}
        memory = {
            name: run_command([sys.executable, "-c", script, str(model), str(paths[0]), f"{place}/{name}.png"]).peak_mb
            for name, (script, model) in scripts.items()
        }
    unit = f"s per image at {side}x{side}"
    return BenchRow(mine, theirs, unit, theirs / mine, memory, note=f"{models.RUNTIMES[fastest]}, {precision}")


def measure_ceiling(quick: bool) -> BenchRow:
    """GFLOP/s of Depth Anything V2 Small in fp32 by its fastest runtime; the other side is a product of large matrices.

    Operations are multiplications and additions of matrix products and convolutions, as torch counts them.
    """
    from torch.utils.flop_counter import FlopCounterMode

    side, rounds, order = (126, 1, 512) if quick else (SIDE, 7, 4096)
    with tempfile.TemporaryDirectory() as place:
        folder = save_small(Path(place) / "small", side)
        network = models.load_network(folder)
        pixels = np.random.default_rng(0).random((1, 3, side, side), np.float32)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network.network(pixel_values=torch.from_numpy(pixels))
        loaded = [models.load(write_exported(folder, runtime, "fp32"), device="cpu") for runtime in models.SESSIONS]
        runs = [model.run for model in loaded if isinstance(model, models.ExportedModel)]
        fastest = min(runs, key=lambda run: _time_best(lambda: run(pixels)))
        matrix = torch.rand(order, order)
        mine, theirs = time_sides(lambda: fastest(pixels), lambda: matrix @ matrix, rounds)
    own, most = counter.get_total_flops() / mine / 1e9, 2 * order**3 / theirs / 1e9
    return BenchRow(own, most, "GFLOP/s", own / most, note="share of what a product of large matrices reaches")


def measure_packaged(quick: bool) -> BenchRow:
    """Milliseconds from the pixels of a 252x336 image to its depth map by sonde-lite, by the fastest CPU runtime.

    The plain side is the same by torch. The note says what sonde-tiny takes.
    """
    image = np.random.default_rng(0).integers(0, 256, (252, 336, 3), np.uint8)
    runtimes = ("onnx", "openvino")
    loaded = {name: [models.load(name, runtime=runtime, device="cpu") for runtime in runtimes] for name in PACKAGED}
    lite, tiny = (min(each, key=lambda model: _time_best(lambda: model.predict(image))) for each in loaded.values())
    plain = models.load(PACKAGED[0], runtime="torch", device="cpu")
    rounds = 1 if quick else 20
    mine, theirs = time_sides(lambda: lite.predict(image), lambda: plain.predict(image), rounds)
    other, _ = time_sides(lambda: tiny.predict(image), lambda: None, rounds)
    note = f"{models.RUNTIMES[lite.placement.runtime]}; sonde-tiny takes {1000 * other:.3g} ms"
    return BenchRow(1000 * mine, 1000 * theirs, "ms per image at 252x336", theirs / mine, note=note)


def measure_folder(quick: bool) -> BenchRow:
    """Photographs per second of `sonde predict` with sonde-tiny on a folder of 200: read, predict, write.

    The other side is its network alone on tensors that are ready.
    """
    import sonde

    count, rounds = (2, 1) if quick else (200, 7)
    with tempfile.TemporaryDirectory() as place:
        photos = write_photographs(Path(place) / "photos", PHOTOGRAPH, count)
        model = models.load("sonde-tiny", runtime="auto", device="cpu")
        outputs = iter(range(2 * rounds + 2))
        alone = make_bare(model, [np.zeros((*PHOTOGRAPH, 3), np.uint8)])

        def predict_folder() -> None:
            sonde.predict(photos, model, Path(place) / f"out-{next(outputs)}")

        def run_network() -> None:
            for _ in range(count):
                alone()

        ours, theirs = time_sides(predict_folder, run_network, rounds)
    return BenchRow(count / ours, count / theirs, "photographs/s", theirs / ours, note=model.placement.describe())


def measure_eval(quick: bool) -> BenchRow:
    """Captures of 1200x1944 per second that `sonde eval` scores with sonde-tiny: 100 of them, in 5 rounds of 20.

    The other side is the network alone on ready tensors, and then the scoring alone of ready maps.
    """
    import sonde
    from sonde import protocols
    from sonde.datasets import open_set
    from sonde.evaluation.scoring import score

    size, count, rounds = ((120, 194), 2, 1) if quick else (CAPTURE, 20, 5)
    with tempfile.TemporaryDirectory() as place:
        root = write_captures(Path(place) / "set", size, count)
        model = models.load_network("sonde-tiny")
        captures, rules = open_set("zivid", root), protocols.load("zivid-mm", "disparity")
        capture = captures.read(0)
        answer = model.predict(capture.image)
        alone = make_bare(model, [capture.image])

        def evaluate() -> None:
            sonde.evaluate(model, "zivid-mm", root, align="disparity", check=False)

        def run_and_score() -> None:
            for _ in range(count):
                alone()
                score(answer, capture, rules)

        ours, theirs = time_sides(evaluate, run_and_score, rounds)
    return BenchRow(count / ours, count / theirs, "captures/s", theirs / ours, note=model.placement.describe())


def measure_first_map(quick: bool) -> BenchRow:
    """Seconds from the shell to the written map of one photograph, with sonde-tiny.

    The plain side is a script with transformers' pipeline on the same folder of weights, which writes its picture.
    """
    rounds = 1 if quick else 7
    with tempfile.TemporaryDirectory() as place:
        photo = next(write_photographs(Path(place) / "photos", PHOTOGRAPH, 1).iterdir())
        sides = (
            [sys.executable, "-m", "sonde", "predict", str(photo), "-m", "sonde-tiny", "-o", f"{place}/out"],
            [sys.executable, "-c", PIPELINE, str(models.WEIGHTS), str(photo), f"{place}/plain.png"],
        )
        found = [[run_command(command) for command in sides] for _ in range(rounds)]
    seconds, processor, memory = np.median(np.array(found), axis=0).T
    return BenchRow(
        float(seconds[0]),
        float(seconds[1]),
        "s",
        float(seconds[1] / seconds[0]),
        {"sonde": float(memory[0]), "plain": float(memory[1])},
        note=f"CPU time {processor[0]:.2f} s against {processor[1]:.2f} s",
    )


def save_small(folder: Path, side: int = SIDE) -> Path:
    """Depth Anything V2 Small with random weights, whose short side is `side`, with its image processor."""
    torch.manual_seed(0)
    model = models.build("small")
    model.spec = replace(model.spec, short_side=side)
    models.save(model, folder)
    return folder


def write_exported(folder: Path, runtime: str, precision: str) -> Path:
    """A file of a folder's network for a runtime, without the gate: random weights keep no answer in int8."""
    from sonde.exporting.graphs import save_graph
    from sonde.exporting.quantizing import Quantizer
    from sonde.exporting.tracing import trace
    from sonde.exporting.writing import convert_to_openvino

    place = folder / runtime / precision
    place.mkdir(parents=True)
    model, path = models.load_network(folder), place / "model.onnx"
    note = models.describe_export(model, precision=precision, size=None, licence="none")
    save_graph(trace(model, None), path, note)
    if precision == "int8":
        seen = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE), np.float32)
        quantizer = Quantizer(path, [seen])
        quantizer.write(quantizer.all, path)
    if runtime == "openvino":
        convert_to_openvino(path, path.with_suffix(".xml"), note)
    return path.with_suffix(SUFFIXES[runtime])


def make_bare(model: models.DescribedModel, images: Sequence[RGBArray]) -> Callable[[], object]:
    """The network of a model alone, on tensors that are ready."""
    from sonde.models.arrays import prepare

    pixels = np.stack([prepare(image, model.spec) for image in images])
    if isinstance(model, models.ExportedModel):
        return lambda: model.run(pixels)
    assert isinstance(model, models.DepthModel)
    network, tensor = model.network, torch.from_numpy(pixels)

    @torch.inference_mode()
    def run() -> object:
        return network(pixel_values=tensor)

    return run


def time_sides(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of each side; they alternate, after one call of each that does not count."""
    ours()
    theirs()
    return time_in_turn(lambda _: ours(), lambda _: theirs(), 1, rounds)


def _time_best(side: Callable[[], object]) -> float:
    """Seconds of the quickest of three calls, after one that does not count."""
    side()
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        side()
        taken.append(time.perf_counter() - start)
    return min(taken)


LOADED = """\
import sys
import sonde
sonde.load(sys.argv[1], device="cpu").predict(sys.argv[2])
"""
"""Depth of an image by an exported file."""
PIPELINE = """\
import sys
from transformers import pipeline
estimate = pipeline("depth-estimation", model=sys.argv[1], device="cpu", trust_remote_code=False)
estimate(sys.argv[2])["depth"].save(sys.argv[3])
"""
"""The plain script from the shell to a map."""
