"""Labels read back as a training set: their inverse is the teacher's answer; what does not belong together is told."""

import json
import os
import pickle
import shutil
import tarfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_captures import picture
from torch import nn

from sonde import checks, datasets, files, labelling, models
from sonde.datasets.pseudo import PseudoSet
from sonde.models import DepthModel, ModelSpec
from sonde.types import Space


class RedAnswers(nn.Module):
    """Half, and one more where the red channel is full."""

    config = SimpleNamespace(model_type="depth_anything")

    def __init__(self, weight: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """What a network of transformers would answer."""
        return SimpleNamespace(predicted_depth=0.5 + self.weight * pixel_values[:, 0])


def teacher(space: Space = "disparity", weight: float = 1.0) -> DepthModel:
    return DepthModel(RedAnswers(weight), ModelSpec(space, None, 1, *models.PLAIN), "red").eval()


def write_images(root: Path, count: int = 5) -> Path:
    for index in range(count):
        files.write_rgb(root / f"day{index % 2}" / f"{index}.png", picture(index, 24, 32))
    return root


def pack(folder: Path) -> Path:
    """The same images in a tar."""
    with tarfile.open(folder.parent / "some.tar", "w") as archive:
        archive.add(folder, ".")
    return folder.parent / "some.tar"


def labelled(root: Path, space: Space = "disparity", format: str = "png", tar: bool = False, **options) -> Path:
    images = write_images(root / "images")
    labelling.label(teacher(space), pack(images) if tar else images, root / "labels", format=format, chunk=2, **options)
    return root / "labels"


def opened(root: Path) -> PseudoSet:
    found = datasets.open_set("pseudo", root)
    assert isinstance(found, PseudoSet) and isinstance(found, datasets.DepthSet)
    return found


def refusal(root: Path) -> str:
    with pytest.raises(ValueError) as refused:
        opened(root)
    return str(refused.value)


def edit(root: Path, change) -> None:
    """Write every line of the manifest anew."""
    lines = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        change(number, line)
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(("format", "tar"), list(product(("png", "webdataset"), (False, True))))
def test_the_inverse_of_a_relative_capture_is_the_label_up_to_scale_and_shift(tmp_path, format, tar):
    captures = opened(labelled(tmp_path, format=format, tar=tar))
    assert captures.space == "disparity" and len(captures) == 5
    for index in range(5):
        capture = captures.read(index)
        number = int(capture.id[-1])
        np.testing.assert_array_equal(capture.image, picture(number, 24, 32))
        answer = teacher().predict(capture.image).depth.astype(np.float64)
        affine = (answer - answer.min()) / (answer.max() - answer.min())
        np.testing.assert_allclose((65535 / capture.depth - 1) / 65534, affine, atol=1e-5)
        assert capture.mask.all() and 0 < (1 / capture.depth).min() and (1 / capture.depth).max() == 1
        np.testing.assert_array_equal(captures.read_depth(index), capture.depth)


def test_metric_labels_are_metres(tmp_path):
    captures = opened(labelled(tmp_path, "metric"))
    capture = captures.read(0)
    assert captures.space == "metric" and captures.unit_m == 1
    np.testing.assert_allclose(capture.depth, teacher("metric").predict(capture.image).depth, atol=6e-5)
    near = datasets.open_set("pseudo", captures.root, max_depth=1.0).read(0)
    np.testing.assert_array_equal(near.mask, capture.depth < 1)


def test_a_label_all_beyond_the_limits_is_passed_over_and_told(tmp_path):
    whole = opened(labelled(tmp_path, "metric"))
    nearest_of = {index: float(whole.read_depth(index).min()) for index in range(5)}
    farthest = max(nearest_of, key=lambda index: nearest_of[index])
    captures = datasets.open_set("pseudo", whole.root, max_depth=nearest_of[farthest])
    low, high = datasets.find_depth_range(captures, range(5))
    assert low == min(nearest_of.values()) and low <= high < nearest_of[farthest]
    with pytest.raises(ValueError, match="none with depth inside its limits"):
        datasets.find_depth_range(captures, [farthest])
    said = f"{captures.ids[farthest]} has no depth between 0 and "
    with pytest.raises(ValueError, match=said):
        datasets.measure_capture(captures, farthest)
    assert [problem.message.startswith(said) for problem in checks.check(captures) if problem.check == "files"] == [
        True
    ]


def test_confidence_is_asked_of_what_a_list_leaves(tmp_path):
    captures = opened(labelled(tmp_path))
    datasets.write_rejects(tmp_path / "list.jsonl", [(captures.ids[0], "dark", "it is dark")])
    kept = datasets.drop_rejected(captures, tmp_path / "list.jsonl")
    middle = sorted(captures.confidences[1:].tolist())[2]
    assert datasets.keep_confident(kept, middle).ids == [
        name for index, name in enumerate(captures.ids) if index and captures.confidences[index] >= middle
    ]


def test_ids_confidences_and_provenance_are_the_manifests(tmp_path):
    captures = opened(labelled(tmp_path, licence="Apache-2.0"))
    assert captures.ids == ["day0/0", "day0/2", "day0/4", "day1/1", "day1/3"]
    entries = [json.loads(line) for line in (captures.root / "manifest.jsonl").read_text().splitlines()]
    stored = {entry["id"]: entry["confidence"] for entry in entries}
    assert [captures.confidence(k) for k in range(5)] == pytest.approx([stored[name] for name in captures.ids])
    assert (captures.licences, captures.teachers) == (["Apache-2.0"], [entries[0]["teacher"]])
    assert captures.groups("folder")["day1/3"] == "day1"
    assert opened(labelled(tmp_path / "plain", confidence=False)).confidence(0) is None


def test_shards_of_many_machines_are_one_set(tmp_path):
    images = write_images(tmp_path / "images")
    for number in range(2):
        labelling.label(teacher(), images, tmp_path / "labels", chunk=1, shard=(number, 2))
    captures = opened(tmp_path / "labels")
    assert captures.ids == sorted(captures.ids) and len(captures) == 5
    np.testing.assert_array_equal(captures.read(3).image, picture(1, 24, 32))
    (tmp_path / "labels" / "manifest-00001-of-00002.jsonl").unlink()
    assert "1 of 2 manifests" in refusal(tmp_path / "labels")


def test_images_and_labels_may_move_together(tmp_path):
    labelled(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert opened(tmp_path / "there" / "labels").read(0).image.shape == (24, 32, 3)


def test_another_process_reads_the_same_in_a_data_loader(tmp_path):
    captures = opened(labelled(tmp_path))
    again = pickle.loads(pickle.dumps(captures))
    np.testing.assert_array_equal(again.read(2).depth, captures.read(2).depth)
    item = datasets.DepthDataset(captures, range(5))[4]
    assert item["image"].shape == (3, 24, 32) and bool(item["mask"].all())


def test_the_key_changes_with_the_label_and_the_limits(tmp_path):
    captures = opened(labelled(tmp_path))
    key = captures.key(0)
    assert key != captures.key(1) and key != replace(captures, limits=(0.0, 9.0)).key(0)
    (captures.root / "labels" / "day0" / "0.png").write_bytes(b"other")
    assert key != captures.key(0)


def test_a_manifest_others_have_written_anew_is_read_too(tmp_path):
    root = labelled(tmp_path)
    edit(root, lambda number, line: [line.update(teacher=line.pop("teacher")), line.update(id=line.pop("id"))])
    before = (root / "manifest.jsonl").read_text().replace('", "', '","').replace('": ', '":')
    (root / "manifest.jsonl").write_text(before)
    assert opened(root).ids[0] == "day0/0" and opened(root).read(0).mask.all()


def test_a_changed_or_missing_image_is_told(tmp_path):
    captures = opened(labelled(tmp_path))
    files.write_rgb(tmp_path / "images" / "day0" / "0.png", picture(9, 24, 32))
    with pytest.raises(ValueError, match=r"0\.png has changed since it was labelled"):
        captures.read(0)
    (tmp_path / "images" / "day0" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"0\.png does not exist: the image was moved"):
        captures.read(0)


def test_a_truncated_or_missing_label_is_told(tmp_path):
    captures = opened(labelled(tmp_path))
    path = captures.root / "labels" / "day0" / "0.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"0\.png cannot be read"):
        captures.read_depth(0)
    path.unlink()
    with pytest.raises(ValueError, match="the label was moved"):
        captures.read_depth(0)


def test_a_truncated_shard_of_labels_is_told(tmp_path):
    captures = opened(labelled(tmp_path, format="webdataset"))
    path = captures.root / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"shard-000000\.tar#day0/0\.depth\.png cannot be read"):
        captures.read(0)


def test_a_manifest_cut_in_the_middle_of_a_line_is_told(tmp_path):
    root = labelled(tmp_path)
    whole = (root / "manifest.jsonl").read_bytes()
    for length in (len(whole) - 1, len(whole) - 100, len(whole) - 560):
        (root / "manifest.jsonl").write_bytes(whole[:length])
        assert "middle of line 5" in refusal(root)


def test_unfinished_labels_are_told(tmp_path):
    root = labelled(tmp_path)
    (root / "parts").mkdir()
    (root / "manifest.jsonl").rename(root / "parts" / "00000000.jsonl")
    assert "labelling is unfinished" in refusal(root)
    (root / "parts" / "00000000.jsonl").unlink()
    assert "holds no pseudo-labels" in refusal(root)


def test_labels_that_do_not_belong_together_are_told(tmp_path):
    root = labelled(tmp_path)
    edit(root, lambda number, line: number == 2 and line.update(space="metric"))
    assert "disparity and metric" in refusal(root)
    root = labelled(tmp_path / "b")
    edit(root, lambda number, line: number == 2 and line["teacher"].update(name="other", weights="0"))
    assert "2 teachers (other, red)" in refusal(root)
    root = labelled(tmp_path / "c")
    edit(root, lambda number, line: line.update(id="same"))
    assert "two labels of 'same'" in refusal(root)
    root = labelled(tmp_path / "d")
    edit(root, lambda number, line: line.update(space="affine"))
    assert "space affine" in refusal(root)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": "../../x"}, r"manifest\.jsonl cannot be read \(line 3: `id`: the id '\.\./\.\./x' has an empty part"),
        ({"id": "/abs/x"}, "line 3: `id`: .* is an absolute path"),
        ({"id": "a" * 300}, "line 3: `id`: .* is too long"),
        ({"id": 5}, "line 3: `id`: should be a valid string"),
        ({"label": "../labels/day0/0.png"}, "line 3: `label`: the path .* has an empty part"),
        ({"image_span": [-1, 5]}, "line 3: `image_span.0`"),
        ({"image_span": [1]}, "line 3: `image_span`"),
        ({"image_sha256": "no hash"}, "line 3: `image_sha256`"),
        ({"confidence": 2.0}, "line 3: `confidence`"),
        ({"space": None}, "line 3: `space`|labels in space"),
    ],
)
def test_a_line_that_is_none_is_told_with_its_number(tmp_path, changed, said):
    root = labelled(tmp_path)
    edit(root, lambda number, line: number == 2 and line.update(changed))
    with pytest.raises(ValueError, match=said):
        opened(root)


