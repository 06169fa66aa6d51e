"""Chunks of images into labels: decoded ahead in threads, predicted in batches, encoded and written behind.

A chunk is the unit of everything. Its images are grouped by the size the network sees and run in batches of a fixed
composition, so no label depends on where a run was interrupted; its part file, written last, says that it is done.
"""

import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sonde import files
from sonde.labelling import quality
from sonde.labelling.job import Job, written
from sonde.models import DepthModel
from sonde.types import DepthArray, RGBArray

A = TypeVar("A")
B = TypeVar("B")


class Done(NamedTuple):
    """A chunk whose part file is written."""

    chunk: int
    labels: int
    rejected: int


@dataclass
class ImageTask:
    """One image on its way; each stage fills in what it found and drops what is no longer needed."""

    chunk: int
    index: int
    data: bytes | None = None
    """The image's file."""
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    """(height, width), upright."""
    reason: str | None = None
    """Why it gives no label."""
    rgb: RGBArray | None = None
    depth: DepthArray | None = None
    confidence: float | None = None
    sky: float | None = None
    label: str = ""
    """Where the label is, as the manifest says it."""
    png: bytes | None = None
    """The encoded label, until its chunk is written."""
    span: tuple[int, int] | None = None
    """Offset and size in bytes of the label in its tar."""


def run(job: Job, model: DepthModel, chunks: Iterable[int], workers: int) -> Generator[Done, None, None]:
    """Label chunks in this order, and say when each is done; `model` must be `ready`.

    Raises:
        OSError: the disk is full, or an image's disk is gone. What is done stays done.
    """
    pool = ThreadPoolExecutor(workers, "label", initializer=_alone)
    threads = torch.get_num_threads()
    try:
        wanted = ((chunk, index) for chunk in chunks for index in job.members(chunk))
        found = _ahead(pool, partial(_found, job, model), wanted, job.chunk)
        decoded = _ahead(pool, _decoded, _by_size(found, model), 2 * job.batch_size + workers)
        labelled = _labelled(job, model, decoded)
        encoded = _ahead(pool, partial(_encoded, job), labelled, 2 * job.batch_size + workers)
        for chunk, items in groupby(encoded, key=lambda item: item.chunk):
            yield _committed(job, chunk, sorted(items, key=lambda item: item.index))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what threads to come begin with


@contextmanager
def ready(model: DepthModel) -> Iterator[DepthModel]:
    """The model in evaluation mode, its convolutions channels-last (some 12 % quicker on a CPU); put back after."""
    training = model.training
    model.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        yield model
    finally:
        model.train(training).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _alone() -> None:
    """The pool's threads share the cores with the network: none starts threads of its own."""
    torch.set_num_threads(1)


