"""Depth maps: 16-bit PNG and TIFF, .npy, .npz, EXR and PFM."""

import io
import os
import pickle
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from case import Case, Right, damaged, junk, put
from hostile_images import chunk, encoded, float64_tiff, of_array, patched, png, tiff

from sonde import files

Table = dict[str, tuple[str, Callable[[], bytes]]]
"""Fault -> file name and bytes."""

METRES = np.linspace(0.5, 2.0, 2240, dtype=np.float32).reshape(40, 56)
LEVELS = (METRES * 1000).astype(np.uint16)


class RunsCode:
    """Its pickle makes a folder named `ran`."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def npy(array: np.ndarray | np.generic, **options: bool) -> bytes:
    """An array as NumPy saves it."""
    file = io.BytesIO()
    np.save(file, np.asarray(array), **options)
    return file.getvalue()


def npy_header(text: str, version: int = 1, body: bytes = b"") -> bytes:
    """A .npy whose header holds this text."""
    header = text.encode().ljust(117) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + body


def claims(shape: str, kind: str = "<f4") -> Callable[[], bytes]:
    """A .npy whose header claims a shape."""
    return lambda: npy_header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", body=bytes(4096))


def npz(**arrays: np.ndarray) -> bytes:
    """Arrays as NumPy saves them together."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)
    return file.getvalue()


def pfm(head: str = "Pf\n56 40\n-1.0\n", body: bytes | None = None) -> bytes:
    """A PFM with this header."""
    return head.encode() + (METRES[::-1].tobytes() if body is None else body)


def exr(**channels: np.ndarray) -> bytes:
    """An EXR of these channels, compressed line by line."""
    import OpenEXR

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.exr")
        header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, channels or {"Z": METRES}).write(str(path))
        return path.read_bytes()


def pgm(head: bytes = b"P5 56 40 65535\n", body: bytes | None = None) -> bytes:
    """A PGM with this header."""
    return head + (LEVELS.astype(">u2").tobytes() if body is None else body)


def exr_claims(name: bytes, right: int, bottom: int) -> bytes:
    """An EXR whose `dataWindow` or `displayWindow` claims a size."""
    data = exr()
    at = data.index(name + b"\0box2i\0") + len(name) + 7 + 4
    return patched(data, at, struct.pack("<iiii", 0, 0, right, bottom))


def stated(**notes: bytes) -> bytes:
    """A 16-bit PNG whose text chunks say these things."""
    body = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in LEVELS))
    texts = [chunk(b"tEXt", name.encode() + b"\0" + text) for name, text in notes.items()]
    return png(56, 40, 16, 0, *texts, data=body)


SOUND: Table = {
    "png": ("a.png", lambda: of_array(LEVELS, "PNG")),
    "tif": ("a.tif", lambda: of_array(LEVELS, "TIFF")),
    "npy": ("a.npy", lambda: npy(METRES)),
    "exr": ("a.exr", exr),
    "pfm": ("a.pfm", pfm),
    "pgm": ("a.pgm", pgm),
    "npz": ("a.npz", lambda: npz(depth=METRES)),
}

