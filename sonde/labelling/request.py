"""What was asked for, checked before any work: the teacher, the images and the options become a job."""

from pathlib import Path

import torch

from sonde.cards import find_licence
from sonde.labelling.chunks import FORMATS
from sonde.labelling.job import Job, JobTeacher, describe_preprocessing
from sonde.labelling.views import check_views
from sonde.models import DepthModel, hash_weights, load
from sonde.options import takes
from sonde.options.label import LabelOptions
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.unlabeled import Images, open_images


def load_teacher(model: DepthModel | str | Path, max_depth: float | int | None = None) -> DepthModel:
    """The model, or the model of that name on this machine's GPU, if it has one.

    Args:
        model: a loaded model, or a name that `models.load` takes.
        max_depth: as `models.load` takes it, with a name.

    Raises:
        ValueError: a name that `models.load` refuses, or `max_depth` with a loaded model.
    """
    if isinstance(model, DepthModel):
        if max_depth is not None:
            raise ValueError(f"max_depth={max_depth:g} is for a model given by name; {model.name} is already loaded.")
        return model
    return load(model, max_depth=max_depth).to("cuda" if torch.cuda.is_available() else "cpu")


def choose_batch_size(model: DepthModel) -> int:
    """Images that the network sees at once; on a CPU one at a time is fastest."""
    return 8 if model.mean.device.type == "cuda" else 1


@takes(LabelOptions)
def prepare(model: DepthModel, images: Images | str | Path, out: str | Path, *, options: LabelOptions) -> Job:
    """The job that `label` would do; nothing is written.

    Args:
        model: the teacher.
        images: what `unlabeled.open_images` takes or returns.
        out: the folder of labels and manifest.
        options: the options below, as one value.

    Raises:
        ValueError: an unknown format, a shard that does not exist, no images, or a teacher that needs a focal length.
    """
    _check(model, options)
    return Job(
        images=images if isinstance(images, Images) else open_images(images, without=out),
        out=Path(out),
        options=options,
        batch_size=options.batch_size or choose_batch_size(model),
        teacher=_describe_teacher(model, options.licence),
        preprocessing=describe_preprocessing(model),
        encoding=model.spec.encoding if model.calibration is None else {"calibration": model.calibration.formula()},
        space=model.space,
        dtype="bfloat16" if model.mean.device.type == "cuda" else "float32",
    )


def _check(model: DepthModel, options: LabelOptions) -> None:
    # Not `one_of` of the option: FORMATS may be extended after the type was made.
    if options.format not in FORMATS:
        raise ValueError(f"No format {options.format!r}: {nearest(options.format, list(FORMATS))}")
    number, count = options.shard
    if not 0 <= number < count:
        raise ValueError(f"Shard {number}/{count}: expected i/n with i from 0 to n - 1, such as 0/{max(count, 1)}.")
    if options.views is not None:
        check_views(model, options.views)
    if model.spec.canonical_focal is not None:
        raise ValueError(
            f"{model.name} needs the focal length of each image for metres (model.canonical_focal), and images to "
            "label have none: use a teacher without a canonical focal."
        )


def _describe_teacher(model: DepthModel, licence: str | None) -> JobTeacher:
    return {
        "name": model.name,
        "weights": hash_weights(model.network),
        "licence": licence or find_licence(model.name),
        # Only some families of transformers have `max_depth` in their config.
        "range": {"max_depth": getattr(model.network.config, "max_depth", None), "scale": model.spec.scale},
    }


keep_old_names(__name__, {"loaded": "load_teacher", "usual_batch": "choose_batch_size"})
