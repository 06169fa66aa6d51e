"""Load a model by name: find the kind of source and call its reader.

This file imports no torch, so that a kind of model that runs without torch can be loaded without it. The readers of
networks are imported at their first use.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from importlib.util import find_spec
from math import isclose
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

from sonde import files
from sonde.encoding import check_max_depth
from sonde.models.attaching import attach_files
from sonde.models.calibration import CALIBRATION, holds_only_calibration, read_calibration
from sonde.models.exported import GRAPH, SUFFIXES, ExportedModel, read_exported
from sonde.models.naming import ALTERNATIVES, SHIPPED, WEIGHT_FILES, explain_folder, explain_unknown, is_hub_id
from sonde.models.placement import RUNTIMES, check_device, choose_device, choose_precision, may_have_gpu
from sonde.models.spec import BASE, BESIDE, SPEC, ModelSpec, spec_from_json
from sonde.spelling import nearest, shorten

if TYPE_CHECKING:
    import sonde.models.described
    import sonde.models.network

WEIGHTS = Path(__file__).parents[1] / "weights"
"""The folder of the packaged models: sonde-tiny, and below it the others."""

VERSION = re.compile(r"(?P<path>.+\.(?:pth|pt|ckpt|safetensors))\?version=(?P<version>\w*)")
"""The name of a weight file with the version of its network, which neither the file nor its name may tell."""
VERSIONS = ("v1", "v2")

MOST_STEPS = 8
"""Folders that lead from one to the next before the weights: a run to its best, an adapter to its base."""

_opened: ContextVar[tuple[Path, ...]] = ContextVar("opened", default=())
"""The folders that are being loaded, each because the one before it names it."""


class ModelSource(NamedTuple):
    """The arguments of `load`."""

    name: str
    init: str = "pretrained"
    calibrated: bool = True
    max_depth: float | int | None = None
    device: str = "cpu"
    precision: str | None = None
    runtime: str | None = None

    @property
    def path(self) -> Path:
        """The name as a path, without the version of a weight file."""
        found = VERSION.fullmatch(self.name)
        return Path(found["path"] if found else self.name)

    @property
    def version(self) -> str | None:
        """The version of a weight file, as its name gives it after `?version=`."""
        found = VERSION.fullmatch(self.name)
        return found["version"] if found else None


class Reader(NamedTuple):
    """How one kind of source is recognised and read."""

    accepts: Callable[[ModelSource], bool]
    """Whether a name is of this kind; it looks at the name and at which files exist, and opens none."""
    read: "Callable[[ModelSource], sonde.models.described.DescribedModel]"
    """The model, in evaluation mode."""
    needs_torch: bool = True


def load(
    name: str | Path,
    *,
    init: str = "pretrained",
    calibrated: bool = True,
    max_depth: float | int | None = None,
    device: str = "auto",
    precision: str | None = None,
    runtime: str | None = None,
) -> "sonde.models.described.DescribedModel":
    """Load a depth model by its name, in evaluation mode.

    Args:
        name: `sonde-lite` or `sonde-tiny`, a hub id, a Hugging Face folder, a run folder (an adapter or a whole
            network), a folder of `sonde calibrate`, an official `depth_anything_*.pth` (also as `.safetensors`), a
            `.ckpt` of GLPDepth's scripts, or an `.onnx` or `.xml` of `sonde export`. `FILE?version=v1` or `v2` says
            which Depth Anything a file holds whose name does not.
        init: `random` keeps the architecture and draws new weights from torch's generator.
        calibrated: whether to apply a calibration that lies beside the weights.
        max_depth: metres at which a GLPDepth `.ckpt` or a metric Depth Anything file ends, which no file holds; None
            reads them from its name, if that contains kitti (80), nyu (10), hypersim (20) or vkitti (80). Any other
            model must end at this value by itself.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`, the fastest of them that is present.
        precision: `fp32`, `bf16` or `fp16` of the network's arithmetic; `auto` is bf16 on a CUDA device, else fp32.
            By default fp32, and of an exported file its own.
        runtime: what runs the network: `torch`, `onnx`, `openvino`, or `auto`, the fastest that has it on this device.
            By default a network runs in torch, and an exported file by the runtime that it is made for.

    Returns:
        A `DepthModel`, which is a torch module; an `ExportedModel` where the network runs without torch.

    Raises:
        ValueError: no model of that name, a broken file, a `max_depth` that contradicts the model, a device that is
            not there, or a runtime that does not have the model.
    """
    if max_depth is not None:
        check_max_depth(max_depth)
    check_device(device)
    choose_precision(precision or "fp32", device)
    if runtime not in (None, "auto", *RUNTIMES):
        raise ValueError(f"runtime={runtime!r}: {nearest(str(runtime), ['auto', *RUNTIMES])}")
    source = ModelSource(str(name), init, calibrated, max_depth, device, precision, runtime)
    model = _open(source)
    if max_depth is not None:
        _check_end(model, max_depth)
    if isinstance(model, ExportedModel):
        if precision not in (None, "auto", model.placement.precision):
            raise ValueError(
                f"precision={precision}: {source.name} computes in {model.placement.precision}, as it was exported; "
                "leave it out."
            )
        return model
    chosen = choose_device(device)
    network = _as_network(model).eval()
    network.place(chosen, choose_precision(precision or "fp32", chosen))
    return network


def load_network(
    name: str | Path,
    *,
    init: str = "pretrained",
    calibrated: bool = True,
    max_depth: float | int | None = None,
    device: str = "cpu",
    precision: str | None = None,
) -> "sonde.models.network.DepthModel":
    """`load` for what needs the network itself, such as training: in torch.

    Raises:
        ValueError: as `load`; or an exported file.
    """
    return _as_network(
        load(name, init=init, calibrated=calibrated, max_depth=max_depth, device=device, precision=precision)
    )


def _as_network(model: "sonde.models.described.DescribedModel") -> "sonde.models.network.DepthModel":
    from sonde.models.network import DepthModel

    if not isinstance(model, DepthModel):
        raise ValueError(f"{model.name} is an exported file, and this needs a network: give the model it was made of.")
    return model


def _open(source: ModelSource) -> "sonde.models.described.DescribedModel":
    """The model of a source, not yet on its device."""
    kind = find_kind(source)
    _refuse_absent(source, kind)
    reader = READERS[kind]
    exported = _read_graph(source, kind) if reader.needs_torch else None
    if exported is not None:
        return exported
    if reader.needs_torch:
        if find_spec("torch") is None:
            raise ValueError(f'{source.name} needs torch, which is not installed: pip install "sonde[train]".')
        choose_device(source.device)  # a device that is not there is told before the weights are read
    with _opening(source, kind):
        model = reader.read(source)
    model.name = source.name
    return model


def _read_graph(source: ModelSource, kind: str) -> ExportedModel | None:
    """The graph that lies beside the weights of a network, where it is to run instead of torch.

    Raises:
        ValueError: a runtime was asked for, and there is no graph for it.
    """
    if kind in PASSED_ON:
        return None
    folder = find_shipped(source.name) if kind == "shipped" else source.path if kind == "folder" else None
    graph = None if folder is None or source.init != "pretrained" else folder / GRAPH
    if graph is None or not graph.is_file():
        if source.runtime not in ("onnx", "openvino"):
            return None
        raise ValueError(
            f"runtime={source.runtime}: {source.name} has no file for it; make one with `sonde export "
            f"{quote(source.name)} --to {source.runtime}`, and give that file."
        )
    if not _wants_graph(source):
        return None
    model = read_exported(graph, source.device, source.runtime, name=source.name)
    if model.fits_weights():
        return model if folder is None or not source.calibrated else attach_files(model, folder, calibrated=True)
    if source.runtime == "auto":
        return None  # the weights were changed after the graph was made: they decide
    raise ValueError(f"{graph} belongs to other weights than those beside it: remove it, or export the model again.")


