"""Pseudo-labels: a model's depth for images that have none, with a manifest that says what made each.

Work is cut into chunks; many machines share one output by `shard`; a run that was killed goes on where it stopped and
leaves the same bytes as one that was not. docs/labels.md says what lies in the output.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sonde.labelling.chunks import FORMATS
from sonde.labelling.engines import ENGINES
from sonde.labelling.job import Job, begin, counted, list_passed_over, merge
from sonde.labelling.planning import plan
from sonde.labelling.request import CHUNK, loaded, prepare
from sonde.models import DepthModel
from sonde.spelling import nearest
from sonde.unlabeled import Images

__all__ = ["ENGINES", "FORMATS", "Job", "LabelResult", "label", "loaded", "plan", "prepare"]


class LabelResult(NamedTuple):
    """What a finished shard holds."""

    manifest: Path
    labels: int
    rejected: Path
    failed: int
    """Images that gave no label: the lines of `rejected`."""
    passed_over: int = 0
    """Depth maps of the source, which are not labelled; see `unlabeled.open_images`."""
    list: Path | None = None
    """Where they are listed, if there are any."""


def label(
    model: DepthModel | str | Path,
    images: Images | str | Path,
    out: str | Path,
    *,
    shard: tuple[int, int] = (0, 1),
    engine: str = "local",
    format: str = "png",
    size: str = "image",
    confidence: bool = True,
    batch_size: int | None = None,
    chunk: int = CHUNK,
    workers: int | None = None,
    licence: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelResult:
    """Label every photograph, or those of one shard; what was done before is kept, and a finished shard is left alone.

    Depth maps beside the photographs are passed over and listed.

    Args:
        model: the teacher, or its name.
        images: what `unlabeled.open_images` takes or gives.
        out: the folder of labels and manifest.
        shard: (i, n): the chunks i, i + n, i + 2n, … with i from 0, so that n machines share the work.
        engine: a name in ENGINES.
        format: `png`: labels/ID.png; `webdataset`: shard-000000.tar with KEY.depth.png and KEY.json.
        size: labels as large as the images, or as what the network sees: a student resizes anyway, and they cost less.
        confidence: also see each image mirrored, and say how far both agree.
        batch_size: images the network sees at once; by default 8 on a GPU and 1 on a CPU, which is quickest there.
        chunk: images that are done, or done again, together.
        workers: threads that decode and encode; one for each core by default.
        licence: of the teacher's weights, for the manifest.
        progress: told (images done, images of this shard).

    Raises:
        ValueError: a request that cannot be, an output begun otherwise, a full disk; one sentence each.
    """
    if engine not in ENGINES:
        raise ValueError(f"No engine {engine!r}: {nearest(engine, list(ENGINES))}")
    teacher = loaded(model)
    job = begin(
        prepare(
            teacher, images, out, shard=shard, format=format, size=size, confidence=confidence,
            batch_size=batch_size, chunk=chunk, licence=licence,
        )
    )  # fmt: skip
    list_passed_over(job)
    left = [] if job.manifest.is_file() else [number for number in job.chunks if not job.part(number).is_file()]
    total = sum(len(job.members(number)) for number in job.chunks)
    done = total - sum(len(job.members(number)) for number in left)
    try:
        for finished in ENGINES[engine](job, teacher, left, workers or os.cpu_count() or 1) if left else ():
            done += finished.labels + finished.rejected
            if progress is not None:
                progress(done, total)
        merge(job)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ValueError(
            f"The disk of {job.out} is full after {done} of {total} images, which are safe: free some space and give "
            "the same command again; it goes on from there."
        ) from None
    passed = len(job.images.passed_over)
    listed = job.passed_over if passed else None
    return LabelResult(job.manifest, counted(job.manifest), job.rejected, counted(job.rejected), passed, listed)
