"""The models that label: loaded, checked, and as a job records them."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from sonde.cards import find_licence
from sonde.labelling.job import JobTeacher
from sonde.labelling.views import check_views
from sonde.models import DepthModel, DescribedModel, as_network, load
from sonde.models.bridge import BridgedModel
from sonde.options.label import TeacherOptions


def load_teacher(
    model: DescribedModel | str | Path,
    max_depth: float | int | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    runtime: str | None = None,
) -> DepthModel:
    """The model, or the model of that name on the fastest device of this machine; an exported file behind a bridge.

    Args:
        model: a loaded model, which stays where it is, or a name that `models.load` takes.
        max_depth: as `models.load` takes it, with a name.
        device: the same.
        precision: the same.
        runtime: the same.

    Raises:
        ValueError: a name that `models.load` refuses, or `max_depth`, `device` or `runtime` with a loaded model.
    """
    if not isinstance(model, DescribedModel):
        return as_network(load(model, max_depth=max_depth, device=device, precision=precision, runtime=runtime))
    asked = {"max_depth": max_depth, "device": None if device == "auto" else device, "runtime": runtime}
    given = next((f"{name}={value}" for name, value in asked.items() if value is not None), None)
    if given is not None:
        raise ValueError(f"{given} is for a model given by name; {model.name} is already loaded.")
    return as_network(model)


def load_others(options: TeacherOptions, teacher: DepthModel) -> list[DepthModel]:
    """The models of `options.also`, on the teacher's device and in its precision.

    Raises:
        ValueError: a name that `models.load` refuses, or a teacher whose answers cannot be averaged with another's.
    """
    place = teacher.placement
    others = [
        load_teacher(name, device=place.device, precision="auto" if place.runtime != "torch" else place.precision)
        for name in options.also or ()
    ]
    for model in (teacher, *others) if others else ():
        if model.space != "disparity" or model.spec.encoding is not None or model.calibration is not None:
            raise ValueError(
                f"also={','.join(options.also or ())}: {model.name} is not a plain relative model (its answers are in "
                f"space {model.space}): several teachers must all predict relative disparity."
            )
        if model.spec.pads:
            # Its answer covers the padding too, and would not lie over those of the others.
            raise ValueError(
                f"also={','.join(options.also or ())}: {model.name} sees images at their own size, padded: several "
                "teachers must see them at a size that is theirs."
            )
        if options.views:
            check_views(model, options.views)
    return [model.eval() for model in others]


def describe_teachers(models: Sequence[DepthModel], licence: str | None) -> JobTeacher:
    """What the manifest says of one teacher, or of several whose answers are averaged: then one hash over theirs."""
    hashes = [model.hash() for model in models]
    return {
        "name": " + ".join(model.name for model in models),
        "weights": hashes[0] if len(hashes) == 1 else sha256("\n".join(hashes).encode()).hexdigest(),
        "licence": licence or "; ".join(dict.fromkeys(_find_licence(model) for model in models)),
        "range": {"max_depth": models[0].config_end, "scale": models[0].spec.scale},
    }


def _find_licence(model: DepthModel) -> str:
    return model.exported.document["licence"] if isinstance(model, BridgedModel) else find_licence(model.name)