LIES: Table = {
    "png/claims-a-million": ("a.png", lambda: png(1_000_000, 1_000_000, 16, 0)),
    "png/8-bit": ("a.png", lambda: encoded("L")),
    "png/colour": ("a.png", encoded),
    "png/scale-is-a-word": ("a.png", lambda: stated(Scale=b"small")),
    "png/scale-not-finite": ("a.png", lambda: stated(Scale=b"nan")),
    "png/scale-infinite": ("a.png", lambda: stated(Scale=b"inf")),
    "png/offset-is-a-word": ("a.png", lambda: stated(Scale=b"0.001", Offset=b"far")),
    "tif/claims-a-million": ("a.tif", lambda: tiff(1_000_000, 1_000_000)),
    "npy/claims-a-million": ("a.npy", claims("(1000000, 1000000)")),
    "npy/claims-2-to-the-70": ("a.npy", claims(f"({2**35}, {2**35})")),
    "npy/negative": ("a.npy", claims("(-4, -4)")),
    "npy/shape-of-floats": ("a.npy", claims("(4.5, 4.5)")),
    "npy/shape-of-words": ("a.npy", claims("('a', 'b')")),
    "npy/no-shape": ("a.npy", lambda: npy_header("{'descr': '<f4', 'fortran_order': False, }")),
    "npy/header-is-code": ("a.npy", lambda: npy_header("__import__('os').mkdir('ran')")),
    "npy/header-nested": ("a.npy", lambda: npy_header("(" * 60 + ")" * 57)),
    "npy/header-deeply-nested": ("a.npy", lambda: npy_header("[" * 5000 + "]" * 5000, 2)),
    "npy/header-of-four-gigabytes": ("a.npy", lambda: b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1) + junk()),
    "npy/version-9": ("a.npy", lambda: patched(npy(METRES), 6, b"\x09")),
    "npy/unknown-type": ("a.npy", claims("(40, 56)", "<q9")),
    "npy/pickle-that-runs-code": ("a.npy", lambda: npy(np.array([[RunsCode()] * 4] * 4), allow_pickle=True)),
    "npy/complex": ("a.npy", lambda: npy(METRES.astype(np.complex64))),
    "npy/words": ("a.npy", lambda: npy(np.full((4, 4), "far"))),
    "npy/records": ("a.npy", lambda: npy(np.zeros((4, 4), "f4,f4"))),
    "npy/dates": ("a.npy", lambda: npy(np.zeros((4, 4), "datetime64[s]"))),
    "npy/one-number": ("a.npy", lambda: npy(np.float32(2))),
    "npy/no-rows": ("a.npy", lambda: npy(np.zeros((0, 56), np.float32))),
    "npy/four-axes": ("a.npy", lambda: npy(np.ones((2, 4, 5, 3), np.float32))),
    "npy/bool": ("a.npy", lambda: npy(METRES > 1)),
    "npz/colour": ("a.npz", lambda: npz(depth=np.ones((40, 56, 7), np.float32))),
    "exr/data-claims-a-million": ("a.exr", lambda: exr_claims(b"dataWindow", 999_999, 999_999)),
    "exr/data-claims-two-billion": ("a.exr", lambda: exr_claims(b"dataWindow", 2**31 - 1, 2**31 - 1)),
    "exr/data-negative": ("a.exr", lambda: exr_claims(b"dataWindow", -9, -9)),
    "exr/colour-alone": ("a.exr", lambda: exr(**{name: METRES for name in "RGBA"})),
    "exr/two-depths": ("a.exr", lambda: exr(**{"left.Z": METRES, "right.Z": METRES})),
    "exr/normals-alone": ("a.exr", lambda: exr(**{f"ViewLayer.Normal.{axis}": METRES for axis in "XYZ"})),
    "png/near-of-zero": ("a.png", lambda: stated(near=b"0", far=b"9")),
    "png/far-infinite": ("a.png", lambda: stated(near=b"1", far=b"inf")),
    "png/near-is-a-word": ("a.png", lambda: stated(near=b"close", far=b"9")),
    "pgm/claims-a-million": ("a.pgm", lambda: pgm(b"P5 1000000 1000000 65535\n", bytes(64))),
    "pgm/text-claims-a-million": ("a.pgm", lambda: pgm(b"P2 1000000 1000000 65535\n", b"1 2 3")),
    "pgm/no-size": ("a.pgm", lambda: pgm(b"P5 0 0 65535\n", b"")),
    "pgm/8-bit": ("a.pgm", lambda: pgm(b"P5 56 40 255\n", bytes(2240))),
    "pgm/largest-of-20-digits": ("a.pgm", lambda: pgm(b"P5 56 40 " + b"9" * 20 + b"\n")),
    "pgm/text-is-words": ("a.pgm", lambda: pgm(b"P2 56 40 65535\n", b"far " * 2240)),
    "npz/two-depths": ("a.npz", lambda: npz(depth_left=METRES, depth_right=METRES)),
    "pfm/claims-a-million": ("a.pfm", lambda: pfm("Pf\n1000000 1000000\n-1.0\n", bytes(64))),
    "pfm/claims-10-to-the-30": ("a.pfm", lambda: pfm(f"Pf\n{10**15} {10**15}\n-1.0\n", bytes(64))),
    "pfm/negative": ("a.pfm", lambda: pfm("Pf\n-56 -40\n-1.0\n")),
    "pfm/no-size": ("a.pfm", lambda: pfm("Pf\n0 0\n-1.0\n", b"")),
    "pfm/size-is-words": ("a.pfm", lambda: pfm("Pf\nwide high\n-1.0\n")),
    "pfm/one-number": ("a.pfm", lambda: pfm("Pf\n56\n-1.0\n")),
    "pfm/three-numbers": ("a.pfm", lambda: pfm("Pf\n56 40 3\n-1.0\n")),
    "pfm/scale-is-a-word": ("a.pfm", lambda: pfm("Pf\n56 40\nsmall\n")),
    "pfm/colour": ("a.pfm", lambda: pfm("PF\n56 40\n-1.0\n", bytes(56 * 40 * 12))),
    "pfm/one-long-line": ("a.pfm", lambda: b"Pf" + b"9" * 10_000_000),
}
"""Fault -> file name and bytes; no reader can accept them."""

