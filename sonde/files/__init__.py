"""Read and write colour images, depth maps, point clouds and cameras.

Every reader raises one ValueError for a bad file: it names the file and the remedy. Every writer writes a temporary
file beside the target and renames it, so no half-written file appears under the final name.
"""

from sonde.files.cameras import is_camera, read_intrinsics, write_intrinsics
from sonde.files.clouds import read_xyz, read_z, write_glb, write_ply
from sonde.files.depths import (
    decode_levels_png,
    encode_depth_png,
    read_depth,
    read_levels,
    write_depth,
    write_depth_png,
)
from sonde.files.documents import (
    check_type,
    decode_text,
    parse_json,
    parse_yaml,
    read_json,
    read_lines,
    read_rows,
    read_table,
    read_text,
    read_yaml,
)
from sonde.files.images import (
    IMAGE_SUFFIXES,
    colour_depth,
    decode_rgb,
    image_size,
    read_rgb,
    resize_image,
    rgb_from_pil,
    write_rgb,
)
from sonde.files.safely import reading
from sonde.files.writing import atomic_write, explain_os_error

__all__ = [
    "IMAGE_SUFFIXES",
    "atomic_write",
    "check_type",
    "colour_depth",
    "decode_levels_png",
    "decode_rgb",
    "decode_text",
    "encode_depth_png",
    "explain_os_error",
    "image_size",
    "is_camera",
    "parse_json",
    "parse_yaml",
    "read_depth",
    "read_intrinsics",
    "read_json",
    "read_levels",
    "read_lines",
    "read_rgb",
    "read_rows",
    "read_table",
    "read_text",
    "read_xyz",
    "read_yaml",
    "read_z",
    "reading",
    "resize_image",
    "rgb_from_pil",
    "write_depth",
    "write_depth_png",
    "write_glb",
    "write_intrinsics",
    "write_ply",
    "write_rgb",
]