def _wants_graph(source: ModelSource) -> bool:
    if source.runtime is None:
        return find_spec("torch") is None
    if source.runtime != "auto":
        return source.runtime != "torch"
    on_cpu = source.device == "cpu" or (source.device == "auto" and not may_have_gpu())
    return on_cpu and source.precision in (None, "fp32", "auto")


@contextmanager
def _opening(source: ModelSource, kind: str) -> Iterator[None]:
    """Refuse a folder that leads back to itself, or through too many others."""
    before = _opened.get()
    if kind in ("hub", "shipped"):  # a name, though a folder of that name may exist
        yield
        return
    try:
        place = source.path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that no path can be
        place = source.path.absolute()
    if place in before or len(before) >= MOST_STEPS:
        way = " names ".join(shorten(path, 80) for path in (*before[-2:], place))
        raise ValueError(f"{way}, and so on: a model's base (in {SPEC} or {CALIBRATION}) must end at weights.")
    mark = _opened.set((*before, place))
    try:
        yield
    finally:
        _opened.reset(mark)


def find_shipped(name: str) -> Path:
    """The folder of the packaged model of this name, a key of SHIPPED."""
    return WEIGHTS / SHIPPED[name]


def find_kind(source: ModelSource) -> str:
    """The kind of a source, a key of READERS: the last entry that accepts it.

    Raises:
        ValueError: no kind accepts it.
    """
    if not source.name:
        raise ValueError(f"The model's name is empty. {ALTERNATIVES}")
    try:
        for kind, reader in reversed(READERS.items()):
            if reader.accepts(source):
                return kind
    except OSError as error:  # a name longer than any path
        raise ValueError(f"No model {shorten(source.name)!r}: {error.strerror}. {ALTERNATIVES}") from None
    if "?version=" in source.name:
        raise ValueError(f"{shorten(source.name)}: a version is for a file of weights ({', '.join(WEIGHT_FILES)}).")
    raise ValueError(explain_unknown(source.name))


