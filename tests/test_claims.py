"""No header makes sonde take memory that its file cannot fill; a container is read from itself alone."""

import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import OpenEXR
import pytest
from PIL import Image
from scipy.io import savemat

from sonde import files
from sonde.datasets import open_set
from sonde.datasets.nyu_labeled import read_parts
from sonde.datasets.sintel import read_dpt
from sonde.files.claims import MULTIPLE, check_packed, check_stored
from sonde.files.hdf5 import find_array, open_hdf5
from sonde.files.roles import find_depth_maps, read_mode

HUGE = 10**6
POINTS = bytes(12 * 40)


def test_a_plain_file_holds_what_it_claims() -> None:
    check_stored(10, 10)
    for claimed in (11, -1, 10**30):
        with pytest.raises(ValueError, match="its header claims"):
            check_stored(claimed, 10)


def test_a_packed_file_may_claim_a_multiple_that_the_environment_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packed(60 << 20, 1)
    with pytest.raises(ValueError, match=f"more than 200 times as many; if you trust it, set {MULTIPLE}"):
        check_packed(1 << 30, 1 << 20)
    monkeypatch.setenv(MULTIPLE, "2000")
    check_packed(1 << 30, 1 << 20)


def png(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG that claims a size."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def npy(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """A .npy that claims a shape."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(4096)


def ply(count: int, order: str) -> bytes:
    """A PLY that claims so many points."""
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    return f"ply\nformat {order} 1.0\nelement vertex {count}\n{properties}end_header\n".encode() + POINTS


def pcd(**fields: object) -> bytes:
    """A PCD with this header."""
    header: dict[str, object] = {"FIELDS": "x y z", "SIZE": "4 4 4", "TYPE": "F F F", "COUNT": "1 1 1"}
    header |= {"WIDTH": 8, "HEIGHT": 5, "DATA": "binary"} | fields
    header["DATA"] = header.pop("DATA")
    return "".join(f"{key} {value}\n" for key, value in header.items()).encode() + POINTS


CLAIMS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "wide.png": (files.read_rgb, png(13_000, 13_000)),
    "deep.png": (files.read_depth, png(13_000, 13_000, 16, 0)),
    "size.png": (files.image_size, png(13_000, 13_000)),
    "a.pfm": (files.read_depth, b"Pf\n1000000 1000000\n-1.0\n" + bytes(64)),
    "b.pfm": (files.read_depth, b"Pf\n-4 -4\n-1.0\n" + bytes(64)),
    "a.pgm": (files.read_depth, b"P5 1000000 1000000 65535\n" + bytes(64)),
    "b.pgm": (files.read_depth, b"P2 1000000 1000000 65535\n1 2 3"),
    "a.npy": (files.read_depth, npy((HUGE, HUGE))),
    "b.npy": (files.read_depth, b"\x93NUMPY\x02\0" + b"\xff" * 4 + bytes(99)),
    "a.dpt": (read_dpt, struct.pack("<fii", 202021.25, HUGE, HUGE) + bytes(64)),
    "b.dpt": (read_dpt, struct.pack("<fii", 202021.25, -4, -4) + bytes(64)),
    "bytes.ply": (files.read_xyz, ply(10**12, "binary_little_endian")),
    "text.ply": (files.read_xyz, ply(10**12, "ascii")),
    "negative.ply": (files.read_xyz, ply(-40, "ascii")),
    "points.pcd": (files.read_xyz, pcd(WIDTH=HUGE, HEIGHT=HUGE)),
    "text.pcd": (files.read_xyz, pcd(WIDTH=HUGE, HEIGHT=HUGE, DATA="ascii")),
    "count.pcd": (files.read_xyz, pcd(COUNT="1 1 99999999")),
    "padding.pcd": (files.read_xyz, pcd(FIELDS="x y z _", SIZE="4 4 4 1", TYPE="F F F U", COUNT=f"1 1 1 {10**20}")),
    "less.pcd": (files.read_xyz, pcd(FIELDS="x y z _", SIZE="4 4 4 1", TYPE="F F F U", COUNT="1 1 1 -9")),
    "packed.pcd": (files.read_xyz, pcd(DATA="binary_compressed", WIDTH=HUGE, HEIGHT=HUGE)),
}
"""File -> its reader and what it holds."""


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_header_claims_is_checked_first(tmp_path: Path, name: str) -> None:
    read, data = CLAIMS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} cannot be read \("):
        read(tmp_path / name)


def test_an_exr_that_claims_a_million_each_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.ones((8, 8), np.float32)}).write(str(path))
    data = path.read_bytes()
    at = data.index(b"dataWindow\0box2i\0") + 21
    path.write_bytes(data[:at] + struct.pack("<iiii", 0, 0, 99_999, 99_999) + data[at + 16 :])
    with pytest.raises(ValueError, match=r"a.exr cannot be read \("):
        files.read_depth(path)


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("read", [files.read_xyz, files.read_depth])
def test_the_arrays_of_an_npz_are_checked_before_one_is_unpacked(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.npz"
    for members in (
        {"depth.npy": npy((HUGE, HUGE))},
        {"depth.npy": b"junk"},
        {"depth": b""},
        {"readme.txt": b"no array"},
        {},
        {"depth.npy": npy((4, 4), "|O")},
    ):
        zipped(path, members)
        with pytest.raises(ValueError, match=r"a.npz (cannot be read|holds)"):
            read(path)
    zipped(path, {"depth.npy": npy((5000, 5000))[:128] + bytes(100_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="times as many"):
        read(path)
    encrypted = bytearray(path.read_bytes())
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(ValueError, match="encrypted"):
        read(path)


def test_an_array_beside_another_that_is_none_is_read(tmp_path: Path) -> None:
    sound = npy((8, 8))[: 128 + 256]
    zipped(tmp_path / "a.npz", {"depth.npy": sound, "note.txt": b"hello", "bad.npy": b"junk"})
    assert files.read_depth(tmp_path / "a.npz").shape == (8, 8)


# HDF5 and MAT


FILLS: dict[str, Callable[[h5py.File], object]] = {
    "nothing": lambda file: None,
    "a group": lambda file: file.create_group("a"),
    "words": lambda file: file.create_dataset("a", data=[b"far"]),
    "another file's bytes": lambda file: file.create_dataset("a", (8, 8), "f4", external=[("/etc/passwd", 0, 256)]),
    "a link out": lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/a")),
    "a link to itself": lambda file: file.__setitem__("a", h5py.SoftLink("/a")),
    "a link within": lambda file: (file.create_dataset("b", data=[1.0]), file.__setitem__("a", h5py.SoftLink("/b"))),
    "frames without end": lambda file: file.create_dataset("a", (10**6, 10**4, 10**4), "f4", chunks=True),
    "no array": lambda file: file.create_dataset("a", dtype="f4", shape=None, data=h5py.Empty("f4")),
}


@pytest.mark.parametrize("fault", FILLS)
def test_an_array_of_hdf5_is_numbers_of_the_file_itself(tmp_path: Path, fault: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        FILLS[fault](file)
    with pytest.raises(ValueError, match=r"a.h5 cannot be read \(.*\): get it again"):
        with open_hdf5(tmp_path / "a.h5", "get it again") as file:
            find_array(file, "a")


def fill_nyu(file: h5py.File, frames: int = 2, scenes: int = 2) -> None:
    """Small frames of one scene."""
    file["images"] = np.zeros((frames, 3, 8, 6), np.uint8)
    file["rawDepths"] = np.full((frames, 8, 6), 1.5, np.float32)
    file["#refs#/a"] = np.array([[107], [105]], np.uint16)
    file["scenes"] = np.array([[file["#refs#/a"].ref] * scenes], h5py.ref_dtype)


def test_the_scenes_of_nyu_are_one_for_each_frame(tmp_path: Path) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        fill_nyu(file)
    assert open_set("nyu_labeled", tmp_path).groups("scene") == {"0001": "ki", "0002": "ki"}
    with h5py.File(path, "w") as file:
        fill_nyu(file, scenes=3)
    with pytest.raises(ValueError, match="it has 3 scenes for 2 frames"):
        open_set("nyu_labeled", tmp_path).groups("scene")


def test_a_split_lists_frames_and_no_more_than_its_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "splits.mat"
    savemat(path, {"trainNdxs": np.array([[2], [1]]), "testNdxs": np.array([[3]]), "other": "text"})
    assert read_parts(path) == {"train": [1, 2], "test": [3]}
    savemat(path, {"trainNdxs": np.zeros((0, 1)), "testNdxs": np.zeros((0, 1))})
    with pytest.raises(ValueError, match="lists no frames"):
        read_parts(path)
    savemat(path, {"trainNdxs": np.zeros(10_000_000), "testNdxs": np.array([1])}, do_compression=True)
    with pytest.raises(ValueError, match="times as many"):
        read_parts(path)


# the words of libraries


def test_a_large_photograph_is_looked_at_without_a_word(tmp_path: Path) -> None:
    Image.new("1", (12_000, 8_000)).save(tmp_path / "depth.tif")

    def mode(index: int) -> str:
        with (tmp_path / "depth.tif").open("rb") as file:
            return read_mode(file)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always")
        patch.setattr("warnings.showwarning", lambda message, *_, **__: files.hear_warning(message) or pytest.fail())
        assert find_depth_maps(["depth.tif"], mode) == {0: "its name says depth, and it is grey"}


def test_a_format_that_needs_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n%%EOF\n")
    with pytest.raises(ValueError, match="its content is EPS"):
        files.read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.exr", "a.tif"])
def test_libraries_say_nothing_of_a_damaged_file(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    depth = np.add.outer(np.arange(64), np.arange(64)).astype(np.float32)
    if name == "a.tif":
        Image.fromarray(depth).save(tmp_path / name, compression="tiff_adobe_deflate")
    else:
        files.write_depth(tmp_path / name, depth + 1)
    data = bytearray((tmp_path / name).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        files.read_depth(tmp_path / name)
    assert capfd.readouterr() == ("", "")
    print("heard")
    assert capfd.readouterr() == ("heard\n", "")
