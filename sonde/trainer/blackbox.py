"""Black boxes: what is left of a step that was not taken, on disk and in sentences.

RUN/blackbox/step-000123/
    box.json             when, at which rate, what each batch showed when run again, and norms of the last good steps
    random.safetensors   the state of the random generators before each batch
    weights.safetensors  what was trained, as it was; in the first box of several in a row, of the newest `KEPT`
    recipe.yaml          as the run had it
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from sonde import files
from sonde.trainer.trace import HALF, BatchTrace, NonFiniteValue

FOLDER = "blackbox"
KEPT = 3
"""Weights are kept of so many mishaps, the newest: a network may be large."""


@dataclass
class Norms:
    """Euclidean norms by step for every trained tensor: its gradients at the last good steps, and its weights."""

    steps: list[int] = field(default_factory=list)
    """The last good steps, oldest first."""
    learning_rates: list[float] = field(default_factory=list)
    gradients: dict[str, list[float]] = field(default_factory=dict)
    """Before clipping, one for each of the steps."""
    weights: dict[str, list[float]] = field(default_factory=dict)
    """Before each of the steps, and last before the one that was not taken."""

    def growth(self, kind: str) -> float:
        """How many times larger the norm of all `weights` or `gradients` is at the end than at the start."""
        columns = list(zip(*getattr(self, kind).values(), strict=True))
        totals = [math.hypot(*column) for column in columns]
        return totals[-1] / max(totals[0], 1e-12) if len(totals) > 1 else 1.0

    @property
    def fastest(self) -> str:
        """The tensor whose weights grew most."""
        return max(self.weights, key=lambda name: self.weights[name][-1] / max(self.weights[name][0], 1e-12))


@dataclass
class SkippedStep:
    """A step that was not taken."""

    step: int
    learning_rate: float
    precision: str
    """no, fp16 or bf16, as accelerate names it."""
    scale: float
    """Of the loss; 1 outside float16."""
    batches: list[BatchTrace]
    norms: Norms
    weights: str = ""
    """The box that holds the weights; they are the same for all boxes in a row."""

    def cause(self) -> tuple[str, str]:
        """What went wrong, in words that follow "because", and what to do about it: the first of CAUSES that fits."""
        return next(((said, remedy) for says, remedy in CAUSES for said in [says(self)] if said), UNSEEN)

    def suspects(self) -> list[str]:
        """Captures whose files were not finite; else those whose losses were not; else all of the bad batches."""
        files = [name for batch in self.batches for name in (*batch.image, *batch.depth)]
        lost = [name for batch in self.batches for names in batch.bad_terms.values() for name in names]
        rest = [name for batch in self.batches if not batch.finite for name in batch.captures]
        return list(dict.fromkeys(files or lost or rest))

    def faults(self, way: str) -> list[NonFiniteValue]:
        """Where each batch first was not finite, `forward` or `backward`."""
        return [fault for batch in self.batches for fault in [getattr(batch, way)] if fault]


def name(step: int) -> str:
    """Of the box of a step."""
    return f"step-{step:06}"


def write(run: Path, box: SkippedStep, rng_state: list[dict[str, Tensor]], weights: dict[str, Tensor] | None) -> Path:
    """Leave a box in the run's folder, whole or not at all; with `weights` None they lie in the box before."""
    root = run / FOLDER
    folder, partial = root / name(box.step), root / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if weights is None:
        box.weights = read(found(run)[-1]).weights
    else:
        box.weights = folder.name
        save_file(weights, partial / "weights.safetensors")
    save_file({f"{i}.{kind}": state for i, states in enumerate(rng_state) for kind, state in states.items()},
              partial / "random.safetensors")  # fmt: skip
    if (run / "recipe.yaml").is_file():
        shutil.copyfile(run / "recipe.yaml", partial / "recipe.yaml")
    (partial / "box.json").write_text(json.dumps(_plain(asdict(box)), indent=1, allow_nan=False))
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    for old in sorted(root.glob("*/weights.safetensors"))[:-KEPT]:
        old.unlink()
    return folder


def found(run: Path) -> list[Path]:
    """The boxes of a run, by step."""
    return sorted((run / FOLDER).glob("step-*"))


def find(run: Path, step: int | None = None) -> Path:
    """The box of a step, or the newest.

    Raises:
        ValueError: there is none.
    """
    boxes = found(run)
    folder = run / FOLDER / name(step) if step is not None else boxes[-1] if boxes else None
    if folder not in boxes:
        steps = ", ".join(str(int(box.name.partition("-")[2])) for box in boxes)
        which = f" of step {step}: expected one of {steps}" if steps else ": no step of it was skipped"
        raise ValueError(f"{run} holds no black box{which}.")
    assert folder is not None
    return folder


