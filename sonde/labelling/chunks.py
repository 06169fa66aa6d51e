"""Label chunks of images: threads decode ahead, the network predicts in batches, threads encode and write.

All work is done by chunks. The images of a chunk are grouped by the size that the network sees and run in batches of a
fixed composition, so that no label depends on where a run was interrupted. The part file of a chunk is written last:
where it exists, the chunk is done.
"""

import errno
import io
import json
import os
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sonde import files
from sonde.files.safely import describe_fault
from sonde.labelling import quality
from sonde.labelling.job import Job, LabelLine, RejectedLine, write_whole
from sonde.labelling.teachers import load_others
from sonde.labelling.views import predict_views
from sonde.models import DepthModel, Placement, check_finite, check_image_size
from sonde.overlap import map_ahead
from sonde.renamed import keep_old_names
from sonde.tensors import Depth
from sonde.types import DepthArray, RGBArray

OF_ONE_FILE = (
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENXIO,  # a socket
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
)
"""Numbers of errors that say something of one file, not of its disk."""


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
    """Why it has no label."""
    rgb: RGBArray | None = None
    depth: DepthArray | None = None
    confidence: float | None = None
    sky: float | None = None
    label: str = ""
    """Where the label is, as the manifest names it."""
    png: bytes | None = None
    """The encoded label, until its chunk is written."""
    span: tuple[int, int] | None = None
    """Offset and size in bytes of the label in its tar."""


def label_chunks(job: Job, model: DepthModel, chunks: Iterable[int], workers: int) -> Generator[Done, None, None]:
    """Label chunks in this order, and yield each when it is done; `model` must come from `prepare_network`.

    Raises:
        OSError: the disk is full, an image's disk is gone, or the output folder was removed. Chunks that are done stay
            done.
    """
    pool = ThreadPoolExecutor(workers, "label", initializer=_use_one_thread)
    threads, out = torch.get_num_threads(), files.OutputFolder(job.out)
    try:
        wanted = ((chunk, index) for chunk in chunks for index in job.members(chunk))
        read = map_ahead(pool, partial(_read, job, model), wanted, job.options.chunk)
        # Two batches and a task for each thread: enough that neither the network nor a thread waits, in little memory.
        decoded = map_ahead(pool, _decode, _sort_by_size(read, model), 2 * job.batch_size + workers)
        labelled = _predict_all(job, model, load_others(job.options, model), decoded)
        encoded = map_ahead(pool, partial(_encode, job, out), labelled, 2 * job.batch_size + workers)
        for chunk, items in groupby(encoded, key=lambda item: item.chunk):
            yield _commit(job, out, chunk, sorted(items, key=lambda item: item.index))
    finally:
        pool.shutdown(cancel_futures=True)
        # `_use_one_thread` also set the number that threads started later begin with.
        torch.set_num_threads(threads)


@contextmanager
def prepare_network(model: DepthModel, placement: Placement | None = None) -> Iterator[DepthModel]:
    """The model in evaluation mode and channels-last (about 12 % faster on a CPU); restored at the end.

    Args:
        model: the teacher.
        placement: what `find_placement` says of the job; by default the model's own.
    """
    training, own = model.training, model.placement
    model.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.placement = placement or own
    try:
        yield model
    finally:
        model.placement = own
        model.train(training)
        if model.mean.device.type != "cuda":  # there it is channels-last from the start
            model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _use_one_thread() -> None:
    """Keep a thread of the pool from starting threads of its own: the pool shares the cores with the network."""
    torch.set_num_threads(1)


def _read(job: Job, model: DepthModel, wanted: tuple[int, int]) -> ImageTask:
    item = ImageTask(*wanted)
    try:
        item.data = job.images.read(item.index)
        item.size = files.image_size("it", item.data)
        item.sha256 = sha256(item.data).hexdigest()
        # An image that the network cannot see is refused before it is decoded.
        check_image_size(model, *item.size)
    except ValueError as error:
        _reject(item, error)
    except OSError as error:
        _reject_one(item, error)
    return item


def _sort_by_size(items: Iterator[ImageTask], model: DepthModel) -> Iterator[ImageTask]:
    """Chunk after chunk; within a chunk, images that the network sees at one size follow each other."""
    for _, chunk in groupby(items, key=lambda item: item.chunk):
        yield from sorted(chunk, key=lambda item: (_find_network_size(item, model), item.index))


def _find_network_size(item: ImageTask, model: DepthModel) -> tuple[int, int]:
    return (0, 0) if item.reason else model.spec.network_size(*item.size)


def _decode(item: ImageTask) -> ImageTask:
    if item.data is not None:
        try:
            item.rgb = files.decode_rgb(item.data, "it")
        except ValueError as error:
            _reject(item, error)
        item.data = None
    return item


def _predict_all(
    job: Job, model: DepthModel, others: Sequence[DepthModel], items: Iterator[ImageTask]
) -> Iterator[ImageTask]:
    def find_group(item: ImageTask) -> tuple[int, bool, tuple[int, int]]:
        return item.chunk, item.reason is None, _find_network_size(item, model)

    for (_, sound, _), group in groupby(items, key=find_group):
        while batch := list(islice(group, job.batch_size)):
            if sound:
                predict_batch(job, model, batch, others)
            yield from batch


