"""The performance table: sonde against the plain alternative, as ratios measured in one run on this machine.

Where memory is told, each side runs in a process of its own, so that its peak is its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from sonde import architectures, models
from sonde.spelling import nearest

CAPTURE = (1200, 1944)
"""(height, width) of the published captures."""
PUBLISHED = (756, 1260)
"""(height, width) the published recipe's network sees."""


def bench(only: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Every row of the table, or one: sonde, the plain alternative, and the ratio.

    Raises:
        ValueError: a row that is not there.
    """
    if only is not None and only not in ROWS:
        raise ValueError(f"No row {only!r}: {nearest(only, list(ROWS))}")
    return {name: row(quick) for name, row in ROWS.items() if only in (None, name)}


def decoding(quick: bool) -> dict[str, Any]:
    """Training samples a second at 1200x1944: from the second epoch on, against decoding each time."""
    from sonde.datasets import Decoded, DepthDataset, open_set

    with tempfile.TemporaryDirectory() as folder:
        root = _captures(Path(folder) / "set", CAPTURE, 2 if quick else 6)
        captures = open_set("zivid", root)
        samples = DepthDataset(Decoded(captures, PUBLISHED, Path(folder) / "cache"), range(len(captures)))
        plain = PlainCaptures(root, PUBLISHED)
        for index in range(len(samples)):
            samples[index]  # the first epoch
        ours, theirs = _interleaved(lambda i: samples[i], lambda i: plain[i], len(samples), rounds=1 if quick else 3)
    return {"sonde": 1 / ours, "plain": 1 / theirs, "unit": "samples/s", "ratio": theirs / ours}


def training(quick: bool) -> dict[str, Any]:
    """A step of the published recipe on Depth Anything V2 Small, data included, against Trainer + PEFT alone."""
    size = (126, 210) if quick else (378, 630)
    with tempfile.TemporaryDirectory() as folder:
        network = _random_small(Path(folder) / "small")
        root = _captures(Path(folder) / "set", (120, 194) if quick else CAPTURE, 4)
        sides: dict[str, list[dict[str, float]]] = {"sonde": [], "plain": []}
        for _ in range(1 if quick else 3):  # in turn, so that a machine that drifts drifts under both
            for side, measured in sides.items():
                measured.append(_in_a_process(side, network, root, *size, folder))
    best = {
        side: {key: float(np.median([run[key] for run in runs])) for key in runs[0]} for side, runs in sides.items()
    }
    return {
        "sonde": best["sonde"]["figure"],
        "plain": best["plain"]["figure"],
        "unit": f"s per capture at {size[0]}x{size[1]}",
        "ratio": best["plain"]["figure"] / best["sonde"]["figure"],
        "memory_mb": {side: best[side]["peak_mb"] for side in best},
    }


def labelling(quick: bool) -> dict[str, Any]:
    """Images of 1 MP a second that Depth Anything V2 Small labels, files and all, against its bare forward pass.

    The plain side is transformers alone on tensors that are ready, one at a time as on ours; ours reads JPEGs, looks at
    each image twice for its confidence, and writes 16-bit PNGs and the manifest.
    """
    from transformers import AutoModelForDepthEstimation

    from sonde import labelling

    count, rounds = (2, 1) if quick else (8, 5)
    with tempfile.TemporaryDirectory() as folder:
        network = _random_small(Path(folder) / "small")
        teacher, plain = models.load(network), AutoModelForDepthEstimation.from_pretrained(network).eval()
        if quick:
            teacher.spec = replace(teacher.spec, short_side=126)
        photos = _photographs(Path(folder) / "images", (864, 1152), count)
        pixels = torch.rand(1, 3, *teacher.spec.network_size(864, 1152))
        outputs = iter(range(10 * rounds))

        def labelled(_: int) -> None:
            labelling.label(teacher, photos, Path(folder) / f"labels-{next(outputs)}", chunk=count)

        @torch.inference_mode()
        def bare(_: int) -> None:
            for _ in range(count):
                plain(pixel_values=pixels)

        labelled(0)
        bare(0)
        ours, theirs = _interleaved(labelled, bare, 1, rounds)
    return {"sonde": count / ours, "plain": count / theirs, "unit": "images/s", "ratio": theirs / ours}


def scoring(quick: bool) -> dict[str, Any]:
    """Maps of 1200x1944 a second, aligned in depth and scored by every metric, against plain NumPy.

    The memory is what one call on 100 maps adds to theirs; plain NumPy takes them one by one.
    """
    from sonde.align import ALIGN
    from sonde.metrics import METRICS, score

    count, rounds = (1, 1) if quick else (20, 5)
    size = (120, 194) if quick else CAPTURE
    maps = _maps(size)
    pred, target, mask = (torch.from_numpy(array)[None] for array in maps)

    def ours(_: int) -> None:
        score(ALIGN["affine"](pred, target, mask), target, mask, METRICS)

    mine, theirs = _interleaved(ours, lambda _: plain_scores(*maps), count, rounds)
    sides = {"sonde": ("scored", 2 if quick else 100, *size), "plain": ("plain-scored", 1, *size)}
    memory = {side: _in_a_process(*words)["figure"] for side, words in sides.items()}
    return {"sonde": 1 / mine, "plain": 1 / theirs, "unit": "maps/s", "ratio": theirs / mine, "memory_mb": memory}


class PlainCaptures(torch.utils.data.Dataset[dict[str, Any]]):
    """What the published notebook reads: the whole point cloud, PIL, and transformers' image processor, every time."""

    def __init__(self, root: Path, size: tuple[int, int]):
        self.images = sorted((root / "images").glob("*.png"))
        self.depths = [root / "depth" / f"{path.stem}.npy" for path in self.images]
        spec = models.ModelSpec("disparity", None, 14, input_size=size)
        self.processor = models.image_processor(spec)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        xyz = np.load(self.depths[index], allow_pickle=False).astype(np.float32)
        depth = xyz[..., 2]
        mask = np.isfinite(depth) & (depth > 0) & (depth < 10_000)
        image = Image.open(self.images[index]).convert("RGB")
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        inverse = 1 / (np.where(mask, depth, 1.0) + 1e-6)
        low, high = 1 / 3907.45, 1 / 251.74
        target = np.clip((inverse - low) / (high - low), 0, 1).astype(np.float32)
        return {
            "pixel_values": pixels,
            "depth": torch.from_numpy(np.where(mask, target, 0).astype(np.float32)),
            "mask": torch.from_numpy(mask),
        }


def plain_loss(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The published loss in plain torch: masked L1 + 3 x edge-weighted gradient error."""
    pred = nn.functional.interpolate(pred[:, None], target.shape[-2:], mode="bicubic", align_corners=False)[:, 0]
    total = (pred[mask] - target[mask]).abs().mean()
    for dim in (1, 2):
        valid = mask.narrow(dim, 1, mask.shape[dim] - 1) & mask.narrow(dim, 0, mask.shape[dim] - 1)
        step, truth = pred.diff(dim=dim), target.diff(dim=dim)
        weight = 1 + 10.0 * (truth.abs() > 0.02).float()
        error = (step - truth).abs() * weight * valid.float()
        total = total + 3 * error.sum() / (valid.float().sum() + 1e-6)
    return total


def plain_scores(pred: np.ndarray, target: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """An affine fit and every metric in plain NumPy, a line for each formula; boundary F1 as Depth Pro's repository."""
    x, g = pred[mask].astype(np.float64), target[mask].astype(np.float64)
    slope, shift = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), g, rcond=None)[0]
    p = slope * x + shift
    scores = {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "mae": np.mean(np.abs(p - g)),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2)),
        "rmse_log10": np.sqrt(np.mean((np.log10(p) - np.log10(g)) ** 2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "irmse": np.sqrt(np.mean((1 / p - 1 / g) ** 2)),
        **{
            name: np.mean(np.maximum(p / g, g / p) < limit)
            for name, limit in (("delta1", 1.25), ("delta2", 1.25**2), ("delta3", 1.25**3), ("delta105", 1.05))
        },
        "silog": 100 * np.std(np.log(p) - np.log(g)),
        "silog_half": np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2) - np.mean(np.log(p) - np.log(g)) ** 2 / 2),
        "silog_unbiased": 100 * np.std(np.log(p) - np.log(g), ddof=1),
        "silog_log10": np.std(np.log10(p) - np.log10(g)),
        "boundary_f1": _plain_boundary(slope * pred.astype(np.float64) + shift, target, mask),
    }
    return {name: float(value) for name, value in scores.items()}