def read(folder: Path) -> SkippedStep:
    """The box in a folder.

    Raises:
        ValueError: it is damaged.
    """
    with files.reading(folder / "box.json", "remove its folder, no other black box needs it"):
        fields = json.loads((folder / "box.json").read_text())
        batches = [BatchTrace(**{**batch, "forward": _fault(batch["forward"]), "backward": _fault(batch["backward"]),
                            "terms": {term: list(map(float, values)) for term, values in batch["terms"].items()}})
                   for batch in fields["batches"]]  # fmt: skip
        norms = fields["norms"]
        for kind in ("gradients", "weights"):
            norms[kind] = {tensor: list(map(float, values)) for tensor, values in norms[kind].items()}
        return SkippedStep(**{**fields, "batches": batches, "norms": Norms(**norms)})


def state(folder: Path, box: SkippedStep) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The weights before the step, and for each batch the random generators' states by device type.

    Raises:
        ValueError: the weights were not kept.
    """
    path = folder.parent / box.weights / "weights.safetensors"
    if not path.is_file():
        raise ValueError(
            f"The weights of {folder.name} are kept no more (only those of the newest {KEPT} mishaps are): replay a "
            f"later step, one of {', '.join(other.name for other in folder.parent.glob('step-*'))}."
        )
    with files.reading(path, "replay another step"):
        flat = load_file(folder / "random.safetensors")
        rng_state = [{key.partition(".")[2]: value for key, value in flat.items() if key.startswith(f"{index}.")}
                for index in range(len(box.batches))]  # fmt: skip
        return load_file(path), rng_state


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become words that `float` reads."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _fault(fields: dict[str, Any] | None) -> NonFiniteValue | None:
    return None if fields is None else NonFiniteValue(**fields)


def _image(box: SkippedStep) -> str:
    names = [capture for batch in box.batches for capture in batch.image]
    return f"the image of {_list(names)} holds pixels that are not finite" if names else ""


def _depth(box: SkippedStep) -> str:
    names = [capture for batch in box.batches for capture in batch.depth]
    if names:
        return f"the trusted depth of {_list(names)} holds pixels that are not finite or not above 0"
    terms = {term: batch.bad_terms[term] for batch in box.batches for term in batch.zeros}
    said = [f"loss {term} takes the logarithm of depth that is 0 or below in {_list(at)}" for term, at in terms.items()]
    return said[0] if said else ""


def _rate(box: SkippedStep) -> str:
    norms, weights, gradients = box.norms, box.norms.growth("weights"), box.norms.growth("gradients")
    if weights < 10 and gradients < 1000:
        return ""
    what, times = ("weights", weights) if weights >= 10 else ("gradients", gradients)
    rate = max(norms.learning_rates)
    return (
        f"the learning rate of {rate:.3g} is too high: the norm of the {what} grew {times:.3g}-fold "
        f"within {len(norms.steps)} good step(s), fastest in {norms.fastest}"
    )


def _overflow(box: SkippedStep) -> str:
    for fault in box.faults("forward"):
        if fault.overflow:
            return f"activations in {fault.module} ({fault.kind}) went beyond {HALF:.0f}, the most that float16 holds"
    return ""


def _loss(box: SkippedStep) -> str:
    terms = [(term, at) for batch in box.batches if batch.forward is None for term, at in batch.bad_terms.items()]
    if terms:
        return f"loss {terms[0][0]} is not finite for {_list(terms[0][1])}, though the network's answer is"
    return ""


def _module(box: SkippedStep) -> str:
    for way, what in (("forward", "output"), ("backward", "gradient")):
        for fault in box.faults(way):
            where = f"{fault.module} ({fault.kind})" if fault.inputs_finite else f"the code before {fault.module}"
            return f"the {what} of {where} is not finite"
    weights = [weight for batch in box.batches for weight in batch.gradients]
    return f"the gradient of {weights[0]} is not finite" if weights else ""


def _list(names: list[str], most: int = 4) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:most]) + (f" and {len(unique) - most} more" if len(unique) > most else "")


CAUSES: list[tuple[Callable[[SkippedStep], str], str]] = [
    (_image, "Find such files with `sonde data check ROOT --reject FILE`, and leave them out with data.reject=FILE."),
    (_depth, "Mask before the logarithm (sonde.losses shows how), raise data.min_depth, or leave the captures out: "
             "`sonde data check ROOT --reject FILE`, then data.reject=FILE."),
    (_rate, "Set train.learning_rate to a tenth, warm up longer (train.warmup_steps), or clip: train.max_grad_norm=1."),
    (_overflow, "Train with train.bf16=true in place of fp16, or in float32."),
    (_loss, "Look at that loss term with those captures: it divides, takes a root or a logarithm of what may be 0."),
    (_module, "Replay the step with `sonde doctor RUN --replay` and look into that module."),
]  # fmt: skip
"""Who looks for a cause in a box, in the order in which they are believed, and what to do."""

UNSEEN = (
    "something that the same batches did not show again when they were run once more",
    "Replay the step with `sonde doctor RUN --replay`; if it stays finite there too, suspect the machine: its memory, "
    "its driver, its GPU.",
)
