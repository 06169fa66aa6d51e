"""The first day with a network: a model from the hub answers, as plain transformers has it, and can be adapted.

Every step says in a sentence what came of it; one that another step's failure made pointless says that it was not
checked. The picture is packaged and no photograph: one of our own renders, `sonde data synth indoor --seed 21`.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import pipeline

from sonde import architectures, evaluation, files, models, scenes, training
from sonde.models import DepthModel, ModelSpec

PICTURE = Path(__file__).with_name("room.jpg")
"""A rendered room, 640x480. Of pictures whose short side is below 518 transformers makes another size than we do."""
MEAN_TOLERANCE, MAX_TOLERANCE = 0.01, 0.1
"""Between our answer and plain transformers', as shares of its range.

Both resize by cubic antialiasing, ours in floats, theirs in bytes: pixels differ by 0.005 of their deviation. A small
network of random weights makes 0.4 % (at most 5 %) of that, and of another filter, mean or size 1.1 to 14 %.
"""
STEPS, CAPTURES = 10, 8
"""Of the adaptation."""


class OnlineStep(NamedTuple):
    """One step."""

    name: str
    outcome: str
    """`ok`, `failed` or `not checked`."""
    sentence: str


class Agreement(NamedTuple):
    """How far two answers are apart, as shares of the range of the second."""

    mean: float
    max: float

    @property
    def close(self) -> bool:
        """Whether both are within what resizing explains."""
        return self.mean <= MEAN_TOLERANCE and self.max <= MAX_TOLERANCE


def first_day(model: str | None = None, told: Callable[[OnlineStep], None] | None = None) -> list[OnlineStep]:
    """Every step in turn: fetch, predict, compare with plain transformers, adapt.

    Args:
        model: a hub id or a folder in transformers' form; Depth Anything V2 Small of the hub by default.
        told: told of every step as it ends.
    """
    name = model or str(architectures.SIZES["small"].released)
    checks: list[OnlineStep] = []
    network: list[DepthModel] = []

    def fetch() -> str:
        network.append(models.load(name, calibrated=False))
        count = sum(value.numel() for value in network[0].parameters())
        return f"{name} is here: {count / 1e6:.1f} M parameters, which answer in space {network[0].space!r}."

    steps: dict[str, Callable[[], str]] = {
        "fetch": fetch,
        "predict": lambda: _predicted(network[0]),
        "compare": lambda: _compared(network[0], name),
        "adapt": lambda: _adapted(network[0], name),
    }
    for step, work in steps.items():
        if checks and checks[0].outcome == "failed":
            checks.append(OnlineStep(step, "not checked", f"{name} could not be fetched."))
        else:
            checks.append(_tried(step, work))
        if told is not None:
            told(checks[-1])
    return checks


def agreement(model: DepthModel, name: str) -> Agreement:
    """A model's answer for the picture against plain transformers', with the image processor that lies beside it."""
    image = Image.fromarray(files.read_rgb(PICTURE))
    plain = pipeline("depth-estimation", model=name, device="cpu")(image)["predicted_depth"].squeeze().numpy()
    own = np.asarray(model.predict(PICTURE).depth) / model.spec.scale
    if model.encoding is not None:
        own = model.encoding.encode(torch.from_numpy(own)).numpy()  # transformers knows no encodings
    if own.shape != plain.shape:
        raise ValueError(f"transformers answers at {plain.shape[1]}x{plain.shape[0]}, not at the picture's size.")
    difference = np.abs(own - plain) / max(float(np.ptp(plain)), 1e-12)
    return Agreement(float(difference.mean()), float(difference.max()))


def _tried(step: str, work: Callable[[], str]) -> OnlineStep:
    """A step's sentence, or that of its failure, whatever it was: the other steps are still worth a try."""
    try:
        return OnlineStep(step, "ok", work())
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return OnlineStep(
            step, "failed", reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"
        )


def _predicted(model: DepthModel) -> str:
    depth = np.asarray(model.predict(PICTURE).depth)
    height, width = depth.shape
    if not np.isfinite(depth).all() or np.ptp(depth) == 0:
        raise ValueError("Its answer for the packaged picture is constant or not finite: the weights are damaged.")
    return f"The packaged picture, a render, gave {width}x{height} values from {depth.min():.4g} to {depth.max():.4g}."


def _compared(model: DepthModel, name: str) -> str:
    found = agreement(model, name)
    words = f"mean {found.mean:.3%}, largest {found.max:.3%} of its range"
    limits = f"{MEAN_TOLERANCE:.0%} and {MAX_TOLERANCE:.0%} are allowed, for each resizes the image in its own way"
    if not found.close:
        raise ValueError(f"Our answer differs from plain transformers': {words}; {limits}.")
    return f"Our answer is plain transformers': {words} apart; {limits}."


def _small(spec: ModelSpec) -> list[int]:
    """The (height, width) nearest to 126x168 that a network takes."""
    if spec.input_size is not None:
        return list(spec.input_size)
    return [max(1, round(side / spec.multiple)) * spec.multiple for side in (126, 168)]


def _adapted(model: DepthModel, name: str) -> str:
    """Ten steps of LoRA on a few rendered captures, in a folder that is gone afterwards."""
    with TemporaryDirectory() as folder:
        root, run = Path(folder) / "bench", Path(folder) / "run"
        start, size = str(model.family.ends_in_head).lower(), _small(model.spec)
        scenes.synth("bench", root, CAPTURES, seed=1, height=126, width=168, workers=1)
        training.train("lora-few", [
            f"model.name={name}", f"model.input_size={size}", f"data.root={root}", f"output_dir={run}",
            f"data.cache={Path(folder) / 'cache'}", f"train.max_steps={STEPS}", "train.warmup_steps=2",
            f"train.eval_steps={STEPS}", f"train.save_steps={STEPS}",
            f"model.affine_start={start}",
        ])  # fmt: skip
        scored = evaluation.read_evaluation(run)
        main = scored.main
        return (
            f"{STEPS} steps of LoRA on {CAPTURES} renders ended with {main.words} {scored.metrics[main.metric]:.3g} "
            f"{main.unit} on {len(scored.rows)} held out: it runs; so few steps say nothing of quality."
        )
