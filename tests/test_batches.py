"""Images and captures of one shape are asked for together, and nothing else changes: order, scores, what fails."""

import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import picture, unpack, write_bench
from torch import nn

from sonde import evaluation, files, models, prediction
from sonde.datasets import Capture, open_set
from sonde.evaluation.asking import SeenCapture, answer_all, of_network
from sonde.models import DepthModel, ModelSpec
from sonde.prediction import job
from sonde.types import MatrixArray, Prediction, RGBArray

FATAL = (255, 0, 255)
"""The colour of an image's first pixel at which the network's answer there is no number."""


class CountingNet(nn.Module):
    """Depth in metres from the red channel; notes how many images it is given, and has memory for so many."""

    def __init__(self, room: int = 1000):
        super().__init__()
        self.config = SimpleNamespace(model_type="depth_anything")
        self.room = room
        self.seen: list[int] = []

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """What a network of transformers would answer."""
        self.seen.append(len(pixel_values))
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        depth = 0.5 + pixel_values[:, 0]
        fatal = torch.tensor(FATAL) / 255
        depth[(pixel_values[:, :, 0, 0] == fatal).all(1), 0, 0] = torch.nan
        return SimpleNamespace(predicted_depth=depth)


def make_model(room: int = 1000) -> DepthModel:
    return DepthModel(CountingNet(room), ModelSpec("metric", None, 1, *models.PLAIN, unit="mm"), "counting").eval()


