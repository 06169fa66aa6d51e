"""Black boxes: the record of a step that was skipped, on disk and in sentences.

RUN/blackbox/step-000123/
    box.json             step and rate, the trace of each batch when run again, and norms of the last good steps
    random.safetensors   the state of the random generators before each batch
    weights.safetensors  the trained weights before the step; in the first box of several in a row, of the newest `KEPT`
    recipe.yaml          the run's recipe
"""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from sonde import files
from sonde.spelling import quantify, shorten
from sonde.trainer.trace import HALF, BatchTrace, NonFiniteValue

FOLDER = "blackbox"
NAME = re.compile(r"step-\d+")
KEPT = 3
"""Weights are kept for the newest boxes alone, since a network may be large."""


@dataclass
class Norms:
    """Euclidean norms by step for every trained tensor: its gradients at the last good steps, and its weights."""

    steps: list[int] = field(default_factory=list)
    """The last good steps, oldest first."""
    learning_rates: list[float] = field(default_factory=list)
    gradients: dict[str, list[float]] = field(default_factory=dict)
    """Before clipping, one for each of the steps."""
    weights: dict[str, list[float]] = field(default_factory=dict)
    """Before each of the steps, and last before the step that was skipped."""

    def measure_growth(self, kind: Literal["weights", "gradients"]) -> float:
        """How many times larger the norm of all `weights` or `gradients` is at the end than at the start."""
        norms = self.weights if kind == "weights" else self.gradients
        columns = list(zip(*norms.values(), strict=True))
        totals = [math.hypot(*column) for column in columns]
        return totals[-1] / max(totals[0], 1e-12) if len(totals) > 1 else 1.0

    @property
    def fastest(self) -> str:
        """The tensor whose weights grew most."""
        return max(self.weights, key=lambda name: self.weights[name][-1] / max(self.weights[name][0], 1e-12))


@dataclass
class SkippedStep:
    """A step that was skipped."""

    step: int
    learning_rate: float
    precision: str
    """no, fp16 or bf16, as accelerate names it."""
    scale: float
    """Factor of the loss; 1 outside float16."""
    batches: list[BatchTrace]
    norms: Norms
    weights: str = ""
    """The box that holds the weights; they are the same for all boxes in a row."""

    def find_cause(self) -> tuple[str, str]:
        """The cause, in words that follow "because", and what to do about it: the first of CAUSES that fits."""
        for explain, remedy in CAUSES:
            cause = explain(self)
            if cause:
                return cause, remedy
        return UNSEEN

    def list_suspects(self) -> list[str]:
        """Captures whose files were not finite; else those whose losses were not; else all of the bad batches."""
        files = [name for batch in self.batches for name in (*batch.image, *batch.depth)]
        lost = [name for batch in self.batches for names in batch.bad_terms.values() for name in names]
        rest = [name for batch in self.batches if not batch.finite for name in batch.captures]
        return list(dict.fromkeys(files or lost or rest))

    def list_faults(self, way: Literal["forward", "backward"]) -> list[NonFiniteValue]:
        """Where each batch first was not finite, in its forward or its backward pass."""
        faults = [batch.forward if way == "forward" else batch.backward for batch in self.batches]
        return [fault for fault in faults if fault]


def name_box(step: int) -> str:
    """The folder name of a step's box."""
    return f"step-{step:06}"


def write(run: Path, box: SkippedStep, rng_state: list[dict[str, Tensor]], weights: dict[str, Tensor] | None) -> Path:
    """Write a box into the run's folder, complete or not at all; with `weights` None it names the box before."""
    root = run / FOLDER
    folder, partial = root / name_box(box.step), root / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if weights is None:
        box.weights = read(list_boxes(run)[-1]).weights
    else:
        box.weights = folder.name
        save_file(weights, partial / "weights.safetensors")
    flat = {f"{index}.{kind}": state for index, states in enumerate(rng_state) for kind, state in states.items()}
    save_file(flat, partial / "random.safetensors")
    if (run / "recipe.yaml").is_file():
        shutil.copyfile(run / "recipe.yaml", partial / "recipe.yaml")
    (partial / "box.json").write_text(json.dumps(_spell_numbers(asdict(box)), indent=1, allow_nan=False))
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    for old in sorted(root.glob("*/weights.safetensors"))[:-KEPT]:
        old.unlink()
    return folder


def list_boxes(run: Path) -> list[Path]:
    """The folders of a run's boxes, by step."""
    return sorted((run / FOLDER).glob("step-*"))


def find(run: Path, step: int | None = None) -> Path:
    """The box of a step, or the newest.

    Raises:
        ValueError: there is none.
    """
    boxes = list_boxes(run)
    if not boxes:
        raise ValueError(f"{run} holds no black box: no step of it was skipped.")
    folder = boxes[-1] if step is None else run / FOLDER / name_box(step)
    if folder not in boxes:
        steps = ", ".join(str(int(box.name.partition("-")[2])) for box in boxes)
        raise ValueError(f"{run} holds no black box of step {step}: expected one of {steps}.")
    return folder


def read(folder: Path) -> SkippedStep:
    """The box in a folder.

    Raises:
        ValueError: it is damaged.
    """
    path, remedy = folder / "box.json", "remove its folder, no other black box needs it"
    box = files.read_json(path, SkippedStep, remedy)
    with files.reading(path, remedy):
        _check(box)
    return box


