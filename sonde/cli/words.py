"""Translate command lines of GLPDepth and its forks, pasted after `sonde train` and `sonde eval`.

Their options work with and without dashes: `--lr 1.5e-4`, `--lr=1.5e-4`, `lr=1.5e-4`. The log says what each became.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from sonde.recipes.words import LOG_DIR, SETS, SHORT, expand_word
from sonde.renamed import keep_old_names
from sonde.spelling import nearest

log = logging.getLogger("sonde")

Options = dict[str, str]
"""Option of GLPDepth, without dashes → its value."""


class Line(NamedTuple):
    """A command line, split into GLPDepth's options and other words."""

    rest: list[str]
    """Words that are no option of GLPDepth."""
    given: Options
    """The last value of each option."""
    typed: Options
    """The options as they were typed, for the log."""


def translate_training(words: Sequence[str]) -> list[str]:
    """Translate a command line of GLPDepth's training into one of `sonde train`: a recipe, then overrides in order.

    Raises:
        ValueError: an option without its value.
    """
    rest, given, typed = _split(words, {*SHORT, *IDLE, "exp_name", "val_freq", "save_freq"}, SWITCHES)
    overrides: list[str] = []
    for name, value in given.items():
        became = _translate_recipe_option(name, value, given)
        log.info("%s %s", typed[name], f"is {' '.join(became)}" if became else f"has no effect here: {IDLE[name]}")
        overrides += became
    layout = SETS.get(given.get("dataset", ""))
    if layout is not None and not any(word[0] != "-" and "=" not in word for word in rest):
        rest.insert(0, layout.recipe)
        log.info("%s is trained by the recipe %s", typed["dataset"], layout.recipe)
    if given and not any(word.startswith("output_dir=") for word in (*rest, *overrides)):
        overrides.append(f"output_dir={LOG_DIR}")
        log.info("output_dir=%s, as log_dir is by default", LOG_DIR)
    return [*rest, *overrides]


def translate_scoring(words: Sequence[str]) -> list[str]:
    """Translate a command line of GLPDepth's test into one of `sonde eval`.

    Raises:
        ValueError: an option without its value, or one that `sonde eval` does not have.
    """
    rest, given, typed = _split(words, SCORING.keys() - PICTURES.keys(), PICTURES)
    ours: list[str] = []
    for name, value in given.items():
        try:
            became = SCORING[name](value, given)
        except ValueError as error:
            raise ValueError(f"{typed[name]}: {error}") from None
        if isinstance(became, str):
            log.info("%s has no effect here: %s", typed[name], became)
        else:
            log.info("%s is %s", typed[name], " ".join(became))
            ours += became
    return [*ours, *rest]


def _split(words: Sequence[str], valued: Collection[str], switches: Collection[str]) -> Line:
    """Separate GLPDepth's options from other words."""
    line, words = Line([], {}, {}), list(words)
    while words:
        word = words.pop(0)
        left, equals, value = word.partition("=")
        name, dashed = left.removeprefix("--").replace("-", "_"), left.startswith("--")
        if name in switches and not equals:
            line.given[name], line.typed[name] = "true", word
        elif name in valued and (dashed or equals):
            if not equals and (not words or words[0].startswith("--")):
                raise ValueError(f"{word} needs a value: {word} VALUE.")
            value = value if equals else words.pop(0)
            line.given[name], line.typed[name] = value, word if equals else f"{word} {value}"
        else:
            line.rest.append(word)
    return line


def _translate_recipe_option(name: str, value: str, given: Options) -> list[str]:
    """The overrides that an option of GLPDepth's training becomes; none for an option without effect."""
    if name == "exp_name":
        return [f"output_dir={Path(given.get('log_dir', LOG_DIR), value)}"]
    if name == "do_kb_crop" and value == "0" and given.get("dataset") == "kitti":
        return ["data.format=kitti"]
    if name in IDLE or (name == "log_dir" and "exp_name" in given):
        return []
    return expand_word(SWITCHES.get(name, name), _find_set_folder(value, given) if name == "data_path" else value)


