"""Photographs that are none, lie about their size, or are of unusual kinds."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from case import Case, Right, damaged, junk, put
from PIL import Image

from sonde import files

PNG = b"\x89PNG\r\n\x1a\n"
MILLION = 1_000_000


def encoded(mode: str = "RGB", suffix: str = "PNG", **options: object) -> bytes:
    """A small image of a mode of Pillow's, encoded."""
    levels = np.random.default_rng(3).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(file, suffix, **options)
    return file.getvalue()


def of_array(array: np.ndarray, suffix: str) -> bytes:
    """An array as Pillow encodes it."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, suffix)
    return file.getvalue()


def chunk(kind: bytes, data: bytes, *, sound: bool = True) -> bytes:
    """A chunk of a PNG; with a wrong checksum where it is not sound."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (not sound))


def png(width: int, height: int, bits: int = 8, colour: int = 2, *middle: bytes, data: bytes | None = None) -> bytes:
    """A PNG whose header claims this size, whatever its data holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = zlib.compress(bytes(4096)) if data is None else data
    return PNG + header + b"".join(middle) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(width: int, height: int, offset: int = 8, following: int = 0) -> bytes:
    """A little-endian TIFF of one 8-bit strip, whose tags claim this size."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, min(width * height, 2**32 - 1))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", offset) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def bmp(width: int, height: int) -> bytes:
    """A BMP whose header claims this size."""
    return (
        b"BM" + struct.pack("<IHHI", 4096, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def webp(width: int, height: int) -> bytes:
    """An extended WebP whose canvas claims this size."""
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + canvas + b"VP8 " + struct.pack("<I", 20) + junk(20)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims this size."""
    data = bytearray(encoded(suffix="JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def patched(data: bytes, at: int, replacement: bytes) -> bytes:
    """The bytes with a part of them replaced."""
    return data[:at] + replacement + data[at + len(replacement) :]


def with_exif(orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(suffix="JPEG", exif=exif.tobytes())


LIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png/claims-a-million": ("a.png", lambda: png(MILLION, MILLION)),
    "png/claims-two-billion": ("a.png", lambda: png(2**31 - 1, 2**31 - 1)),
    "png/claims-thirteen-thousand": ("a.png", lambda: png(13_000, 13_000)),
    "png/zero-wide": ("a.png", lambda: png(0, 40)),
    "png/bits-of-seven": ("a.png", lambda: png(40, 40, 7)),
    "png/colour-of-nine": ("a.png", lambda: png(40, 40, 8, 9)),
    "png/wrong-checksum": ("a.png", lambda: patched(encoded(), 29, b"\0\0\0\0")),
    "png/data-is-junk": ("a.png", lambda: png(40, 40, data=junk())),
    "png/text-that-unpacks-to-100-MB": (
        "a.png",
        lambda: png(40, 40, 8, 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20), 9))),
    ),
    "png/profile-that-unpacks-to-100-MB": (
        "a.png",
        lambda: png(40, 40, 8, 2, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 << 20), 9))),
    ),
    "png/no-header": ("a.png", lambda: PNG + chunk(b"IDAT", b"") + chunk(b"IEND", b"")),
    "jpg/claims-65535": ("a.jpg", lambda: jpeg_of(65_535, 65_535)),
    "jpg/zero-wide": ("a.jpg", lambda: jpeg_of(0, 40)),
    "jpg/only-markers": ("a.jpg", lambda: b"\xff\xd8" + b"\xff\xe0\0\x02" * 100_000),
    "tif/claims-a-million": ("a.tif", lambda: tiff(MILLION, MILLION)),
    "tif/claims-four-billion": ("a.tif", lambda: tiff(2**32 - 1, 2**32 - 1)),
    "tif/directory-outside": ("a.tif", lambda: tiff(40, 40, offset=2**31)),
    "tif/directory-follows-itself": ("a.tif", lambda: tiff(MILLION, 3, following=8)),
    "tif/zero-wide": ("a.tif", lambda: tiff(0, 40)),
    "bmp/claims-a-million": ("a.bmp", lambda: bmp(MILLION, MILLION)),
    "bmp/negative": ("a.bmp", lambda: bmp(-40, -MILLION)),
    "webp/claims-16-million": ("a.webp", lambda: webp(2**24, 2**24)),
    "gif/claims-65535": ("a.png", lambda: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + junk(40)),
    "pgm/claims-a-million": ("a.png", lambda: b"P5\n1000000 1000000\n255\n" + bytes(99)),
    "svg/named-png": ("a.png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>'),
    "eps/named-png": ("a.png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1000000 1000000\n%%EOF\n"),
    "gz/named-png": ("a.png", lambda: b"\x1f\x8b\x08\0" + junk()),
    "tif/levels-not-finite": ("a.tif", lambda: of_array(np.full((40, 56), np.nan, np.float32), "TIFF")),
    "tif/levels-negative": ("a.tif", lambda: of_array(np.full((40, 56), -7, np.int32), "TIFF")),
}
"""Fault -> file name and bytes; no reader can accept them."""

HARMLESS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png/chunk-of-two-gigabytes": ("a.png", lambda: patched(encoded(), 33, struct.pack(">I", 2**31 - 1))),
    "png/header-twice": (
        "a.png",
        lambda: png(40, 40, 8, 2, chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))),
    ),
}
"""Faults that a reader may pass over."""

UNUSUAL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png/1-bit": ("a.png", lambda: encoded("1")),
    "png/grey": ("a.png", lambda: encoded("L")),
    "png/grey-and-alpha": ("a.png", lambda: encoded("LA")),
    "png/palette": ("a.png", lambda: encoded("P")),
    "png/palette-with-transparency": ("a.png", lambda: encoded("P", transparency=3)),
    "png/alpha": ("a.png", lambda: encoded("RGBA")),
    "png/16-bit-grey": ("a.png", lambda: of_array(np.arange(2240, dtype=np.uint16).reshape(40, 56), "PNG")),
    "png/one-pixel": ("a.png", lambda: of_array(np.zeros((1, 1, 3), np.uint8), "PNG")),
    "png/named-jpg": ("a.jpg", lambda: encoded()),
    "jpg/named-png": ("a.png", lambda: encoded(suffix="JPEG")),
    "jpg/cmyk": ("a.jpg", lambda: encoded("CMYK", "JPEG")),
    "jpg/progressive": ("a.jpg", lambda: encoded(suffix="JPEG", progressive=True)),
    "jpg/turned": ("a.jpg", lambda: with_exif(6)),
    "jpg/orientation-of-99": ("a.jpg", lambda: with_exif(99)),
    "jpg/exif-is-junk": ("a.jpg", lambda: encoded(suffix="JPEG", exif=b"Exif\0\0" + junk(200))),
    "jpg/profile-is-junk": ("a.jpg", lambda: encoded(suffix="JPEG", icc_profile=junk(200))),
    "tif/lzw": ("a.tif", lambda: encoded(suffix="TIFF", compression="tiff_lzw")),
    "tif/float64": ("a.tif", lambda: float64_tiff()),
    "webp/sound": ("a.webp", lambda: encoded(suffix="WEBP")),
    "bmp/sound": ("a.bmp", lambda: encoded(suffix="BMP")),
}
"""Kind -> file name and bytes of images that a camera or an editor writes."""


def float64_tiff(scale: float = 1 / 255) -> bytes:
    """A grey TIFF of 64-bit floats in [0, 1], which Pillow cannot open by itself."""
    import cv2

    levels = np.random.default_rng(3).integers(0, 256, (40, 56)) * scale
    return cv2.imencode(".tif", levels.astype(np.float64))[1].tobytes()


def read(name: str) -> Callable[[], object]:
    """The entry of Python."""
    return lambda: files.read_rgb(name)


def cases() -> list[Case]:
    """Every case."""
    found = []
    for suffix, name in (("PNG", "a.png"), ("JPEG", "a.jpg"), ("TIFF", "a.tif"), ("WEBP", "a.webp"), ("BMP", "a.bmp")):
        found += damaged(f"images/{name[2:]}", name, lambda suffix=suffix: encoded(suffix=suffix), read(name))
    tables: dict[Right, dict[str, tuple[str, Callable[[], bytes]]]]
    tables = {"refused": LIES, "either": HARMLESS, "read": UNUSUAL}
    for right, table in tables.items():
        for fault, (name, data) in table.items():
            found.append(Case(f"images/{fault}", put(name, data), read(name), right, name))
    return found + _commands()


def _commands() -> list[Case]:
    """The worst of them where the command line takes an image."""
    worst: dict[str, tuple[str, Callable[[], bytes]]] = {
        fault: LIES[fault] for fault in ("png/claims-a-million", "tif/directory-follows-itself", "png/data-is-junk")
    }
    worst |= {"png/empty": ("a.png", lambda: b""), "jpg/half": ("a.jpg", lambda: encoded(suffix="JPEG")[:700])}
    found = []
    for fault, (name, data) in worst.items():
        make = put(name, data)
        for verb, words in (
            ("predict", ("predict", name, "-m", "@network", "-o", "out")),
            ("features", ("features", name, "-o", "out")),
            ("label", ("label", "@network", name, "out")),
            (
                "plane",
                (
                    "calibrate",
                    "@network",
                    "--plane",
                    "wall,distance=2",
                    "--image",
                    name,
                    "--region",
                    "0,0,9,9",
                    "-o",
                    "out",
                ),
            ),
        ):
            # A single image that cannot be labelled is a job of one, whose list holds the reason.
            right: Right = "listed" if verb == "label" else "refused"
            found.append(Case(f"images/{fault}/{verb}", make, words, right, name))
    sound = put("a.png", encoded)
    found.append(Case("images/png/sound/predict", sound, ("predict", "a.png", "-m", "@network", "-o", "out"), "read"))
    found.append(Case("images/png/sound/features", sound, ("features", "a.png", "-o", "out"), "read"))
    return found
