"""What labelling a great many images would take, from labelling some of them here for a minute."""

import json
import math
import os
import platform
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sonde.labelling.chunks import ready, run
from sonde.labelling.job import Job
from sonde.labelling.request import loaded, prepare, usual_batch
from sonde.models import DepthModel
from sonde.unlabeled import Images, open_images

SAMPLE = 4096
"""Images drawn at most; a minute of labelling seldom sees more."""
WARM = 1
"""Chunks that are not counted: the first starts threads and fills the pipeline."""


def plan(
    model: DepthModel | str | Path,
    images: Images | str | Path,
    *,
    total: int = 62_000_000,
    seconds: float = 60.0,
    price_per_hour: float | None = None,
    hours: float = 7 * 24.0,
    size: str = "image",
    confidence: bool = True,
    batch_size: int | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Images a second of this machine, and the hours, machines, terabytes and money that `total` images would take.

    Labels a sample, spread evenly over the images, into a temporary folder that is removed again. Times scale as if
    each machine were like this one and its disks kept up.

    Args:
        model: the teacher, or its name.
        images: where the sample comes from; again and again where there are few.
        total: how many images there are to label; the published set has 62 million.
        seconds: how long to measure, after a start that is not counted.
        price_per_hour: of one machine, in any currency; None: no cost is given.
        hours: in which all should be done.
        size: as in `label`.
        confidence: as in `label`.
        batch_size: as in `label`.
        workers: as in `label`.

    Raises:
        ValueError: a request that cannot be, or a sample of which no image could be labelled.
    """
    if total < 1 or seconds <= 0 or hours <= 0:
        raise ValueError(
            f"{total} images in {hours:g} hours, measured for {seconds:g} s: expected more than 0 of each."
        )
    teacher = loaded(model)
    source = images if isinstance(images, Images) else open_images(images)
    batch_size = batch_size or usual_batch(teacher)
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(
            teacher, _sample(source), folder, size=size, confidence=confidence, batch_size=batch_size,
            chunk=4 * batch_size,
        )  # fmt: skip
        seen = _measured(job, teacher, seconds, workers or os.cpu_count() or 1)
    if not seen.labels:
        raise ValueError(f"None of {seen.images} images of {source.root} could be labelled, first: {seen.reason}.")
    forecast = _extrapolated(seen, total, hours, price_per_hour)
    return {"model": teacher.name, **forecast, "measured": _conditions(seen, job, teacher)}


class Measurement(NamedTuple):
    """What a measurement saw after its start."""

    images: int
    labels: int
    seconds: float
    bytes: int
    """Of labels and their manifest lines."""
    pixels: int
    reason: str
    """Why the first image that gave no label gave none."""


def _extrapolated(seen: Measurement, total: int, hours: float, price_per_hour: float | None) -> dict[str, Any]:
    """Times, machines, bytes and money of all images, at the pace and size of those seen."""
    rate, each = seen.images / seen.seconds, seen.bytes / seen.labels
    alone = total / rate / 3600
    return {
        "images": total,
        "images_per_second": rate,
        "hours_on_one_machine": alone,
        "within_hours": hours,
        "machines": math.ceil(alone / hours),
        "bytes_per_label": round(each),
        "storage_tb": total * each / 1e12,
        "cost": None if price_per_hour is None else alone * price_per_hour,
    }


def _conditions(seen: Measurement, job: Job, model: DepthModel) -> dict[str, Any]:
    """What was measured, on what."""
    return {
        "images": seen.images,
        "rejected": seen.images - seen.labels,
        "seconds": seen.seconds,
        "megapixels": seen.pixels / seen.labels / 1e6,
        "size": job.size,
        "confidence": job.confidence,
        "batch_size": job.batch_size,
        "dtype": job.dtype,
        "device": _device(model),
        "machine": f"{platform.node()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads for the network",
    }


def _sample(images: Images) -> Images:
    """Images spread evenly, and again from the first where there are few, under names of their own."""
    spread = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(int))
    return replace(images.take(np.resize(spread, SAMPLE).tolist()), ids=[f"{number:05}" for number in range(SAMPLE)])


def _measured(job: Job, model: DepthModel, seconds: float, workers: int) -> Measurement:
    images = labels = size = pixels = 0
    reason, took, start = "", 0.0, time.perf_counter()
    with ready(model), closing(run(job, model, job.chunks, workers)) as chunks:
        for number, done in enumerate(chunks):
            lines = [json.loads(line) for line in job.part(done.chunk).read_text().splitlines()]
            sound = [line for line in lines if "label" in line]
            reason = reason or next((line["reason"] for line in lines if "reason" in line), "")
            if number >= WARM:
                took = time.perf_counter() - start
                images, labels = images + len(lines), labels + len(sound)
                pixels += sum(line["width"] * line["height"] for line in sound)
                size += job.part(done.chunk).stat().st_size
                size += sum((job.out / line["label"]).stat().st_size for line in sound)
            else:
                start = time.perf_counter()
            for line in sound:
                (job.out / line["label"]).unlink()
            if took >= seconds:
                break
    return Measurement(images, labels, took, size, pixels, reason)


def _device(model: DepthModel) -> str:
    device = model.mean.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