def _ahead(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], count: int) -> Iterator[B]:
    """`map` in threads, in order, with `count` items under way while the caller is at work on one."""
    pending: deque[Future[B]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _found(job: Job, model: DepthModel, wanted: tuple[int, int]) -> ImageTask:
    item = ImageTask(*wanted)
    try:
        item.data = job.images.read(item.index)
        item.size = files.image_size("it", item.data)
        item.sha256 = sha256(item.data).hexdigest()
        model.spec.network_size(*item.size)  # refuses what is too elongated
    except (ValueError, FileNotFoundError) as error:
        _reject(item, error)
    return item


def _by_size(items: Iterator[ImageTask], model: DepthModel) -> Iterator[ImageTask]:
    """Chunk after chunk, images the network sees at one size beside each other."""
    for _, chunk in groupby(items, key=lambda item: item.chunk):
        yield from sorted(chunk, key=lambda item: (_seen(item, model), item.index))


def _seen(item: ImageTask, model: DepthModel) -> tuple[int, int]:
    return (0, 0) if item.reason else model.spec.network_size(*item.size)


def _decoded(item: ImageTask) -> ImageTask:
    if item.data is not None:
        try:
            item.rgb = files.decode_rgb(item.data, "it")
        except ValueError as error:
            _reject(item, error)
        item.data = None
    return item


def _labelled(job: Job, model: DepthModel, items: Iterator[ImageTask]) -> Iterator[ImageTask]:
    def alike(item: ImageTask) -> Any:
        return item.chunk, item.reason is None, _seen(item, model)

    for (_, sound, _), group in groupby(items, key=alike):
        while batch := list(islice(group, job.batch_size)):
            if sound:
                predict(job, model, batch)
            yield from batch


@torch.inference_mode()
def predict(job: Job, model: DepthModel, batch: list[ImageTask]) -> None:
    """Give each of a batch, all seen at one size, its depth, confidence and sky."""
    device = model.mean.device
    inputs = [model.prepare(_tensor(item.rgb, device)) for item in batch if item.rgb is not None]
    pixels = torch.cat(inputs).contiguous(memory_format=torch.channels_last)
    raw = quality.answer(model, pixels)
    agreed = quality.confidence(model, pixels, raw).tolist() if job.confidence else None
    for number, item in enumerate(batch):
        one = raw[number : number + 1]
        seen = model.spec.image_size(*item.size)
        height, width = item.size if job.size == "image" else seen
        item.depth = model.finish(one, height, width).depth[0].cpu().numpy()
        item.confidence = None if agreed is None else round(agreed[number], 4)
        if job.space == "disparity":
            share = quality.sky(one[0, : seen[0], : seen[1]].cpu().numpy())
            item.sky = None if share is None else round(share, 4)
        item.rgb = None


def _tensor(rgb: RGBArray | None, device: torch.device) -> Tensor:
    assert rgb is not None
    return torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float() / 255


def _encoded(job: Job, item: ImageTask) -> ImageTask:
    if item.depth is not None:
        item.png, _ = files.encode_depth_png(item.depth, space=job.space)
        item.depth = None
        FORMATS[job.format].keep(job, item)
    return item


def _committed(job: Job, chunk: int, items: list[ImageTask]) -> Done:
    """Write what belongs to the whole chunk, and last its part file."""
    sound = [item for item in items if item.reason is None]
    FORMATS[job.format].close(job, chunk, sound)
    with written(job.part(chunk)) as tmp_path:
        tmp_path.write_text("".join(json.dumps(_line(job, item)) + "\n" for item in items))
    return Done(chunk, len(sound), len(items) - len(sound))


def _line(job: Job, item: ImageTask) -> dict[str, Any]:
    """One line of the manifest; what is the same in all lines comes last, so that a reader parses it once."""
    path = Path(os.path.relpath(job.images.path(item.index), job.out.resolve())).as_posix()
    where = path if job.images.span(item.index) is None else f"{path}#{job.images.names[item.index]}"
    line = {"id": job.images.ids[item.index], "image": where}
    if item.reason is not None:
        return line | {"reason": item.reason}
    return line | {
        "image_span": job.images.span(item.index),
        "image_sha256": item.sha256,
        "width": item.size[1],
        "height": item.size[0],
        "label": item.label,
        "label_span": item.span,
        "confidence": item.confidence,
        "sky": item.sky,
        "teacher": job.teacher,
        "preprocessing": job.preprocessing,
        "space": job.space,
        "dtype": job.dtype,
    }


def _reject(item: ImageTask, error: Exception) -> None:
    item.reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
    item.data = item.rgb = None


def _keep_file(job: Job, item: ImageTask) -> None:
    """labels/ID.png"""
    item.label = f"labels/{job.images.ids[item.index]}.png"
    assert item.png is not None
    with written(job.out / item.label) as tmp_path:
        tmp_path.write_bytes(item.png)
    item.png = None


def _keep_bytes(job: Job, item: ImageTask) -> None:
    pass


def _close_nothing(job: Job, chunk: int, items: list[ImageTask]) -> None:
    pass


def _close_shard(job: Job, chunk: int, items: list[ImageTask]) -> None:
    """shard-000012.tar of KEY.depth.png and KEY.json, the same bytes whenever it is written."""
    name = f"shard-{chunk:06}.tar"
    if not items:
        return
    with written(job.out / name) as tmp_path, tarfile.open(tmp_path, "w", format=tarfile.PAX_FORMAT) as archive:
        for key, item in sorted((_key(job.images.ids[item.index]), item) for item in items):
            assert item.png is not None
            item.label = f"{name}#{key}.depth.png"
            item.span = (_added(archive, f"{key}.depth.png", item.png), len(item.png))
            _added(archive, f"{key}.json", json.dumps(_line(job, item)).encode())
            item.png = None


def _added(archive: tarfile.TarFile, name: str, data: bytes) -> int:
    """Adds a member and gives the offset of its bytes; TarInfo's own owner and time are all 0."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
    return archive.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _key(id_: str) -> str:
    """An id as webdataset's key, which ends at the first dot of a name."""
    return id_.replace("%", "%25").replace(".", "%2E")


class Format(NamedTuple):
    """How labels are stored."""

    keep: Callable[[Job, ImageTask], None]
    """Told of each label, in a thread."""
    close: Callable[[Job, int, list[ImageTask]], None]
    """Told of each chunk, before it counts as done."""


FORMATS: dict[str, Format] = {
    "png": Format(_keep_file, _close_nothing),
    "webdataset": Format(_keep_bytes, _close_shard),
}
"""What `format` may name."""
