"""Any depth network as RGB → Prediction: loading by name, and the preprocessing that belongs to the network.

A `DepthModel` takes RGB in [0, 1] at any size and predicts at that size. Training, prediction and export all
read the network through it, so they cannot disagree on sizes, means or units.

Importing this package does not import torch: what needs torch is imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sonde.models.calibration import (
    CALIBRATION,
    CANDIDATES,
    KINDS,
    Calibration,
    holds_only_calibration,
    read_calibration,
)
from sonde.models.described import DescribedModel
from sonde.models.exported import GRAPH, SUFFIXES, ExportedModel, describe_export, hash_files
from sonde.models.inputs import as_array, as_camera
from sonde.models.loading import (
    READERS,
    WEIGHT_FILES,
    WEIGHTS,
    ModelSource,
    Reader,
    is_weight_file,
    load,
    load_network,
    refuse_unknown,
)
from sonde.models.placement import PRECISIONS, RUNTIMES, Placement, choose_device
from sonde.models.sessions import KEY, SESSIONS
from sonde.models.spec import IMAGENET, PLAIN, ModelSpec, spec_from_json
from sonde.renamed import aliases

if TYPE_CHECKING:
    from sonde.models.bridge import as_network, check_image_size
    from sonde.models.building import build
    from sonde.models.decoding import decode_as
    from sonde.models.eight_bits import compress_weights
    from sonde.models.hashing import fingerprint, hash_weights
    from sonde.models.joining import join
    from sonde.models.network import (
        FAMILIES,
        DepthModel,
        Family,
        check_finite,
        find_max_depth,
        read_spec,
        set_max_depth,
    )
    from sonde.models.pixels import PixelDepth, make_pixel_depth
    from sonde.models.plain import describe_use
    from sonde.models.saving import make_image_processor, save, store_spec
    from sonde.models.start import answer_evenly, deepen, reinit_head
    from sonde.models.weights import load_strictly

__all__ = [
    "CALIBRATION",
    "CANDIDATES",
    "FAMILIES",
    "GRAPH",
    "IMAGENET",
    "KEY",
    "KINDS",
    "PLAIN",
    "PRECISIONS",
    "READERS",
    "RUNTIMES",
    "SESSIONS",
    "SUFFIXES",
    "WEIGHTS",
    "WEIGHT_FILES",
    "Calibration",
    "DepthModel",
    "DescribedModel",
    "ExportedModel",
    "Family",
    "ModelSource",
    "ModelSpec",
    "PixelDepth",
    "Placement",
    "Reader",
    "answer_evenly",
    "as_array",
    "as_camera",
    "as_network",
    "build",
    "check_finite",
    "check_image_size",
    "choose_device",
    "compress_weights",
    "decode_as",
    "deepen",
    "describe_export",
    "describe_use",
    "find_max_depth",
    "fingerprint",
    "hash_files",
    "hash_weights",
    "holds_only_calibration",
    "is_weight_file",
    "join",
    "load",
    "load_network",
    "load_strictly",
    "make_image_processor",
    "make_pixel_depth",
    "read_calibration",
    "read_spec",
    "refuse_unknown",
    "reinit_head",
    "save",
    "set_max_depth",
    "spec_from_json",
    "store_spec",
]

NEEDS_TORCH: dict[str, str] = {
    "DepthModel": "network",
    "FAMILIES": "network",
    "Family": "network",
    "PixelDepth": "pixels",
    "answer_evenly": "start",
    "as_network": "bridge",
    "build": "building",
    "check_finite": "network",
    "check_image_size": "bridge",
    "compress_weights": "eight_bits",
    "decode_as": "decoding",
    "deepen": "start",
    "describe_use": "plain",
    "find_max_depth": "network",
    "fingerprint": "hashing",
    "hash_weights": "hashing",
    "join": "joining",
    "load_strictly": "weights",
    "make_image_processor": "saving",
    "make_pixel_depth": "pixels",
    "read_spec": "network",
    "reinit_head": "start",
    "save": "saving",
    "set_max_depth": "network",
    "store_spec": "saving",
}
"""Name → the file of this package that holds it; imported at its first use, since it imports torch."""

_find_renamed = aliases(
    __name__,
    {
        "Meaning": "ModelSpec",
        "decoded_as": "decode_as",
        "deepened": "deepen",
        "image_processor": "make_image_processor",
        "inscribe": "store_spec",
        "max_depth_of": "find_max_depth",
        "meaning_of": "read_spec",
        "only_calibration": "holds_only_calibration",
        "pixel_depth": "make_pixel_depth",
        "revive": "reinit_head",
        "spec_of": "read_spec",
        "weights_hash": "hash_weights",
    },
)


if not TYPE_CHECKING:  # type checkers see the imports above, and report a name that is in neither table

    def __getattr__(name: str) -> object:
        if name not in NEEDS_TORCH:
            return _find_renamed(name)
        return getattr(import_module(f"{__name__}.{NEEDS_TORCH[name]}"), name)