def test_a_line_of_another_writer_with_a_second_id_is_no_way_around_the_check(tmp_path):
    root = labelled(tmp_path)
    lines = (root / "manifest.jsonl").read_text().splitlines()
    lines[1] = lines[1].removesuffix("}") + ', "id": "../../x"}'
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    assert "line 2: `id`" in refusal(root)


def test_an_image_that_is_no_regular_file_is_refused_before_it_is_opened(tmp_path):
    root = labelled(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for image, said in (("/dev/zero", "it is a device"), ("../pipe", "it is a FIFO"), ("..", "it is a folder")):
        edit(root, lambda number, line, image=image: number == 0 and line.update(image=image))
        with pytest.raises(ValueError, match=said):
            opened(root).read(0)


def test_a_span_beyond_its_tar_is_refused(tmp_path):
    root = labelled(tmp_path, tar=True)
    edit(root, lambda number, line: line.update(image_span=[0, 10**15]))
    with pytest.raises(ValueError, match=r"cannot be read \(it ends at byte 1,000,000,000,000,000"):
        opened(root).read(0)


def test_ids_of_other_letters_and_a_byte_order_mark_are_read(tmp_path):
    root = labelled(tmp_path)
    edit(root, lambda number, line: line.update(id=f"Straße {number}/é"))
    (root / "manifest.jsonl").write_bytes(b"\xef\xbb\xbf" + (root / "manifest.jsonl").read_bytes())
    assert opened(root).ids[0] == "Straße 0/é"
