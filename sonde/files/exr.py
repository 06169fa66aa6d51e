"""Depth as EXR: the depth channel of any layer and any part."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from sonde.files.channels import find_depth_channel
from sonde.files.claims import check_packed
from sonde.files.safely import mute
from sonde.types import DepthArray

NOWHERE = 1e10
"""What Blender writes where a ray hits nothing."""

BYTES = 4
"""Bytes of a pixel of one channel at most."""


def read_exr(path: Path, channel: str | None = None) -> np.ndarray:
    """The depth channel, (h, w), NaN from `NOWHERE` up.

    Args:
        path: the file.
        channel: its name; without it the one that `find_depth_channel` finds.

    Raises:
        UnclearChannel: which channel is depth is not clear.
    """
    import OpenEXR  # here and below: other formats are read where it is not installed

    with mute(), redirect_stdout(StringIO()), OpenEXR.File(str(path), separate_channels=True, header_only=True) as file:
        headers = [dict(part.header) for part in file.parts]  # the file empties its own when it is closed
    check_packed(sum(map(_count_claimed, headers)), path.stat().st_size)
    places = {name: place for number, header in enumerate(headers) for name, place in _name_channels(headers, number)}
    part, name = places[find_depth_channel(list(places), channel)]
    with mute(), redirect_stdout(StringIO()), OpenEXR.File(str(path), separate_channels=True) as file:
        # A part that cannot be decoded is left out of the list.
        found = next((each for each in file.parts if each.part_index == part), None)
        if found is None or name not in found.channels:
            raise ValueError("its pixels cannot be decoded")
        pixels = np.array(found.channels[name].pixels)
    if pixels.dtype.kind != "f":
        return pixels
    pixels = pixels.astype(np.float32)  # `NOWHERE` is beyond the range of 16 bits
    return np.where(pixels < np.float32(NOWHERE), pixels, np.float32(np.nan))


def write_exr(path: Path, depth: DepthArray) -> None:
    """Write the channel Z."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.ascontiguousarray(depth)}).write(str(path))


def _count_claimed(header: dict[str, Any]) -> int:
    """The bytes of the pixels of one part.

    Raises:
        ValueError: its window is empty, or it holds several samples for each pixel.
    """
    import OpenEXR

    if header["type"] in (OpenEXR.deepscanline, OpenEXR.deeptile):
        raise ValueError("it is a deep image, with several samples for each pixel")
    low, high = header["dataWindow"]
    width, height = (int(last) - int(first) + 1 for first, last in zip(low, high, strict=True))
    if width < 1 or height < 1:
        raise ValueError(f"its header says {width}x{height}")
    return width * height * BYTES * len(header["channels"])


def _name_channels(headers: list[dict[str, Any]], number: int) -> list[tuple[str, tuple[int, str]]]:
    """(full name, (part, name)) of the channels of a part; the full name begins with the part's, if it has company."""
    header = headers[number]
    part = header.get("name", "") if len(headers) > 1 else ""
    names = [channel.name for channel in header["channels"]]
    return [(name if not part or name.startswith(f"{part}.") else f"{part}.{name}", (number, name)) for name in names]
