"""Read and write colour images, depth maps, point clouds and cameras.

Every reader raises one ValueError for a bad file: it names the file and the remedy. Every writer writes a temporary
file beside the target and renames it, so no half-written file appears under the final name.
"""

from sonde.files.absent import describe_contents, explain_absent, explain_address, find_near
from sonde.files.cameras import is_camera, read_intrinsics, write_intrinsics
from sonde.files.clouds import read_xyz, read_z, write_glb, write_ply
from sonde.files.depths import read_depth, write_depth
from sonde.files.documents import (
    check_exactly,
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
from sonde.files.folders import refuse_existing, refuse_filled, write_folder, write_parts
from sonde.files.images import (
    IMAGE_SUFFIXES,
    colour_depth,
    decode_rgb,
    image_size,
    is_animation,
    read_orientation,
    read_rgb,
    resize_image,
    rgb_from_pil,
    write_rgb,
)
from sonde.files.levels import decode_levels_png, encode_depth_png, read_levels, write_depth_png
from sonde.files.locks import find_writer, lock_folder
from sonde.files.patterns import expand_sources
from sonde.files.png import write_drawing
from sonde.files.safely import hear_warning, reading
from sonde.files.sources import FOREIGN, VIDEOS, Listing, explain_foreign, explain_video, list_files, refuse_source
from sonde.files.stated import read_array_note, read_stated_unit, write_npy
from sonde.files.writing import OutputFolder, atomic_write, check_output, explain_os_error, make_folder, writing

__all__ = [
    "FOREIGN",
    "IMAGE_SUFFIXES",
    "VIDEOS",
    "Listing",
    "OutputFolder",
    "atomic_write",
    "check_exactly",
    "check_output",
    "check_type",
    "colour_depth",
    "decode_levels_png",
    "decode_rgb",
    "decode_text",
    "describe_contents",
    "encode_depth_png",
    "expand_sources",
    "explain_absent",
    "explain_address",
    "explain_foreign",
    "explain_os_error",
    "explain_video",
    "find_near",
    "find_writer",
    "hear_warning",
    "image_size",
    "is_animation",
    "is_camera",
    "list_files",
    "lock_folder",
    "make_folder",
    "parse_json",
    "parse_yaml",
    "read_array_note",
    "read_depth",
    "read_intrinsics",
    "read_json",
    "read_levels",
    "read_lines",
    "read_orientation",
    "read_rgb",
    "read_rows",
    "read_stated_unit",
    "read_table",
    "read_text",
    "read_xyz",
    "read_yaml",
    "read_z",
    "reading",
    "refuse_existing",
    "refuse_filled",
    "refuse_source",
    "resize_image",
    "rgb_from_pil",
    "write_depth",
    "write_depth_png",
    "write_drawing",
    "write_folder",
    "write_glb",
    "write_intrinsics",
    "write_npy",
    "write_parts",
    "write_ply",
    "write_rgb",
    "writing",
]
