"""Check a model of the hub: fetch it, predict, compare with plain transformers, and adapt it for a few steps.

Every step reports its result in one sentence. The test picture is packaged: a render of
`sonde data synth indoor --seed 21`.
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
from sonde.models.placement import choose_precision
from sonde.renamed import keep_old_names

PICTURE = Path(__file__).with_name("room.jpg")
"""A rendered room, 640x480: where the short side is below 518, transformers chooses another size than sonde."""
MEAN_TOLERANCE, MAX_TOLERANCE = 0.01, 0.1
"""Largest mean and largest single difference from plain transformers, as shares of the range of its prediction.

Both resize by cubic antialiasing, sonde in floats and transformers in bytes: pixels differ by 0.005 of their standard
deviation. In a small network of random weights this makes a mean difference of 0.4 % (at most 5 % at one pixel);
another filter, mean or size makes a mean of 1.1 to 14 %.
"""
STEPS, CAPTURES = 10, 8
"""Training steps and rendered captures of the adaptation."""


class OnlineStep(NamedTuple):
    """One step of the check and its result."""

    name: str
    outcome: str
    """`ok`, `failed` or `not checked`."""
    sentence: str


class Agreement(NamedTuple):
    """Mean and largest difference between two predictions, as shares of the range of the second."""

    mean: float
    max: float

    @property
    def close(self) -> bool:
        """Whether both differences are within the tolerances."""
        return self.mean <= MEAN_TOLERANCE and self.max <= MAX_TOLERANCE


def check_model(
    model: str | None = None,
    report: Callable[[OnlineStep], None] | None = None,
    *,
    device: str = "auto",
    precision: str | None = None,
) -> list[OnlineStep]:
    """Fetch a model, predict, compare with plain transformers, adapt; one result for each step.

    A step that fails does not stop the others, but without the model nothing else is checked.

    Args:
        model: a hub id or a folder in transformers' form; Depth Anything V2 Small of the hub by default.
        report: called with each step when it ends.
        device: as `models.load` takes it; transformers runs on the same one.
        precision: as `models.load` takes it, of sonde alone: transformers computes in fp32.

    Raises:
        ValueError: a device that is not there, or no such precision.
    """
    chosen = models.choose_device(device)
    choose_precision(precision or "fp32", chosen)
    name = model or str(architectures.SIZES["small"].released)
    checks: list[OnlineStep] = []
    network: list[DepthModel] = []

    def fetch() -> str:
        network.append(models.load_network(name, calibrated=False, device=chosen, precision=precision))
        found = network[0]
        return (
            f"{name} is loaded: {found.parameter_count / 1e6:.1f} M parameters, predictions in space {found.space!r}, "
            f"{found.placement.describe()}."
        )

    steps: dict[str, Callable[[], str]] = {
        "fetch": fetch,
        "predict": lambda: _predict(network[0]),
        "compare": lambda: _compare(network[0], name),
        "adapt": lambda: _adapt(network[0], name),
    }
    for step, work in steps.items():
        if checks and checks[0].outcome == "failed":
            checks.append(OnlineStep(step, "not checked", f"{name} could not be fetched."))
        else:
            checks.append(_try_step(step, work))
        if report is not None:
            report(checks[-1])
    return checks


def compare_with_transformers(model: DepthModel, name: str) -> Agreement:
    """How far a model's prediction for the packaged picture is from plain transformers'.

    Args:
        model: as sonde loads it.
        name: the hub id or the folder, from which transformers takes the network and its image processor.

    Raises:
        ValueError: transformers' prediction has another size than the picture.
    """
    image = Image.fromarray(files.read_rgb(PICTURE))
    pipe = pipeline("depth-estimation", model=name, device=model.mean.device, trust_remote_code=False)
    plain = pipe(image)["predicted_depth"].squeeze().cpu().numpy()
    own = np.asarray(model.predict(PICTURE).depth) / model.spec.scale
    if model.encoding is not None:
        # transformers does not decode: its prediction is the encoded one.
        own = model.encoding.encode(torch.from_numpy(own)).numpy()
    if own.shape != plain.shape:
        raise ValueError(
            f"transformers predicts {plain.shape[1]}x{plain.shape[0]} values, not one for each pixel of the picture."
        )
    difference = np.abs(own - plain) / max(float(np.ptp(plain)), 1e-12)
    return Agreement(float(difference.mean()), float(difference.max()))


def _try_step(step: str, work: Callable[[], str]) -> OnlineStep:
    # Any error at all: the result of the other steps is still worth having.
    try:
        return OnlineStep(step, "ok", work())
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        sentence = reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"
        return OnlineStep(step, "failed", sentence)


def _predict(model: DepthModel) -> str:
    depth = np.asarray(model.predict(PICTURE).depth)
    height, width = depth.shape
    if not np.isfinite(depth).all() or np.ptp(depth) == 0:
        raise ValueError("The prediction for the packaged picture is constant or not finite: the weights are damaged.")
    return f"The packaged picture, a render, gave {width}x{height} values from {depth.min():.4g} to {depth.max():.4g}."


def _compare(model: DepthModel, name: str) -> str:
    found = compare_with_transformers(model, name)
    difference = f"mean {found.mean:.3%}, largest {found.max:.3%} of its range"
    limits = f"{MEAN_TOLERANCE:.0%} and {MAX_TOLERANCE:.0%} are allowed, because the two resize the image differently"
    if not found.close:
        raise ValueError(f"The prediction differs from that of plain transformers: {difference}; {limits}.")
    return f"The prediction is that of plain transformers: difference {difference}; {limits}."


def _choose_input_size(spec: ModelSpec) -> list[int]:
    """The network's own (height, width), or the one nearest to 126x168 that it takes."""
    if spec.input_size is not None:
        return list(spec.input_size)
    return [max(1, round(side / spec.multiple)) * spec.multiple for side in (126, 168)]


def _adapt(model: DepthModel, name: str) -> str:
    """Train a few steps of LoRA on rendered captures, in a temporary folder."""
    with TemporaryDirectory() as folder:
        root, run = Path(folder) / "bench", Path(folder) / "run"
        scenes.synth("bench", root, CAPTURES, seed=1, height=126, width=168, workers=1)
        overrides = [
            f"model.name={name}",
            f"model.input_size={_choose_input_size(model.spec)}",
            f"model.affine_start={str(model.family.ends_in_head).lower()}",
            f"data.root={root}",
            f"data.cache={Path(folder) / 'cache'}",
            f"output_dir={run}",
            f"train.max_steps={STEPS}",
            f"train.eval_steps={STEPS}",
            f"train.save_steps={STEPS}",
            "train.warmup_steps=2",
            # Where there is a GPU, transformers trains on it unless told otherwise.
            *(["train.use_cpu=true"] if model.mean.device.type == "cpu" and torch.accelerator.is_available() else []),
        ]
        training.train("lora-few", overrides)
        scored = evaluation.read_evaluation(run)
        main = scored.main
        return (
            f"{STEPS} steps of LoRA on {CAPTURES} renders ended with {main.words} {scored.metrics[main.metric]:.3g} "
            f"{main.unit} on {len(scored.rows)} held-out captures: training works; {STEPS} steps say nothing about "
            "quality."
        )


keep_old_names(__name__, {"first_day": "check_model", "agreement": "compare_with_transformers"})
