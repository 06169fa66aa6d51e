"""Measure time and memory; each side whose memory is reported runs in its own process, so that its peak is its own."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sonde.bench.fixed import fit_with_peft
from sonde.bench.inputs import make_maps
from sonde.bench.plain import RANGE_MM, PlainCaptures, compute_published_loss, score_in_numpy

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments


class ProcessResult(NamedTuple):
    """What one side measured."""

    figure: float
    """Seconds per capture, or MB, as the side in SIDES says."""
    peak_mb: float
    """Memory of its process at the peak."""


class CommandCost(NamedTuple):
    """What a command took."""

    seconds: float
    processor_seconds: float
    peak_mb: float


def run_in_process(side: str, *words: object) -> ProcessResult:
    """Run a side in its own process.

    Args:
        side: a name in SIDES.
        words: its arguments, passed as text.

    Raises:
        ValueError: the side failed; the message ends with its last line on stderr.
    """
    # A process begins with its parent's peak of memory, so that a small one starts it.
    command = [sys.executable, "-c", STARTER, sys.executable, "-m", "sonde.bench", side, *map(str, words)]
    # sonde sets this variable to 1 at its import; the plain side keeps torch's own default.
    settings = {"THP_MEM_ALLOC_ENABLE": "0" if side.startswith("plain") else "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    if done.returncode:
        raise ValueError(f"The {side} side of the bench failed: {done.stderr.strip().splitlines()[-1]}")
    return ProcessResult(**json.loads(done.stdout.splitlines()[-1]))


def run_command(command: Sequence[str]) -> CommandCost:
    """Run a command to its end.

    Raises:
        ValueError: it failed; the message ends with its last line on stderr.
    """
    # As in `run_in_process`, a small process starts it.
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"A command of the bench failed: {done.stderr.strip().splitlines()[-1]}")
    return CommandCost(*json.loads(done.stdout.splitlines()[-1]))


def time_in_turn(
    ours: Callable[[int], object], theirs: Callable[[int], object], count: int, rounds: int
) -> tuple[float, float]:
    """Median seconds of one call of each; the calls alternate, so that both sides meet the same load.

    Args:
        ours: called with 0 to count - 1, in each round.
        theirs: likewise.
        count: calls in a round.
        rounds: number of rounds.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for index in range(count):
            for function, taken in zip((ours, theirs), seconds, strict=True):
                start = time.perf_counter()
                function(index)
                taken.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def main(side: str, *words: str) -> None:
    """Run a side in this process and print its `ProcessResult` as one line of JSON."""
    result = ProcessResult(SIDES[side](*words), _measure_peak())
    print(json.dumps(result._asdict()))


def _train_with_peft(network: str, root: str, height: str, width: str, folder: str) -> float:
    """Seconds per capture of a script with Trainer and PEFT."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForDepthEstimation, Trainer

    class Plain(Trainer):
        def compute_loss(
            self,
            model: nn.Module,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Tensor:
            pred = model(pixel_values=inputs["pixel_values"]).predicted_depth
            return compute_published_loss(pred, inputs["depth"], inputs["mask"])

    lora = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.05, bias="none", target_modules=["q_proj", "k_proj", "v_proj"]
    )
    model = get_peft_model(AutoModelForDepthEstimation.from_pretrained(network, trust_remote_code=False), lora)
    captures = PlainCaptures(Path(root), (int(height), int(width)))
    return _time_step(Plain(model=model, args=_make_arguments(folder), train_dataset=captures))


def _train_with_sonde(network: str, root: str, height: str, width: str, folder: str) -> float:
    """Seconds per capture of the same recipe in sonde, from the second epoch on."""
    from sonde import training
    from sonde.trainer import DepthTrainer, Objective

    settings = [
        f"model.name={network}",
        f"model.input_size=[{height},{width}]",
        f"data.root={root}",
        f"data.cache={folder}/cache",
        f"data.range=[{RANGE_MM[0]},{RANGE_MM[1]}]",
        "data.split.test=0.25",
        f"output_dir={folder}/run",
    ]
    plan = training.prepare(training.recipes.load("lora-zivid", settings))
    samples = plan.samples("train")
    # The first epoch fills the cache.
    for index in range(len(samples)):
        samples[index]
    objective = Objective(plan.model, plan.recipe.loss)
    trainer = DepthTrainer(objective, _make_arguments(folder), train=samples, validation=None, callbacks=[])
    return _time_step(trainer)


def _make_arguments(folder: str) -> "TrainingArguments":
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


def _time_step(trainer: "Trainer") -> float:
    """Seconds per capture of one step, after another to warm up."""
    trainer.train()
    start = time.perf_counter()
    trainer.train()
    return (time.perf_counter() - start) / trainer.args.gradient_accumulation_steps


def _score_with_sonde(count: str, height: str, width: str) -> float:
    """MB that one call adds when it aligns and scores `count` maps."""
    from sonde.align import ALIGN
    from sonde.metrics import METRICS, score

    maps = (torch.from_numpy(array) for array in make_maps((int(height), int(width))))
    pred, target, mask = (one.repeat(int(count), 1, 1) for one in maps)
    return _measure_added(lambda: score(ALIGN["affine"](pred, target, mask), target, mask, METRICS))


def _score_with_numpy(count: str, height: str, width: str) -> float:
    """MB that NumPy adds for `count` maps, one after the other."""
    maps = make_maps((int(height), int(width)))
    return _measure_added(lambda: [score_in_numpy(*maps) for _ in range(int(count))])


def _measure_added(work: Callable[[], object]) -> float:
    """MB by which the peak rises during the work."""
    before = _measure_peak()
    work()
    return _measure_peak() - before


def _measure_peak() -> float:
    """MB of this process's memory at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


SIDES: dict[str, Callable[..., float]] = {
    "plain": _train_with_peft,
    "sonde": _train_with_sonde,
    "plain-fixed": fit_with_peft,
    "scored": _score_with_sonde,
    "plain-scored": _score_with_numpy,
}
"""Name → what a process of its own runs, from words; returns its figure."""
STARTER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
"""Runs a command, and nothing else."""
LAUNCHER = """\
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(code)
"""
"""Runs a command and prints its `CommandCost`."""
