"""Checkpoints: written complete or not at all, and read as `from_pretrained` reads them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForDepthEstimation, TrainingArguments

from sonde.trainer import sharding

PARTIAL = ".partial"
"""A checkpoint lies in this folder while it is written."""


@contextmanager
def redirect_output(args: TrainingArguments, folder: Path) -> Iterator[None]:
    """While inside, the trainer's output folder is another."""
    kept, args.output_dir = args.output_dir, str(folder)
    try:
        yield
    finally:
        args.output_dir = kept


def move_into_place(folder: Path, name: str) -> None:
    """Give a complete checkpoint its name."""
    # A run that was resumed from an earlier step writes this one again.
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / PARTIAL / name).replace(folder / name)


def load_whole_network(network: nn.Module, checkpoint: Path, sharded: bool) -> None:
    """Give a network the weights of a checkpoint that holds all of them."""
    # As `from_pretrained` reads, which knows the older names in files on disk, such as those of DINOv2's attention.
    # transformers' trainer matches names as they are, and ignores those that do not fit.
    state = AutoModelForDepthEstimation.from_pretrained(
        checkpoint, local_files_only=True, dtype=torch.float32, trust_remote_code=False
    ).state_dict()
    if sharded:
        sharding.spread_weights(network, state)
    else:
        network.load_state_dict(state)


def read_step(checkpoint: str) -> int:
    """The number of a checkpoint's step, from its name."""
    return int(Path(checkpoint).name.rpartition("-")[2])
