"""What to look at or do after each verb: one sentence whose commands can be copied, with the user's own paths.

Each function names a verb and gives its sentence; `print_next` prints it as the last line.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from sonde.cli.tables import print_words

PHOTOS = "photos"
"""What stands for the user's own images."""
PICTURES = (".preview.png", ".relief.png", ".png", ".glb", ".ply")
"""What is worth opening of what a prediction writes, best first."""

REHEARSALS = ("--dry-run", "--plan-lr", "--plan")
"""Options by which a verb plans its work and does none."""
FORECASTS = ("--total", "--days", "--price")
"""Options with a value that only a plan takes."""


def print_next(sentence: str) -> None:
    """Print the last line of a verb that succeeded; no command in it is broken, so that each can be copied."""
    print_words(f"Next: {sentence}")


def quote_command(*words: object) -> str:
    """A command to copy: each word quoted where a shell needs it."""
    return f"`{shlex.join(map(str, words))}`"


def follow_demo(run: Path, captures: Path) -> str:
    """The report, and the adapted model on images that are there."""
    return _read_then(run, quote_command("sonde", "predict", captures / "images", "-m", run))


def follow_distillation(folder: Path, student: Path) -> str:
    """The pictures of all three models, and the student on the user's images."""
    return f"{quote_command('open', folder / 'comparison.png')}, then {_predict(student)}"


def follow_train(run: Path) -> str:
    """The report of a run, or of each fold, and the model on the user's images."""
    fold = run / "fold-0"
    return _read_then(fold if fold.is_dir() else run, _predict(fold if fold.is_dir() else run))


def follow_rehearsal(words: Sequence[str]) -> str:
    """After `--dry-run`, `--plan-lr` or `--plan`: the command without it, which does what was planned.

    Args:
        words: the command line without `sonde`.
    """
    kept, left = [], iter(words)
    for word in left:
        if word in FORECASTS:
            next(left, None)
        elif word not in REHEARSALS and word.partition("=")[0] not in FORECASTS:
            kept.append(word)
    return quote_command("sonde", *kept)


def follow_label(out: Path, shard: tuple[int, int] = (0, 1)) -> str:
    """A student from the labels."""
    command = quote_command("sonde", "train", "student-distill", f"data.root={out}")
    return command if shard[1] == 1 else f"{command} when all {shard[1]} shards are labelled"


def follow_eval(words: Sequence[str], reports: Sequence[Path]) -> str:
    """The first report that was written; where there is none, how to get one.

    Args:
        words: the command line without `sonde`.
        reports: of each set; empty without `--out`.
    """
    found = next((report for report in reports if report.is_file()), None)
    if found is not None:
        return quote_command("open", found)
    return f"{quote_command('sonde', *words, '-o', 'results')} writes a report with pictures"


def follow_compare(one: str, other: str, out: Path | None) -> str:
    """The page that was written, or how to write one."""
    if out is not None:
        return quote_command("open", out / "comparison.md")
    return f"{quote_command('sonde', 'compare', one, other, '-o', 'comparison')} keeps these tables"


def follow_reproduce(out: Path) -> str:
    """The report of a published row."""
    return quote_command("open", out / "report.html")


def follow_predict(written: Sequence[Path], out: Path) -> str:
    """The sheet, the picture of one image, or the folder of several."""
    sheet = next((path for path in written if path.name == "sheet.png"), None)
    shown = [path for ending in PICTURES for path in written if path.name.endswith(ending)]
    # One image has one file of each kind, and the manifest is the last file.
    single = bool(shown) and len({path.name.split(".")[0] for path in written[:-1]}) == 1
    return quote_command("open", sheet or (shown[0] if single else out))


def follow_features(written: Sequence[Path], out: Path) -> str:
    """The sheet of one image, or the folder of several."""
    sheets = [path for path in written if path.name.endswith(".features.png")]
    return quote_command("open", sheets[0] if len(sheets) == 1 else out)


def follow_export(folder: Path, to: str) -> str:
    """How the folder is loaded without sonde; of a file, a prediction with it."""
    if to in ("onnx", "openvino"):
        return _predict(folder)
    card = quote_command("open", folder / "README.md")
    if to != "hf":
        return f"{card} says how GLPDepth's scripts load it"
    # With double quotes inside, so that a shell's single quotes hold the whole.
    pipe = f'pipeline("depth-estimation", {json.dumps(str(folder))})'
    code = f'from transformers import pipeline; print({pipe}("photo.jpg")["predicted_depth"])'
    return f"{quote_command('python', '-c', code)}; what its numbers mean: {card}"


def follow_calibrate(model: str | Path) -> str:
    """The calibrated model on the user's images."""
    return _predict(model)


def follow_check(root: Path, layout: str) -> str:
    """Training on a set without faults: by the recipe of its layout."""
    where = f"data.root={root}"
    if layout == "zivid":
        still, moves = (quote_command("sonde", "train", recipe, where) for recipe in ("fixed-camera", "lora-few"))
        return f"{still} if the camera stands still, else {moves}"
    recipes = {"driving_stereo": "metric-driving", "nyu": "metric-indoor", "pseudo": "student-distill"}
    if layout in recipes:
        return quote_command("sonde", "train", recipes[layout], where)
    return quote_command("sonde", "data", "stats", root, "--format", layout)


def follow_set(root: Path, layout: str = "zivid") -> str:
    """The check of a set that was converted, rendered or described."""
    return quote_command("sonde", "data", "check", root, *(("--format", layout) if layout != "zivid" else ()))


def follow_machine(trains: bool = True) -> str:
    """The first run on this machine: the demo, or where it cannot train a prediction."""
    return quote_command("sonde", "demo") if trains else quote_command("sonde", "predict", PHOTOS)


def _predict(model: str | Path) -> str:
    return quote_command("sonde", "predict", PHOTOS, "-m", model)


def _read_then(run: Path, command: str) -> str:
    """The run's report where it has one, and a command."""
    report = run / "report.html"
    return f"{quote_command('open', report)}, then {command}" if report.is_file() else command
