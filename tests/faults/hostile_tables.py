"""Recipes, protocols, tables and lists of paths; and names in documents that would become paths elsewhere."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from case import Case, Entry, Make, Right, after, changed, junk, put, set_field
from hostile_documents import DEEP, DRY, OTHERS, labels, opened
from hostile_images import encoded
from sound import copied, write_points

from sonde import datasets, evaluation, protocols, recipes, runs

YAML: dict[str, bytes] = {
    "aliases-that-multiply": b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n".encode() for n in range(1, 10)),
    "an-alias-to-itself": b"model: &m\n  name: *m\n",
    "merge-keys-that-multiply": b"a0: &a0 {k: 1}\n"
    + b"".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n".encode() for n in range(1, 10)),
    "lists-10000-deep": b"[" * DEEP,
    "code": b"!!python/object/apply:os.mkdir [ran]\n",
    "code-in-a-field": b"model: !!python/object/new:os.mkdir [ran]\n",
    "tabs": b"model:\n\tname: sonde-tiny\n",
    "two-documents": b"a: 1\n---\nb: 2\n",
    "a-key-of-lists": b"? [a, b]\n: 1\n",
    "a-key-twice": b"seed: 1\nseed: 2\n",
    "a-number-of-no-digits": b"seed: !!int ''\n",
    "a-list-that-holds-itself": b"quick: &q [*q]\n",
    "a-date": b"2026-01-01\n",
    "sixty-based-number": b"seed: " + b"9:" * 2000 + b"9\n",
    "a-word-of-a-megabyte": b"model: " + b"a" * 1_000_000 + b"\n",
}
"""Documents of YAML alone."""
PROTOCOL_FIELDS = (
    "name",
    "align",
    "min_depth",
    "max_depth",
    "window",
    "clamp",
    "metrics",
    "ranges",
    "fit_side",
    "space",
)
HEAD = b"image,x,y,depth\n"
WHOLE_TABLES: dict[str, bytes] = {
    "empty": b"",
    "junk": junk(),
    "nul-bytes": bytes(4096),
    "a-web-page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "a-million-columns": b"," * 1_000_000 + b"\n",
}
"""In place of any table."""
POINTS: dict[str, bytes] = {
    "only-a-header": b"",
    "a-field-of-131073-characters": b"a" * 131_073 + b",1,1,1\n",
    "a-quote-that-never-ends": b'"' + b"p0.png,1,1,1\n" * 20_000,
    "words": b"p0.png,left,top,far\n",
    "pixels-not-finite": b"p0.png,nan,inf,1\n",
    "depth-not-finite": b"p0.png,1,1,nan\n",
    "depth-negative": b"p0.png,1,1,-1\n",
    "pixels-of-1e300": b"p0.png,1e300,1e300,1\n",
    "too-few-cells": b"p0.png\n",
    "not-utf8": b"\xff\xfe.png,1,1,1\n",
    "control-characters": b"\x1b]0;x\x07.png,1,1,1\n",
    "a-nul-in-a-name": b"a\0b.png,1,1,1\n",
    "an-image-that-is-a-device": b"/dev/zero,1,1,1\n",
    "an-image-that-is-a-folder": b".,1,1,1\n",
}
"""Below the header of measured points."""
ROWS: dict[str, bytes] = {
    "words": b"id,mae\nb00,far\n",
    "more-cells-than-columns": b"id,mae\nb00,1,2,3\n",
    "fewer-cells-than-columns": b"id,mae,rmse\nb00,1\n",
    "a-field-of-131073-characters": b"id,mae\n" + b"a" * 131_073 + b",1\n",
    "not-utf8": b"id,mae\n\xff\xfe,1\n",
    "pixels-of-a-word": b"id,pixels,mae\nb00,many,1\n",
}
"""Of per_image.csv."""
GROUPS: dict[str, bytes] = {
    "no-column": b"capture,night\nb00,1\n",
    "a-capture-less": b"capture,day\nb00,1\n",
    "a-field-of-131073-characters": b"capture,day\n" + b"a" * 131_073 + b",1\n",
    "not-utf8": b"capture,day\n\xff\xfe,1\n",
    "two-entries": b"capture,day\nb00,1\nb00,2\n",
}
"""Of captures.csv."""
CAMERAS: dict[str, bytes] = {
    "empty": b"",
    "junk": junk(),
    "words": b"fx fy cx cy\n",
    "not-finite": b"nan nan nan nan\n",
    "infinite": b"1e999 1e999 1 1\n",
    "three-numbers": b"1 2 3\n",
    "zero": b"0 0 0 0\n",
    "a-million-numbers": b"1 " * 1_000_000,
    "not-utf8": b"\xff\xfe\xfd",
}
LISTS: dict[str, bytes] = {
    "empty": b"",
    "junk": junk(),
    "nul-bytes": bytes(4096),
    "not-utf8": b"\xff\xfe.png\n",
    "itself": b"list.txt\n",
    "a-device": b"/dev/zero\n",
}
ABSENT: dict[str, tuple[bytes, str]] = {
    "a-line-of-a-megabyte": (b"a" * 1_000_000 + b".png\n", "aaaa"),
    "a-name-of-control-characters": (b"\x1b]0;x\x07.png\n", "]0;x"),
    "no-such-image": (b"photos/nowhere.png\n", "nowhere"),
    "no-such-folder": (b"no/such/nowhere.png\n", "nowhere"),
}
"""Lines of a list whose image is not there: the line, and what the list of failures must hold."""


def cases() -> list[Case]:
    """Every case."""
    return [*_yaml(), *_points(), *_rows(), *_groups(), *_cameras(), *_lists(), *_ids()]


def _yaml() -> list[Case]:
    """Recipes, protocols and published rows."""
    readers: dict[str, Entry] = {
        "recipe": lambda: recipes.load("mine.yaml"),
        "protocol": lambda: protocols.load("mine.yaml"),
        "rows": ("reproduce", "--list", "--rows", "mine.yaml"),
        "recipe-of-a-run": lambda: recipes.load("run"),
    }
    others = {name: OTHERS[name] for name in OTHERS if name not in ("a-key-of-control-characters", "utf-16")}
    whole = {"junk": junk(), "nul-bytes": bytes(4096)} | others | YAML
    found = []
    for kind, entry in readers.items():
        path = "run/recipe.yaml" if kind == "recipe-of-a-run" else "mine.yaml"
        says = "run" if kind == "recipe-of-a-run" else "mine"
        for fault, data in whole.items():
            found.append(Case(f"documents/{kind}/{fault}", put(path, data), entry, "refused", says, never=("ran",)))
    fields = (
        "name",
        "align",
        "min_depth",
        "max_depth",
        "window",
        "clamp",
        "metrics",
        "ranges",
        "average",
        "fit_side",
        "space",
    )
    return found + [case for field in fields for case in _protocol_field(field)]


def _protocol_field(field: str) -> Iterable[Case]:
    def lacking() -> None:
        _write_protocol(lambda document: document.pop(field))

    def wrong() -> None:
        _write_protocol(lambda document: document.update({field: {"a": [1]}}))

    for fault, make in (("missing", lacking), ("wrong-type", wrong)):
        yield Case(
            f"documents/protocol/{field}/{fault}", make, lambda: protocols.load("mine.yaml"), "refused", "mine.yaml"
        )


def _write_protocol(change: Callable[[dict[str, Any]], object]) -> None:
    document = protocols.load("metric").model_dump(mode="json") | {"name": "mine"}
    change(document)
    Path("mine.yaml").write_text(json.dumps(document))


def _points() -> list[Case]:
    """The measured points of a calibration."""

    def sound_points() -> None:
        write_points(Path("points.csv"))

    entry = ("calibrate", "@network", "--points", "points.csv", "-o", "out")
    found = [Case("documents/points/sound", sound_points, entry, "read")]
    for fault, data in POINTS.items():
        make = after(put("p0.png", encoded), put("points.csv", HEAD + data))
        found.append(Case(f"documents/points/{fault}", make, entry, "refused", ""))
    for fault, data in WHOLE_TABLES.items():
        found.append(Case(f"documents/points/{fault}", put("points.csv", data), entry, "refused", "points.csv"))
    return found


def _rows() -> list[Case]:
    """The rows of an evaluation."""

    def read() -> object:
        return evaluation.read_evaluation(Path("scored"))

    found = []
    for fault, data in (WHOLE_TABLES | ROWS).items():
        make = after(copied("scored", "scored"), put("scored/per_image.csv", data))
        found.append(Case(f"documents/per-image/{fault}", make, read, "refused", "per_image.csv"))
    return found


def _groups() -> list[Case]:
    """The groups of captures."""
    found = []
    for fault, data in (WHOLE_TABLES | GROUPS).items():
        make = after(copied("bench", "set"), put("set/captures.csv", data))
        words = (*DRY, "data.split.group=day")
        found.append(Case(f"documents/captures/{fault}", make, words, "refused", "captures.csv"))
    return found


def _cameras() -> list[Case]:
    """The camera of a prediction."""
    words = ("predict", "@photos", "-m", "@network", "-o", "out", "--save", "ply", "--intrinsics", "camera.txt")
    marked = put("camera.txt", b"\xef\xbb\xbf60 60 28 20\n")
    found = [Case("documents/camera/a-byte-order-mark", marked, words, "read")]
    for fault, data in CAMERAS.items():
        found.append(Case(f"documents/camera/{fault}", put("camera.txt", data), words, "refused", "camera.txt"))
    return found


def _lists() -> list[Case]:
    """Lists of images to label, and of captures to score."""
    label = ("label", "@network", "list.txt", "out")
    marked = after(copied("photos", "photos"), put("list.txt", b"\xef\xbb\xbfphotos/p0.png\nphotos/p1.png\n"))
    found = [Case("documents/label-list/a-byte-order-mark", marked, label, "read")]
    for fault, data in LISTS.items():
        make = put("list.txt", data)
        found.append(Case(f"documents/label-list/{fault}", make, label, "refused", "list.txt"))
        only = ("eval", "@network", "--data", "@bench", "--only", "list.txt")
        found.append(Case(f"documents/only/{fault}", make, only, "refused", "list.txt"))
    for fault, (line, says) in ABSENT.items():
        make = after(copied("photos", "photos"), put("list.txt", b"photos/p0.png\nphotos/p1.png\n" + line))
        done = ("out/labels/**/p*.png", 2)
        found.append(Case(f"documents/label-list/{fault}", make, label, "listed", says, done=done))
    return found


def _ids() -> list[Case]:
    """Names in documents that would become paths elsewhere."""
    found = []
    ids = {
        "above": "../../x",
        "deep-above": "a/../../../x",
        "absolute": None,
        "control-characters": "\x1b]0;x\x07",
        "a-nul": "a\0b",
        "empty": "",
        "a-point": ".",
        "two-points": "..",
        "5000-characters": "n" * 5000,
        "a-backslash": "..\\..\\x",
    }
    never = ("../../x.npy", "../x.npy", "../../../x.npy", "elsewhere.npy")
    scored = ("eval", "@network", "--data", "labels", "--format", "pseudo", "--protocol", "metric")
    for fault, name in ids.items():
        right: Right = "either" if fault == "a-backslash" else "refused"
        for verb, entry in (("eval", (*scored, "--keep", "out")), ("open", opened("pseudo", "labels"))):
            make = _with_id("labels/manifest.jsonl", name)
            found.append(Case(f"documents/id/{fault}/{verb}", make, entry, right, "manifest.jsonl", never=never))
        make = _with_id("run/split.json", name)
        found.append(Case(f"documents/id/{fault}/split", make, lambda: runs.read_run("run"), right, "split.json"))
    for field, value in (
        ("label", "../../label.png"),
        ("label", "/etc/hostname"),
        ("image", "/dev/zero"),
        ("image", ".."),
    ):
        make = after(labels, changed("labels/manifest.jsonl", set_field(field, value)))
        name = f"documents/manifest.jsonl/{field}-is-{value.strip('./').replace('/', '-') or 'a-folder'}"
        found.append(Case(name, make, _first_of_manifest(), "refused", value.strip("./")[:6]))
    return found


def _with_id(path: str, name: str | None) -> Make:
    """A sound folder whose document names a capture like this; None stands for an absolute path of the case's own."""

    def make() -> None:
        identity = str(Path("elsewhere").absolute()) if name is None else name
        folder = path.partition("/")[0]
        if folder == "labels":
            labels()
        else:
            copied(folder, folder)()
        field, value = ("id", identity) if folder == "labels" else ("test", [identity])
        changed(path, set_field(field, value))()

    return make


def _first_of_manifest() -> Callable[[], object]:
    """Read the capture that the first line of the manifest names."""

    def read() -> None:
        captures = datasets.open_set("pseudo", "labels")
        for index in range(len(captures)):
            captures.read(index)

    return read
