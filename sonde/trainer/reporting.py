"""A run's curves beside `metrics.jsonl`: TensorBoard and Weights & Biases, both into the run folder.

transformers' own callbacks write them, here into the run folder; what would keep them from writing is an error before
the first step. W&B is imported only where a recipe asks for it. The user's environment variables (WANDB_DIR,
WANDB_PROJECT, WANDB_MODE, TENSORBOARD_LOGGING_DIR …) take precedence.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    TensorBoardCallback,
    WandbCallback,
    get_available_reporting_integrations,
)

from sonde.recipes import Recipe
from sonde.spelling import nearest

OURS = ("tensorboard", "wandb")
"""Names in `train.report_to` whose curves lie in the run folder; the others are left to transformers."""

PROJECT = "sonde"
"""W&B's project where the user names none."""

PATIENCE = 30
"""Seconds that W&B tries to reach its server, unless WANDB_INIT_TIMEOUT is set; its own default is 90."""

REMEDY = (
    "set WANDB_MODE=offline, and the curves wait in the run folder for `wandb sync`; or run `wandb login`; or set "
    "train.report_to=none."
)


class WandbSettings(NamedTuple):
    """The part of W&B's settings that matters here, from the environment and W&B's files."""

    project: str | None
    run_name: str | None
    mode: str


def check_reporters(names: Sequence[str], *, main: bool = True) -> None:
    """Check that every reporter is installed, and W&B logged in or offline: it would ask in the middle of a run.

    Args:
        names: those in `train.report_to`.
        main: whether this process is the one that reports.

    Raises:
        ValueError: an unknown name, a package that is missing, or W&B online without a login.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"train.report_to={name}: {nearest(name, ['none', *INTEGRATION_TO_CALLBACK])}")
        if not _is_installed(name):
            what = f"'sonde[{name}]'" if name == "wandb" else name
            raise ValueError(f"train.report_to={name}: it is not installed here; `pip install {what}`, or set none.")
    if main and "wandb" in names:
        _check_login()


def make_reporters(recipe: Recipe, args: TrainingArguments) -> list[TrainerCallback]:
    """The callbacks for the names of OURS in `args.report_to`; removes them there, or transformers would add its own.

    W&B's run begins here, in the process that reports: there is no checkpoint folder yet, so a refused run can be
    started again.

    Raises:
        ValueError: W&B refuses the run, or cannot be reached.
    """
    run, asked = Path(recipe.output_dir), list(args.report_to or ())
    args.report_to = [name for name in asked if name not in OURS]
    found: list[TrainerCallback] = [TensorBoard(run / "tensorboard")] if "tensorboard" in asked else []
    if "wandb" in asked:
        found.append(WeightsAndBiases())
        if args.process_index == 0:
            begin(run, recipe, args.run_name)
    return found


class TensorBoard(TensorBoardCallback):
    """transformers' callback, with its event files in the run folder; a resumed run continues there."""

    def __init__(self, folder: Path):
        super().__init__()
        self.logging_dir = self.logging_dir or str(folder)


class WeightsAndBiases(WandbCallback):
    """transformers' callback; ends the W&B run that `begin` began, and leaves one open that the user began."""

    begun: ClassVar[str | None] = None
    """The id of our open run: the curves of the next run must not go into one that was stopped."""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """End the run, if it is ours."""
        super().on_train_end(args, state, control, **kwargs)
        _end()


def begin(run: Path, recipe: Recipe, name: str | None = None) -> None:
    """Begin a W&B run of the run folder's name, inside it; a run that the user has begun is left as it is.

    Raises:
        ValueError: W&B refuses the run, or cannot be reached.
    """
    import wandb

    _end()  # of a run that was stopped
    if wandb.run is not None:
        return
    user = _read_settings()
    try:
        WeightsAndBiases.begun = wandb.init(
            project=user.project or PROJECT,
            name=name or user.run_name or run.name,
            dir=None if "WANDB_DIR" in os.environ else str(run),
            config={"recipe": recipe.model_dump(mode="json")},
            settings=None if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": PATIENCE},
        ).id
    except wandb.Error as error:
        raise _make_refusal(_take_first_line(error)) from None


def _end() -> None:
    import wandb

    if wandb.run is not None and wandb.run.id == WeightsAndBiases.begun:
        wandb.finish()


def _is_installed(name: str) -> bool:
    """Whether a reporter is installed; W&B is not imported to find out."""
    if name not in OURS:
        return name in get_available_reporting_integrations()
    spec = find_spec(name)
    # Without an origin it is a plain folder: W&B names its own folder `wandb`.
    return spec is not None and spec.origin is not None


def _check_login() -> None:
    """Refuse W&B online without a login; a run that the user has begun needs none."""
    import wandb

    if wandb.run is not None or _read_settings().mode not in ("online", "run", "shared"):
        return
    try:
        reason = "" if wandb.login(prompt=False, verify=False) else "no login is known on this machine"
    except wandb.Error as error:
        reason = _take_first_line(error)
    if reason:
        raise _make_refusal(reason)


def _make_refusal(reason: str) -> ValueError:
    """The error for a run that W&B refuses."""
    import wandb

    wandb.teardown()  # W&B reads the environment once, and the remedy changes the environment
    return ValueError(f"train.report_to=wandb: W&B cannot report ({reason}): {REMEDY}")


def _take_first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _read_settings() -> WandbSettings:
    from wandb.sdk import wandb_setup

    settings = wandb_setup.singleton().settings
    return WandbSettings(settings.project, settings.run_name, settings.mode)
