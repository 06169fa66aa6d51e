"""Names of models: which are ids of the hub and which are paths, and what to say of a name that is no model.

No torch is imported here, and no file is opened: only names and what exists are looked at.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from sonde import files
from sonde.models.calibration import CALIBRATION
from sonde.spelling import nearest, quantify, shorten

SHIPPED = {"sonde-tiny": "", "sonde-lite": "lite"}
"""Name of a packaged model → its folder below `weights`."""
WEIGHT_FILES = (".pth", ".pt", ".ckpt", ".safetensors")
"""Suffixes of weight files."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
RUNS = "runs"
"""The folder that recipes put their runs in."""
RECIPE = "recipe.yaml"
"""What every run folder holds from its start."""
ALTERNATIVES = (
    "Without a network: sonde-lite, sonde-tiny, a local Hugging Face folder, a run folder, or a depth_anything_*.pth"
    " or GLPDepth .ckpt file."
)
LOCAL = "a run, another folder of a model or a file of weights"
EXPECTED = "sonde-lite, sonde-tiny, a hub id, a folder, a run or a file of weights"
MOST_OFFERED = 4
"""Folders that a message names."""


def is_hub_id(name: str) -> bool:
    """Whether a name is read as an id of the hub, OWNER/NAME.

    It is a path if it exists, begins with ., .., ~ or runs, ends like a file of weights, or if models lie in a folder
    OWNER here.
    """
    owner = name.partition("/")[0]
    if HUB_ID.fullmatch(name) is None or owner in (".", "..", RUNS) or name.endswith(WEIGHT_FILES):
        return False
    if os.path.lexists(name):
        return False
    return not list_models(Path(owner))


def _is_weights_address(name: str) -> bool:
    """Whether an address ends like a file of weights, before what follows a `?`."""
    return name.partition("?")[0].endswith(WEIGHT_FILES)


def list_models(folder: Path) -> list[str]:
    """The paths of the models and runs directly in a folder, sorted, runs that are not finished too."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if entry.name[0] != "." and entry.is_dir()]
    except OSError:
        return []
    return sorted(str(path) for path in found if holds_model(path) or (path / RECIPE).is_file())


def holds_model(folder: Path) -> bool:
    """Whether a folder looks like a model: weights, an adapter, a calibration, or a run with a best."""
    return any((folder / name).exists() for name in ("config.json", "adapter_config.json", CALIBRATION, "best"))


def explain_unknown(name: str) -> str:
    """One sentence for a name that is no model: what it is instead, or what there is."""
    shown = shorten(name)
    if address := files.explain_address(name):
        if _is_weights_address(name):
            return address
        known = "/".join(urlsplit(name).path.strip("/").split("/")[:2]) or "OWNER/NAME"
        return f"{shown} is an address: name a model of the Hugging Face hub by its id, {shorten(known)}."
    if _is_recipe(name):
        return f"{shown} is a recipe, not a model: `sonde train {shown}` leaves a run folder, which is one."
    path = Path(name)
    if path.is_file():
        return f"{shown} is a file, and no file of weights ({', '.join(WEIGHT_FILES)}): expected {EXPECTED}."
    if name[0] == "~":
        return f"{shown} does not exist: a quoted ~ stays as it is; give {shorten(path.expanduser())}."
    if "/" in name:
        return _explain_path(name)
    there = {Path(found).name: found for found in list_models(Path(RUNS))}
    if near := next(iter(get_close_matches(name, there)), None):
        return f"No model {shown!r}: did you mean {shorten(there[near])}?"
    return f"No model {shown!r}: {nearest(name, list(SHIPPED))} {ALTERNATIVES}"


def explain_as_image(name: str) -> str:
    """What to do with the name of a model or a recipe that stands where an image should; empty if it is neither."""
    path, shown = Path(name), shorten(name)
    if name in SHIPPED or (path / "best").is_dir() or (path / "adapter_config.json").is_file():
        return f"{shown} is a model, not an image: give it as -m {shown}."
    if not path.exists() and _is_recipe(name):
        return f"{shown} is a recipe, not an image: `sonde train {shown}` leaves a run folder, which is given as -m."
    return ""


def explain_folder(folder: Path) -> str:
    """One sentence for a folder that exists and is no model: what it is, and what it lacks."""
    shown = shorten(folder)
    if (folder / RECIPE).is_file():
        return (
            f"{shown} is an unfinished run: it has no best/ yet; `sonde train {quote(str(folder))} --resume` continues "
            "from its newest checkpoint."
        )
    if folds := sorted(path.name for path in folder.glob("fold-*") if (path / "best").is_dir()):
        number = quantify(len(folds), "fold")
        return f"{shown} is a run of {number}: give one of them, such as {shorten(folder / folds[0])}."
    if there := list_models(folder):
        return f"{shown} is no model itself; there {_offer(there)}."
    if (folder / "predictions.json").is_file():
        return f"{shown} holds predictions, not a model: `sonde eval {shown} --data ROOT` scores them."
    return (
        f"{shown} is no model: expected config.json, adapter_config.json or a run folder with best/; it holds "
        f"{files.describe_contents(folder)}."
    )


def _explain_path(name: str) -> str:
    """One sentence for a path that does not exist."""
    path = Path(name)
    there = list_models(path.parent)
    if not there:
        return files.explain_absent(name, LOCAL)
    what = "run folder" if path.parts[0] == RUNS else "model or run"
    near = [found for found in files.find_near(path) if found in there]
    return f"No such {what} {shorten(name)}: there {_offer(list(dict.fromkeys([*near, *there])))}."


def _offer(there: list[str]) -> str:
    """`is runs/a`, `are runs/a and runs/b` …"""
    shown = [shorten(name, 80) for name in there[:MOST_OFFERED]]
    more = len(there) - len(shown)
    listed = ", ".join(shown) + (f" and {more} more" if more else "")
    return f"{'is' if len(there) == 1 else 'are'} {listed}"


def _is_recipe(name: str) -> bool:
    # Imported here: a name that is a model needs no recipe.
    from sonde import recipes

    return name in recipes.list_names() or (name.endswith((".yaml", ".yml")) and Path(name).is_file())