def refuse_unknown(name: str | Path) -> None:
    """Refuse a name that is no model, before anything is loaded; the hub is not asked.

    Raises:
        ValueError: no kind accepts the name, or the file or the folder that it names is no model.
    """
    source = ModelSource(str(name))
    _refuse_absent(source, find_kind(source))


def _refuse_absent(source: ModelSource, kind: str) -> None:
    if kind == "folder" and not (source.path / "config.json").exists():
        raise ValueError(explain_folder(source.path))
    if kind == "exported" and not source.path.exists():
        raise ValueError(files.explain_absent(source.name, "a file that `sonde export` wrote"))
    if kind == "weights" and not source.path.exists():
        name = source.name if source.version is None else source.path
        raise ValueError(files.explain_absent(name, "an official depth_anything_*.pth or a GLPDepth .ckpt"))


def is_weight_file(name: str | Path) -> bool:
    """Whether a name is that of a weight file, with or without its version."""
    return ModelSource(str(name)).path.suffix in WEIGHT_FILES


def _check_end(model: "sonde.models.described.DescribedModel", max_depth: float | int) -> None:
    own = model.max_depth
    if own is None:
        kind = "does not end at one depth" if model.spec.space == "metric" else "is relative and has no depth in metres"
        raise ValueError(f"max_depth={max_depth:g}: {model.name} {kind}; leave it out.")
    if not isclose(own, max_depth, rel_tol=1e-6):
        raise ValueError(
            f"max_depth={max_depth:g}: {model.name} ends at {own:g} m by itself; leave it out, or give that value."
        )


