"""The state of a checkpoint, checked before transformers reads it, which would end in a traceback or go on from it."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from transformers import TrainerState
from typing_extensions import TypedDict

from sonde.files import atomic_write, read_json, read_text, reading
from sonde.runs import advise_other_checkpoint
from sonde.spelling import shorten
from sonde.strict import EXACT
from sonde.trainer.checkpoints import read_step

STATE = "trainer_state.json"

Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(EXACT)
class CallbackStates(TypedDict):
    """The states of callbacks by their names; the trainer adds to them."""

    TrainerControl: dict[str, Any]


@with_config(EXACT)
class CheckpointState(TypedDict):
    """What transformers and sonde use of the state."""

    global_step: Count
    stateful_callbacks: CallbackStates
    epoch: NotRequired[Number]
    max_steps: NotRequired[int]
    num_train_epochs: NotRequired[int]
    logging_steps: NotRequired[Number]
    eval_steps: NotRequired[Number]
    save_steps: NotRequired[Number]
    train_batch_size: NotRequired[int | None]
    num_input_tokens_seen: NotRequired[int]
    total_flos: NotRequired[Number]
    log_history: NotRequired[list[dict[str, Any]]]
    best_metric: NotRequired[float | None]
    best_global_step: NotRequired[Count | None]
    best_model_checkpoint: NotRequired[str | None]


def check_state(checkpoint: Path) -> None:
    """Check that a run can go on from the state of a checkpoint.

    Raises:
        ValueError: a state that is missing, damaged, of another step, or of a later transformers.
    """
    path, remedy = checkpoint / STATE, advise_other_checkpoint(checkpoint)
    state: CheckpointState = read_json(path, CheckpointState, remedy)
    with reading(path, remedy):
        unknown = set(state) - {field.name for field in fields(TrainerState)}
        if unknown:
            raise ValueError(f"`{shorten(min(unknown), 80)}`: transformers knows no such key")
        if state["global_step"] != read_step(str(checkpoint)):
            raise ValueError(f"`global_step`: it is {state['global_step']}, in the folder {checkpoint.name}")
        text = read_text(path)
        plain = text.encode() == path.read_bytes()
    if not plain:  # transformers reads UTF-8 without a byte order mark alone
        with atomic_write(path) as tmp_path:
            tmp_path.write_text(text, encoding="utf-8")
