"""docs/reference_map.yaml read, checked claim by claim, and rendered as docs/reference-map.md.

    python tests/reference_map.py > docs/reference-map.md

An entry is `theirs`, in their own words, with `ours` (what answers it), or `why_not`, or both; a `note`; and for a
formula a `check`. What `ours` lists is told by its spelling, and each kind is checked in its own way: see `KINDS`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from peft import LoraConfig
from pydantic import BaseModel, ConfigDict, model_validator
from small_networks import small_depth_anything
from transformers import AutoModelForDepthEstimation, TrainingArguments

from sonde import adapters, align, architectures, augment, encoding, losses, metrics, protocols, recipes, schedules
from sonde.datasets import hypersim, kitti, pairs, splits, zivid
from sonde.maps import resize
from sonde.protocols import windows
from sonde.recipes import AugmentRecipe, SplitRecipe
from sonde.training.arguments import DEFAULTS

ROOT = Path(__file__).parents[1]
TABLE, PAGE = ROOT / "docs" / "reference_map.yaml", ROOT / "docs" / "reference-map.md"
ROOMS = ("docs/", "notebooks/", "sonde/", "tests/")
FILES = ("README.md", "LICENSE", "Makefile", "pyproject.toml", "constraints.txt")


class Check(BaseModel):
    """A formula of theirs and ours at one number."""

    model_config = ConfigDict(extra="forbid")

    given: dict[str, Any] = {}
    """Name → numbers, besides the section's own."""
    theirs: str
    """An expression of NumPy, written from their definition."""
    ours: str
    """An expression of our functions."""
    value: float | list[float]
    """The number, or numbers, that both have, to the digits the page shows."""
    within: float = 1e-6
    """Largest relative difference."""


class Entry(BaseModel):
    """One row."""

    model_config = ConfigDict(extra="forbid")

    theirs: str
    """Markdown, in their own words."""
    ours: list[str] = []
    """What answers it: commands, names in sonde, settings, files."""
    note: str | None = None
    why_not: str | None = None
    """What is not here, and why."""
    tiny: str = ""
    """Words that keep the entry's commands short in a test; not on the page."""
    exit: Literal[0, 1, 2] = 0
    """How its commands end here: 2 where what they need has to be fetched or is refused."""
    says: list[str] = []
    """What its commands print, among else."""
    run_by: str | None = None
    """The test that runs the entry's commands instead, since they take minutes."""
    check: Check | None = None

    @model_validator(mode="after")
    def _answered(self) -> "Entry":
        assert self.ours or self.why_not, f"{self.theirs}: neither ours nor why_not"
        return self


class Section(BaseModel):
    """A table."""

    model_config = ConfigDict(extra="forbid")

    title: str
    numbers: dict[str, list[Any]] = {}
    """What its formulas are evaluated at."""
    entries: list[Entry]


class Project(BaseModel):
    """One of the public projects."""

    model_config = ConfigDict(extra="forbid")

    name: str
    url: str
    what: str
    sections: list[Section]


class Claim(NamedTuple):
    """One thing that an entry says sonde has."""

    entry: Entry
    text: str

    def __str__(self) -> str:
        return self.text


@cache
def projects() -> list[Project]:
    """The table."""
    return [Project.model_validate(each) for each in yaml.safe_load(TABLE.read_text())]


def entries() -> Iterator[tuple[Section, Entry]]:
    """Every row, with the section it is in."""
    for project in projects():
        for section in project.sections:
            yield from ((section, entry) for entry in section.entries)


def claims(kind: str) -> list[Claim]:
    """Everything of one kind, each once with its own `tiny`, `exit` and `says`."""
    found = {}
    for _, entry in entries():
        for text in entry.ours:
            if kind_of(text) == kind:
                found.setdefault((text, entry.tiny, entry.exit, *entry.says), Claim(entry, text))
    return list(found.values())


def kind_of(text: str) -> str:
    """Which of KINDS a claim is, by its spelling."""
    kinds = [kind for kind, spelling in KINDS.items() if re.match(spelling, text)]
    assert kinds, f"{text!r} is spelled as nothing that is checked"
    return kinds[0]


KINDS: dict[str, str] = {
    "command": r"sonde ",
    "left": r"RUN/",
    "path": rf"(?:{'|'.join(map(re.escape, ROOMS))})|(?:{'|'.join(map(re.escape, FILES))})$",
    "target": r"make \w",
    "extra": r"pip install 'sonde\[",
    "setting": r"[\w-]+: [\w.]+=",
    "name": r"sonde(?:\.\w+)+",
    "field": r"[a-z_]+(?:\.\w+)*(?:=.+)?$",
}
"""Kind → how it begins: a command to type; what a run leaves; a file here; make's; pip's; `RECIPE: key=value`, a
packaged recipe's own; a name in sonde, documented; a recipe's key, with or without a value."""