def _read_hub(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import read_hub

    return attach_files(read_hub(source.name, source.init, ALTERNATIVES), source.path, calibrated=False)


def _read_folder(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import read_folder

    model = read_folder(source.path, source.init)
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_calibrated_base(source: ModelSource) -> "sonde.models.described.DescribedModel":
    """The model that a folder's calibration names, calibrated; a local one by its path relative to the folder."""
    base = read_calibration(source.path).base
    if base is None:
        raise ValueError(f"{source.path} holds a calibration but no model: move it beside the weights it belongs to.")
    # normpath, not resolve: a link in the path must not change what `..` means.
    beside = Path(os.path.normpath(source.path / base))
    name = beside if base not in SHIPPED and beside.exists() else base
    model = _open(source._replace(name=str(name), calibrated=False))
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_adapter(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import attach_adapter

    spec = _read_adapter_spec(source.path)
    beside = source.path / BASE
    if spec.base == BESIDE:
        if not beside.is_dir():
            raise ValueError(f"{source.path} lacks {BASE}/, the network of its adapter: copy the whole folder again.")
        spec = replace(spec, base=str(beside))
    name = str(beside) if (beside / "config.json").is_file() else spec.base or "sonde-tiny"
    if source.init == "random":
        raise ValueError(
            f"{source.path} is an adapter and does not fit random weights: load its base with random weights instead, "
            f"model.name={name}."
        )
    base = load_network(name, max_depth=spec.base_max_depth if is_weight_file(name) else None)
    model = attach_adapter(base, spec, source.path)
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_adapter_spec(folder: Path) -> ModelSpec:
    path = folder / SPEC
    if not path.is_file():
        raise ValueError(f"{folder} is a plain adapter without {SPEC}: load it with peft on its base network.")
    with files.reading(path, "expected what sonde writes beside an adapter; copy the whole folder again"):
        return spec_from_json(files.parse_json(files.read_text(path), dict[str, Any]))


def _read_run(source: ModelSource) -> "sonde.models.described.DescribedModel":
    model = _open(source._replace(name=str(source.path / "best")))
    return attach_files(model, source.path, calibrated=_applies_calibration(source))


def _read_weight_file(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import read_weight_file

    if source.version is not None and source.version not in VERSIONS:
        raise ValueError(f"{shorten(source.name)}: the version is v1 or v2, such as '{source.path}?version=v2'.")
    return read_weight_file(source.path, source.init, source.max_depth, source.version)


def _read_file(source: ModelSource) -> ExportedModel:
    if source.init != "pretrained":
        raise ValueError(f"{source.name} is an exported file, whose weights are fixed: leave init out.")
    model = read_exported(source.path, source.device, source.runtime)
    return model if source.calibrated else model.uncalibrate()


def _read_shipped(source: ModelSource) -> "sonde.models.network.DepthModel":
    from sonde.models.reading import read_folder

    return read_folder(find_shipped(source.name), source.init)


def _applies_calibration(source: ModelSource) -> bool:
    """Random weights cannot have a calibration that was measured with others."""
    return source.calibrated and source.init == "pretrained"


PASSED_ON = ("run", "calibration")
"""Kinds that lead to another model, which is loaded with the same arguments."""

READERS: dict[str, Reader] = {
    "hub": Reader(lambda source: is_hub_id(source.name), _read_hub),
    "folder": Reader(lambda source: source.path.is_dir(), _read_folder),
    "calibration": Reader(lambda source: holds_only_calibration(source.path), _read_calibrated_base),
    "adapter": Reader(lambda source: (source.path / "adapter_config.json").is_file(), _read_adapter),
    "run": Reader(lambda source: (source.path / "best").is_dir(), _read_run),
    "exported": Reader(lambda source: source.path.suffix in SUFFIXES, _read_file, needs_torch=False),
    "weights": Reader(lambda source: is_weight_file(source.name), _read_weight_file),
    "shipped": Reader(lambda source: source.name in SHIPPED, _read_shipped),
}
"""Kind of source → its reader, from the most general kind to the most special. The last one that accepts a name reads
it, so that an added entry goes before all of these: `READERS["mine"] = Reader(accepts, read)`."""