UNUSUAL: Table = {
    "png/sound": SOUND["png"],
    "npy/float64": ("a.npy", lambda: npy(METRES.astype(np.float64))),
    "npy/float16": ("a.npy", lambda: npy(METRES.astype(np.float16))),
    "npy/big-endian": ("a.npy", lambda: npy(METRES.astype(">f4"))),
    "npy/columns-first": ("a.npy", lambda: npy(np.asfortranarray(METRES))),
    "npy/one-channel-last": ("a.npy", lambda: npy(METRES[..., None])),
    "npy/one-channel-first": ("a.npy", lambda: npy(METRES[None])),
    "npz/depth": ("a.npz", lambda: npz(depth=METRES)),
    "tif/float32": ("a.tif", lambda: of_array(METRES, "TIFF")),
    "tif/float64": ("a.tif", lambda: float64_tiff(0.01)),
    "tif/int32": ("a.tif", lambda: of_array(LEVELS.astype(np.int32), "TIFF")),
    "exr/depth-and-colour": ("a.exr", lambda: exr(Z=METRES, R=METRES, G=METRES, B=METRES)),
    "exr/layer-of-blender": ("a.exr", lambda: exr(**{"ViewLayer.Depth.Z": METRES, "ViewLayer.Combined.R": METRES})),
    "exr/depth-beside-normals": (
        "a.exr",
        lambda: exr(**{"ViewLayer.Depth.Z": METRES}, **{f"ViewLayer.Normal.{axis}": METRES for axis in "XYZ"}),
    ),
    "exr/float16": ("a.exr", lambda: exr(Z=METRES.astype(np.float16))),
    "pfm/big-endian": ("a.pfm", lambda: pfm("Pf\n56 40\n1.0\n", METRES[::-1].astype(">f4").tobytes())),
}

NOTHING: Table = {
    "pfm/scale-of-zero": ("a.pfm", lambda: pfm("Pf\n56 40\n0.0\n")),
    "pfm/scale-not-finite": ("a.pfm", lambda: pfm("Pf\n56 40\nnan\n")),
    "npy/nothing-finite": ("a.npy", lambda: npy(np.full((40, 56), np.nan, np.float32))),
    "npy/infinite": ("a.npy", lambda: npy(np.full((40, 56), np.inf, np.float32))),
    "npy/negative-metres": ("a.npy", lambda: npy(-METRES)),
    "npy/enormous": ("a.npy", lambda: npy(np.full((40, 56), 3e38, np.float32))),
    "png/all-zero": ("a.png", lambda: of_array(LEVELS * 0, "PNG")),
    "png/scale-overflows": ("a.png", lambda: stated(Scale=b"1e308")),
    "exr/display-claims-a-million": ("a.exr", lambda: exr_claims(b"displayWindow", 999_999, 999_999)),
}
"""Maps that may be read, as a map without depth where it holds none, or refused."""


def cases() -> list[Case]:
    """Every case."""

    def read(name: str) -> Callable[[], object]:
        return lambda: files.read_depth(name, 0.001 if name in ("a.png", "a.tif", "a.pgm") else None)

    def read_as_stated(name: str) -> Callable[[], object]:
        return lambda: files.read_depth(name)

    found = []
    for suffix, (name, sound) in SOUND.items():
        found += damaged(f"depth/{suffix}", name, sound, read(name))
    tables: dict[Right, Table] = {"refused": LIES, "read": UNUSUAL, "either": NOTHING}
    for right, table in tables.items():
        for fault, (name, data) in table.items():
            entry = (
                read_as_stated(name)
                if fault.startswith(("png/scale", "png/offset", "png/near", "png/far"))
                else read(name)
            )
            found.append(Case(f"depth/{fault}", put(name, data), entry, right, name, never=("ran",)))
    found.append(Case("depth/png/no-unit", put(*SOUND["png"]), read_as_stated("a.png"), "refused", "a.png"))
    return found + _commands()


def _commands() -> list[Case]:
    """Where the command line takes a depth map."""
    found = []
    for fault in (
        "pfm/claims-a-million",
        "npy/claims-a-million",
        "exr/data-claims-a-million",
        "npy/pickle-that-runs-code",
    ):
        name, data = LIES[fault]

        def make(name: str = name, data: Callable[[], bytes] = data) -> None:
            put("a.png", encoded)()
            put(name, data)()

        words = ("calibrate", "@network", "--depth", name, "--image", "a.png", "-o", "out")
        found.append(Case(f"depth/{fault}/calibrate", make, words, "refused", name, never=("ran",)))
        words = ("data", "convert", "a.png", name, "out")
        found.append(Case(f"depth/{fault}/convert", make, words, "refused", name, never=("ran",)))
    return found


def pickled() -> bytes:
    """A pickle that makes a folder named `ran` when it is loaded."""
    return pickle.dumps(RunsCode())