def _check(box: SkippedStep) -> None:
    """Refuse a box whose parts do not fit together, or whose weights would lie outside the run."""
    if box.weights and not NAME.fullmatch(box.weights):
        raise ValueError(f"its weights are those of {shorten(box.weights, 80)!r}, which is no black box")
    steps = len(box.norms.steps)
    lengths = {len(box.norms.learning_rates), *map(len, box.norms.gradients.values())} - {steps}
    if lengths or any(len(norms) != steps + 1 for norms in box.norms.weights.values()):
        raise ValueError("its norms are not of the same steps")
    for batch in box.batches:
        if {len(batch.indices), *map(len, batch.terms.values())} - {len(batch.captures)}:
            raise ValueError("a batch has not as many values as captures")


def read_state(folder: Path, box: SkippedStep) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The weights before the step, and for each batch the random generators' states by device type.

    Raises:
        ValueError: the weights were not kept.
    """
    path = folder.parent / box.weights / "weights.safetensors"
    if not path.is_file():
        raise ValueError(
            f"The weights of {folder.name} are kept no more (only those of the newest {KEPT} boxes are): replay a "
            f"later step, one of {', '.join(other.name for other in folder.parent.glob('step-*'))}."
        )
    with files.reading(path, "replay another step"):
        rng_state: list[dict[str, Tensor]] = [{} for _ in box.batches]
        for key, value in load_file(folder / "random.safetensors").items():
            index, _, kind = key.partition(".")
            rng_state[int(index)][kind] = value
        return load_file(path), rng_state


def _spell_numbers(value: object) -> object:
    """JSON has no NaN and no infinity: they become words that a reader takes for numbers."""
    if isinstance(value, dict):
        return {key: _spell_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_numbers(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _explain_image(box: SkippedStep) -> str:
    names = [capture for batch in box.batches for capture in batch.image]
    return f"the image of {_list(names)} holds pixels that are not finite" if names else ""


def _explain_depth(box: SkippedStep) -> str:
    names = [capture for batch in box.batches for capture in batch.depth]
    if names:
        return f"the trusted depth of {_list(names)} holds pixels that are not finite or not above 0"
    terms = {term: batch.bad_terms[term] for batch in box.batches for term in batch.zeros}
    said = [f"loss {term} takes the logarithm of depth that is 0 or below in {_list(at)}" for term, at in terms.items()]
    return said[0] if said else ""


def _explain_rate(box: SkippedStep) -> str:
    norms = box.norms
    weights, gradients = norms.measure_growth("weights"), norms.measure_growth("gradients")
    # Sound training moves the norm of all weights by a few per cent within the steps that are kept.
    if weights < 10 and gradients < 1000:
        return ""
    what, times = ("weights", weights) if weights >= 10 else ("gradients", gradients)
    rate = max(norms.learning_rates)
    return (
        f"the learning rate of {rate:.3g} is too high: the norm of the {what} grew {times:.3g}-fold "
        f"within {quantify(len(norms.steps), 'good step')}, fastest in {norms.fastest}"
    )


def _explain_overflow(box: SkippedStep) -> str:
    for fault in box.list_faults("forward"):
        if fault.overflow:
            return f"activations in {fault.module} ({fault.kind}) went beyond {HALF:.0f}, the most that float16 holds"
    return ""


def _explain_loss(box: SkippedStep) -> str:
    terms = [(term, at) for batch in box.batches if batch.forward is None for term, at in batch.bad_terms.items()]
    if terms:
        return f"loss {terms[0][0]} is not finite for {_list(terms[0][1])}, though the network's answer is"
    return ""


def _explain_module(box: SkippedStep) -> str:
    faults = [("output", fault) for fault in box.list_faults("forward")]
    faults += [("gradient", fault) for fault in box.list_faults("backward")]
    if faults:
        what, fault = faults[0]
        where = f"{fault.module} ({fault.kind})" if fault.inputs_finite else f"the code before {fault.module}"
        return f"the {what} of {where} is not finite"
    weights = [weight for batch in box.batches for weight in batch.gradients]
    return f"the gradient of {weights[0]} is not finite" if weights else ""


def _list(names: list[str], most: int = 4) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:most]) + (f" and {len(unique) - most} more" if len(unique) > most else "")


CAUSES: list[tuple[Callable[[SkippedStep], str], str]] = [
    (
        _explain_image,
        "Find such files with `sonde data check ROOT --reject FILE`, and leave them out with data.reject=FILE.",
    ),
    (
        _explain_depth,
        "Mask before the logarithm (sonde.losses shows how), raise data.min_depth, or leave the captures out: "
        "`sonde data check ROOT --reject FILE`, then data.reject=FILE.",
    ),
    (
        _explain_rate,
        "Set train.learning_rate to a tenth, warm up longer (train.warmup_steps), or clip: train.max_grad_norm=1.",
    ),
    (_explain_overflow, "Train with train.bf16=true in place of fp16, or in float32."),
    (
        _explain_loss,
        "Look at that loss term with those captures: it divides, takes a root or a logarithm of a value that may be 0.",
    ),
    (_explain_module, "Replay the step with `sonde doctor RUN --replay` and look into that module."),
]
"""Functions that look for a cause in a box, in the order in which they are believed, and what to do."""

UNSEEN = (
    "something that the same batches did not show again when they were run once more",
    "Replay the step with `sonde doctor RUN --replay`; if it stays finite there too, suspect the machine: its memory, "
    "its driver, its GPU.",
)