def paint(path: Path, height: int = 6, width: int = 8, first: tuple[int, int, int] = (0, 0, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(len(path.name)).integers(0, 200, (height, width, 3), dtype=np.uint8)
    image[0, 0] = first
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of one shape, one that is none, one whose answer is no number, two of another shape, one as first."""
    for name, shape in (("a", (6, 8)), ("b", (6, 8)), ("c", (6, 8)), ("d", (6, 8)), ("g", (12, 16)), ("h", (12, 16))):
        paint(tmp_path / "in" / f"{name}.png", *shape)
    paint(tmp_path / "in" / "f.png", first=FATAL)
    paint(tmp_path / "in" / "i.png")
    (tmp_path / "in" / "e.png").write_bytes(b"no picture")
    return tmp_path / "in"


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.name: unpack(path.read_bytes()) for path in folder.iterdir() if path.is_file()}


def test_a_batch_gives_the_same_files_in_the_same_order_as_one_image_at_a_time(tmp_path, folder):
    outcomes, counts = {}, {}
    for size in (1, 3):
        model, seen = make_model(), []
        outcomes[size] = prediction.predict(
            folder,
            model,
            tmp_path / str(size),
            save=["png16", "npy", "preview"],
            batch_size=size,
            sheet=True,
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )
        counts[size] = model.network.seen
        assert seen == [(number, 9) for number in range(1, 10)]
    assert read_tree(tmp_path / "1") == read_tree(tmp_path / "3")
    one, three = outcomes[1], outcomes[3]
    assert [path.name for path in one.written] == [path.name for path in three.written]
    assert one.failed == three.failed and [path.name for path, _ in one.failed] == ["e.png", "f.png"]
    assert counts[1] == [1] * 8
    assert counts[3] == [3, 1, 1, 2, 1]  # a b c, d, f, g h, i: never an image that is not next


def test_one_bad_image_of_a_batch_does_not_stop_the_others(tmp_path):
    for name in "abcd":
        paint(tmp_path / "in" / f"{name}.png", first=FATAL if name == "b" else (0, 0, 0))
    outcome = prediction.predict(tmp_path / "in", make_model(), tmp_path / "out", save=["npy"], batch_size=4)
    ((path, reason),) = outcome.failed
    assert path.name == "b.png" and "not finite at 1 of 48 pixels" in reason
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npy")) == ["a.npy", "c.npy", "d.npy"]


def test_a_lack_of_memory_halves_the_batch_once(tmp_path):
    for name in "abcdefgh":
        paint(tmp_path / "in" / f"{name}.png")
    model = make_model(room=2)
    outcome = prediction.predict(tmp_path / "in", model, tmp_path / "out", save=["npy"], batch_size=4)
    assert not outcome.failed and model.network.seen == [4, 2, 2, 2, 2]


def test_a_lack_of_memory_for_half_a_batch_is_one_sentence_that_says_what_to_do(tmp_path, monkeypatch):
    for name in "abcd":
        paint(tmp_path / "in" / f"{name}.png")
    model = make_model(room=1)
    model.placement = models.Placement("cuda:0")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    told = r"cuda:0 has too little memory for 2 images of 8x6: .*smaller --batch-size.*--device cpu"
    with pytest.raises(ValueError, match=told):
        prediction.predict(tmp_path / "in", model, tmp_path / "out", save=["npy"], batch_size=4)


def test_an_image_that_alone_needs_too_much_memory_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    for name in "abc":
        paint(tmp_path / "in" / f"{name}.png")
    model = make_model()
    answer = DepthModel.answer

    def short_of_memory(self, pixels, camera=None):
        if len(self.network.seen) == 1:
            self.network.seen.append(0)
            raise MemoryError
        return answer(self, pixels, camera)

    monkeypatch.setattr(DepthModel, "answer", short_of_memory)
    outcome = prediction.predict(tmp_path / "in", model, tmp_path / "out", save=["npy"])
    ((path, reason),) = outcome.failed
    assert path.name == "b.png" and reason == "cpu has too little memory for an image of 8x6: give smaller images."


@pytest.mark.parametrize("size", [2, 5])
def test_a_batch_differs_by_no_more_than_rounding(size):
    model = models.load("sonde-tiny")
    images = [picture(seed, 96, 128) for seed in range(size)]
    for image, answer in zip(images, model.predict_batch(images), strict=True):
        alone = model.predict(image).depth
        assert np.abs(answer.depth - alone).max() <= 1e-5 * np.ptp(alone)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    paint(tmp_path / "a.png", 120, 160)  # 58 kB of pixels, 77 kB of depth
    for number in range(120):
        (tmp_path / f"{number:03}.png").hardlink_to(tmp_path / "a.png")
    model, peaks = make_model(), []

    def note(done: int, total: int) -> None:
        if done in (40, 120):
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        prediction.predict(tmp_path, model, tmp_path / "out", save=["npy"], progress=note)
    finally:
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000  # of 80 images more, each of 135 kB


def test_a_call_that_fails_leaves_no_thread_at_work(tmp_path, monkeypatch):
    for number in range(40):
        paint(tmp_path / "in" / f"{number:02}.png")
    written = []

    def fill_the_disk(path, depth, *more):
        written.append(path.name)
        if path.name == "03.npy":
            raise OSError(28, "No space left on device", str(path))
        np.save(path, depth)

    monkeypatch.setattr(files, "write_npy", fill_the_disk)
    with pytest.raises(OSError, match=r"03\.npy"):
        prediction.predict(tmp_path / "in", make_model(), tmp_path / "out", save=["npy"])
    count = len(written)
    assert count < 20
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    names = [entry["outputs"][0] for entry in listed]
    assert names == sorted(path.name for path in (tmp_path / "out").glob("*.npy")) and len(written) == count


@pytest.mark.parametrize(
    "given", [{"device": "cpu"}, {"precision": "bf16"}, {"runtime": "torch"}, {"max_depth": 10}], ids=str
)
def test_how_a_model_is_loaded_is_no_question_where_it_is_loaded(tmp_path, given):
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=rf"^{name}={value} is for a model given by name; counting is already loaded"):
        prediction.predict(paint(tmp_path / "a.png"), make_model(), tmp_path / "out", **given)
    with pytest.raises(ValueError, match=rf"^{name}={value} is for a model given by name; counting is already loaded"):
        evaluation.evaluate(make_model(), "metric", write_bench(tmp_path / "bench", 2), **given)


def test_where_the_network_ran_is_told(tmp_path, sonde):
    paint(tmp_path / "a.png", 48, 64)
    said = sonde("predict", tmp_path / "a.png", "-o", tmp_path / "out", "--runtime", "torch", "--device", "cpu")
    assert "ran      on cpu by torch in fp32" in said.text
    said = sonde(
        "predict", tmp_path / "a.png", "-o", tmp_path / "bf16", "--device", "cpu", "--precision", "bf16", "--json"
    )
    assert said.json["placement"] == {"device": "cpu", "precision": "bf16", "runtime": "torch"}
    said = sonde("predict", tmp_path / "a.png", "-o", tmp_path / "bf16", "--device", "cpu")
    assert said.code == 2
    assert "holds predictions of another precision (bf16, not fp32): give another folder" in said.errors
    result = prediction.predict(tmp_path / "a.png", make_model(), tmp_path / "other", save=["npy"])
    assert result.ran == "on cpu by torch in fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_sentence(tmp_path, sonde):
    paint(tmp_path / "a.png", 48, 64)
    root = write_bench(tmp_path / "bench", 2)
    for words in (("predict", tmp_path / "a.png"), ("eval", "sonde-tiny", "--data", root)):
        said = sonde(*words, "--device", "cuda", "-o", tmp_path / "out")
        assert said.code == 2 and "--device cuda: there is no CUDA device here" in said.errors
        assert said.errors.count("\n") == 1 and not said.text


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", "1000000"])
def test_a_batch_size_that_is_none_is_one_sentence(tmp_path, sonde, given):
    said = sonde("predict", paint(tmp_path / "a.png"), "-o", tmp_path / "out", f"--batch-size={given}")
    assert said.code == 2 and f"--batch-size {given}" in said.errors.replace("'", "").replace(",", "")


def test_captures_in_batches_score_as_one_at_a_time(tmp_path):
    root = write_bench(tmp_path / "bench", 5)
    rows, counts = {}, {}
    for size in (None, 2):
        model = make_model()
        scored = evaluation.evaluate(model, "zivid-mm", root, batch_size=size, out=tmp_path / str(size))
        rows[size], counts[size] = scored.rows, model.network.seen
        assert scored.settings.placement == models.Placement()
        stored = json.loads((tmp_path / str(size) / "metrics.json").read_text())["settings"]["placement"]
        assert stored == {"device": "cpu", "precision": "fp32", "runtime": "torch"}
        assert evaluation.read_evaluation(tmp_path / str(size)).settings == scored.settings
    assert rows[None] == rows[2]
    assert counts == {None: [1] * 5, 2: [2, 2, 1]}


class CameraWatcher(DepthModel):
    """Notes the cameras that it is told, and for how many images."""

    told: list[tuple[int, float | None]]

    def predict_batch(self, images: Sequence[RGBArray], intrinsics: MatrixArray | None = None) -> list[Prediction]:
        """The predictions of the network."""
        self.told.append((len(images), None if intrinsics is None else float(intrinsics[0, 0])))
        return super().predict_batch(images, intrinsics)


@pytest.mark.parametrize(
    ("focal", "told"),
    [(40.0, [(2, 40.0), (1, 40.0), (1, 41.0), (1, 41.0)]), (None, [(2, 40.0), (2, 40.0), (1, 41.0)])],
)
def test_a_batch_holds_captures_that_follow_each_other_and_differ_in_nothing_that_counts(focal, told):
    watcher = CameraWatcher(CountingNet(), replace(make_model().spec, canonical_focal=focal), "watcher").eval()
    watcher.told = []
    depth = np.ones((24, 32), np.float32)

    def see(id_: str, focal: float, height: int = 24) -> SeenCapture:
        capture = Capture(id_, picture(1, height, 32), depth, depth > 0, np.diag([focal, focal, 1.0]))
        return SeenCapture(id_, capture, capture)

    seen = [see("a", 40.0), see("b", 40.0), SeenCapture("x", reason="torn"), see("c", 40.0), see("d", 41.0)]
    answered = list(answer_all(of_network(watcher, 4), [*seen, see("e", 41.0, 12)]))
    assert [each.seen.id for each in answered] == list("abxcde") and answered[2].answer is None
    assert watcher.told == told
    assert answered[4].answer is not None and answered[4].answer.intrinsics[0, 0] == 41


def test_a_capture_that_the_model_cannot_answer_is_named_in_a_batch_too(tmp_path):
    root = write_bench(tmp_path / "bench", 4)
    image = picture(2)
    image[0, 0] = FATAL
    Image.fromarray(image).save(root / "images" / "c02.png")
    with pytest.raises(ValueError, match=r"^c02: The answer of counting is not finite"):
        evaluation.evaluate(make_model(), "zivid-mm", root, batch_size=4)


def test_kept_answers_are_asked_for_in_batches_and_not_again(tmp_path):
    root, kept = write_bench(tmp_path / "bench", 5), tmp_path / "kept"
    first = evaluation.evaluate(make_model(), "zivid-mm", root, keep=kept, ids=["c00", "c01"])
    model = make_model()
    whole = evaluation.evaluate(model, "zivid-mm", root, keep=kept, batch_size=3)
    assert whole.rows[:2] == first.rows and model.network.seen == [1, 2]  # c02, then c03 and c04
    again = make_model()
    assert evaluation.evaluate(again, "zivid-mm", root, keep=kept, batch_size=3).rows == whole.rows
    assert again.network.seen == []


def test_answers_in_another_precision_are_not_those_that_were_kept(tmp_path):
    root, kept = write_bench(tmp_path / "bench", 2), tmp_path / "kept"
    evaluation.evaluate("sonde-tiny", "affine-disparity", root, keep=kept)
    with pytest.raises(ValueError, match="another settings"):
        evaluation.evaluate("sonde-tiny", "affine-disparity", root, keep=kept, precision="bf16")


def test_options_of_a_model_are_refused_where_none_is_asked(tmp_path):
    root = write_bench(tmp_path / "bench", 2)
    with pytest.raises(ValueError, match=r"device=cpu: far is no model, and this option is of a model: leave it out"):
        evaluation.evaluate(evaluation.Subject(far, None, "far"), "zivid-mm", root, device="cpu")
    answers = tmp_path / "answers"
    answers.mkdir()
    with pytest.raises(ValueError, match=r"precision=bf16: .*answers holds answers"):
        evaluation.evaluate(answers, "zivid-mm", root, precision="bf16")


def far(capture: Capture) -> Prediction:
    return Prediction(capture.depth + np.float32(0.01), "metric")


def test_only_a_few_captures_are_in_memory_together(tmp_path, monkeypatch):
    captures = open_set("zivid", write_bench(tmp_path / "bench", 30))
    read, done, most = type(captures).read, [], 0

    def count(self, index):
        nonlocal most
        most = max(most, index + 1 - len(done))
        return read(self, index)

    monkeypatch.setattr(type(captures), "read", count)
    evaluation.evaluate(far, "zivid-mm", captures, check=False, watch=lambda *_: done.append(1))
    assert len(done) == 30 and 2 <= most <= 4


def test_a_drawing_is_the_picture_itself(tmp_path):
    drawing = np.concatenate(
        [files.colour_depth(np.random.default_rng(0).random((20, 31), np.float32)), picture(3, 4, 31)]
    )
    files.write_drawing(tmp_path / "drawing.png", drawing)
    np.testing.assert_array_equal(files.read_rgb(tmp_path / "drawing.png"), drawing)


@pytest.mark.skipif(not (models.WEIGHTS / models.GRAPH).is_file(), reason="sonde-tiny has no graph here")
def test_a_network_asked_by_several_threads_gives_the_same_files(tmp_path, monkeypatch):
    for number in range(job.MANY):
        Image.fromarray(picture(number, 40 + number % 3, 56)).save(tmp_path / f"{number:02}.png")
    model, outcomes = models.load("sonde-tiny", device="cpu", runtime="onnx"), {}
    for asking in (1, 3):
        monkeypatch.setattr(job, "count_threads", lambda model, asking=asking: job.Threads(1, asking, 2))
        outcomes[asking] = prediction.predict(sorted(tmp_path.glob("*.png")), model, tmp_path / str(asking))
    assert read_tree(tmp_path / "1") == read_tree(tmp_path / "3")
    one, three = ([path.name for path in outcome.written] for outcome in outcomes.values())
    assert one == three
