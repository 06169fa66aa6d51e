"""A labelling job as written down: what labels what, and how; and the files by which its runs know what is done.

    OUT/job.json                        what was asked; another model, option or list of images is refused
    OUT/parts/00000012.jsonl            a chunk that is done: a line for each of its images
    OUT/manifest.jsonl, rejected.jsonl  all parts, in order, when a shard is finished; -00000-of-00004 with 4 shards
    OUT/passed_over.jsonl               depth maps of the source, which are not labelled; one list for all shards

A file appears under its name only when complete. Its temporary sibling has a fixed name, so that a run that was killed
leaves nothing the next one does not overwrite.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from sonde import __version__, files
from sonde.models import DepthModel
from sonde.types import Space
from sonde.unlabeled import Images

NAME = "job.json"


@dataclass(frozen=True)
class Job:
    """All that decides the bytes of the labels, but the weights themselves. Picklable."""

    images: Images
    out: Path
    teacher: dict[str, Any]
    """name, weights (a hash of every tensor), licence, and the range: where the network's metres end."""
    preprocessing: dict[str, Any]
    encoding: dict[str, Any] | None
    """Name and range of what the network regresses, undone in the label."""
    space: Space
    dtype: str
    """Of the network's arithmetic: float32, or bfloat16 on a GPU."""
    size: str
    """`image`, or `network`."""
    format: str
    confidence: bool
    chunk: int
    """Images a chunk; the last has fewer."""
    batch_size: int
    shard: tuple[int, int]
    """(number of this one, from 0; how many)."""

    @property
    def chunks(self) -> list[int]:
        """This shard's chunks, done or not."""
        return list(range(self.shard[0], -(-len(self.images) // self.chunk), self.shard[1]))

    def members(self, chunk: int) -> range:
        """The images of a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, len(self.images)))

    def part(self, chunk: int) -> Path:
        """The file that says a chunk is done."""
        return self.out / "parts" / f"{chunk:08}.jsonl"

    @property
    def manifest(self) -> Path:
        """The lines of this shard's labels."""
        return self.out / f"manifest{self._suffix}.jsonl"

    @property
    def rejected(self) -> Path:
        """The lines of this shard's images that gave no label."""
        return self.out / f"rejected{self._suffix}.jsonl"

    @property
    def passed_over(self) -> Path:
        """The lines of the source's depth maps, the same for all shards; there where it has some."""
        return self.out / "passed_over.jsonl"

    @property
    def _suffix(self) -> str:
        return "" if self.shard[1] == 1 else f"-{self.shard[0]:05}-of-{self.shard[1]:05}"


def preprocessing(model: DepthModel) -> dict[str, Any]:
    """What was done to the images before the network saw them."""
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
    """The job as its first run wrote it down, or written down now; its teacher keeps the name it had then.

    Raises:
        ValueError: the folder holds another job; the message says what differs.
    """
    path = job.out / NAME
    if not path.is_file():
        if any(job.out.glob("manifest*.jsonl")):
            raise ValueError(f"{job.out} holds labels without their {NAME}: give another folder for the output.")
        with written(path, f".{job.shard[0]:05}") as tmp_path:
            tmp_path.write_text(json.dumps(_document(job), indent=2) + "\n")
    with files.reading(path, "remove it and all beside it to label anew, or give another folder"):
        before = json.loads(path.read_text())
        now = json.loads(json.dumps(_document(job)))
        differs = [name for name in now if name not in ("versions", "teacher") and before[name] != now[name]]
        asked = now["teacher"] | before["teacher"]  # one of before the range was written down has none
        differs += [name for name in ("weights", "licence", "range") if asked[name] != now["teacher"][name]]
    if differs:
        said = "; ".join(_difference(name, before, now) for name in differs)
        raise ValueError(f"{job.out} was begun otherwise ({said}): ask for the same, or give another folder.")
    return Job(**{**job.__dict__, "teacher": before["teacher"]})


def merge(job: Job) -> None:
    """Gather this shard's parts into its manifest, then remove them. The manifest's name says: finished."""
    if not job.manifest.is_file():
        # Left in reverse: the manifest takes its name last.
        with (
            written(job.manifest) as sound,
            written(job.rejected) as bad,
            sound.open("wb") as yes,
            bad.open("wb") as no,
        ):
            for chunk in job.chunks:
                for line in job.part(chunk).read_bytes().splitlines(keepends=True):
                    (no if b'"reason": ' in line and "reason" in json.loads(line) else yes).write(line)
    for chunk in job.chunks:
        job.part(chunk).unlink(missing_ok=True)
    if (job.out / "parts").is_dir() and not any((job.out / "parts").iterdir()):
        (job.out / "parts").rmdir()


def list_passed_over(job: Job) -> None:
    """Writes down the depth maps among the images: where, relative to OUT, and why each is one."""
    lines = []
    for where, reason in job.images.passed_over:
        file, mark, member = where.partition(".tar#")  # a member's name is kept to the letter
        path = Path(os.path.relpath(file, job.out.resolve())).as_posix()
        lines.append(json.dumps({"image": path + mark + member, "reason": reason}) + "\n")
    before = job.passed_over.read_text() if job.passed_over.is_file() else ""
    if lines and "".join(lines) != before:
        with written(job.passed_over, f".{job.shard[0]:05}") as tmp_path:
            tmp_path.write_text("".join(lines))
    elif before and not lines:
        job.passed_over.unlink()


def counted(path: Path) -> int:
    """Lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


@contextmanager
def written(path: Path, mark: str = "") -> Iterator[Path]:
    """`files.atomic_write` with a temporary sibling of a fixed name: `.NAME.partial`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f".{path.name}{mark}.partial")
    try:
        yield tmp_path
        tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)


def _document(job: Job) -> dict[str, Any]:
    return {
        "teacher": job.teacher,
        "preprocessing": job.preprocessing,
        "encoding": job.encoding,
        "space": job.space,
        "dtype": job.dtype,
        "size": job.size,
        "format": job.format,
        "confidence": job.confidence,
        "chunk": job.chunk,
        "batch_size": job.batch_size,
        "shards": job.shard[1],
        "images": {"count": len(job.images), "ids": job.images.digest()},
        "versions": {"sonde": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
    }


def _difference(name: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    if name == "weights":
        return f"the weights of {before['teacher']['name']}, not those of {now['teacher']['name']} now"
    if name == "licence":
        return f"licence {before['teacher']['licence']}, not {now['teacher']['licence']}"
    if name == "range":
        return f"a range of {before['teacher'][name]}, not {now['teacher'][name]}"
    if name == "images":
        return f"{before['images']['count']} images, not these {now['images']['count']}"
    return f"{name} {before[name]}, not {now[name]}"
