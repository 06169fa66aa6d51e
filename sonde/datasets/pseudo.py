"""Pseudo-labels as a training set: the folder `sonde label` left, images read from where they were labelled.

A relative teacher's label is the student's truth up to scale and shift. Its capture's depth is therefore the inverse of
the label brought into (0, 1]: of its 16-bit code / 65535. Metric labels are metres, as in any other set.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sonde.datasets.contract import Capture
from sonde.files import decode_levels_png, decode_rgb
from sonde.types import DepthArray, Space
from sonde.units import UNITS

LEVELS = 65535
LIMITS: dict[str, tuple[float, float]] = {
    "disparity": (0.0, LEVELS + 1.0),
    "metric": (0.0, 1000.0),
    "scale": (0.0, 1e9),
}
"""By space: where depth is trusted. A relative label's depth lies in [1, 65535]."""
SAME = b', "teacher": '
"""Where a line begins to be the same as all others: parsed once."""
HEAD = re.compile(rb'\{"id": "([^"\\]*)", [^\n]*"confidence": (null|[0-9.e-]+), "sky": (?:null|[0-9.e-]+)')
"""What comes before it, as `sonde label` writes it: a tenth of the time of parsing it, and sets have many lines."""
AGAIN = "label the images again into another folder"


@dataclass(frozen=True)
class PseudoSet:
    """A DepthSet of labels by one teacher. Only ids, confidences and places of lines are held; lines are read again."""

    root: Path
    manifests: Sequence[Path]
    ids: list[str]
    lines: Int[np.ndarray, "n 3"]
    """Manifest, offset and length in bytes of each capture's line."""
    confidences: Float[np.ndarray, " n"]
    """NaN where there is none."""
    space: Space
    limits: tuple[float, float]
    teachers: list[dict[str, Any]]
    """What labelled the images: name, weights, licence."""
    unit: str = "m"
    problems: list[str] = field(default_factory=list)

    @property
    def unit_m(self) -> float:
        """Metres per unit; of a relative label neither means anything."""
        return UNITS[self.unit]

    @property
    def licences(self) -> list[str]:
        """Licences of the teachers, where known."""
        return sorted({teacher["licence"] for teacher in self.teachers if teacher.get("licence")})

    def __len__(self) -> int:
        return len(self.ids)

    def confidence(self, index: int) -> float | None:
        """Agreement with the mirrored image in [0, 1], or None where it was not asked for."""
        value = float(self.confidences[index])
        return None if np.isnan(value) else value

    def read(self, index: int) -> Capture:
        """The whole capture; the image's bytes must be those that were labelled."""
        line = self._line(index)
        data = _bytes(self.root, line["image"], line["image_span"], "image")
        if hashlib.sha256(data).hexdigest() != line["image_sha256"]:
            raise ValueError(f"{self._place(line['image'])} has changed since it was labelled: restore it, or {AGAIN}.")
        image = decode_rgb(data, str(self._place(line["image"])))
        depth = self._depth(line)
        return Capture(self.ids[index], image, depth, depth > 0)

    def read_depth(self, index: int) -> DepthArray:
        """The depth alone."""
        return self._depth(self._line(index))

    def key(self, index: int) -> str:
        """Layout, limits, the image's hash, and the state of the label's file."""
        line = self._line(index)
        path = self._place(line["label"].partition(".tar#")[0] + (".tar" if line["label_span"] else ""))
        state = path.stat() if path.is_file() else None
        about = None if state is None else (state.st_mtime_ns, state.st_size)
        return json.dumps(
            ["pseudo", self.limits, line["image_sha256"], str(path.absolute()), line["label_span"], about]
        )

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> its folder or shard.

        Raises:
            ValueError: anything but `folder`.
        """
        if by != "folder":
            raise ValueError(f"data.split.group={by}: pseudo-labels are grouped by folder only.")
        return {name: name.rpartition("/")[0] for name in self.ids}

    def _line(self, index: int) -> dict[str, Any]:
        manifest, offset, length = (int(value) for value in self.lines[index])
        with self.manifests[manifest].open("rb") as file:
            file.seek(offset)
            line = file.read(length)
        try:
            return json.loads(line)
        except ValueError:
            raise ValueError(
                f"{self.manifests[manifest]} has changed since the set was opened: open it again."
            ) from None

    def _depth(self, line: dict[str, Any]) -> DepthArray:
        place = str(self._place(line["label"]))
        codes, notes = decode_levels_png(_bytes(self.root, line["label"], line["label_span"], "label"), place)
        if self.space == "disparity":
            depth = np.divide(np.float32(LEVELS), codes, out=np.zeros(codes.shape, np.float32), where=codes > 0)
        else:
            if "Scale" not in notes:
                raise ValueError(f"{place} does not say its scale, so it is no label of sonde: {AGAIN}.")
            depth = np.where(codes > 0, codes * float(notes["Scale"]) + float(notes["Offset"]), 0).astype(np.float32)
        low, high = self.limits
        return np.where((depth > max(low, 0)) & (depth < high), depth, 0).astype(np.float32)

    def _place(self, where: str) -> Path:
        return self.root / where


def open_pseudo(root: Path) -> PseudoSet:
    """The labels of a folder, by all of its manifests.

    Raises:
        ValueError: no manifest, an unfinished or cut one, an image labelled twice, or labels of several kinds.
    """
    manifests = _manifests(root)
    ids: list[str] = []
    confidences, lines, kinds = array("f"), array("q"), dict[bytes, dict[str, Any]]()
    for number, path in enumerate(manifests):
        offset = 0
        with path.open("rb") as file:
            for line in file:
                entry = _parsed(line, path, len(ids), kinds)
                ids.append(entry["id"])
                confidences.append(float("nan") if entry["confidence"] is None else entry["confidence"])
                lines.extend((number, offset, len(line)))
                offset += len(line)
    space, teachers = _one_kind(root, list(kinds.values()))
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    names = [ids[index] for index in order]
    twice = next((name for name, following in pairwise(names) if name == following), None)
    if twice is not None:
        raise ValueError(
            f"{root} has two labels of {twice!r}: its manifests belong to different runs, keep one of them."
        )
    where = np.frombuffer(lines, np.int64).reshape(-1, 3)[order]
    scores = np.frombuffer(confidences, np.float32)[order]
    return PseudoSet(root, manifests, names, where, scores, space, LIMITS[space], teachers)


def _manifests(root: Path) -> list[Path]:
    if any((root / "parts").glob("*.jsonl")):
        raise ValueError(f"{root}: labelling is unfinished: run `sonde label` again, with each --shard there is.")
    found = sorted(root.glob("manifest*.jsonl"))
    if not found:
        raise ValueError(f"{root} holds no pseudo-labels: expected manifest.jsonl, as `sonde label` writes it.")
    for path in found:
        count = path.stem.rpartition("-of-")[2]
        if count.isdecimal() and len(found) != int(count):
            raise ValueError(
                f"{root} holds {len(found)} of {int(count)} manifests: run `sonde label` for the other shards."
            )
    return found


def _parsed(line: bytes, path: Path, number: int, kinds: dict[bytes, dict[str, Any]]) -> dict[str, Any]:
    """What differs in a line; what it shares with others goes to `kinds`, parsed once."""
    own, mark, shared = line.partition(SAME)
    known = HEAD.fullmatch(own) if shared in kinds else None
    if known:
        return {"id": known[1].decode(), "confidence": None if known[2] == b"null" else float(known[2])}
    try:
        if not line.endswith(b"\n"):
            raise ValueError
        if mark and shared not in kinds:
            kinds[shared] = json.loads(b'{"teacher": ' + shared)
        elif not mark:  # written by others: keys in another order, or without spaces
            entry = json.loads(line)
            kinds.setdefault(json.dumps(entry["teacher"]).encode(), entry)
            return {"id": entry["id"], "confidence": entry["confidence"]}
        return json.loads(own + b"}")
    except (ValueError, LookupError):
        raise ValueError(
            f"{path} ends or breaks in the middle of line {number + 1}: copy it again whole, or remove it and the "
            "labels beside it and run `sonde label` again."
        ) from None


def _one_kind(root: Path, kinds: list[dict[str, Any]]) -> tuple[Space, list[dict[str, Any]]]:
    if not kinds:
        raise ValueError(f"{root} holds no label: its manifest is empty, see rejected.jsonl.")
    spaces = sorted({kind["space"] for kind in kinds})
    teachers = {kind["teacher"]["weights"]: kind["teacher"] for kind in kinds}
    if len(spaces) > 1 or len(teachers) > 1:
        names = ", ".join(sorted(str(teacher["name"]) for teacher in teachers.values()))
        raise ValueError(
            f"{root} mixes labels of {len(teachers)} teachers ({names}) in {' and '.join(spaces)}: keep each "
            "teacher's labels in a folder of their own."
        )
    if spaces[0] not in LIMITS:
        raise ValueError(f"{root} holds labels in space {spaces[0]}, which nothing trains on: {', '.join(LIMITS)} do.")
    return spaces[0], list(teachers.values())


def _bytes(root: Path, where: str, span: list[int] | None, what: str) -> bytes:
    """A file's bytes, or those of a tar's member."""
    path = root / (where if span is None else where.partition(".tar#")[0] + ".tar")
    try:
        with path.open("rb") as file:
            file.seek(span[0] if span else 0)
            return file.read(span[1] if span else -1)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: the {what} was moved or deleted after labelling; images and labels move together."
        ) from None
