"""Load a model by name: find the kind of source and call its reader.

This file imports no torch, so that a kind of model that runs without torch can be loaded without it. The readers of
networks are imported at their first use.
"""

import json
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sonde import files
from sonde.encoding import check_max_depth
from sonde.models.calibration import holds_only_calibration, read_calibration
from sonde.models.spec import SPEC, ModelSpec, spec_from_json
from sonde.spelling import nearest

if TYPE_CHECKING:
    import sonde.models.network

WEIGHTS = Path(__file__).parents[1] / "weights"
"""The folder of the packaged model, sonde-tiny."""

WEIGHT_FILES = (".pth", ".pt", ".ckpt")
"""Suffixes of weight files."""

ALTERNATIVES = (
    "Without a network: sonde-tiny, a local Hugging Face folder, a run folder, or a depth_anything_v2_*.pth"
    " or GLPDepth .ckpt file."
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class ModelSource(NamedTuple):
    """The arguments of `load`."""

    name: str
    init: str = "pretrained"
    calibrated: bool = True
    max_depth: float | int | None = None

    @property
    def path(self) -> Path:
        """The name as a path."""
        return Path(self.name)


class Reader(NamedTuple):
    """How one kind of source is recognised and read."""

    accepts: Callable[[ModelSource], bool]
    """Whether a name is of this kind; it looks at the name and at which files exist, and opens none."""
    read: "Callable[[ModelSource], sonde.models.network.DepthModel]"
    """The model, in evaluation mode."""
    needs_torch: bool = True


def load(
    name: str | Path, *, init: str = "pretrained", calibrated: bool = True, max_depth: float | int | None = None
) -> "sonde.models.network.DepthModel":
    """Load a depth model by its name, in evaluation mode.

    Args:
        name: `sonde-tiny`, a hub id, a Hugging Face folder, a run folder (an adapter or a whole network), a folder of
            `sonde calibrate`, an official `depth_anything_v2_*.pth`, or a `.ckpt` of GLPDepth's scripts.
        init: `random` keeps the architecture and draws new weights from torch's generator.
        calibrated: whether to apply a calibration that lies beside the weights.
        max_depth: metres at which a GLPDepth `.ckpt` ends, which the file does not hold; None reads them from its
            name, if that contains kitti (80) or nyu (10). Any other model must end at this value by itself.

    Raises:
        ValueError: no model of that name, a broken file, or a `max_depth` that contradicts the model.
    """
    if max_depth is not None:
        check_max_depth(max_depth)
    source = ModelSource(str(name), init, calibrated, max_depth)
    reader = READERS[find_kind(source)]
    if reader.needs_torch and find_spec("torch") is None:
        raise ValueError(f"{source.name} needs torch, which is not installed: install it with `pip install torch`.")
    model = reader.read(source)
    model.name = source.name
    if max_depth is not None:
        _check_end(model, max_depth)
    return model


def find_kind(source: ModelSource) -> str:
    """The kind of a source, a key of READERS: the last entry that accepts it.

    Raises:
        ValueError: no kind accepts it.
    """
    if not source.name:
        raise ValueError(f"The model's name is empty. {ALTERNATIVES}")
    for kind, reader in reversed(READERS.items()):
        if reader.accepts(source):
            return kind
    raise ValueError(f"No model {source.name!r}: {nearest(source.name, ['sonde-tiny'])} {ALTERNATIVES}")


def _check_end(model: "sonde.models.network.DepthModel", max_depth: float | int) -> None:
    own = model.max_depth
    if own is None:
        kind = "does not end at one depth" if model.spec.space == "metric" else "is relative and has no depth in metres"
        raise ValueError(f"max_depth={max_depth:g}: {model.name} {kind}; leave it out.")
    if not isclose(own, max_depth, rel_tol=1e-6):
        raise ValueError(
            f"max_depth={max_depth:g}: {model.name} ends at {own:g} m by itself; leave it out, or give that value."
        )


def _read_hub(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import attach_files, read_hub

    return attach_files(read_hub(source.name, source.init, ALTERNATIVES), source.path, calibrated=False)


def _read_folder(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import attach_files, read_folder

    model = read_folder(source.path, source.init)
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_calibrated_base(source: ModelSource) -> "sonde.models.network.DepthModel":
    """The model that a folder's calibration names, calibrated; a local one by its path relative to the folder."""
    from sonde.models.reading import attach_files

    base = read_calibration(source.path).base
    if base is None:
        raise ValueError(f"{source.path} holds a calibration but no model: move it beside the weights it belongs to.")
    # normpath, not resolve: a link in the path must not change what `..` means.
    beside = Path(os.path.normpath(source.path / base))
    name = beside if base != "sonde-tiny" and beside.exists() else base
    model = load(name, init=source.init, calibrated=False, max_depth=source.max_depth)
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_adapter(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import attach_adapter, attach_files

    spec = _read_adapter_spec(source.path)
    name = spec.base or "sonde-tiny"
    if source.init == "random":
        raise ValueError(
            f"{source.path} is an adapter and does not fit random weights: load its base with random weights instead, "
            f"model.name={name}."
        )
    base = load(name, max_depth=spec.base_max_depth if Path(name).suffix in WEIGHT_FILES else None)
    model = attach_adapter(base, spec, source.path)
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_adapter_spec(folder: Path) -> ModelSpec:
    path = folder / SPEC
    if not path.is_file():
        raise ValueError(f"{folder} is a plain adapter without {SPEC}: load it with peft on its base network.")
    with files.reading(path, "expected what sonde writes beside an adapter; copy the whole folder again"):
        return spec_from_json(json.loads(path.read_text()))


def _read_run(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import attach_files

    model = load(source.path / "best", init=source.init, calibrated=source.calibrated)
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_weight_file(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import read_weight_file

    return read_weight_file(source.path, source.init, source.max_depth).eval()


def _read_shipped(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import read_folder

    return read_folder(WEIGHTS, source.init).eval()


def _applies_calibration(source: ModelSource) -> bool:
    """Random weights cannot have a calibration that was measured with others."""
    return source.calibrated and source.init == "pretrained"


READERS: dict[str, Reader] = {
    "hub": Reader(lambda source: HUB_ID.fullmatch(source.name) is not None, _read_hub),
    "folder": Reader(lambda source: source.path.is_dir(), _read_folder),
    "calibration": Reader(lambda source: holds_only_calibration(source.path), _read_calibrated_base),
    "adapter": Reader(lambda source: (source.path / "adapter_config.json").is_file(), _read_adapter),
    "run": Reader(lambda source: (source.path / "best").is_dir(), _read_run),
    "weights": Reader(lambda source: source.path.suffix in WEIGHT_FILES, _read_weight_file),
    "shipped": Reader(lambda source: source.name == "sonde-tiny", _read_shipped),
}
"""Kind of source → its reader, from the most general kind to the most special. The last one that accepts a name reads
it, so that an added entry goes before all of these: `READERS["mine"] = Reader(accepts, read)`."""
