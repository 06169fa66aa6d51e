"""What labelling a great many images would take: a forecast from labelling some of them here for a minute."""

import json
import math
import os
import platform
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sonde.labelling.chunks import label_chunks, prepare_network
from sonde.labelling.image_licences import leave_out
from sonde.labelling.job import Job, LabelLine, RejectedLine, find_placement, read_part
from sonde.labelling.request import choose_batch_size, prepare
from sonde.labelling.teachers import load_teacher
from sonde.models import DepthModel, DescribedModel
from sonde.options import takes
from sonde.options.label import LabelOptions, PlanOptions
from sonde.spelling import quantify
from sonde.unlabeled import Images, open_images

SAMPLE = 4096
"""Most images in the sample; a minute of labelling rarely reaches them all."""
WARM = 1
"""Chunks that do not count: the first starts threads and fills the pipeline."""


@dataclass(frozen=True)
class Conditions:
    """What was measured, and on what."""

    images: int
    rejected: int
    seconds: float
    megapixels: float
    """Mean size of an image."""
    size: str
    confidence: bool
    batch_size: int
    dtype: str
    device: str
    machine: str
    runtime: str = "torch"


@dataclass(frozen=True)
class LabelPlan:
    """What labelling `images` images would take on machines like this one."""

    model: str
    images: int
    images_per_second: float
    hours_on_one_machine: float
    within_hours: float
    """The hours in which all must be labelled."""
    machines: int
    """That are needed for it."""
    bytes_per_label: int
    """With its line of the manifest."""
    storage_tb: float
    cost: float | None
    """In the currency of `price_per_hour`; None: no price was given."""
    measured: Conditions

    def document(self) -> dict[str, object]:
        """The plan as JSON."""
        return asdict(self)


@takes(PlanOptions)
def plan(model: DescribedModel | str | Path, images: Images | str | Path, *, options: PlanOptions) -> LabelPlan:
    """Measure how fast this machine labels, and forecast hours, machines, terabytes and money for all images.

    Labels a sample, spread evenly over the images, into a temporary folder that is removed again. The forecast assumes
    that each machine is like this one and that its disks keep up.

    Args:
        model: the teacher, or its name.
        images: where the sample comes from; it repeats the images where there are few.
        options: the options below, as one value.

    Raises:
        ValueError: a value outside its bounds, what `leave_out` refuses, or a sample in which no image could be
            labelled.
    """
    teacher = load_teacher(
        model, options.max_depth, device=options.device, precision=options.precision, runtime=options.runtime
    )
    source = leave_out(
        images if isinstance(images, Images) else open_images(images), options.sources, options.leave_out
    )
    batch_size = options.batch_size or choose_batch_size(teacher)
    # Small chunks: the time is read after each one. The sample repeats images, so it is no longer what a table lists.
    small = options.convert(LabelOptions).change(
        batch_size=batch_size, chunk=4 * batch_size, sources=None, leave_out=None
    )
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(teacher, _draw_sample(source), folder, options=small)
        seen = _measure(job, teacher, options.seconds, options.workers or os.cpu_count() or 1)
    if not seen.labels:
        raise ValueError(
            f"None of {quantify(seen.images, 'image')} of {source.root} could be labelled, first: {seen.reason}."
        )
    return _forecast(seen, options, teacher.name, _describe_conditions(seen, job, teacher))


@dataclass
class Measurement:
    """What a measurement has counted since its start."""

    images: int = 0
    labels: int = 0
    seconds: float = 0.0
    bytes: int = 0
    """Of labels and their manifest lines."""
    pixels: int = 0
    """Of the images that were labelled."""
    reason: str = ""
    """Why the first image without a label has none."""


def _forecast(seen: Measurement, options: PlanOptions, model: str, measured: Conditions) -> LabelPlan:
    """Times, machines, bytes and money for all images, at the measured speed and size."""
    rate, each = seen.images / seen.seconds, seen.bytes / seen.labels
    alone = options.total / rate / 3600
    return LabelPlan(
        model=model,
        images=options.total,
        images_per_second=rate,
        hours_on_one_machine=alone,
        within_hours=options.hours,
        machines=math.ceil(alone / options.hours),
        bytes_per_label=round(each),
        storage_tb=options.total * each / 1e12,
        cost=None if options.price_per_hour is None else alone * options.price_per_hour,
        measured=measured,
    )


def _describe_conditions(seen: Measurement, job: Job, model: DepthModel) -> Conditions:
    return Conditions(
        images=seen.images,
        rejected=seen.images - seen.labels,
        seconds=seen.seconds,
        megapixels=seen.pixels / seen.labels / 1e6,
        size=job.options.size,
        confidence=job.options.confidence,
        batch_size=job.batch_size,
        dtype=job.dtype,
        device=_name_device(find_placement(job, model).device),
        machine=f"{platform.node()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads for the network",
        runtime=job.runtime,
    )


def _draw_sample(images: Images) -> Images:
    """SAMPLE images spread evenly; where there are fewer, they repeat, each time with another id."""
    spread = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(int))
    return replace(images.take(np.resize(spread, SAMPLE).tolist()), ids=[f"{number:05}" for number in range(SAMPLE)])


def _measure(job: Job, model: DepthModel, seconds: float, workers: int) -> Measurement:
    """Label chunk after chunk for some seconds, and remove the labels."""
    seen, start = Measurement(), time.perf_counter()
    with (
        prepare_network(model, find_placement(job, model)),
        closing(label_chunks(job, model, job.chunks, workers)) as chunks,
    ):
        for number, done in enumerate(chunks):
            part = job.part(done.chunk)
            lines: list[LabelLine | RejectedLine] = [json.loads(line) for line in read_part(job, done.chunk)]
            seen.reason = seen.reason or next((line["reason"] for line in lines if "reason" in line), "")
            if number < WARM:
                start = time.perf_counter()
            else:
                seen.seconds = time.perf_counter() - start
                _count(seen, job, lines, part.stat().st_size)
            for line in lines:
                if "label" in line:
                    (job.out / line["label"]).unlink()
            if seen.seconds >= seconds:
                break
    return seen


def _count(seen: Measurement, job: Job, lines: list[LabelLine | RejectedLine], part_bytes: int) -> None:
    """Add a chunk to what was counted."""
    seen.images += len(lines)
    seen.bytes += part_bytes
    for line in lines:
        if "label" in line:
            seen.labels += 1
            seen.pixels += line["width"] * line["height"]
            seen.bytes += (job.out / line["label"]).stat().st_size


def _name_device(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
