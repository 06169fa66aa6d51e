"""What was asked for, checked before any work: the teacher, the images and the options become a job."""

from pathlib import Path

from sonde.labelling.chunks import FORMATS
from sonde.labelling.image_licences import leave_out
from sonde.labelling.job import DTYPES, Job, describe_preprocessing
from sonde.labelling.teachers import describe_teachers, load_others
from sonde.labelling.views import check_views
from sonde.models import DepthModel
from sonde.models.bridge import BridgedModel
from sonde.models.placement import choose_precision
from sonde.options import takes
from sonde.options.label import LabelOptions
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.unlabeled import Images, open_images


def choose_batch_size(model: DepthModel) -> int:
    """Images that the network sees at once; on a CPU one at a time is fastest."""
    device = model.placement.device if isinstance(model, BridgedModel) else model.mean.device.type
    return 8 if device.startswith("cuda") else 1


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
    found = images if isinstance(images, Images) else open_images(images, without=out)
    return Job(
        images=leave_out(found, options.sources, options.leave_out),
        out=Path(out),
        options=options,
        batch_size=options.batch_size or choose_batch_size(model),
        teacher=describe_teachers([model, *load_others(options, model)], options.licence),
        preprocessing=describe_preprocessing(model),
        encoding=model.spec.encoding if model.calibration is None else {"calibration": model.calibration.formula()},
        space=model.space,
        dtype=DTYPES[_choose_precision(model, options.precision)],
        runtime=model.placement.runtime,
    )


def _choose_precision(model: DepthModel, asked: str) -> str:
    """What the network computes in; `auto` keeps what the model was loaded with, unless that is fp32."""
    own = model.placement.precision
    if asked != "auto" and isinstance(model, BridgedModel) and asked != own:
        raise ValueError(f"precision={asked}: {model.name} computes in {own}, as it was exported; leave it out.")
    if isinstance(model, BridgedModel) or (asked == "auto" and own != "fp32"):
        return own
    return choose_precision(asked, model.mean.device.type)


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


keep_old_names(__name__, {"usual_batch": "choose_batch_size"})
