"""Every image is labelled exactly once, whatever stops the work, and each label says what made it."""

import errno
import gc
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from small_captures import picture
from small_networks import saved
from torch import nn

from sonde import files, labelling, models, unlabeled
from sonde.labelling import quality
from sonde.labelling.chunks import prepare_network
from sonde.models import DepthModel, ModelSpec, hash_weights

SIZES = [(40, 60), (64, 64), (60, 40), (33, 70)]


class RedIsNear(nn.Module):
    """Disparity that is the red channel: it sees a mirrored image exactly as the image."""

    config = SimpleNamespace(model_type="depth_anything")

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """What a network of transformers would answer."""
        return SimpleNamespace(predicted_depth=pixel_values[:, 0])


def red_is_near() -> DepthModel:
    return DepthModel(RedIsNear(), ModelSpec("disparity", None, 1, *models.PLAIN), "red-is-near").eval()


def small(folder: Path, family: str = "depth_anything") -> Path:
    """A network that sees small images, as a folder any process may load."""
    model = models.load_network(saved(family, folder / "drawn"))
    model.spec = replace(model.spec, short_side=56 if family == "depth_anything" else None)
    models.save(model, folder / family)
    return folder / family


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def teacher(folder) -> DepthModel:
    return models.load_network(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twenty-two images of four sizes in two folders, one of them no image."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(21):
        files.write_rgb(root / f"day{index % 2}" / f"{index:02}.png", picture(index, *SIZES[index % 4]))
    (root / "day0" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return root


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_labels_are_the_models_own_answers_at_the_images_size(teacher, photos, tmp_path):
    outcome = labelling.label(teacher, photos, tmp_path / "out", chunk=8)
    assert (outcome.labels, outcome.failed) == (21, 1)
    for entry in lines(outcome.manifest):
        depth = teacher.predict(tmp_path / "out" / entry["image"]).depth
        found = files.read_depth(tmp_path / "out" / entry["label"])
        step = float(depth.max() - depth.min()) / 65534
        assert found.shape == depth.shape == (entry["height"], entry["width"])
        np.testing.assert_allclose(found, depth, atol=step + 1e-4 * float(depth.max()))


def test_a_line_says_all_of_how_its_label_was_made(teacher, photos, tmp_path):
    outcome = labelling.label(teacher, photos, tmp_path / "out", licence="CC-BY-NC-4.0")
    entry = next(entry for entry in lines(outcome.manifest) if entry["id"] == "day1/03")
    weights = hash_weights(teacher.network)
    ends = {"max_depth": teacher.network.config.max_depth, "scale": 1.0}
    assert entry["teacher"] == {"name": teacher.name, "weights": weights, "licence": "CC-BY-NC-4.0", "range": ends}
    assert entry["preprocessing"]["short_side"] == 56 and entry["preprocessing"]["mean"] == list(models.IMAGENET[0])
    assert (entry["space"], entry["dtype"]) == ("disparity", "float32")
    assert (tmp_path / "out" / entry["image"]).resolve() == photos / "day1" / "03.png"
    assert 0 <= entry["confidence"] <= 1 and 0 <= entry["sky"] <= 1
    (rejected,) = lines(outcome.rejected)
    assert rejected["id"] == "day0/broken" and "cannot be read" in rejected["reason"]


def test_the_hash_is_of_every_number(folder):
    network = models.load_network(folder).network
    before = hash_weights(network)
    with torch.no_grad():
        list(network.parameters())[3].view(-1)[-1] += 1e-3
    assert hash_weights(network) != before
    with prepare_network(red_is_near()) as model:
        assert len(hash_weights(model.network)) == 64


def test_labels_may_have_the_networks_size(teacher, photos, tmp_path):
    outcome = labelling.label(teacher, photos, tmp_path / "out", size="network")
    shapes = {files.read_depth(tmp_path / "out" / entry["label"]).shape for entry in lines(outcome.manifest)}
    assert shapes == {(56, 84), (56, 56), (84, 56), (56, 112), (56, 126)} & shapes and (56, 84) in shapes


def test_metric_teachers_give_metres(photos, tmp_path):
    outcome = labelling.label(small(tmp_path, "glpn"), photos, tmp_path / "out")
    entry = lines(outcome.manifest)[0]
    assert (entry["space"], entry["sky"]) == ("metric", None)
    depth = models.load(tmp_path / "glpn").predict(tmp_path / "out" / entry["image"]).depth
    np.testing.assert_allclose(files.read_depth(tmp_path / "out" / entry["label"]), depth, atol=1e-4)


def test_batches_change_nothing_but_rounding(teacher, photos, tmp_path):
    labels = [labelling.label(teacher, photos, tmp_path / str(size), batch_size=size).manifest for size in (1, 3)]
    for one, three in zip(*map(lines, labels), strict=True):
        a, b = (files.read_depth(path.parent / one["label"]) for path in labels)
        np.testing.assert_allclose(a, b, atol=1e-3 * float(np.nanmax(a)))
        assert one["confidence"] == pytest.approx(three["confidence"], abs=2e-3)


def test_shards_share_the_work_and_are_the_whole_together(teacher, photos, tmp_path):
    whole = labelling.label(teacher, photos, tmp_path / "whole", chunk=4)
    for number in (2, 0, 1):
        labelling.label(teacher, photos, tmp_path / "parts", chunk=4, shard=(number, 3))
    found = [path.name for path in (tmp_path / "parts").glob("manifest*")]
    assert sorted(found) == [f"manifest-0000{number}-of-00003.jsonl" for number in range(3)]
    together = [entry for name in found for entry in lines(tmp_path / "parts" / name)]
    assert Counter(entry["id"] for entry in together) == Counter(entry["id"] for entry in lines(whole.manifest))
    whole_labels = {name: data for name, data in tree(tmp_path / "whole").items() if name.startswith("labels")}
    assert whole_labels == {name: data for name, data in tree(tmp_path / "parts").items() if name.startswith("labels")}


def test_a_finished_shard_is_left_alone(teacher, photos, tmp_path):
    labelling.label(teacher, photos, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert labelling.label(teacher, photos, tmp_path / "out").labels == 21
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_request_into_the_same_folder_is_refused(teacher, photos, tmp_path):
    labelling.label(teacher, photos, tmp_path / "out")
    for changed, said in (
        ({"size": "network"}, "size image, not network"),
        ({"shard": (0, 2)}, "shards 1, not 2"),
        ({"confidence": False}, "confidence True, not False"),
        ({"licence": "MIT"}, "licence unknown, not MIT"),
    ):
        with pytest.raises(ValueError, match=said):
            labelling.label(teacher, photos, tmp_path / "out", **changed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the weights of"):
        labelling.label(red_is_near(), photos, tmp_path / "out")
    with pytest.raises(ValueError, match="22 images, not these 10"):
        labelling.label(teacher, photos / "day1", tmp_path / "out")


def test_weights_whose_metres_end_elsewhere_are_another_job(photos, tmp_path):
    teacher = models.load_network(str(saved("glpn", tmp_path / "weights")))
    labelling.label(teacher, photos, tmp_path / "out", shard=(0, 2))
    models.set_max_depth(teacher.network, 10)
    with pytest.raises(ValueError, match=r"with other settings .a range of .*max_depth': 1.*not .*max_depth': 10"):
        labelling.label(teacher, photos, tmp_path / "out", shard=(1, 2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "pgn"}, "'png'"),
        ({"size": "imag"}, "'image'"),
        ({"engine": "locl"}, "'local'"),
        ({"shard": (2, 2)}, "0 to n - 1"),
        ({"batch_size": 0}, "1 or more"),
    ],
)
def test_a_request_that_cannot_be_is_one_sentence(teacher, photos, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        labelling.label(teacher, photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_keeps_what_is_done_and_the_next_run_finishes(teacher, photos, tmp_path, monkeypatch):
    labelling.label(teacher, photos, tmp_path / "whole", chunk=4)
    write, room = Path.write_bytes, iter(range(9))

    def full(path: Path, data: bytes) -> int:
        if next(room, None) is None:
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"full after 8 of 22 images.*goes on from there"):
        labelling.label(teacher, photos, tmp_path / "out", chunk=4)
    monkeypatch.undo()
    assert len(list((tmp_path / "out" / "parts").iterdir())) == 2
    labelling.label(teacher, photos, tmp_path / "out", chunk=4)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from sonde import labelling, models

teacher, photos, out, format = models.load(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
random.seed(format)
kills = 0

def written(folder):
    try:
        return sum(1 for _ in folder.rglob("*"))
    except OSError:  # a folder is gone since it was listed
        return 0

for target in [*sorted(random.sample(range(1, 40), 7)), 10**9]:
    child = os.fork()
    if not child:
        labelling.label(teacher, photos, out, chunk=2, format=format)
        os._exit(0)
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and written(out) < target:
        time.sleep(0.0005)
    if not ended:
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1]) and not (out / "manifest.jsonl").exists()
print(kills)
"""


@pytest.mark.parametrize("format", [pytest.param("png", marks=pytest.mark.slow), "webdataset"])
def test_killed_again_and_again_it_leaves_the_bytes_of_a_run_that_was_not(folder, photos, tmp_path, format):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    labelling.label(folder, photos, tmp_path / "whole", chunk=2, format=format)
    torch.set_num_threads(threads)
    words = [sys.executable, "-c", KILLED, folder, photos, tmp_path / "out", format]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 2, "too few kills found it at work"
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_shards_of_labels_are_read_by_webdataset(teacher, photos, tmp_path):
    outcome = labelling.label(teacher, photos, tmp_path / "out", chunk=16, format="webdataset")
    shards = sorted(str(path) for path in (tmp_path / "out").glob("shard-*.tar"))
    assert [Path(shard).name for shard in shards] == ["shard-000000.tar", "shard-000001.tar"]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))  # pyright: ignore
    gc.collect()  # it leaves its files open
    entries = {entry["id"]: entry for entry in lines(outcome.manifest)}
    assert [sample["__key__"] for sample in samples] == sorted(entries)
    for sample in samples:
        about = json.loads(sample["json"])
        assert about == entries[sample["__key__"]]
        levels = np.asarray(Image.open(io.BytesIO(sample["depth.png"])))
        assert levels.shape == (about["height"], about["width"]) and levels.max() == 65535
        offset, size = about["label_span"]
        shard = tmp_path / "out" / about["label"].partition("#")[0]
        assert shard.read_bytes()[offset : offset + size] == sample["depth.png"]


def test_a_label_png_says_what_it_is_to_any_reader():
    depth = np.random.default_rng(0).uniform(0.5, 9.0, (37, 53)).astype(np.float32)
    depth[3, 4] = np.nan
    data, step = files.encode_depth_png(depth, space="metric")
    codes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(codes, np.nan_to_num(np.rint(depth / np.float64(step))))
    with Image.open(io.BytesIO(data)) as image:
        image.verify()  # every checksum
        assert (image.info["Unit"], image.info["Scale"], image.info["Invalid"]) == ("m", "0.001", "0")


def test_confidence_is_one_where_the_mirror_agrees_and_nothing_without_relief():
    rgb = torch.from_numpy(cv2.GaussianBlur(picture(1, 64, 96), (0, 0), 6)).permute(2, 0, 1)[None].float() / 255
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 64, 96)
    model = red_is_near()
    for pixels, expected in ((rgb, 1.0), (ramp, 0.0), (torch.full_like(ramp, 0.5), 0.0)):
        raw = quality.predict_raw(model, pixels)
        assert quality.measure_confidence(model, pixels, raw).item() == pytest.approx(expected, abs=0.06)
    raw = quality.predict_raw(model, rgb)
    a, b = quality.measure_confidence(model, rgb, raw), quality.measure_confidence(model, rgb, 7 * raw + 3)
    assert a.item() == pytest.approx(b.item(), abs=1e-4)  # up to scale and shift
    assert quality.measure_confidence(model, rgb, -raw).item() == 0


def test_confidence_is_the_share_of_variance_a_least_squares_fit_explains(teacher):
    model = teacher
    pixels = model.prepare(torch.rand(1, 3, 224, 308, generator=torch.Generator().manual_seed(0)))
    pixels = torch.nn.functional.interpolate(pixels, (224, 308))
    with torch.inference_mode():
        raw = quality.predict_raw(model, pixels)
        found = quality.measure_confidence(model, pixels, raw).item()
        size = quality.choose_mirror_size(model, 224, 308)
        assert size == (56, 84)  # a quarter, in multiples of 14
        small_pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        mirrored = quality.predict_raw(model, small_pixels.flip(-1)).flip(-1)[0].numpy()
        own = torch.nn.functional.interpolate(raw[:, None], size, mode="bilinear", antialias=True)[0, 0].numpy()
    mirrored, own, v, u = (grid[1:-1, 1:-1].ravel() for grid in (mirrored, own, *np.mgrid[: size[0], : size[1]]))
    plane = np.stack([np.ones(v.size), u, v], 1)
    explained = np.column_stack([plane, mirrored])
    left = [own - basis @ np.linalg.lstsq(basis, own, rcond=None)[0] for basis in (plane, explained)]
    assert found == pytest.approx(1 - (left[1] ** 2).sum() / (left[0] ** 2).sum(), abs=1e-4)


def test_the_sky_is_the_far_region_at_the_top():
    disparity = np.linspace(1, 3, 50 * 80, dtype=np.float32).reshape(50, 80)
    disparity[:20] = 0.01
    disparity[40:44, 10:20] = 0  # as far, but not at the top
    assert quality.measure_sky(disparity) == pytest.approx(0.4)
    assert quality.measure_sky(np.flipud(disparity).copy()) == 0
    assert quality.measure_sky(np.ones((50, 80), np.float32)) is None


def test_a_plan_follows_from_what_it_measured(teacher, photos):
    # Chunks of 24 hold the broken image, even where a slow machine counts one chunk only.
    plan = labelling.plan(teacher, photos, total=1_000_000, seconds=1.0, price_per_hour=2.0, hours=0.5, batch_size=6)
    assert plan.hours_on_one_machine == pytest.approx(1_000_000 / plan.images_per_second / 3600)
    assert plan.machines == int(np.ceil(plan.hours_on_one_machine / 0.5))
    assert plan.cost == pytest.approx(2 * plan.hours_on_one_machine)
    assert plan.storage_tb == pytest.approx(plan.bytes_per_label * 1e6 / 1e12, rel=1e-3)
    measured = plan.measured
    assert plan.images_per_second == pytest.approx(measured.images / measured.seconds)
    assert measured.rejected > 0 and measured.seconds >= 1.0 and measured.device == "cpu"
    assert 64 * 64 * 2 > plan.bytes_per_label - 1000 > 500  # a manifest line, and 16-bit noise


def test_a_plan_as_json_keeps_its_keys(teacher, photos):
    document = labelling.plan(teacher, photos, total=1000, seconds=0.1, confidence=False, batch_size=2).document()
    assert list(document) == [
        "model",
        "images",
        "images_per_second",
        "hours_on_one_machine",
        "within_hours",
        "machines",
        "bytes_per_label",
        "storage_tb",
        "cost",
        "measured",
    ]
    assert document["cost"] is None
    measured = document["measured"]
    assert isinstance(measured, dict)
    assert list(measured)[:7] == ["images", "rejected", "seconds", "megapixels", "size", "confidence", "batch_size"]
    assert (measured["size"], measured["confidence"], measured["batch_size"]) == ("image", False, 2)


def test_the_command_tells_of_rejected_images_by_its_exit_code(sonde, folder, photos, tmp_path):
    said = sonde("label", folder, photos, tmp_path / "out", "--no-confidence", "--format", "webdataset", "--json")
    assert (said.code, said.json["labels"], said.json["rejected"]) == (1, 21, 1), said.errors
    assert lines(Path(said.json["written"]))[0]["confidence"] is None
    assert sonde("label", folder, photos / "day1", tmp_path / "sound", "--shard", "0/2").code == 0
    wrong = sonde("label", folder, photos, tmp_path / "out", "--shard", "1")
    assert wrong.code == 2 and "such as 0/8" in wrong.errors


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Four photographs beside their depth maps, as NYU has them."""
    root = tmp_path / "pairs"
    for index in range(4):
        files.write_rgb(root / "kitchen" / f"rgb_{index:05}.jpg", picture(index, 40, 60))
        files.write_depth_png(root / "kitchen" / f"sync_depth_{index:05}.png", np.full((40, 60), 1.5, np.float32))
    return root


def test_depth_maps_beside_photographs_are_not_labelled_and_are_listed(teacher, pairs, tmp_path):
    outcome = labelling.label(teacher, pairs, tmp_path / "out")
    assert (outcome.labels, outcome.failed, outcome.passed_over) == (4, 0, 4)
    assert outcome.list is not None
    for index, line in enumerate(lines(outcome.list)):
        found = (outcome.list.parent / line["image"]).resolve()
        assert found == pairs / "kitchen" / f"sync_depth_{index:05}.png" and "picture of that name" in line["reason"]
    for path in pairs.rglob("sync_depth_*"):
        path.unlink()
    again = labelling.label(teacher, pairs, tmp_path / "out")  # the same photographs: the same job
    assert (again.labels, again.passed_over, again.list) == (4, 0, None)
    assert not outcome.list.exists()


def test_all_shards_pass_over_the_same(teacher, pairs, tmp_path):
    alone = labelling.label(teacher, pairs, tmp_path / "alone", chunk=1)
    parts = [labelling.label(teacher, pairs, tmp_path / "parts", chunk=1, shard=(k, 3)) for k in (1, 0, 2)]
    assert [part.labels for part in parts] == [1, 2, 1]
    assert {(part.passed_over, part.list) for part in parts} == {(4, tmp_path / "parts" / "passed_over.jsonl")}
    assert alone.list is not None and parts[0].list is not None
    assert alone.list.read_text() == parts[0].list.read_text()


def test_the_command_says_how_many_it_passed_over_and_where_they_are_listed(sonde, folder, pairs, photos, tmp_path):
    said = sonde("label", folder, pairs, tmp_path / "out", "--json")
    assert (said.code, said.json["labels"], said.json["passed_over"]) == (0, 4, 4)
    assert len(lines(Path(said.json["list"]))) == 4
    said = sonde("label", folder, pairs, tmp_path / "out")
    assert "passed_over  4" in said.text and "passed_over.jsonl" in said.text
    assert sonde("label", folder, photos / "day1", tmp_path / "none", "--json").json["passed_over"] == 0


ON_RAY = """
import os, signal, sys, threading, time
from pathlib import Path
import psutil, torch
from sonde import labelling

teacher, photos, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
torch.set_num_threads(1)
labelling.label(teacher, photos, out / "local", chunk=1)

def labels(process):
    try:
        return "Labeller" in " ".join(process.cmdline())
    except psutil.Error:  # gone since it was listed
        return False

def kill():
    while True:
        actors = [one for one in psutil.Process().children(recursive=True) if labels(one)]
        if actors and any((out / "ray" / "parts").glob("*.jsonl")):
            os.kill(actors[0].pid, signal.SIGKILL)
            return print("killed", len(actors), flush=True)
        time.sleep(0.001)

threading.Thread(target=kill, daemon=True).start()
labelling.label(teacher, photos, out / "ray", chunk=1, engine="ray")
"""


@pytest.mark.slow
def test_ray_survives_the_loss_of_an_actor_and_leaves_the_same_bytes(folder, photos, tmp_path):
    pytest.importorskip("ray")
    words = [sys.executable, "-c", ON_RAY, folder, photos, tmp_path]
    quiet = {"OMP_NUM_THREADS": "1", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | quiet, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "killed" in done.stdout
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")


ON_TWO_NODES = """
import os, sys, threading, time
from pathlib import Path
import torch
from ray.cluster_utils import Cluster
from sonde import labelling

teacher, photos, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
torch.set_num_threads(1)
labelling.label(teacher, photos, out / "local", chunk=1)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = cluster.address

def kill():
    while not any((out / "ray" / "parts").glob("*.jsonl")):
        time.sleep(0.001)
    cluster.remove_node(node, allow_graceful=False)
    print("killed", flush=True)

threading.Thread(target=kill, daemon=True).start()
labelling.label(teacher, photos, out / "ray", chunk=1, engine="ray")
cluster.shutdown()
"""


@pytest.mark.slow
def test_ray_survives_the_loss_of_a_node_and_leaves_the_same_bytes(folder, photos, tmp_path):
    """Two nodes of one machine; Ray takes some 30 s to see that one is gone."""
    pytest.importorskip("ray")
    words = [sys.executable, "-c", ON_TWO_NODES, folder, photos, tmp_path]
    quiet = {"OMP_NUM_THREADS": "1", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | quiet, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "killed" in done.stdout
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    ids = [entry["id"] for name in ("manifest", "rejected") for entry in lines(tmp_path / "ray" / f"{name}.jsonl")]
    assert len(ids) == len(set(ids)) == 22


def test_without_ray_the_engine_says_how_to_get_it(teacher, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("sonde.labelling.engines.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'sonde\[ray\]'"):
        labelling.label(teacher, photos, tmp_path / "out", engine="ray")


@pytest.mark.parametrize("format", ["png", "webdataset"])
def test_an_output_that_is_removed_midway_is_an_error(photos, tmp_path, format):
    def label(progress=None):
        return labelling.label(
            red_is_near(), photos, tmp_path / "out", chunk=4, format=format, confidence=False, progress=progress
        )

    with pytest.raises((FileNotFoundError, ValueError), match=r"No such file|does not exist|were removed"):
        # While it is removed, threads write to it.
        label(lambda done, _: shutil.rmtree(tmp_path / "out", ignore_errors=True) if done == 8 else None)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)

    def drop(done, _):
        if done == 8:
            for path in [*tmp_path.glob("out/labels/**/*.png"), *tmp_path.glob("out/*.tar")][:1]:
                path.unlink()

    with pytest.raises(ValueError, match="were removed while sonde worked"):
        label(drop)
    whole = label()
    assert (whole.labels, whole.failed) == (21, 1)
    assert all((tmp_path / "out" / line["label"].partition("#")[0]).is_file() for line in lines(whole.manifest))


def test_a_file_that_cannot_be_opened_is_rejected_and_a_broken_disk_ends_the_job(photos, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / "in")
    (tmp_path / "in" / "day1" / "01.png").unlink()
    (tmp_path / "in" / "day1" / "01.png").symlink_to("01.png")
    outcome = labelling.label(red_is_near(), tmp_path / "in", tmp_path / "out", confidence=False)
    assert (outcome.labels, outcome.failed) == (20, 2)

    def fail(images, index):
        raise OSError(errno.EIO, "Input/output error", str(images.path(index)))

    monkeypatch.setattr(unlabeled.Images, "read", fail)
    with pytest.raises(OSError, match="Input/output"):
        labelling.label(red_is_near(), photos, tmp_path / "again", confidence=False)
