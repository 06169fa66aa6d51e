"""Depth maps and clouds as other programs write them: the right channel, the right numbers, the right way round."""

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small_captures import bench_cloud, picture
from typer.testing import CliRunner

from sonde import files
from sonde.cli import app
from sonde.datasets import convert, open_set
from sonde.files.channels import find_depth_channel
from sonde.files.clouds import holds_cloud
from sonde.files.pcd import unpack_lzf

DEPTH = np.linspace(0.5, 4, 12 * 16, dtype=np.float32).reshape(12, 16)
OTHER = np.full((12, 16), 7, np.float32)
CLOUD = bench_cloud(0, 12, 16)


# EXR


def write_exr(path: Path, *parts: dict[str, np.ndarray], names: tuple[str, ...] = ("",)) -> Path:
    """An EXR of one part or of several."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    if len(parts) == 1:
        OpenEXR.File(header, parts[0]).write(str(path))
    else:
        named = [OpenEXR.Part(header | {"name": name}, part) for name, part in zip(names, parts, strict=True)]
        OpenEXR.File(named).write(str(path))
    return path


COLOUR = dict.fromkeys("RGBA", OTHER)


@pytest.mark.parametrize(
    "name", ["Z", "depth", "Depth.Z", "depth.Z", "Depth.V", "ViewLayer.Depth.Z", "ViewLayer.Depth.V", "scene.zdepth"]
)
def test_the_depth_channel_is_found_beside_colour(tmp_path: Path, name: str) -> None:
    layer = {f"ViewLayer.Combined.{letter}": OTHER for letter in "RGBA"}
    for others in (COLOUR, layer, layer | {"ViewLayer.Mist.Z": OTHER}):
        path = write_exr(tmp_path / "a.exr", {name: DEPTH} | others)
        np.testing.assert_array_equal(files.read_depth(path), DEPTH)


def test_the_z_of_a_vector_is_no_depth(tmp_path: Path) -> None:
    normal = {f"ViewLayer.Normal.{axis}": OTHER for axis in "XYZ"}
    path = write_exr(tmp_path / "a.exr", normal | {"ViewLayer.Depth.Z": DEPTH})
    np.testing.assert_array_equal(files.read_depth(path), DEPTH)
    with pytest.raises(ValueError, match=r"a.exr holds the channels A, B, .*not clear: name one"):
        files.read_depth(write_exr(path, normal | COLOUR))


@pytest.mark.parametrize("name", ["Z", "V", "Y", "depth.Z", "R"])
def test_a_part_named_depth_is_the_depth(tmp_path: Path, name: str) -> None:
    path = write_exr(tmp_path / "a.exr", COLOUR, {name: DEPTH}, names=("rgba", "depth"))
    np.testing.assert_array_equal(files.read_depth(path), DEPTH)


@pytest.mark.parametrize("name", ["G", "whatever", "Z", "Layer.Q"])
def test_the_only_channel_is_the_depth(tmp_path: Path, name: str) -> None:
    np.testing.assert_array_equal(files.read_depth(write_exr(tmp_path / "a.exr", {name: DEPTH})), DEPTH)


@pytest.mark.parametrize(
    "channels", [COLOUR, {"left.Z": DEPTH, "right.Z": OTHER}, {"X": DEPTH, "Y": DEPTH}, {"Y": OTHER, "RY": OTHER}]
)
def test_no_channel_is_guessed(tmp_path: Path, channels: dict[str, np.ndarray]) -> None:
    path = write_exr(tmp_path / "a.exr", channels)
    with pytest.raises(ValueError, match=f"a.exr holds the channels {sorted(channels)[0]}.*--depth-channel") as caught:
        files.read_depth(path)
    assert all(name in str(caught.value) for name in channels)


def test_a_channel_can_be_named_in_python_in_a_set_and_in_a_conversion(tmp_path: Path) -> None:
    path = tmp_path / "depth" / "a.exr"
    path.parent.mkdir()
    write_exr(path, {"left.Z": DEPTH, "right.Z": OTHER})
    files.write_rgb(tmp_path / "rgb" / "a.png", picture(0, 12, 16))
    np.testing.assert_array_equal(files.read_depth(path, channel="left.Z"), DEPTH)
    with pytest.raises(ValueError, match="'Q' fits none of them, or several"):
        files.read_depth(path, channel="Q")
    (tmp_path / "dataset.json").write_text('{"depth_channel": "left.Z"}')
    np.testing.assert_array_equal(open_set("folder", tmp_path).read_depth(0), DEPTH)
    words = ["data", "convert", str(tmp_path / "rgb"), str(path.parent), str(tmp_path / "new")]
    assert CliRunner().invoke(app, words).exit_code != 0
    assert CliRunner().invoke(app, [*words, "--depth-channel", "left.Z"]).exit_code == 0
    np.testing.assert_allclose(open_set("zivid", tmp_path / "new").read_depth(0), DEPTH, rtol=1e-6)


def test_parts_of_one_channel_name_are_told_by_the_name_of_the_part() -> None:
    assert find_depth_channel(["left.Z", "right.Z"], "right.Z") == "right.Z"
    assert find_depth_channel(["left.R", "depth.R", "left.G"]) == "depth.R"


def test_where_blender_hit_nothing_there_is_no_depth(tmp_path: Path) -> None:
    depth = DEPTH.copy()
    depth[0] = 1e10
    read = files.read_depth(write_exr(tmp_path / "a.exr", {"ViewLayer.Depth.Z": depth, "ViewLayer.Combined.R": OTHER}))
    assert np.isnan(read[0]).all() and (read[1:] == DEPTH[1:]).all()


# PNG, TIFF and PGM


def write_moge(path: Path, depth: np.ndarray, **notes: str) -> None:
    """A depth PNG as MoGe writes it: logarithmic levels between near and far."""
    near, far = float(np.nanmin(depth)), float(np.nanmax(depth[np.isfinite(depth)]))
    with np.errstate(invalid="ignore"):
        levels = 1 + np.round(np.log(depth / near) / np.log(far / near) * 65533)
    levels = np.select([np.isnan(depth), np.isinf(depth)], [0, 65535], levels).astype(np.uint16)
    about = PngInfo()
    for key, text in ({"near": str(near), "far": str(far)} | notes).items():
        about.add_text(key, text)
    Image.fromarray(levels).save(path, pnginfo=about)


def test_a_png_of_moge_is_decoded_by_its_near_and_far(tmp_path: Path) -> None:
    depth = DEPTH.copy()
    depth[0, 0], depth[0, 1] = np.nan, np.inf
    write_moge(tmp_path / "a.png", depth)
    read = files.read_depth(tmp_path / "a.png", metric=True)
    assert np.isnan(read[0, :2]).all() and np.isnan(read).sum() == 2
    np.testing.assert_allclose(read[1:], DEPTH[1:], rtol=1e-4)
    np.testing.assert_allclose(files.read_depth(tmp_path / "a.png", 0.001)[1:], DEPTH[1:] / 1000, rtol=1e-4)
    for wrong in ({"near": "0"}, {"far": "inf"}, {"near": "nan"}, {"far": "0.1"}, {"near": "close"}):
        write_moge(tmp_path / "b.png", DEPTH, **wrong)
        with pytest.raises(ValueError, match=r"b.png cannot be read"):
            files.read_depth(tmp_path / "b.png")


@pytest.mark.parametrize("scale", ["inf", "-inf", "nan", "-0.001", "0", "1e999"])
def test_a_scale_that_is_no_size_of_a_level_is_refused(tmp_path: Path, scale: str) -> None:
    about = PngInfo()
    about.add_text("Scale", scale)
    Image.fromarray((DEPTH * 1000).astype(np.uint16)).save(tmp_path / "a.png", pnginfo=about)
    with pytest.raises(ValueError, match=r"a.png cannot be read \(it states the scale"):
        files.read_depth(tmp_path / "a.png")
    if scale != "1e999":
        with pytest.raises(ValueError, match="expected metres per level"):
            files.read_depth(tmp_path / "a.png", float(scale))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "u4", "i2", "u2"])
def test_tiffs_of_every_number_are_read(tmp_path: Path, kind: str, compression: str | None, order: str) -> None:
    values = DEPTH if kind[0] == "f" else np.round(DEPTH * 1000)
    if kind == "u4":
        values = values.astype(np.float64)
        values[0, 0] = 2**32 - 1
    tifffile.imwrite(tmp_path / "a.tif", values.astype(order + kind), byteorder=order, compression=compression)  # type: ignore[arg-type]
    if kind[0] != "f":
        with pytest.raises(ValueError, match="does not state its unit"):
            files.read_depth(tmp_path / "a.tif")
    read = files.read_depth(tmp_path / "a.tif", None if kind[0] == "f" else 1.0)
    np.testing.assert_allclose(read, values, rtol=1e-6)


def test_a_tiff_of_doubles_is_an_image_by_the_rule_of_floats(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, 12 * 16).reshape(12, 16)
    tifffile.imwrite(tmp_path / "a.tif", grey)
    np.testing.assert_array_equal(files.read_rgb(tmp_path / "a.tif")[..., 0], np.rint(grey * 255))
    assert files.image_size(tmp_path / "a.tif") == (12, 16)
    tifffile.imwrite(tmp_path / "a.tif", grey * 2)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        files.read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("last", [65535, 4999])
def test_a_16_bit_pgm_is_read_as_it_is_stored(tmp_path: Path, last: int) -> None:
    levels = (DEPTH * 1000).astype(np.uint16)
    head = b"# a comment\n16 12\n# another\n%d\n" % last
    (tmp_path / "a.pgm").write_bytes(b"P5\n" + head + levels.astype(">u2").tobytes())
    (tmp_path / "b.pgm").write_bytes(b"P2 " + head + " ".join(map(str, levels.ravel())).encode())
    for name in ("a.pgm", "b.pgm"):
        np.testing.assert_allclose(files.read_depth(tmp_path / name, 0.001), levels / 1000, rtol=1e-6)
    (tmp_path / "a.pgm").write_bytes(b"P5\n16 12\n255\n" + bytes(16 * 12))
    with pytest.raises(ValueError, match="largest level is 255"):
        files.read_depth(tmp_path / "a.pgm", 0.001)


# NumPy


def test_an_axis_of_one_is_dropped(tmp_path: Path) -> None:
    for array in (DEPTH[..., None], DEPTH[None]):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(files.read_depth(tmp_path / "a.npy"), DEPTH)


def test_a_depth_map_in_an_npz_is_found_by_name_or_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for arrays in (
        {"depth": DEPTH, "confidence": OTHER},
        {"Z": DEPTH, "mask": OTHER},
        {"pred_depth": DEPTH, "mask": OTHER},
        {"arr_0": DEPTH, "intrinsics": np.zeros(9), "name": np.array("x"), "rgb": np.zeros((12, 16, 3))},
        {"depth": DEPTH[None], "z": OTHER},
    ):
        np.savez(path, allow_pickle=True, **arrays)
        np.testing.assert_array_equal(files.read_depth(path), DEPTH)
    np.savez(path, one=DEPTH, two=OTHER)
    with pytest.raises(ValueError, match=r"a.npz holds the arrays one \(12, 16\), two \(12, 16\), and which"):
        files.read_depth(path)
    np.testing.assert_array_equal(files.read_depth(path, channel="two"), OTHER)


# clouds


def write_grid(path: Path, order: str, camera: bool = False) -> None:
    """A range_grid of CLOUD: only the points that were seen are vertices."""
    seen = np.isfinite(CLOUD[..., 2]).ravel()
    points = CLOUD.reshape(-1, 3)[seen].astype("<f4")
    between = "element camera 1\nproperty float view_px\n" if camera else ""
    head = (
        f"ply\nformat {order} 1.0\nobj_info num_cols 16\nobj_info num_rows 12\nelement vertex {len(points)}\n"
        f"property float x\nproperty float y\nproperty float z\n{between}element range_grid {seen.size}\n"
        "property list uchar int vertex_indices\nend_header\n"
    ).encode()
    numbers = np.cumsum(seen) - 1
    if order == "ascii":
        body = "\n".join(" ".join(map(repr, map(float, point))) for point in points) + "\n" + "0\n" * camera
        body += "\n".join(f"1 {number}" if there else "0" for there, number in zip(seen, numbers, strict=True))
        path.write_bytes(head + body.encode())
    else:
        cells = [struct.pack("<Bi", 1, n) if there else b"\0" for there, n in zip(seen, numbers, strict=True)]
        path.write_bytes(head + points.tobytes() + bytes(4 * camera) + b"".join(cells))


@pytest.mark.parametrize("camera", [False, True])
@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_a_range_grid_is_an_organised_cloud(tmp_path: Path, order: str, camera: bool) -> None:
    write_grid(tmp_path / "a.ply", order, camera)
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "a.ply"), CLOUD)
    whole = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(whole[:-60])
    with pytest.raises(ValueError, match=r"range_grid ends after|follow"):
        files.read_xyz(tmp_path / "a.ply")


def pack_lzf(data: bytes) -> bytes:
    """LZF by runs of new bytes, and by references where 16 bytes repeat the 16 before."""
    out, at = bytearray(), 0
    while at < len(data):
        if at >= 16 and data[at : at + 16] == data[at - 16 : at]:
            out += bytes([7 << 5, 16 - 9, 15])
            at += 16
        else:
            piece = data[at : at + 16]
            out += bytes([len(piece) - 1]) + piece
            at += 16
    return bytes(out)


def pcd_compressed() -> tuple[bytes, bytes]:
    """The header and the packed body of CLOUD, with a field of four numbers between y and z."""
    points = CLOUD.reshape(-1, 3).astype("<f4")
    columns = b"".join(
        [points[:, 0].tobytes(), points[:, 1].tobytes(), bytes(16 * len(points)), points[:, 2].tobytes()]
    )
    packed = pack_lzf(columns)
    head = (
        "VERSION 0.7\nFIELDS x y shape z\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 4 1\nWIDTH 16\nHEIGHT 12\n"
        f"POINTS {len(points)}\nDATA binary_compressed\n"
    ).encode()
    return head, struct.pack("<II", len(packed), len(columns)) + packed


def test_a_compressed_pcd_is_read(tmp_path: Path) -> None:
    head, body = pcd_compressed()
    (tmp_path / "a.pcd").write_bytes(head + body)
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "a.pcd"), CLOUD)
    for wrong in (body[:-9], body[:4] + b"\xff\xff\xff\xff" + body[8:], body[:20], b"", body[:8] + b"\xff" * 200):
        (tmp_path / "a.pcd").write_bytes(head + wrong)
        with pytest.raises(ValueError, match=r"a.pcd cannot be read"):
            files.read_xyz(tmp_path / "a.pcd")


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x02abc", b"abc"),
        (b"\x00a\x20\x00", b"aaaa"),  # a reference that reaches into what it writes
        (b"\x01ab\xe0\x00\x01", b"ab" + b"ab" * 4 + b"a"),
        (b"\x03abcd\x20\x03", b"abcdabc"),
    ],
)
def test_lzf_unpacks_runs_and_references(packed: bytes, plain: bytes) -> None:
    assert unpack_lzf(packed, len(plain)) == plain
    with pytest.raises(ValueError, match="unpack"):
        unpack_lzf(packed, len(plain) + 1)


def test_a_cloud_that_looks_backwards_is_told_and_turned(tmp_path: Path) -> None:
    turned = CLOUD * np.array([1, -1, -1], np.float32)
    for name, write in CLOUD_FILES.items():
        write(tmp_path / "depth" / name, turned)
        with pytest.raises(ValueError, match=rf"Most z of .*{name} are negative.*y points up.*--flip yz"):
            files.read_xyz(tmp_path / "depth" / name)
        np.testing.assert_array_equal(files.read_xyz(tmp_path / "depth" / name, flip="yz"), CLOUD)
        with pytest.raises(ValueError, match="expected axes"):
            files.read_xyz(tmp_path / "depth" / name, flip="yy")


def _save_ply(path: Path, xyz: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    height, width = xyz.shape[:2]
    head = f"ply\nformat binary_little_endian 1.0\ncomment width {width}\ncomment height {height}\n"
    head += f"element vertex {height * width}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    path.write_bytes(head.encode() + xyz.astype("<f4").tobytes())


def _save_npy(path: Path, xyz: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    np.save(path, xyz)


CLOUD_FILES: dict[str, Callable[[Path, np.ndarray], None]] = {"a.ply": _save_ply, "a.npy": _save_npy}


@pytest.mark.parametrize("name", CLOUD_FILES)
def test_backward_clouds_are_converted_and_read_in_a_folder(tmp_path: Path, name: str) -> None:
    metres = CLOUD / np.float32(1000)
    CLOUD_FILES[name](tmp_path / "depth" / name, metres * np.array([1, -1, -1], np.float32))
    files.write_rgb(tmp_path / "rgb" / "a.png", picture(0, 12, 16))
    words = ["data", "convert", str(tmp_path / "rgb"), str(tmp_path / "depth"), str(tmp_path / "new")]
    with pytest.raises(ValueError, match="--flip yz"):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "new")
    done = CliRunner().invoke(app, [*words, "--flip", "yz"])
    assert done.exit_code == 0, done.output
    capture = open_set("zivid", tmp_path / "new").read(0)
    expected = np.nan_to_num(metres[..., 2])
    np.testing.assert_allclose(capture.depth, expected, rtol=1e-5)
    (tmp_path / "dataset.json").write_text('{"flip": "yz"}')
    inside = open_set("folder", tmp_path).read(0)
    np.testing.assert_allclose(inside.depth, expected, rtol=1e-5)
    assert inside.intrinsics is not None and capture.intrinsics is not None
    np.testing.assert_allclose(inside.intrinsics, capture.intrinsics, rtol=1e-3)


def test_clouds_are_told_from_maps(tmp_path: Path) -> None:
    for name, arrays, cloud in (
        ("a.npz", {"xyz": CLOUD}, True),
        ("b.npz", {"xyz": CLOUD, "depth": DEPTH}, False),
        ("c.npz", {"depth": DEPTH}, False),
    ):
        np.savez(tmp_path / name, allow_pickle=True, **arrays)
        assert holds_cloud(tmp_path / name) == cloud
    file = BytesIO()
    np.save(file, DEPTH)
    (tmp_path / "d.npy").write_bytes(file.getvalue())
    assert not holds_cloud(tmp_path / "d.npy") and holds_cloud(tmp_path / "e.pcd") and not holds_cloud(Path("f.png"))
