"""What was asked for, checked before any work: the teacher, the images and the options become a job."""

from pathlib import Path

import torch

from sonde.cards import licence_of
from sonde.labelling.chunks import FORMATS
from sonde.labelling.job import Job, preprocessing
from sonde.models import DepthModel, load, weights_hash
from sonde.spelling import nearest
from sonde.unlabeled import Images, open_images

CHUNK = 64
"""Images a chunk."""
SIZES = ("image", "network")
"""What `size` may name."""


def loaded(model: DepthModel | str | Path, max_depth: float | int | None = None) -> DepthModel:
    """The model, or the one of that name on this machine's GPU if it has one; `max_depth` as `models.load` takes it."""
    if isinstance(model, DepthModel):
        return model
    return load(model, max_depth=max_depth).to("cuda" if torch.cuda.is_available() else "cpu")


def usual_batch(model: DepthModel) -> int:
    """Images at once: on a CPU one alone is quickest."""
    return 8 if model.mean.device.type == "cuda" else 1


def prepare(
    model: DepthModel,
    images: Images | str | Path,
    out: str | Path,
    *,
    shard: tuple[int, int] = (0, 1),
    format: str = "png",
    size: str = "image",
    confidence: bool = True,
    batch_size: int | None = None,
    chunk: int = CHUNK,
    licence: str | None = None,
) -> Job:
    """The job `label` would do, with nothing written.

    Raises:
        ValueError: an option that is none, or no images.
    """
    if format not in FORMATS:
        raise ValueError(f"No format {format!r}: {nearest(format, list(FORMATS))}")
    if size not in SIZES:
        raise ValueError(f"No size {size!r}: {nearest(size, list(SIZES))}")
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"Shard {number}/{count}: expected i/n with i from 0 to n - 1, such as 0/{max(count, 1)}.")
    if chunk < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"A chunk of {chunk} in batches of {batch_size}: expected 1 or more of each.")
    if model.spec.canonical_focal is not None:
        raise ValueError(
            f"{model.name} needs each image's focal length for metres (model.canonical_focal), and images to label "
            "come without: take a teacher without a canonical focal."
        )
    return Job(
        images=images if isinstance(images, Images) else open_images(images, without=out),
        out=Path(out),
        teacher={
            "name": model.name,
            "weights": weights_hash(model.network),
            "licence": licence or licence_of(model.name),
            "range": {"max_depth": getattr(model.network.config, "max_depth", None), "scale": model.spec.scale},
        },
        preprocessing=preprocessing(model),
        encoding=model.spec.encoding if model.calibration is None else {"calibration": model.calibration.formula()},
        space=model.space,
        dtype="bfloat16" if model.mean.device.type == "cuda" else "float32",
        size=size,
        format=format,
        confidence=confidence,
        chunk=chunk,
        batch_size=batch_size or usual_batch(model),
        shard=shard,
    )