@torch.inference_mode()
def predict_batch(job: Job, model: DepthModel, batch: list[ImageTask], others: Sequence[DepthModel] = ()) -> None:
    """Fill in depth, confidence and sky of a batch of images that the network sees at one size."""
    raw, agreed = _predict_raw(job, model, batch, others)
    for number, item in enumerate(batch):
        one = raw[number : number + 1]
        seen = model.spec.image_size(*item.size)
        height, width = item.size if job.options.size == "image" else seen
        depth = model.postprocess(one, height, width).depth[0]
        try:
            check_finite(depth, model.name)
        except ValueError as error:
            _reject(item, error)
            continue
        item.depth = depth.cpu().numpy()
        item.confidence = None if agreed is None else round(agreed[number], 4)
        if job.space == "disparity":
            share = quality.measure_sky(one[0, : seen[0], : seen[1]].cpu().numpy())
            item.sky = None if share is None else round(share, 4)
        item.rgb = None


def _predict_raw(
    job: Job, model: DepthModel, batch: list[ImageTask], others: Sequence[DepthModel]
) -> tuple[Depth, list[float] | None]:
    """Raw output of a batch, and the confidence of each image where the job asks for it."""
    images = [_make_tensor(item.rgb, model.mean.device) for item in batch if item.rgb is not None]
    if job.options.views or others:
        # One by one: images of one input size may differ in their own, and the time is the network's.
        seen = [predict_views(model, image, job.options.views or (1,), others) for image in images]
        raw, agreed = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return raw, agreed.tolist()
    pixels = torch.cat([model.prepare(image) for image in images]).contiguous(memory_format=torch.channels_last)
    raw = quality.predict_raw(model, pixels)
    return raw, quality.measure_confidence(model, pixels, raw).tolist() if job.options.confidence else None


def _make_tensor(rgb: RGBArray, device: torch.device) -> Tensor:
    return torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float() / 255  # (1, 3, h, w)


def _encode(job: Job, out: files.OutputFolder, item: ImageTask) -> ImageTask:
    if item.depth is not None:
        item.png, _ = files.encode_depth_png(item.depth, space=job.space)
        item.depth = None
        out.check()
        try:
            FORMATS[job.options.format].keep(job, item)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            _reject_one(item, error)
    return item


def _commit(job: Job, out: files.OutputFolder, chunk: int, items: list[ImageTask]) -> Done:
    """Write what belongs to the whole chunk, and its part file last."""
    out.check()
    sound = [item for item in items if item.reason is None]
    FORMATS[job.options.format].close(job, chunk, sound)
    with write_whole(job.part(chunk)) as tmp_path:
        tmp_path.write_text("".join(json.dumps(_make_line(job, item)) + "\n" for item in items))
    return Done(chunk, len(sound), len(items) - len(sound))


def _make_line(job: Job, item: ImageTask) -> LabelLine | RejectedLine:
    """One line of the manifest; what is the same in all lines comes last, so that a reader parses it once."""
    id_ = job.images.ids[item.index]
    span = job.images.span(item.index)
    path = Path(os.path.relpath(job.images.path(item.index), job.out.resolve())).as_posix()
    where = path if span is None else f"{path}#{job.images.names[item.index]}"
    if item.reason is not None:
        return {"id": id_, "image": where, "reason": item.reason}
    return {
        "id": id_,
        "image": where,
        "image_span": span,
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


def _reject_one(item: ImageTask, error: OSError) -> None:
    """Reject an image for an error of its own file; one of the disk or of the process ends the job."""
    if error.errno not in OF_ONE_FILE:
        raise error
    _reject(item, error if isinstance(error, FileNotFoundError) else ValueError(describe_fault(error)))


def _reject(item: ImageTask, error: Exception) -> None:
    item.reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
    item.data = item.rgb = None


def _keep_file(job: Job, item: ImageTask) -> None:
    """Write labels/ID.png."""
    item.label = f"labels/{job.images.ids[item.index]}.png"
    assert item.png is not None
    with write_whole(job.out / item.label) as tmp_path:
        tmp_path.write_bytes(item.png)
    item.png = None


def _keep_bytes(job: Job, item: ImageTask) -> None:
    """Leave the label in memory: `_close_shard` writes it with its chunk."""


def _close_nothing(job: Job, chunk: int, items: list[ImageTask]) -> None:
    """Write nothing: `_keep_file` has written each label."""


def _close_shard(job: Job, chunk: int, items: list[ImageTask]) -> None:
    """Write shard-000012.tar of KEY.depth.png and KEY.json, with the same bytes each time."""
    if not items:
        return
    name = f"shard-{chunk:06}.tar"
    with write_whole(job.out / name) as tmp_path, tarfile.open(tmp_path, "w", format=tarfile.PAX_FORMAT) as archive:
        for key, item in sorted((_make_key(job.images.ids[item.index]), item) for item in items):
            assert item.png is not None
            item.label = f"{name}#{key}.depth.png"
            item.span = (_add_member(archive, f"{key}.depth.png", item.png), len(item.png))
            _add_member(archive, f"{key}.json", json.dumps(_make_line(job, item)).encode())
            item.png = None


def _add_member(archive: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member and return the offset of its bytes in the tar."""
    # TarInfo sets owner and time to 0, so that the tar does not depend on who writes it, or when.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return archive.offset - padded


def _make_key(id_: str) -> str:
    """An id as webdataset's key, which ends at the first dot of a name."""
    return id_.replace("%", "%25").replace(".", "%2E")


class Format(NamedTuple):
    """How labels are stored."""

    keep: Callable[[Job, ImageTask], None]
    """Called with each label, in a thread."""
    close: Callable[[Job, int, list[ImageTask]], None]
    """Called with each chunk and its labelled images, before the chunk counts as done."""


FORMATS: dict[str, Format] = {
    "png": Format(_keep_file, _close_nothing),
    "webdataset": Format(_keep_bytes, _close_shard),
}
"""What `format` may name."""

keep_old_names(__name__, {"run": "label_chunks", "ready": "prepare_network", "predict": "predict_batch"})
