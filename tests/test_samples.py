"""Decoded captures and training samples: the record equals the capture, a bad record is never trusted."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_captures import INTRINSICS, bench_cloud, write_bench
from torch.utils.data import DataLoader

from sonde import files
from sonde.datasets import DecodedSet, DepthDataset, collate, open_set
from sonde.datasets import cache as cache_module
from sonde.recipes import AugmentRecipe

SIZE = (14, 28)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return write_bench(tmp_path / "set", 3)


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def equal(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in ("image", "depth", "mask", "intrinsics"))


def test_a_record_is_the_capture_resized(bench: Path, tmp_path: Path) -> None:
    captures = open_set("zivid", bench)
    plain = captures.read(1)
    decoded = DecodedSet(captures, SIZE, tmp_path / "kept")
    for _ in range(3):
        kept = decoded.read(1)
        np.testing.assert_array_equal(kept.image, files.resize_image(plain.image, SIZE))
        np.testing.assert_array_equal(kept.depth, plain.depth)
        np.testing.assert_array_equal(kept.mask, plain.mask)
        np.testing.assert_allclose(kept.intrinsics, INTRINSICS, atol=1e-3)  # type: ignore[arg-type]
        assert kept.id == "c01"
    assert len(records(tmp_path / "kept")) == 1


def test_records_are_read_without_touching_the_capture(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = open_set("zivid", bench)
    DecodedSet(captures, SIZE, tmp_path / "kept").read(0)
    monkeypatch.setattr(type(captures), "read", lambda *_: pytest.fail("decoded again"))
    assert DecodedSet(captures, SIZE, tmp_path / "kept").read(0).image.shape == (*SIZE, 3)


def test_a_changed_file_size_or_limit_is_another_record(bench: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    before = DecodedSet(open_set("zivid", bench), SIZE, kept).read(0)
    DecodedSet(open_set("zivid", bench), (28, 28), kept).read(0)
    DecodedSet(open_set("zivid", bench, max_depth=850), SIZE, kept).read(0)
    assert len(records(kept)) == 3
    np.save(bench / "depth" / "c00.npy", bench_cloud(7))
    os.utime(bench / "depth" / "c00.npy", ns=(1, 1))
    after = DecodedSet(open_set("zivid", bench), SIZE, kept).read(0)
    assert after.depth.max() > before.depth.max()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty", "pickled"])
def test_a_damaged_record_is_rebuilt(bench: Path, tmp_path: Path, damage: str) -> None:
    captures = open_set("zivid", bench)
    sound = DecodedSet(captures, SIZE, tmp_path / "kept").read(0)
    (record,) = records(tmp_path / "kept")
    content = record.read_bytes()
    if damage == "truncated":
        record.write_bytes(content[:-100])
    elif damage == "flipped":
        record.write_bytes(content[:-999] + bytes([content[-999] ^ 255]) + content[-998:])
    elif damage == "foreign":
        np.save(record, np.zeros(3))
    elif damage == "pickled":
        np.save(record, np.array([{}]), allow_pickle=True)
    else:
        record.write_bytes(b"")
    rebuilt = DecodedSet(captures, SIZE, tmp_path / "kept").read(0)
    np.testing.assert_array_equal(rebuilt.depth, sound.depth)
    np.testing.assert_array_equal(rebuilt.image, sound.image)
    assert record.read_bytes() == content


def test_what_is_done_to_a_sample_does_not_reach_the_record(bench: Path, tmp_path: Path) -> None:
    decoded = DecodedSet(open_set("zivid", bench), SIZE, tmp_path / "kept")
    samples = DepthDataset(decoded, [0])
    first = {name: value.clone() for name, value in samples[0].items()}  # type: ignore[union-attr]
    for value in samples[0].values():
        value.zero_()  # type: ignore[union-attr]
    assert equal(first, samples[0])  # type: ignore[arg-type]


def test_a_full_disk_is_one_warning_and_training_goes_on(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "RESERVE_BYTES", 2**80)
    decoded = DecodedSet(open_set("zivid", bench), SIZE, tmp_path / "kept")
    with pytest.warns(UserWarning, match=r"cannot be cached in .*kept .No space.*data.cache"):
        assert decoded.read(0).id == "c00"
    assert decoded.read(1).id == "c01"
    assert not list((tmp_path / "kept").iterdir())


def test_a_deleted_source_is_one_sentence(bench: Path, tmp_path: Path) -> None:
    decoded = DecodedSet(open_set("zivid", bench), SIZE, tmp_path / "kept")
    (bench / "depth" / "c00.npy").unlink()
    with pytest.raises(ValueError, match=r"c00.npy does not exist"):
        decoded.read(0)


def test_a_sample_is_image_in_0_1_depth_in_metres_mask_and_camera(bench: Path) -> None:
    sample = DepthDataset(open_set("zivid", bench), [2, 0])[0]
    assert sample["image"].shape == (3, 24, 32) and sample["depth"].shape == sample["mask"].shape == (24, 32)
    assert sample["image"].dtype == sample["depth"].dtype == sample["intrinsics"].dtype == torch.float32
    assert torch.equal(sample["mask"], sample["depth"] > 0)
    assert 0.5 < sample["depth"].max() < 1.5
    np.testing.assert_allclose(sample["intrinsics"], INTRINSICS, atol=1e-3)


def test_unknown_cameras_are_nan_and_still_collate(bench: Path) -> None:
    np.save(bench / "depth" / "c01.npy", bench_cloud(1)[..., 2])
    samples = DepthDataset(open_set("zivid", bench), [0, 1])
    batch = collate([samples[0], samples[1]])
    assert batch["intrinsics"].isnan().all((1, 2)).tolist() == [False, True]  # type: ignore[typeddict-item]
    assert batch["image"].shape == (2, 3, 24, 32) and batch["mask"].dtype == torch.bool


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_differ_and_are_the_same_in_any_process(bench: Path, tmp_path: Path, workers: int) -> None:
    recipe = AugmentRecipe(flip=0.5, brightness=0.3)
    samples = DepthDataset(DecodedSet(open_set("zivid", bench), SIZE, tmp_path / "kept"), [0, 1, 2], recipe, seed=3)
    loader = DataLoader(samples, 1, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0)
    seen = []
    for epoch in (0, 1, 0):
        samples.set_epoch(epoch)
        seen.append([{name: value.clone() for name, value in batch.items()} for batch in loader])
    assert all(equal(one, other) for one, other in zip(seen[0], seen[2], strict=True))
    assert not any(equal(one, other) for one, other in zip(seen[0], seen[1], strict=True))
    samples.set_epoch(1)
    assert equal(seen[1][2], collate([samples[2]]))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_has_one_size_in_a_batch_and_others_in_the_next(tmp_path: Path, workers: int) -> None:
    captures = open_set("zivid", write_bench(tmp_path / "many", 12))
    samples = DepthDataset(captures, range(12), AugmentRecipe(crop=0.5))
    batches = list(DataLoader(samples, batch_size=3, collate_fn=collate, num_workers=workers))
    assert len({batch["depth"].shape for batch in batches}) > 1
    for batch in batches:
        assert equal(batch, samples.batch(0, batch["origin"][:, 1].tolist()))  # type: ignore[arg-type]


def test_depth_goes_on_behind_a_border(bench: Path) -> None:
    captures, size = open_set("zivid", bench), (60, 80)
    decoded = DecodedSet(captures, size)
    plain, framed = (DepthDataset(decoded, range(3), AugmentRecipe(border=share)) for share in (0, 1))
    before = [plain[index]["image"].clone() for index in range(3)]
    for index in range(3):
        one, other = plain[index], framed[index]
        assert not torch.equal(one["image"], other["image"])
        assert torch.equal(one["image"][:, 3:-3, 4:-4], other["image"][:, 3:-3, 4:-4])
        assert torch.equal(one["depth"], other["depth"]) and torch.equal(one["mask"], other["mask"])
        assert torch.equal(plain[index]["image"], before[index])  # the record is as it was


def test_captures_of_different_sizes_say_how_to_batch_them(bench: Path) -> None:
    np.save(bench / "depth" / "c01.npy", bench_cloud(1, 12, 16))
    samples = DepthDataset(open_set("zivid", bench), [0, 1])
    with pytest.raises(
        ValueError, match=r"depths of 16x12 and 32x24: set data.fit=crop, or train.per_device_train_batch_size=1"
    ):
        collate([samples[0], samples[1]])
    files.write_rgb(bench / "images" / "c01.png", samples.captures.read(1).image[:12, :16])
    with pytest.raises(ValueError, match=r"images of 16x12 and 32x24: set model.input_size"):
        collate([samples[0], samples[1]])
