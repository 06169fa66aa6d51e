"""Pseudo-labels: a model's depth for images that have none, and a manifest that records how each was made.

The work is divided into chunks. Machines share one output folder by `shard`. A run that was killed continues where it
stopped and leaves the same bytes as a run that was not killed. docs/labels.md describes the output.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sonde import files
from sonde.labelling.chunks import FORMATS
from sonde.labelling.engines import ENGINES
from sonde.labelling.job import Job, begin, count_lines, find_placement, list_passed_over, merge
from sonde.labelling.planning import LabelPlan, plan
from sonde.labelling.request import prepare
from sonde.labelling.teachers import load_teacher
from sonde.models import DepthModel, DescribedModel, Placement
from sonde.options import takes
from sonde.options.label import LabelOptions
from sonde.renamed import keep_old_names
from sonde.spelling import nearest, quantify
from sonde.unlabeled import Images

__all__ = ["ENGINES", "FORMATS", "Job", "LabelPlan", "LabelResult", "label", "load_teacher", "plan", "prepare"]

Progress = Callable[[int, int], None]
"""(images done, images of this shard)."""


class LabelResult(NamedTuple):
    """What a finished shard holds."""

    manifest: Path
    labels: int
    rejected: Path
    failed: int
    """Images without a label: the lines of `rejected`."""
    passed_over: int = 0
    """Depth maps of the source, and images that their licence leaves out; neither is labelled."""
    list: Path | None = None
    """Where they are listed, if there are any, with what cannot be read."""
    unread: int = 0
    """What cannot be read and has no id, such as a picture of a format that sonde does not read."""
    placement: Placement = Placement()
    """Where the network ran; with Ray, in each worker."""


@takes(LabelOptions)
def label(
    model: DescribedModel | str | Path,
    images: Images | str | Path,
    out: str | Path,
    *,
    options: LabelOptions,
    progress: Progress | None = None,
) -> LabelResult:
    """Label every photograph, or those of one shard.

    Chunks that are done are kept, and a finished shard is left as it is. Depth maps beside the photographs are not
    labelled; they are listed.

    Args:
        model: the teacher, or its name.
        images: what `unlabeled.open_images` takes or returns.
        out: the folder of labels and manifest.
        options: the options below, as one value.
        progress: called after each chunk.

    Raises:
        ValueError: an option that cannot be, an output that another job began, a device that is not there, or a full
            disk; one sentence each.
    """
    if options.engine not in ENGINES:
        raise ValueError(f"No engine {options.engine!r}: {nearest(options.engine, list(ENGINES))}")
    if options.engine == "ray" and options.device.startswith("cuda:"):
        raise ValueError(f"device={options.device}: Ray gives each of its workers a GPU; use --device cuda.")
    files.check_output(out)
    teacher = load_teacher(
        model, options.max_depth, device=options.device, precision=options.precision, runtime=options.runtime
    )
    job = begin(prepare(teacher, images, out, options=options))
    list_passed_over(job)
    _label_rest(job, teacher, progress)
    passed = len(job.images.passed_over)
    unread = len(job.images.unread)
    listed = job.passed_over if passed or unread else None
    labels, rejected = count_lines(job.manifest), count_lines(job.rejected)
    placement = find_placement(job, teacher)
    return LabelResult(job.manifest, labels, job.rejected, rejected, passed, listed, unread, placement)


def _label_rest(job: Job, teacher: DepthModel, progress: Progress | None) -> None:
    """Label the chunks that are not done, then merge all into the manifest."""
    # `merge` removes the parts: where the manifest exists, no part says any more that its chunk is done.
    left = [] if job.manifest.is_file() else [number for number in job.chunks if not job.part(number).is_file()]
    total = sum(len(job.members(number)) for number in job.chunks)
    done = total - sum(len(job.members(number)) for number in left)
    workers = job.options.workers or os.cpu_count() or 1
    try:
        for finished in ENGINES[job.options.engine](job, teacher, left, workers) if left else ():
            done += finished.labels + finished.rejected
            if progress is not None:
                progress(done, total)
        merge(job)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ValueError(
            f"The disk of {job.out} is full after {done} of {quantify(total, 'image')}, which are safe: free some "
            f"space and give "
            "the same command again; it goes on from there."
        ) from None


keep_old_names(__name__, {"loaded": "load_teacher"})
