"""A fixed camera's five captures: what both sides of the row `fixed-camera` see and do."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sonde import models
from sonde.types import DepthArray

CAPTURES = 5
SEED = 6
"""Of the bench and of its contents."""
RATE = 1e-3
"""Learning rate of the plain side: Trainer's default, 5e-5, leaves a new head where it starts."""


def write_bench(root: Path, size: tuple[int, int]) -> Path:
    """Render captures of one bench whose camera does not move, in the layout `zivid`; returns the root.

    Args:
        root: a new folder.
        size: (height, width).
    """
    from sonde.scenes import bench, photographed

    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    fill, camera = bench.rig(np.random.default_rng(SEED)), None
    for index in range(CAPTURES):
        random = np.random.default_rng([SEED, index])
        scene = fill(random)
        camera = camera or scene.camera
        seen = photographed(replace(scene, camera=camera), random, *size)
        Image.fromarray(seen.image).save(root / "images" / f"{index:03}.png")
        # Z alone, millimetres; the scanner's holes are not finite.
        shown = np.isfinite(seen.depth) & (seen.depth > 0)
        np.save(root / "depth" / f"{index:03}.npy", np.where(shown, 1000 * seen.depth, np.nan).astype(np.float32))
    return root


def save_network(folder: Path) -> Path:
    """Save the network of the recipe before it is fitted: EfficientNet-Lite2 by ImageNet under a new head of pixels."""
    torch.manual_seed(0)
    model = models.build("lite2", encoder="imagenet", max_depth=1)
    models.make_pixel_depth(model.network).save_pretrained(folder)
    return folder


class PlainBench(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Captures of a bench, decoded at every access, without one of them.

    Args:
        root: a set in the layout `zivid` of Z alone.
        size: (height, width) of the network's input.
        left_out: the capture that is not trained on.
    """

    def __init__(self, root: Path, size: tuple[int, int], left_out: int):
        self.paths = sorted((root / "images").glob("*.png"))
        self.size = size
        self.kept = [index for index in range(len(self.paths)) if index != left_out]
        depths = [self.read_depth(index) for index in self.kept]
        trusted = np.concatenate([depth[depth > 0] for depth in depths])
        self.ends = 1 / float(trusted.max()), 1 / float(trusted.min())

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        index = self.kept[item]
        depth = self.read_depth(index)
        low, high = self.ends
        target = np.clip((1 / np.where(depth > 0, depth, 1) - low) / (high - low), 0, 1).astype(np.float32)
        return {
            "pixel_values": self.read_image(index),
            "depth": torch.from_numpy(target),
            "mask": torch.from_numpy(depth > 0),
        }

    def read_depth(self, index: int) -> DepthArray:
        """Depth in millimetres, 0 where it is not known."""
        path = self.paths[index]
        depth = np.load(path.parent.parent / "depth" / f"{path.stem}.npy", allow_pickle=False)
        return np.nan_to_num(depth).astype(np.float32)

    def read_image(self, index: int) -> Tensor:
        """The standardised image at the network's size."""
        height, width = self.size
        image = Image.open(self.paths[index]).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5

    def decode(self, value: Tensor) -> Tensor:
        """Millimetres of values in [0, 1]."""
        low, high = self.ends
        return 1 / (low + value.clamp(0, 1) * (high - low))


def fit_with_peft(network: str, root: str, height: str, width: str, steps: str, left_out: str, result: str) -> float:
    """Seconds in which Trainer and PEFT train without one capture and predict it; its error, mm, goes into a file."""
    from peft import LoraConfig, get_peft_model

    from sonde import adapters
    from sonde.models.pixels import PixelDepth

    start = time.perf_counter()
    torch.manual_seed(0)
    base = PixelDepth.from_pretrained(network)
    targets = [name for name in adapters.choose_targets(base) if not name.startswith("pixels")]
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=targets, modules_to_save=["pixels"])
    model = get_peft_model(base, lora)
    captures = PlainBench(Path(root), (int(height), int(width)), int(left_out))
    _train(model, captures, int(steps), str(Path(result).parent / "checkpoints"))
    error = _measure_error(model, captures, int(left_out))
    seconds = time.perf_counter() - start
    Path(result).write_text(json.dumps(error))
    return seconds


def _train(model: nn.Module, captures: PlainBench, steps: int, folder: str) -> None:
    from transformers import Trainer, TrainingArguments

    from sonde import adapters

    class PlainLora(Trainer):
        def compute_loss(
            self,
            model: nn.Module,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Tensor:
            adapters.freeze_norms(model)  # statistics of one image would spoil those of ImageNet
            pred = _predict(model, inputs["pixel_values"], inputs["depth"].shape[-2:])
            return (pred - inputs["depth"])[inputs["mask"]].abs().mean()

    settings = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=RATE,
        remove_unused_columns=False,
        label_names=["depth"],
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    PlainLora(model=model, args=settings, train_dataset=captures).train()


def _predict(model: nn.Module, pixels: Tensor, size: tuple[int, ...]) -> Tensor:
    pred = model(pixel_values=pixels).predicted_depth
    return nn.functional.interpolate(pred[:, None], tuple(size), mode="bicubic", align_corners=False)[:, 0]


@torch.inference_mode()
def _measure_error(model: nn.Module, captures: PlainBench, index: int) -> float:
    """Mean absolute error of the capture left out, millimetres."""
    depth = torch.from_numpy(captures.read_depth(index))
    value = _predict(model.eval(), captures.read_image(index)[None], tuple(depth.shape))[0]
    return float((captures.decode(value) - depth)[depth > 0].abs().mean())
