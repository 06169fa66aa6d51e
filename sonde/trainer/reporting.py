"""A run's curves beside `metrics.jsonl`: TensorBoard and Weights & Biases, both into the run folder.

transformers' own callbacks write them; here they are told where, and what keeps them from it is said before the first
step. W&B is imported where it is asked for, and nowhere else. What a user sets in the environment (WANDB_DIR,
WANDB_PROJECT, WANDB_MODE, TENSORBOARD_LOGGING_DIR …) stands.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

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
"""Names in `train.report_to` whose curves lie in the run folder; the others are as transformers has them."""

PROJECT = "sonde"
"""W&B's project where the user names none."""

PATIENCE = 30
"""Seconds that W&B tries to reach its server, where WANDB_INIT_TIMEOUT says nothing; its own 90 are a long look at
nothing."""

REMEDY = (
    "set WANDB_MODE=offline, and the curves wait in the run folder for `wandb sync`; or run `wandb login`; or say "
    "train.report_to=none."
)


def check_reporters(names: Sequence[str], *, main: bool = True) -> None:
    """What `train.report_to` names must be here, and W&B logged in or offline, for it would ask in the midst of a run.

    Args:
        names: as TrainingArguments has them.
        main: whether this process is the one that reports.

    Raises:
        ValueError: an unknown name, a package that is missing, or W&B online without a login.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"train.report_to={name}: {nearest(name, ['none', *INTEGRATION_TO_CALLBACK])}")
        if not _installed(name):
            what = f"'sonde[{name}]'" if name == "wandb" else name
            raise ValueError(f"train.report_to={name}: it is not installed here; `pip install {what}`, or say none.")
    if main and "wandb" in names:
        _check_login()


def reporters(recipe: Recipe, args: TrainingArguments) -> list[TrainerCallback]:
    """The callbacks of OURS that are asked for; they leave `args.report_to`, or transformers would add its own.

    W&B's run begins here, in the process that reports: before there is a checkpoint folder, so that what it refuses
    can be tried again.

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
    """transformers' callback, with its event files in a folder of ours; a resumed run goes on there."""

    def __init__(self, folder: Path):
        super().__init__()
        self.logging_dir = self.logging_dir or str(folder)


class WeightsAndBiases(WandbCallback):
    """transformers' callback, which ends the W&B run that `begin` began; one that the user began stays open."""

    begun: ClassVar[str | None] = None
    """The id of the run of ours that is open: one that was stopped must not take the next one's curves."""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the run, if it is ours."""
        super().on_train_end(args, state, control, **kwargs)
        _end()


def begin(run: Path, recipe: Recipe, name: str | None = None) -> None:
    """Begin a W&B run that bears the run folder's name and lies in it; one that the user has begun is left as it is.

    Raises:
        ValueError: W&B refuses the run, or cannot be reached.
    """
    import wandb

    _end()  # of a run that was stopped
    if wandb.run is not None:
        return
    user = _settings()
    try:
        WeightsAndBiases.begun = wandb.init(
            project=user.project or PROJECT,
            name=name or user.run_name or run.name,
            dir=None if "WANDB_DIR" in os.environ else str(run),
            config={"recipe": recipe.model_dump(mode="json")},
            settings=None if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": PATIENCE},
        ).id
    except wandb.Error as error:
        raise _refused(_first_line(error)) from None


def _end() -> None:
    import wandb

    if wandb.run is not None and wandb.run.id == WeightsAndBiases.begun:
        wandb.finish()


def _installed(name: str) -> bool:
    """Whether a reporter is here; W&B is not imported to find out, and a folder of its name is no package."""
    if name not in OURS:
        return name in get_available_reporting_integrations()
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def _check_login() -> None:
    """A run that the user has begun needs none, nor does W&B offline."""
    import wandb

    if wandb.run is not None or _settings().mode not in ("online", "run", "shared"):
        return
    try:
        reason = "" if wandb.login(prompt=False, verify=False) else "no login is known on this machine"
    except wandb.Error as error:
        reason = _first_line(error)
    if reason:
        raise _refused(reason)


def _refused(reason: str) -> ValueError:
    """The error that says it; and W&B, which reads the environment once, forgets it, since the remedy changes it."""
    import wandb

    wandb.teardown()
    return ValueError(f"train.report_to=wandb: W&B cannot report ({reason}): {REMEDY}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _settings() -> Any:
    """W&B's settings, as the environment and its files have them."""
    from wandb.sdk import wandb_setup

    return wandb_setup.singleton().settings