def _plain_boundary(pred: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    limits, total = np.linspace(1.05, 1.25, 10), 0.0
    near = [1 / np.where(mask, depth, 1).clip(1e-6) for depth in (pred, target)]
    for limit in limits:
        precision, recall = [], []
        for turns in range(4):
            both = np.rot90(mask, turns)
            both = both[:, 1:] & both[:, :-1]
            turned = (np.rot90(maps, turns) for maps in near)
            found, true = (both & (maps[:, 1:] / maps[:, :-1] > limit) for maps in turned)
            hits = np.count_nonzero(found & true)
            precision.append(hits / max(np.count_nonzero(found), 1))
            recall.append(hits / max(np.count_nonzero(true), 1))
        p, r = np.mean(precision), np.mean(recall)
        total += limit * (2 * p * r / (p + r) if p + r else 0.0)
    return float(total / limits.sum())


def _maps(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A prediction up to scale and shift, a target with edges, and a mask with drop-outs, float32 and bool."""
    rng, (height, width) = np.random.default_rng(0), size
    v, u = np.mgrid[:height, :width].astype(np.float32)
    target = (0.9 + 0.0003 * v + 0.08 * np.sin(u / 90)) * np.where((u // 300 + v // 300) % 2 > 0, 0.8, 1.0)
    soft = cv2.resize(rng.normal(0, 0.05, (height // 40, width // 40)), (width, height), interpolation=cv2.INTER_CUBIC)
    pred = 0.5 * target * np.exp(soft + rng.normal(0, 0.003, size)) + 0.2
    mask = rng.random(size) > 0.05
    return pred.astype(np.float32), np.where(mask, target, 0).astype(np.float32), mask


def _plain_run(network: str, root: str, height: str, width: str, folder: str) -> float:
    """Seconds per capture of a Trainer + PEFT script."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForDepthEstimation, Trainer

    class Plain(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None):
            pred = model(pixel_values=inputs["pixel_values"]).predicted_depth
            return plain_loss(pred, inputs["depth"], inputs["mask"])

    lora = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.05, bias="none", target_modules=["q_proj", "k_proj", "v_proj"]
    )
    model = get_peft_model(AutoModelForDepthEstimation.from_pretrained(network), lora)
    captures = PlainCaptures(Path(root), (int(height), int(width)))
    trainer = Plain(model=model, args=_arguments(folder), train_dataset=captures)
    return _timed(trainer)


def _sonde_run(network: str, root: str, height: str, width: str, folder: str) -> float:
    """Seconds per capture of the same recipe in sonde, from the second epoch on."""
    from sonde import training
    from sonde.trainer import DepthTrainer, Objective

    settings = [
        f"model.name={network}",
        f"model.input_size=[{height},{width}]",
        f"data.root={root}",
        f"data.cache={folder}/cache",
        "data.range=[251.74,3907.45]",
        "data.split.test=0.25",
        f"output_dir={folder}/run",
    ]
    plan = training.prepare(training.recipes.load("lora-zivid", settings))
    samples = plan.samples("train")
    for index in range(len(samples)):
        samples[index]
    objective = Objective(plan.model, plan.recipe.loss)
    trainer = DepthTrainer(objective, _arguments(folder), train=samples, validation=None, callbacks=[])
    return _timed(trainer)


def _arguments(folder: str) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=f"{folder}/checkpoints",
        max_steps=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=3,
        learning_rate=5e-5,
        remove_unused_columns=False,
        label_names=["depth"],
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _timed(trainer: Any) -> float:
    """Seconds per capture: one step to warm up, then another."""
    trainer.train()
    start = time.perf_counter()
    trainer.train()
    return (time.perf_counter() - start) / trainer.args.gradient_accumulation_steps


def _scored(count: str, height: str, width: str) -> float:
    """MB at the peak of aligning and scoring so many maps in one call, less what was there before."""
    from sonde.align import ALIGN
    from sonde.metrics import METRICS, score

    maps = (torch.from_numpy(array) for array in _maps((int(height), int(width))))
    pred, target, mask = (one.repeat(int(count), 1, 1) for one in maps)
    return _added(lambda: score(ALIGN["affine"](pred, target, mask), target, mask, METRICS))


def _plain_scored(count: str, height: str, width: str) -> float:
    """The same of plain NumPy, one map after the other."""
    maps = _maps((int(height), int(width)))
    return _added(lambda: [plain_scores(*maps) for _ in range(int(count))])


def _added(work: Callable[[], Any]) -> float:
    before = _peak()
    work()
    return _peak() - before


def _peak() -> float:
    """MB of memory at this process's peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_a_process(side: str, *words: Any) -> dict[str, float]:
    """What a side in RUNS measured, in a process of its own."""
    command = [sys.executable, "-m", "sonde.bench", side, *map(str, words)]
    settings = {"THP_MEM_ALLOC_ENABLE": "0" if side == "plain" else "1"}  # torch's own default on the plain side
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    if done.returncode:
        raise ValueError(f"The {side} side of the bench failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _interleaved(
    ours: Callable[[int], Any], theirs: Callable[[int], Any], count: int, rounds: int
) -> tuple[float, float]:
    """Median seconds of one call of each, taken in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for index in range(count):
            for function, taken in zip((ours, theirs), seconds, strict=True):
                start = time.perf_counter()
                function(index)
                taken.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def _captures(root: Path, size: tuple[int, int], count: int) -> Path:
    """Captures as large as real ones: smooth depth with drop-outs, textured colour."""
    height, width = size
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    v, u = np.mgrid[:height, :width].astype(np.float32)
    for index in range(count):
        z = 900 + 0.3 * v + 80 * np.sin(u / 90 + index)
        xyz = np.stack([(u - width / 2) / 1800 * z, (v - height / 2) / 1800 * z, z], -1).astype(np.float32)
        xyz[rng.random(size) < 0.05] = np.nan
        np.save(root / "depth" / f"{index:03}.npy", xyz)
        grain = rng.integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        image = cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "images" / f"{index:03}.png"), image)
    return root


def _photographs(root: Path, size: tuple[int, int], count: int) -> Path:
    """JPEGs as large on the disk as photographs: soft colours and a little grain."""
    height, width = size
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for index in range(count):
        coarse = rng.integers(0, 255, (height // 48, width // 48, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 6, (*size, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"{index:03}.jpg", quality=90)
    return root


def _random_small(folder: Path) -> Path:
    """Depth Anything V2 Small with random weights: the same arithmetic, no download."""
    from transformers import AutoModelForDepthEstimation

    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(architectures.depth_anything("small"))
    models.reinit_head(network)
    network.save_pretrained(folder)
    return folder


def _main(side: str, *words: str) -> None:
    figure = RUNS[side](*words)
    print(json.dumps({"figure": figure, "peak_mb": _peak()}))


RUNS: dict[str, Callable[..., float]] = {
    "plain": _plain_run,
    "sonde": _sonde_run,
    "scored": _scored,
    "plain-scored": _plain_scored,
}
ROWS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "decoding": decoding,
    "training": training,
    "labelling": labelling,
    "scoring": scoring,
}

if __name__ == "__main__":
    _main(*sys.argv[1:])
