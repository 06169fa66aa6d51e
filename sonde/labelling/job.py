"""A labelling job as written down: what labels what, and how; and the files by which its runs know what is done.

    OUT/job.json                        what was asked; another model, option or list of images is refused
    OUT/parts/00000012.jsonl            a chunk that is done: a line for each of its images
    OUT/manifest.jsonl, rejected.jsonl  all parts, in order, when a shard is finished; -00000-of-00004 with 4 shards
    OUT/passed_over.jsonl               what is not labelled: depth maps of the source, images that their licence leaves
                                        out, and what cannot be read; one list for all shards

A file appears under its name only when it is complete. Its temporary sibling has a fixed name, so that the next run
overwrites what a killed run left.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NotRequired

import torch
import transformers
from pydantic import with_config
from typing_extensions import TypedDict

from sonde import __version__, files
from sonde.models import DepthModel, Placement
from sonde.models.bridge import BridgedModel
from sonde.options.label import LabelOptions
from sonde.renamed import keep_old_names
from sonde.spelling import quantify, shorten
from sonde.strict import EXACT
from sonde.types import Space
from sonde.unlabeled import Images

NAME = "job.json"
LABEL = re.compile(rb'"label": ("(?:[^"\\]|\\.)*")')
"""Where a line of the manifest says where its label is; inside a string of JSON the quotes would be escaped."""
SHARD = re.compile(r"(?<=\.tar)#.*")
"""The member of a tar in the name of a label."""
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}
"""Precision of a network → its name in what labelling writes."""


@with_config(EXACT)
class DepthRange(TypedDict):
    """Where the network's metres end."""

    max_depth: float | int | None
    """As the network's config states it; None: it does not."""
    scale: float | int
    """Metres of one unit of the network's output."""


@with_config(EXACT)
class JobTeacher(TypedDict):
    """The model that labels."""

    name: str
    weights: str
    """A hash over every tensor."""
    licence: str | None
    range: NotRequired[DepthRange]
    """Since it is recorded."""


@with_config(EXACT)
class Preprocessing(TypedDict):
    """What is done to an image before the network sees it."""

    short_side: int | None
    input_size: list[int] | None
    """[height, width]."""
    multiple: int
    mean: list[float | int]
    std: list[float | int]
    interpolation: str


@with_config(EXACT)
class ImageList(TypedDict):
    """Which images a job labels."""

    count: int
    ids: str
    """A hash over their ids, in order."""


@with_config(EXACT)
class Versions(TypedDict):
    """The programs that began a job; another version may continue it."""

    sonde: str
    torch: str
    transformers: str


@with_config(EXACT)
class JobDocument(TypedDict):
    """What job.json holds."""

    teacher: JobTeacher
    preprocessing: Preprocessing
    encoding: dict[str, object] | None
    space: Space
    dtype: str
    size: str
    format: str
    confidence: bool
    views: NotRequired[list[float | int]]
    """Only where labels are averaged."""
    runtime: NotRequired[str]
    """Only where something else than torch runs the network."""
    chunk: int
    batch_size: int
    shards: int
    images: ImageList
    versions: NotRequired[Versions]


class RejectedLine(TypedDict):
    """A line of rejected.jsonl: an image without a label."""

    id: str
    image: str
    """The image's file or `shard.tar#member`, relative to OUT."""
    reason: str


class LabelLine(TypedDict):
    """A line of manifest.jsonl: a label, and how it was made. docs/labels.md describes the fields."""

    id: str
    image: str
    image_span: tuple[int, int] | None
    image_sha256: str
    width: int
    height: int
    label: str
    label_span: tuple[int, int] | None
    confidence: float | None
    sky: float | None
    teacher: JobTeacher
    preprocessing: Preprocessing
    space: Space
    dtype: str