def _find_set_folder(root: str, given: Options) -> str:
    """The folder of the data set: GLPDepth names the folder above it."""
    layout = SETS.get(given.get("dataset", ""))
    inner = Path(root, layout.folder) if layout else None
    return str(inner) if inner is not None and inner.is_dir() else root


def _translate_set(value: str, given: Options) -> list[str]:
    if value == "imagepath":
        raise ValueError("images without depth are not scored: sonde predict FOLDER -m MODEL.")
    if value not in SETS:
        raise ValueError(nearest(value, list(SETS)))
    cut = given.get("do_kb_crop") != "0" or value != "kitti"
    return ["--format", SETS[value].whole, "--protocol", SETS[value].protocol if cut else "kitti-garg"]


def _translate_crop(value: str, given: Options) -> str:
    if value != "garg_crop":
        raise ValueError(
            "no packaged protocol has that crop after KITTI's; copy kitti-garg-kb.yaml, set its window to eigen, and "
            "give the file as --protocol FILE."
        )
    return "it is part of the protocol"


def _translate_least(value: str, given: Options) -> str:
    if _parse_metres(value) != ["0.001"]:
        raise ValueError("protocols begin at 0.001 m; write one that begins there, and give it as --protocol FILE.")
    return "it is where the protocol begins"


def _parse_metres(value: str) -> list[str]:
    try:
        return [f"{float(value):g}"]
    except ValueError:
        raise ValueError("expected a number of metres, such as 80.") from None


def _translate_pictures(value: str, given: Options) -> list[str] | str:
    kinds = [kind for name, kind in PICTURES.items() if kind and name in given]
    if not kinds:
        return "nothing is saved without --save_visualize or --save_eval_pngs"
    folder = Path(given.get("result_dir", "./results"), given.get("exp_name", "test"))
    return ["--save", ",".join(kinds), "--out", str(folder)]


IDLE = {
    "gpu_or_cpu": "a GPU is used where there is one (train.use_cpu=true uses none)",
    "do_kb_crop": "the layout kitti_kb cuts the frames, and the layout kitti does not",
    "kitti_crop": "it belongs to the test, `sonde eval`",
    "min_depth_eval": "every depth above 0 counts (data.min_depth)",
    "log_dir": "exp_name names a folder in it",
}
"""Options that change nothing in training, and why; `log_dir` only where `exp_name` is given."""

SWITCHES = {"save_model": "save_model", "do_save_model": "save_model", "save_result": "save_result"}
"""Options of GLPDepth's training without a value, and the field of a recipe that each turns on."""

PICTURES = {"save_visualize": "preview", "save_eval_pngs": "png16", "do_evaluate": ""}
"""Options of GLPDepth's test without a value; those that write depth maps, with the name `--save` has for them."""

SCORING: dict[str, Callable[[str, Options], list[str] | str]] = {
    "ckpt_dir": lambda value, given: [value],
    "dataset": _translate_set,
    "data_path": lambda value, given: ["--data", _find_set_folder(value, given)],
    "max_depth": lambda value, given: ["--max-depth", *_parse_metres(value)],
    "max_depth_eval": lambda value, given: ["--max-depth-eval", *_parse_metres(value)],
    "min_depth_eval": _translate_least,
    "kitti_crop": _translate_crop,
    "save_visualize": _translate_pictures,
    "save_eval_pngs": _translate_pictures,
    "result_dir": _translate_pictures,
    "exp_name": _translate_pictures,
    "do_evaluate": lambda value, given: "sonde eval always scores",
    "do_kb_crop": lambda value, given: "it is part of the protocol",
    "gpu_or_cpu": lambda value, given: ["--device", "cuda" if value == "gpu" else value],
    "batch_size": lambda value, given: ["--batch-size", value],
    "workers": lambda value, given: "a thread reads ahead of the network",
}
"""Option of GLPDepth's test → options of `sonde eval`, or why it has no effect."""

keep_old_names(__name__, {"for_training": "translate_training", "for_scoring": "translate_scoring"})
