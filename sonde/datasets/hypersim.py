"""Hypersim (Roberts et al., 2021): rendered interiors, distance in metres.

    root/…/ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5      768x1024 float16
    root/…/ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.render_entity_id.hdf5  -1: no surface; optional
    root/…/ai_001_001/images/scene_cam_00_final_hdf5/frame.0000.color.hdf5                linear; tone-mapped here
    root/…/ai_001_001/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg            used if there is no color.hdf5

Every HDF5 file holds one array, `dataset`. `depth_meters` is the Euclidean distance to the camera, NaN where a ray
left the scene, for example through a window: such pixels are not trusted. This reader converts distance to depth with
the pinhole camera that the field uses for all scenes. More than half of the scenes were rendered with a shifted lens,
so this is an approximation: by the published camera parameters, the error at the worst pixel is 0.3 % in the median
scene and 3 % in one scene of ten.

Ids are SCENE/cam_00_0000, so that splitting by folder keeps a scene on one side.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from sonde.datasets.pairs import ImageDepthPair, PairSet, Size, index_by_name, match_pairs
from sonde.files import image_size, list_files, read_rgb
from sonde.files.hdf5 import find_array, open_hdf5
from sonde.geometry import distance_to_depth, scale_intrinsics
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, MaskArray, MatrixArray, RGBArray

LIMITS = (0.0, 1000.0)
"""Metres."""

SIZE = (768, 1024)
"""(height, width) of the published images, to which CAMERA belongs."""
CAMERA = np.array([[886.81, 0, 511.5], [0, 886.81, 383.5], [0, 0, 1]])
"""Intrinsics in pixels; the field of view is 60 degrees wide."""

REMEDY = "download it again; expected HDF5 with one array named dataset"

LUMA = np.array([0.3, 0.59, 0.11], np.float32)
"""Weights of the brightness of linear RGB in Hypersim's tone mapping."""


def open_hypersim(root: Path) -> PairSet:
    """The frames of every scene below `root`."""
    found = list_files(root, (".hdf5", ".jpg"))
    depths, twice = index_by_name(found.match("images/scene_*_geometry_hdf5/frame.*.depth_meters.hdf5"), _name_capture)
    colours, again = index_by_name(found.match("images/scene_*_final_hdf5/frame.*.color.hdf5"), _name_capture)
    previews, thrice = index_by_name(found.match("images/scene_*_final_preview/frame.*.tonemap.jpg"), _name_capture)
    pairs, problems = match_pairs(previews | colours, depths)
    return PairSet(
        "hypersim",
        root,
        pairs,
        decode_distance,
        "m",
        LIMITS,
        [*found.problems, *twice, *again, *thrice, *problems],
        read_image=read_colour,
        size_of=read_colour_size,
        beside=_list_beside,
    )


def decode_distance(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres from distance, not finite where no surface was hit; and the intrinsics at the map's size."""
    distance = _read_array(path, 2).astype(np.float32)
    camera = scale_intrinsics(CAMERA, SIZE, distance.shape)
    return distance_to_depth(distance, camera), camera


def read_colour(path: Path) -> RGBArray:
    """The preview as it is; or linear colour, tone-mapped by the brightness of the pixels that show a surface."""
    if path.suffix != ".hdf5":
        return read_rgb(path)
    colour = _read_array(path, 3).astype(np.float32)
    entities = _entities_path(path)
    surface = np.ones(colour.shape[:2], bool) if not entities.is_file() else _read_array(entities, 2) != -1
    if surface.shape != colour.shape[:2]:
        raise ValueError(f"{entities} has another size than {path.name}: download both again.")
    return tone_map(colour, surface)


def read_colour_size(path: Path) -> Size:
    """(height, width) of what `read_colour` returns."""
    if path.suffix != ".hdf5":
        return image_size(path)
    with open_hdf5(path, REMEDY) as file:
        height, width, _ = find_array(file, "dataset").shape
        return int(height), int(width)


def tone_map(colour: Float[np.ndarray, "h w 3"], surface: MaskArray) -> RGBArray:
    """Linear colour, scaled so that the 90th percentile of brightness becomes 0.8 after gamma 1/2.2.

    This is Hypersim's own tone mapping (`scene_generate_images_tonemap.py`), which Marigold uses too. The image is
    black if the percentile is below 1e-4, and not scaled if no surface is visible.
    """
    brightness = (colour @ LUMA)[surface & np.isfinite(colour).all(-1)]
    linear = np.nan_to_num(colour, nan=0.0, posinf=65504.0) * np.float32(
        _choose_exposure(brightness)
    )  # float16's largest
    return np.rint(np.clip(linear, 0, 1) ** np.float32(1 / 2.2) * 255).astype(np.uint8)


def _choose_exposure(brightness: np.ndarray) -> float:
    if not brightness.size:
        return 1.0
    bright = float(np.percentile(brightness, 90))
    return 0.8**2.2 / bright if bright >= 1e-4 else 0.0


def _name_capture(path: Path) -> str:
    """`ai_001_001/cam_00_0000` for every file of that frame."""
    _, camera, number, *_ = path.parent.name.split("_")
    return f"{path.parents[2].name}/{camera}_{number}_{path.name.split('.')[1]}"


def _list_beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return (_entities_path(pair.image),)


def _entities_path(colour: Path) -> Path:
    folder = colour.parent.with_name(colour.parent.name.replace("_final_", "_geometry_"))
    return folder / colour.name.replace(".color.", ".render_entity_id.")


def _read_array(path: Path, ranks: int) -> np.ndarray:
    with open_hdf5(path, REMEDY) as file:
        array = find_array(file, "dataset")
        if array.ndim != ranks or (ranks == 3 and array.shape[2] != 3) or not array.size:
            raise ValueError(f"its array has shape {array.shape}")
        return np.asarray(array)


keep_old_names(__name__, {"colour_size": "read_colour_size", "tone_mapped": "tone_map"})
