"""Export a model, with adapters merged, and compare the result with the original.

As ONNX or OpenVINO it runs without torch; a folder is for plain transformers, and a `.ckpt` for GLPDepth's scripts.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

from sonde import cards, files, models
from sonde.exporting.comparing import TOLERANCE
from sonde.exporting.gate import ExportRefused, GateRow, GateTable
from sonde.exporting.glpdepth import render_glpdepth_card, to_glpdepth
from sonde.exporting.hub import render_card, to_hugging_face
from sonde.exporting.writing import ExportRequest, check_request, describe_slow_int8, write_file, write_graph
from sonde.models import DepthModel
from sonde.models.exported import SUFFIXES
from sonde.options import takes
from sonde.options.export import ExportOptions
from sonde.renamed import keep_old_names
from sonde.spelling import nearest

__all__ = [
    "EXPORTERS",
    "FILES",
    "NEW_FOLDER",
    "TOLERANCE",
    "ExportRefused",
    "ExportResult",
    "GateRow",
    "GateTable",
    "describe_file",
    "describe_slow_int8",
    "export",
    "export_checked",
    "render_card",
    "render_glpdepth_card",
    "to_glpdepth",
    "to_hugging_face",
    "write_graph",
]

NEW_FOLDER = "give a new folder with --out"
NEW_FILE = "give a new file with --out"
FILES: dict[str, str] = {runtime: suffix for suffix, runtime in SUFFIXES.items()}
"""Format of one file → its suffix."""


class ExportResult(NamedTuple):
    """What was written."""

    path: Path
    """The folder, or the file."""
    table: GateTable | None = None
    """How the file answers beside torch; None for a folder, whose exporter compares by itself."""
    seconds: float = 0.0
    """From the trace of the network to the last comparison."""
    notes: Sequence[str] = ()
    """What the file holds in int8, and what makes it slow here."""


@takes(ExportOptions)
def export(model: str | Path | DepthModel, *, options: ExportOptions) -> Path:
    """Write a model in another format and return its folder or file, which appears only when it is complete.

    Args:
        model: any name `sonde.load` takes, or a loaded model (it stays unchanged).
        options: the options below, as one value.

    Raises:
        ValueError: an unknown format or one that cannot hold the model, a folder that is not empty or a file that
            exists, or a result that differs from the original (`ExportRefused`, whose `table` tells where).
    """
    return export_checked(model, options=options).path


@takes(ExportOptions)
def export_checked(model: str | Path | DepthModel, *, options: ExportOptions) -> ExportResult:
    """`export`, with the table of its comparison.

    Args:
        model: as `export` takes it.
        options: the options below, as one value.

    Raises:
        ValueError: as `export`.
    """
    to = options.to
    if to not in EXPORTERS and to not in FILES:
        raise ValueError(f"to={to!r} is no export format: {nearest(to, [*EXPORTERS, *FILES])}")
    out = options.out or _choose_output(model.name if isinstance(model, DepthModel) else str(model), to)
    if to in FILES:
        return _export_file(model, out, options)
    for name, given in (
        ("precision", options.precision != "fp32"),
        ("size", options.size),
        ("calibrate_on", options.calibrate_on),
    ):
        if given:
            raise ValueError(f"{name} is for --to onnx and --to openvino: leave it out with --to {to}.")
    files.check_output(out)
    files.refuse_filled(out, NEW_FOLDER)
    loaded = _load(model, options)
    original = loaded.cpu().eval()
    licence, original.name = cards.find_licence(original.name), out.name
    with files.write_folder(out, NEW_FOLDER) as partial:
        EXPORTERS[to](original, partial, licence)
    return ExportResult(out)


def _export_file(model: str | Path | DepthModel, out: Path, options: ExportOptions) -> ExportResult:
    request = ExportRequest(options.to, options.precision, options.size, options.calibrate_on, options.device)
    suffix = FILES[options.to]
    if out.suffix != suffix:
        raise ValueError(f"out={out}: --to {options.to} writes a file whose name ends in {suffix}.")
    files.check_output(out.parent)
    files.refuse_existing(out, NEW_FILE)
    request.check()
    loaded = _load(model, options).eval()
    check_request(loaded, request)
    with files.write_parts(out, NEW_FILE) as part:
        written = write_file(loaded, part, request)
    return ExportResult(out, written.table, written.seconds, written.notes)


def describe_file(result: ExportResult) -> dict[str, object]:
    """Of a file: the comparison, its bytes, and one line of sizes and times."""
    assert result.table is not None
    path, table = result.path, result.table
    parts = [path, path.with_name(f"{path.name}.data"), *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    size = sum(part.stat().st_size for part in parts if part.is_file())
    times = f"{1000 * table.seconds:.0f} ms an image, torch {1000 * table.torch_seconds:.0f} ms"
    return {
        "size": f"{size / 1e6:.1f} MB, exported in {result.seconds:.0f} s; the network takes {times}",
        "bytes": size,
        "seconds": result.seconds,
        **({"notes": list(result.notes)} if result.notes else {}),
        "gate": table.document(),
    }


def _load(model: str | Path | DepthModel, options: ExportOptions) -> DepthModel:
    return deepcopy(model) if isinstance(model, DepthModel) else models.load_network(model, max_depth=options.max_depth)


def _choose_output(name: str, to: str) -> Path:
    """A folder or a file beside the model's own; for a hub id, one in the current folder."""
    name = str(models.ModelSource(name).path) if models.is_weight_file(name) else name.rstrip("/")
    name = name.removesuffix(Path(name).suffix) if models.is_weight_file(name) else name
    name = name if Path(name).parent.exists() else name.replace("/", "-")
    return Path(f"{name}{FILES[to]}" if to in FILES else f"{name}-{to}")


EXPORTERS: dict[str, Callable[[DepthModel, Path, str], None]] = {"hf": to_hugging_face, "glpdepth": to_glpdepth}
"""Format of a folder → its exporter; FILES are written by `write_file`."""

keep_old_names(__name__, {"card": "render_card", "glpdepth_card": "render_glpdepth_card"})
