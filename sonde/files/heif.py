"""HEIC, the format of many phones: read where the user has installed a library for it; sonde requires none.

The wheels of pillow-heif are under the GPL, those of pi-heif under the LGPL, and pi-heif is no longer developed.
"""

from importlib import import_module
from importlib.util import find_spec

HEIF_SUFFIXES = (".heic", ".heif")
"""Suffixes of HEIC files."""
LIBRARIES = ("pillow_heif", "pi_heif")
"""Packages that teach Pillow HEIC; the first that is installed is used."""
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
"""How the content of a HEIC file states its kind, in the bytes 8 to 11."""
HEAD = 32
"""Bytes at the start of a file that tell what it is."""

HEIF_REMEDY = (
    "HEIC needs `pip install pillow-heif`, whose wheels hold code under the GPL; or convert it to PNG or JPEG, for "
    "example with `heif-convert`, on a Mac with `sips -s format jpeg`; a phone set to `most compatible` saves JPEG"
)
"""What to do about a HEIC file that nothing here reads."""


def find_heif_library() -> str | None:
    """The installed package that reads HEIC; None if there is none. Nothing is imported."""
    return next((name for name in LIBRARIES if find_spec(name) is not None), None)


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is HEIC, whatever its suffix; AVIF, which Pillow reads by itself, is not."""
    return head[4:8] == b"ftyp" and head[8:12] in BRANDS and b"avif" not in head[:HEAD]


def is_film(head: bytes) -> bool:
    """Whether a file that begins so is a video: MP4 and MOV, Matroska and WebM, AVI."""
    if head[4:8] == b"ftyp":
        return not is_heif(head) and head[8:11] not in (b"avi", b"mif")
    return head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:11] == b"AVI")


def prepare_heif(head: bytes) -> None:
    """Let Pillow read a file that begins so, if it is HEIC; the library is imported at the first such file.

    Raises:
        ValueError: HEIC, and no library is installed; the message does not name the file.
    """
    if not is_heif(head):
        return
    if (name := find_heif_library()) is None:
        raise ValueError(HEIF_REMEDY)
    import_module(name).register_heif_opener()
