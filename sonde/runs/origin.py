"""What a run was started with, and the command that resumes it.

RUN/origin.json     {"recipe": "lora-few", "overrides": ["data.root=captures", "output_dir=runs/x"]}
"""

import json
import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import with_config
from typing_extensions import TypedDict

from sonde import files, recipes
from sonde.recipes import RECORD, RecipeSource
from sonde.runs.folder import SPLIT
from sonde.spelling import shorten
from sonde.strict import EXACT

log = logging.getLogger("sonde")

ORIGIN = "origin.json"
REMEDY = "remove it, and give every setting of the run again"
REPLACED = {"train.lr_scheduler_type": "train.lr_scheduler_kwargs"}
"""Setting -> what belongs to its value: an override of the first makes a recorded one of the second meaningless."""
FOLD = re.compile(r"fold-\d+")
"""The name of the folder of a fold, in that of a k-fold run."""


@with_config(EXACT)
class OriginDocument(TypedDict):
    """`origin.json`: a packaged name or a file, and what replaced its settings."""

    recipe: str
    overrides: list[str]


class Origin(NamedTuple):
    """A recipe as a user gives it, and what replaces its settings, later ones last."""

    recipe: RecipeSource
    overrides: list[str]

    def write(self, run: Path) -> None:
        """Write it into a run folder; the fields of a recipe have no name that could be given again."""
        path = run / ORIGIN
        if not isinstance(self.recipe, str | Path):
            return path.unlink(missing_ok=True)
        document: OriginDocument = {"recipe": str(self.recipe), "overrides": self.overrides}
        with files.atomic_write(path) as tmp_path:
            tmp_path.write_text(json.dumps(document, indent=1))


def read_origin(run: Path) -> Origin | None:
    """What a run was started with; None where its folder does not say it. A k-fold run has it in its first fold.

    Raises:
        ValueError: a file that cannot be read.
    """
    for folder in (run, run / "fold-0"):
        if (folder / ORIGIN).is_file():
            found: OriginDocument = files.read_json(folder / ORIGIN, OriginDocument, REMEDY)
            return Origin(found["recipe"], found["overrides"])
    return None


def find_origin(recipe: RecipeSource, overrides: Sequence[str], *, resume: bool) -> tuple[Origin, Origin]:
    """What a run is made from, and what its folder records of that.

    A resumed run goes on with what it was started with, if the recipe is the same one; overrides given now come last. A
    run folder that was moved is resumed where it is.

    Raises:
        ValueError: no such recipe, an override that is none, or a record that cannot be read.
    """
    given = Origin(recipe, list(overrides))
    if not resume or isinstance(recipe, Mapping) or not isinstance(recipe, str | Path):
        return given, given
    run, own = find_run(recipe, overrides), Path(recipe)
    before = read_origin(run)
    if _is_run(own) and run == own:
        wanted = Origin(recipe, [*overrides, f"output_dir={own}"])
        if before is None:
            return wanted, wanted
        return wanted, Origin(before.recipe, [*_keep_recorded(before.overrides, wanted.overrides), *wanted.overrides])
    if before is None or not _is_same(before.recipe, recipe):
        return given, given
    where = [] if f"output_dir={run}" in overrides else [f"output_dir={run}"]
    both = Origin(recipe, [*_keep_recorded(before.overrides, overrides), *where, *overrides])
    if os.environ.get("RANK", "0") == "0":
        log.info("%s was started with %s, which counts where nothing else is given now.", run, _join(before.overrides))
    return both, both


def find_run(recipe: RecipeSource, overrides: Sequence[str]) -> Path:
    """The folder of the run that a recipe leaves; for the folder of a run without another `output_dir`, itself.

    Raises:
        ValueError: no such recipe, or an override that is none.
    """
    if isinstance(recipe, str | Path) and _is_run(Path(recipe)):
        chosen = recipes.find_output_dir({}, overrides)
        return Path(recipe) if chosen is None else Path(chosen)
    return Path(recipes.find_output_dir(recipe, overrides) or recipes.Recipe.model_fields["output_dir"].default)


def resume_command(run: Path, *overrides: str) -> str:
    """The command that resumes a run, ready for a shell; a fold is resumed with the others."""
    words = ["sonde", "train", str(run), "--resume", *overrides]
    try:
        origin = read_origin(run)
        if not (run / RECORD).is_file() and origin is not None:  # of several folds
            words = ["sonde", "train", str(origin.recipe), "--resume", f"output_dir={run}", *overrides]
        elif FOLD.fullmatch(run.name) and origin is not None and not _trains_one_fold(origin):
            words = ["sonde", "train", str(origin.recipe), "--resume", f"output_dir={run.parent}", *overrides]
    except ValueError:
        pass  # the folder itself is enough
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        words = ["torchrun", "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", processes), "-m", *words]
    return shlex.join(words)


def advise_other_checkpoint(checkpoint: Path) -> str:
    """What to do where a checkpoint is damaged."""
    again = resume_command(checkpoint.parent.parent)
    return f"remove {checkpoint}, and `{again}` goes on from the one before it"


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run, rather than only a recipe of that name."""
    try:
        return (folder / RECORD).is_file() and ((folder / SPLIT).is_file() or (folder / "checkpoints").is_dir())
    except OSError:  # no name of a file, such as one of 5,000 characters
        return False


def _keep_recorded(recorded: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The recorded overrides that still mean something, and are not given again word by word; the folder may differ."""
    dropped = [REPLACED[key] for key in (each.partition("=")[0] for each in overrides) if key in REPLACED]
    begin = ("output_dir=", "log_dir=", *dropped)
    return [each for each in recorded if each not in overrides and not each.startswith(begin)]


def _join(overrides: Sequence[str]) -> str:
    return shorten(shlex.join(overrides)) if overrides else "no settings of its own"


def _is_same(one: RecipeSource, other: RecipeSource) -> bool:
    """Whether two names are of one recipe."""
    first, second = Path(str(one)), Path(str(other))
    return first == second or (first.exists() and second.exists() and first.resolve() == second.resolve())


def _trains_one_fold(origin: Origin) -> bool:
    return any(override.startswith("data.split.fold=") for override in origin.overrides)
