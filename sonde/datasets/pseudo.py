"""Pseudo-labels as a training set: a folder that `sonde label` wrote, with the images where they were labelled.

The label of a relative teacher is the student's ground truth up to scale and shift. The depth of such a capture is
therefore the inverse of the label in (0, 1], which is its 16-bit code / 65535. Metric labels are metres, as in any
other set.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde.datasets.contract import Capture
from sonde.files import check_type, decode_levels_png, decode_rgb, reading
from sonde.files.sources import explain_unreadable
from sonde.ids import LONGEST_PART, CaptureId, PathBelow
from sonde.strict import EXACT
from sonde.types import DepthArray, Space
from sonde.units import UNITS

LEVELS, NAN = 65535, float("nan")
LIMITS: dict[str, tuple[float, float]] = {
    "disparity": (0.0, LEVELS + 1.0),
    "metric": (0.0, 1000.0),
    "scale": (0.0, 1e9),
}
"""Limits of trusted depth by space. The depth of a relative label lies in [1, 65535]."""
SAME = b', "teacher": '
"""Start of the part of a line that all lines share; it is parsed once."""
PATH = rb"(?:[A-Za-z0-9_-][A-Za-z0-9_ .()+,=@~%#-]*+/)*+[A-Za-z0-9_-][A-Za-z0-9_ .()+,=@~%#-]*+"
SPAN = rb"(?:null|\[\d++, \d++\])"
SHARE = rb"null|0(?:\.\d+)?|1(?:\.0)?|\d(?:\.\d+)?e-0?[1-9]\d*"
HEAD = re.compile(
    rb'\{"id": "(' + PATH + rb')", "image": "[^"]+", "image_span": ' + SPAN + rb', "image_sha256": "\w{64}", '
    rb'"width": \d+, "height": \d+, "label": "' + PATH + rb'", "label_span": ' + SPAN + rb", "
    rb'"confidence": (' + SHARE + rb'), "sky": (?:' + SHARE + rb")"
)
"""The part before `SAME`, as `sonde label` writes it. Matching takes a tenth of the time of parsing, and sets have many
lines: a line that does not match is parsed and checked here, one that matches before its capture is read."""
LONGEST_LINE = 1 << 20
"""Bytes of a line of a manifest."""
AGAIN = "label the images again into another folder"
REMEDY = "copy the complete file again, or remove it and its labels and run `sonde label` again"

Span = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
"""Offset and size in bytes of a member of a tar."""


@with_config(EXACT)
class LabelTeacher(TypedDict):
    """The model that labelled the images, as the manifest states it."""

    name: str
    weights: str
    """A hash over every tensor."""
    licence: str | None


@with_config(EXACT)
class SharedFields(TypedDict):
    """The fields that are equal in all lines of one teacher."""

    teacher: LabelTeacher
    space: Space


@with_config(EXACT)
class ManifestLine(TypedDict):
    """The fields of a manifest line that reading a capture needs; docs/labels.md describes all fields."""

    id: CaptureId
    image: Annotated[str, Field(min_length=1)]
    """The file, or `shard.tar#member`; relative to the folder of the labels, and perhaps outside it."""
    image_span: Span | None
    """None for a file."""
    image_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    label: PathBelow
    """As `image`, but below the folder of the labels."""
    label_span: Span | None
    confidence: Annotated[float, Field(ge=0, le=1)] | None


@dataclass(frozen=True)
class PseudoSet:
    """A DepthSet of labels by one teacher. It holds ids, confidences and line positions; lines are read on demand."""

    root: Path
    manifests: Sequence[Path]
    ids: list[str]
    lines: Int[np.ndarray, "n 3"]
    """Index of the manifest, offset and length in bytes of each capture's line."""
    confidences: Float[np.ndarray, " n"]
    """NaN if a label has none."""
    space: Space
    limits: tuple[float, float]
    teachers: list[LabelTeacher]
    """The model that labelled the images."""
    unit: str = "m"
    problems: list[str] = field(default_factory=list)

    @property
    def unit_m(self) -> float:
        """Metres per unit; without meaning for relative labels."""
        return UNITS[self.unit]

    @property
    def licences(self) -> list[str]:
        """Licences of the teachers, as far as they are known."""
        licences = {teacher.get("licence") for teacher in self.teachers}
        return sorted(licence for licence in licences if licence)

    def __len__(self) -> int:
        return len(self.ids)

    def confidence(self, index: int) -> float | None:
        """Agreement with the prediction for the mirrored image, in [0, 1]; None if it was not computed."""
        value = float(self.confidences[index])
        return None if np.isnan(value) else value

    def read(self, index: int) -> Capture:
        """The whole capture. The bytes of the image must be the bytes that were labelled."""
        line = self._read_line(index)
        place = self._locate(line["image"])
        data = _read_bytes(self.root, line["image"], line["image_span"], "image")
        if hashlib.sha256(data).hexdigest() != line["image_sha256"]:
            raise ValueError(f"{place} has changed since it was labelled: restore it, or {AGAIN}.")
        image = decode_rgb(data, str(place))
        depth = self._read_label(line)
        return Capture(self.ids[index], image, depth, depth > 0)

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth."""
        return self._read_label(self._read_line(index))

    def key(self, index: int) -> str:
        """Layout, limits, the hash of the image, and size and time of the label's file."""
        line = self._read_line(index)
        path = _find_file(self.root, line["label"], line["label_span"])
        state = path.stat() if path.is_file() else None
        about = None if state is None else (state.st_mtime_ns, state.st_size)
        made_from = ["pseudo", self.limits, line["image_sha256"], str(path.absolute()), line["label_span"], about]
        return json.dumps(made_from)

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> its folder or shard.

        Raises:
            ValueError: `by` is anything but `folder`.
        """
        if by != "folder":
            raise ValueError(f"data.split.group={by}: pseudo-labels are grouped by folder only.")
        return {name: name.rpartition("/")[0] for name in self.ids}

    def _read_line(self, index: int) -> ManifestLine:
        manifest, offset, length = (int(value) for value in self.lines[index])
        with self.manifests[manifest].open("rb") as file:
            file.seek(offset)
            text = file.read(length)
        try:
            line = json.loads(text)
            if line["id"] != self.ids[index]:
                raise ValueError
        except (ValueError, LookupError, TypeError):
            raise ValueError(
                f"{self.manifests[manifest]} has changed since the set was opened: open it again."
            ) from None
        with reading(self.manifests[manifest], REMEDY):
            return check_type(line, ManifestLine)

    def _read_label(self, line: ManifestLine) -> DepthArray:
        place = str(self._locate(line["label"]))
        codes, notes = decode_levels_png(_read_bytes(self.root, line["label"], line["label_span"], "label"), place)
        if self.space == "disparity":
            depth = np.divide(np.float32(LEVELS), codes, out=np.zeros(codes.shape, np.float32), where=codes > 0)
        else:
            if "Scale" not in notes:
                raise ValueError(f"{place} does not state its scale, so sonde did not write it: {AGAIN}.")
            with reading(place, AGAIN):
                scale, offset = float(notes["Scale"]), float(notes["Offset"])
            depth = np.where(codes > 0, codes * scale + offset, 0).astype(np.float32)
        low, high = self.limits
        return np.where((depth > max(low, 0)) & (depth < high), depth, 0).astype(np.float32)

    def _locate(self, where: str) -> Path:
        return self.root / where


def open_pseudo(root: Path) -> PseudoSet:
    """The labels in a folder, from all of its manifests.

    Raises:
        ValueError: no manifest, an unfinished or truncated one, an image labelled twice, or labels of several kinds.
    """
    manifests = _find_manifests(root)
    found = _Lines()
    for number, path in enumerate(manifests):
        found.read(path, number)
    space, teachers = _require_one_kind(root, list(found.kinds.values()))
    order = np.array(sorted(range(len(found.ids)), key=found.ids.__getitem__), np.int64)
    names = [found.ids[index] for index in order]
    twice = next((name for name, following in pairwise(names) if name == following), None)
    if twice is not None:
        raise ValueError(
            f"{root} has two labels of {twice!r}: its manifests belong to different runs; keep one of them."
        )
    where = np.frombuffer(found.places, np.int64).reshape(-1, 3)[order]
    scores = np.frombuffer(found.confidences, np.float32)[order]
    return PseudoSet(root, manifests, names, where, scores, space, LIMITS[space], teachers)


def _find_manifests(root: Path) -> list[Path]:
    if any((root / "parts").glob("*.jsonl")):
        raise ValueError(f"{root}: labelling is unfinished: run `sonde label` again, with every --shard of the job.")
    found = sorted(root.glob("manifest*.jsonl"))
    if not found:
        raise ValueError(f"{root} holds no pseudo-labels: expected a manifest.jsonl that `sonde label` wrote.")
    for path in found:
        count = path.stem.rpartition("-of-")[2]
        if count.isdecimal() and len(found) != int(count):
            raise ValueError(
                f"{root} holds {len(found)} of {int(count)} manifests: run `sonde label` for the other shards."
            )
    return found


@dataclass
class _Lines:
    """What is kept of the lines of all manifests. Arrays, not lists: a set may have millions of lines."""

    ids: list[str] = field(default_factory=list)
    confidences: "array[float]" = field(default_factory=lambda: array("f"))
    places: "array[int]" = field(default_factory=lambda: array("q"))
    """Number of the manifest, offset and length in bytes of each line."""
    kinds: dict[bytes, SharedFields] = field(default_factory=dict)
    """The part that lines share is parsed once."""

    def read(self, path: Path, number: int) -> None:
        """Add the lines of a manifest."""
        ids, confidences, places, kinds = self.ids, self.confidences, self.places, self.kinds
        offset, before = 0, len(ids)
        with reading(path, REMEDY), path.open("rb") as file:
            for line in iter(partial(file.readline, LONGEST_LINE), b""):
                own, _, shared = line.partition(SAME)
                known = HEAD.fullmatch(own) if shared in kinds else None
                if known and known.end(1) <= LONGEST_PART:
                    ids.append(known[1].decode())
                    confidences.append(NAN if known[2] == b"null" else float(known[2]))
                else:
                    fields = _parse_line(line, len(ids) - before + 1, kinds)
                    ids.append(fields["id"])
                    confidences.append(NAN if fields["confidence"] is None else fields["confidence"])
                places.extend((number, offset, len(line)))
                offset += len(line)


def _parse_line(line: bytes, number: int, kinds: dict[bytes, SharedFields]) -> ManifestLine:
    """A line whose first part is not what `HEAD` matches, or whose last part is new."""
    try:
        if not line.endswith(b"\n"):
            raise ValueError(f"it has more than {LONGEST_LINE:,} bytes" if len(line) == LONGEST_LINE else "it is cut")
        whole = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except ValueError as error:
        raise ValueError(f"it ends or breaks in the middle of line {number}: {error}") from None
    try:
        fields: ManifestLine = check_type(whole, ManifestLine)
        own, _, shared = line.partition(SAME)
        if shared not in kinds:
            kind: SharedFields = check_type(whole, SharedFields)
            # Another program may write keys in another order: then no part of the line is equal in all lines.
            plain = HEAD.fullmatch(own) is not None
            kinds.setdefault(shared if plain else json.dumps([kind["teacher"], kind["space"]]).encode(), kind)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    return fields


def _require_one_kind(root: Path, kinds: list[SharedFields]) -> tuple[Space, list[LabelTeacher]]:
    """Space and teacher of all labels; a ValueError if they have several, or a space without limits."""
    if not kinds:
        raise ValueError(f"{root} holds no label: its manifest is empty. See rejected.jsonl for the reasons.")
    spaces: list[Space] = sorted({kind["space"] for kind in kinds})
    teachers = {kind["teacher"]["weights"]: kind["teacher"] for kind in kinds}
    if len(spaces) > 1 or len(teachers) > 1:
        names = ", ".join(sorted(str(teacher["name"]) for teacher in teachers.values()))
        raise ValueError(
            f"{root} mixes labels of {len(teachers)} teachers ({names}) in {' and '.join(spaces)}: keep the labels of "
            "each teacher in their own folder."
        )
    if spaces[0] not in LIMITS:
        raise ValueError(
            f"{root} holds labels in space {spaces[0]}, which training does not support: expected {', '.join(LIMITS)}."
        )
    return spaces[0], list(teachers.values())


def _find_file(root: Path, where: str, span: list[int] | None) -> Path:
    """The file at `where`, or the tar of `shard.tar#member`."""
    return root / (where if span is None else where.partition(".tar#")[0] + ".tar")


def _read_bytes(root: Path, where: str, span: list[int] | None, what: str) -> bytes:
    """The bytes of a regular file, or of a member of a tar."""
    path = _find_file(root, where, span)
    reason = explain_unreadable(path)
    if reason == "it does not exist":
        raise ValueError(
            f"{path} does not exist: the {what} was moved or deleted after labelling. Move images and labels together."
        )
    with reading(root / where, f"restore the {what}, or {AGAIN}"):
        if reason:
            raise ValueError(reason)
        with path.open("rb") as file:
            held = path.stat().st_size
            start, size = span or (0, held)
            if start + size > held:
                raise ValueError(f"it ends at byte {start + size:,}, and {path.name} has {held:,} bytes")
            file.seek(start)
            return file.read(size)