def resolved(name: str) -> Any:
    """What a dotted name stands for, `sonde.metrics.METRICS["abs_rel"]` included."""
    dotted, _, key = name.partition("[")
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found[yaml.safe_load(key.rstrip("]"))] if key else found
    raise AssertionError(name)


def value_in(recipe: str, key: str) -> Any:
    """What a packaged recipe has under a dotted key; of `train:`, what every run has where it says nothing."""
    found: Any = recipes.load(recipe).model_dump()
    *path, last = key.split(".")
    for part in path:
        found = found[part]
    return DEFAULTS[last] if path == ["train"] and last not in found else found[last]


def is_a_key(key: str) -> bool:
    """Whether a recipe may have it: in our schema, in TrainingArguments, LoraConfig or LOSSES."""
    section, _, rest = key.partition(".")
    if section == "train":
        return rest.partition(".")[0] in {field.name for field in fields(TrainingArguments)}
    if section == "lora":
        return not rest or rest in LoraConfig.__dataclass_fields__
    if section == "loss":
        return not rest or rest.partition(".")[0] in losses.LOSSES
    found: Any = recipes.load("student-reference").model_dump()
    for part in key.split("."):
        if part not in found:
            return False
        found = found[part]
    return True


def maps(*values: Any) -> tuple[torch.Tensor, ...]:
    """Lists as (1, h, w) double tensors; a line is a map of one row."""
    return tuple(torch.tensor(each, dtype=torch.float64).reshape(1, -1, np.shape(each)[-1]) for each in values)


def loss(name: str, pred: Any, target: Any, **options: Any) -> float:
    """A loss of one image."""
    p, t = maps(pred, target)
    return float(losses.LOSSES[name](p, t, torch.ones_like(p, dtype=torch.bool), **options))


def metric(name: str, pred: Any, target: Any, aligned: str = "none") -> float:
    """A metric of one image, after an alignment by name."""
    p, t = maps(pred, target)
    mask = torch.ones_like(p, dtype=torch.bool)
    return float(metrics.METRICS[name](align.ALIGN[aligned](p, t, mask), t, mask))


def encoded(name: str, millimetres: float) -> float:
    """Depth of a bench of 251.74 to 3907.45 mm as an encoding has it."""
    return float(encoding.ENCODINGS[name](0.25174, 3.90745).encode(np.array([[millimetres / 1000]]))[0, 0])


def decoded(name: str, value: float) -> float:
    """And back, in mm."""
    return float(encoding.ENCODINGS[name](0.25174, 3.90745).decode(np.array([[value]]))[0, 0] * 1000)


def parameters(size: str, part: str = "", **lora: Any) -> int:
    """Of Depth Anything V2 or GLPN of a size, without allocating it; with LoRA, those that train."""
    known = size in architectures.SIZES
    config = architectures.depth_anything(size) if known else architectures.glpn(size, max_depth=80)
    with torch.device("meta"):
        network: Any = AutoModelForDepthEstimation.from_config(config)
        network = adapters.add_lora(network, lora) if lora else network
    inside = network.get_submodule(part) if part else network
    return sum(p.numel() for p in inside.parameters() if p.requires_grad or not lora)


def rate(kind: str, step: int, steps: int, lr: float, **options: Any) -> float:
    """The learning rate of a step, from 0."""
    return schedules.simulate_rates(kind, lr, steps, options=options)[step]


def strip(width: int, seed: int) -> tuple[slice, float, float]:
    """Columns of CutDepth for one draw, and the two numbers that were drawn."""
    key = (seed, 0, 0)
    _, start, share = np.random.default_rng((*key, augment.STRIP)).uniform(0, 1, 3).tolist()
    return augment.draw_strip(AugmentRecipe(cut_depth=1.0), key, width), start, share


def levels(side: int) -> list[int]:
    """Heights of the four maps that the decoder makes of a square image, by a small network of the same kind."""
    config: Any = small_depth_anything()
    config.backbone_config.image_size = side
    network: Any = AutoModelForDepthEstimation.from_config(config).eval()
    rows = side // config.patch_size
    tokens = [torch.zeros(1, 1 + rows * rows, config.reassemble_hidden_size)] * 4
    with torch.no_grad():
        return [each.shape[2] for each in network.neck.reassemble_stage(tokens, rows, rows)]