@dataclass(frozen=True)
class Job:
    """Everything that decides the bytes of the labels, except the weights themselves. Picklable."""

    images: Images
    out: Path
    options: LabelOptions
    batch_size: int
    """`options.batch_size`, or the default of the model's device."""
    teacher: JobTeacher
    preprocessing: Preprocessing
    encoding: Mapping[str, object] | None
    """Name and range of what the network regresses; the label holds the decoded value."""
    space: Space
    dtype: str
    """Of the network's arithmetic: float32, or bfloat16 on a GPU unless another precision was asked for."""
    runtime: str = "torch"
    """What runs the network."""

    @property
    def chunks(self) -> list[int]:
        """This shard's chunks, done or not."""
        number, count = self.options.shard
        all_chunks = -(-len(self.images) // self.options.chunk)
        return list(range(number, all_chunks, count))

    def members(self, chunk: int) -> range:
        """The images of a chunk; the last chunk has fewer than the others."""
        size = self.options.chunk
        return range(chunk * size, min((chunk + 1) * size, len(self.images)))

    def part(self, chunk: int) -> Path:
        """The file that says a chunk is done."""
        return self.out / "parts" / f"{chunk:08}.jsonl"

    @property
    def manifest(self) -> Path:
        """The lines of this shard's labels."""
        return self.out / f"manifest{self._suffix}.jsonl"

    @property
    def rejected(self) -> Path:
        """The lines of this shard's images without a label."""
        return self.out / f"rejected{self._suffix}.jsonl"

    @property
    def passed_over(self) -> Path:
        """The lines of what is not labelled, the same for all shards; absent where the source has none."""
        return self.out / "passed_over.jsonl"

    @property
    def _suffix(self) -> str:
        number, count = self.options.shard
        return "" if count == 1 else f"-{number:05}-of-{count:05}"


def find_placement(job: Job, model: DepthModel) -> Placement:
    """Where the network of a job runs, and what it computes in."""
    if isinstance(model, BridgedModel):
        return model.placement
    precision = next(name for name, dtype in DTYPES.items() if dtype == job.dtype)
    return Placement(str(model.mean.device), precision)


def describe_preprocessing(model: DepthModel) -> Preprocessing:
    """What is done to an image before this model's network sees it."""
    spec = model.spec
    return {
        "short_side": spec.short_side,
        "input_size": None if spec.input_size is None else list(spec.input_size),
        "multiple": spec.multiple,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": "none, padded by its edge" if spec.pads else "bicubic, antialiased",
    }


def begin(job: Job) -> Job:
    """Write job.json, or compare the job with the one that is there; the teacher keeps the name it has there.

    Raises:
        ValueError: the folder holds another job; the message says what differs.
    """
    path = job.out / NAME
    if not path.is_file():
        if any(job.out.glob("manifest*.jsonl")):
            raise ValueError(f"{job.out} holds labels but no {NAME}: give another folder for the output.")
        # Shards that begin at the same moment each write a sibling of their own; the last one wins, with equal bytes.
        with write_whole(path, f".{job.options.shard[0]:05}") as tmp_path:
            tmp_path.write_text(json.dumps(_make_document(job), indent=2) + "\n")
    remedy = "remove it and all beside it to label again, or give another folder"
    before: JobDocument = files.read_json(path, JobDocument, remedy)
    # Through JSON, as the other side was: a tuple becomes a list.
    differences = _compare(before, json.loads(json.dumps(_make_document(job))))
    if differences:
        found = "; ".join(map(shorten, differences))
        raise ValueError(
            f"{job.out} was begun with other settings ({found}): use the same settings, or give another folder."
        )
    return replace(job, teacher=before["teacher"])


def read_part(job: Job, chunk: int) -> list[bytes]:
    """The lines of a chunk that is done, one for each of its images.

    Raises:
        ValueError: a part that is damaged.
    """
    path = job.part(chunk)
    with files.reading(path, "remove it, and its images are labelled again"):
        lines = path.read_bytes().splitlines(keepends=True)
        wrong = next((n for n, line in enumerate(lines, 1) if line[:8] != b'{"id": "' or line[-2:] != b"}\n"), None)
        if wrong is not None:
            raise ValueError(f"line {wrong} is not what `sonde label` writes")
        if len(lines) != len(job.members(chunk)):
            raise ValueError(f"it has {quantify(len(lines), 'line')} for {quantify(len(job.members(chunk)), 'image')}")
    return lines


def merge(job: Job) -> None:
    """Collect this shard's parts into its manifest and remove them; a shard with a manifest is finished."""
    if not job.manifest.is_file():
        _check_labels(job)
        # Contexts end in reverse order: the manifest, the sign that all is done, gets its name last.
        with (
            write_whole(job.manifest) as sound,
            write_whole(job.rejected) as bad,
            sound.open("wb") as yes,
            bad.open("wb") as no,
        ):
            for chunk in job.chunks:
                for line in read_part(job, chunk):
                    # The search is fast; only a line that passes it is parsed, as an id may hold the same text.
                    with files.reading(job.part(chunk), "remove it, and its images are labelled again"):
                        is_rejected = b'"reason": ' in line and "reason" in json.loads(line)
                    (no if is_rejected else yes).write(line)
    for chunk in job.chunks:
        job.part(chunk).unlink(missing_ok=True)
    parts = job.out / "parts"
    if parts.is_dir() and not any(parts.iterdir()):
        parts.rmdir()


def _check_labels(job: Job) -> None:
    """Check that every label is there; a chunk that lost one counts as not done.

    Raises:
        ValueError: labels are gone, which something else removed.
    """
    lost: list[str] = []
    for chunk in job.chunks:
        lines = read_part(job, chunk)
        with files.reading(job.part(chunk), "remove it, and its images are labelled again"):
            found = dict.fromkeys(SHARD.sub("", json.loads(text)) for text in LABEL.findall(b"".join(lines)))
            gone = [name for name in found if not (job.out / name).is_file()]
        if gone:
            job.part(chunk).unlink()
        lost += gone
    if lost:
        raise ValueError(
            f"{len(lost)} files of labels in {shorten(job.out)} were removed while sonde worked, first "
            f"{shorten(lost[0])}: give the same command again; it labels their chunks again."
        )


def list_passed_over(job: Job) -> None:
    """List the depth maps among the images, and what cannot be read: where each is, relative to OUT, and why."""
    lines = []
    for where, reason in (*job.images.passed_over, *job.images.unread):
        file, mark, member = where.partition(".tar#")  # only the tar's path is made relative, not the member's name
        path = Path(os.path.relpath(file, job.out.resolve())).as_posix()
        lines.append(json.dumps({"image": path + mark + member, "reason": reason}) + "\n")
    before = job.passed_over.read_text() if job.passed_over.is_file() else ""
    if lines and "".join(lines) != before:
        with write_whole(job.passed_over, f".{job.options.shard[0]:05}") as tmp_path:
            tmp_path.write_text("".join(lines))
    elif before and not lines:
        job.passed_over.unlink()


def count_lines(path: Path) -> int:
    """Lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


@contextmanager
def write_whole(path: Path, mark: str = "") -> Iterator[Path]:
    """`files.atomic_write` with a temporary sibling of a fixed name: `.NAME.partial`."""
    files.make_folder(path.parent)
    tmp_path = path.with_name(f".{path.name}{mark}.partial")
    try:
        yield tmp_path
        tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)


def _make_document(job: Job) -> JobDocument:
    options = job.options
    document: JobDocument = {
        "teacher": job.teacher,
        "preprocessing": job.preprocessing,
        "encoding": None if job.encoding is None else dict(job.encoding),
        "space": job.space,
        "dtype": job.dtype,
        "size": options.size,
        "format": options.format,
        "confidence": options.confidence,
        "chunk": options.chunk,
        "batch_size": job.batch_size,
        "shards": options.shard[1],
        "images": {"count": len(job.images), "ids": job.images.digest()},
        "versions": {"sonde": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
    }
    if options.views is not None:
        document["views"] = list(options.views)
    if job.runtime != "torch":
        document["runtime"] = job.runtime
    return document


def _compare(before: JobDocument, now: JobDocument) -> list[str]:
    """What differs between two jobs, in words; versions may differ, and the name of equal weights."""
    differences = [f"{name} {before[name]}, not {now[name]}" for name in COMPARED if before[name] != now[name]]
    if before.get("views") != now.get("views"):
        differences.append(f"views {before.get('views', 'none')}, not {now.get('views', 'none')}")
    if before.get("runtime") != now.get("runtime"):
        differences.append(f"runtime {before.get('runtime', 'torch')}, not {now.get('runtime', 'torch')}")
    if before["images"] != now["images"]:
        differences.append(f"{quantify(before['images']['count'], 'image')}, not these {now['images']['count']}")
    # A job.json from before the range was recorded has none: then the range of now counts for both.
    then = {**now["teacher"], **before["teacher"]}
    if then["weights"] != now["teacher"]["weights"]:
        differences.append(f"the weights of {then['name']}, not those of {now['teacher']['name']} now")
    if then["licence"] != now["teacher"]["licence"]:
        differences.append(f"licence {then['licence']}, not {now['teacher']['licence']}")
    if then.get("range") != now["teacher"].get("range"):
        differences.append(f"a range of {then.get('range')}, not {now['teacher'].get('range')}")
    return differences


COMPARED = (
    "preprocessing",
    "encoding",
    "space",
    "dtype",
    "size",
    "format",
    "confidence",
    "chunk",
    "batch_size",
    "shards",
)
"""Keys of job.json that must be equal for a run to continue."""

keep_old_names(
    __name__, {"preprocessing": "describe_preprocessing", "counted": "count_lines", "written": "write_whole"}
)