def sides(window: Any, height: int, width: int) -> list[int]:
    """Top, bottom, left, right of a window of windows.SHARES, or of a protocol's."""
    return list(windows.find_box(window, (height, width)))


def kb_corner(height: int, width: int) -> list[int]:
    """Row and column that KITTI's cut begins at."""
    places = np.indices((height, width)).transpose(1, 2, 0)
    return kitti.cut_kb_window(places, "a frame")[0, 0].tolist()


def sobel(values: Any) -> np.ndarray:
    """|Sobel x| + |Sobel y| where all nine pixels are there, kernels of ±1 and ±2."""
    kernel, values = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), np.asarray(values)
    places = [values[y : y + 3, x : x + 3] for y in range(values.shape[0] - 2) for x in range(values.shape[1] - 2)]
    return np.array([abs((kernel * part).sum()) + abs((kernel.T * part).sum()) for part in places])


def without_top(sizes: Any, share: float = 0.1) -> np.ndarray:
    """Which are not among the largest share."""
    order = np.argsort(np.argsort(np.abs(np.asarray(sizes).ravel())))
    return order < len(order) - int(len(order) * share)


MODULES = (
    align, architectures, augment, encoding, hypersim, kitti, losses, pairs, protocols, schedules, splits, zivid
)  # fmt: skip
HELPERS = (
    SplitRecipe, decoded, encoded, kb_corner, levels, loss, maps, metric, parameters, rate, resize, sides, sobel,
    strip, value_in, without_top,
)  # fmt: skip
WORDS: dict[str, Any] = {"np": np, "torch": torch, "F": F} | {
    word.__name__.rpartition(".")[2]: word for word in (*MODULES, *HELPERS)
}
"""What the expressions of a check may use."""


def at(expression: str, numbers: Mapping[str, Any]) -> np.ndarray:
    """An expression of a check at its numbers, which are NumPy arrays there."""
    given = {name: np.array(value) if isinstance(value, list) else value for name, value in numbers.items()}
    return np.asarray(eval(expression, {**WORDS, **given}), dtype=np.float64)


HEAD = """\
# By their own words

Three public projects did in notebooks and scripts what sonde does: {names}.
Each of these {count} rows has their word, ours, and what differs or is not here. Search the page for a file, a flag or
a number of theirs. CAPITALS are yours to fill in.

`RECIPE: key=value` is what a packaged recipe has; a name such as `sonde.losses.silog` is for Python; `RUN/…` is what
a run leaves. *both 0.04* is a formula at the numbers above its table, theirs and ours. The page is made of
[reference_map.yaml](reference_map.yaml) by `python tests/reference_map.py > docs/reference-map.md`;
`tests/test_reference_map.py` runs the commands on small sets, looks up every name and setting, and evaluates both sides
of each formula.
"""


def rendered() -> str:
    """The page."""
    found = projects()
    names = ", ".join(f"[{each.name}](#{_anchor(each.name)})" for each in found)
    lines = HEAD.format(names=names, count=sum(1 for _ in entries())).splitlines()
    for project in found:
        lines += ["", f"## {project.name}", "", f"{project.what} {project.url}"]
        for section in project.sections:
            lines += ["", f"### {section.title}", "", *_table(section)]
    return "\n".join(lines) + "\n"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _table(section: Section) -> Iterator[str]:
    if section.numbers:
        yield "At " + ", ".join(f"{name} = {_number(each)}" for name, each in section.numbers.items()) + ":"
        yield ""
    yield "| theirs | ours | note |"
    yield "|---|---|---|"
    for entry in section.entries:
        ours = "<br>".join(f"`{text}`" for text in entry.ours) or "not here"
        given = (
            ", ".join(f"{name} = {_number(each)}" for name, each in entry.check.given.items()) if entry.check else ""
        )
        both = f"both {_number(entry.check.value)}{given and ' at ' + given}." if entry.check else None
        note = " ".join(filter(None, (both, entry.note, entry.why_not)))
        yield (
            "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in (entry.theirs, ours, note)) + " |"
        )


def _number(value: Any) -> str:
    """Whole numbers whole, others to seven digits, lists in brackets."""
    if isinstance(value, list):
        return "(" + ", ".join(map(_number, value)) + ")"
    return f"{value:,.0f}" if np.isfinite(value) and float(value).is_integer() else f"{value:.7g}"


if __name__ == "__main__":
    print(rendered(), end="")
