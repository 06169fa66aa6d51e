"""Images are found in folders, lists and tars in a fixed order under unique names; a cut tar is told."""

import io
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonde import unlabeled
from sonde.files import roles
from sonde.unlabeled import Images, open_images


def place(folder: Path, *names: str) -> Path:
    """Files that hold their own name; what is an image is not asked here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def pack(path: Path, *names: str) -> Path:
    """A tar of members that hold their own name, many times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in names:
            member, data = tarfile.TarInfo(name), content(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def content(name: str) -> bytes:
    return name.encode() * 300


def refusal(source) -> str:
    with pytest.raises(ValueError) as refused:
        open_images(source)
    return str(refused.value)


def test_a_folder_gives_its_images_sorted_by_their_path_without_suffix(tmp_path):
    root = place(tmp_path / "set", "b.jpg", "a/c.PNG", "a/b.jpeg", "notes.txt", ".hidden.jpg", ".cache/x.png")
    images = open_images(root)
    assert images.ids == ["a/b", "a/c", "b"]
    assert [images.read(index) for index in range(3)] == [b"a/b.jpeg", b"a/c.PNG", b"b.jpg"]
    assert images.where(0) == str(root / "a/b.jpeg") and images.span(0) is None


def test_names_alike_but_for_suffix_or_case_keep_the_suffix(tmp_path):
    images = open_images(place(tmp_path, "x.jpg", "x.png", "X.webp", "y.jpg", "x.jpg.png"))
    assert sorted(images.ids) == sorted(["x.jpg", "x.png", "X.webp", "y", "x.jpg.png"])
    assert {id_.lower() for id_ in images.ids} == {"x.jpg", "x.png", "x.webp", "y", "x.jpg.png"}
    assert all(images.read(index).decode().startswith(id_) for index, id_ in enumerate(images.ids))


def test_the_output_below_the_source_is_no_source(tmp_path):
    place(tmp_path, "a.jpg", "out/labels/a.png")
    assert open_images(tmp_path, without=tmp_path / "out").ids == ["a"]
    with pytest.raises(ValueError, match="both source and output"):
        open_images(tmp_path, without=tmp_path)


def test_a_list_is_read_relative_to_itself(tmp_path):
    place(tmp_path / "one", "a.jpg", "b.jpg")
    place(tmp_path / "two", "c.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "some.txt").write_text("# photos\n../two/c.jpg\n../one/b.jpg\n\n../one/./b.jpg\n")
    images = open_images(tmp_path / "lists" / "some.txt")
    assert images.ids == ["one/b", "two/c"] and images.read(1) == b"c.jpg"
    assert images.root == tmp_path.resolve()


def test_one_image_is_a_source(tmp_path):
    images = open_images(place(tmp_path, "a.jpg") / "a.jpg")
    assert images.ids == ["a"] and images.read(0) == b"a.jpg"


@pytest.mark.parametrize("source", ["sa_{000000..000001}.tar", "."])
def test_tars_give_their_images_by_shard_and_key(tmp_path, source):
    names = [[f"./sa_{k}.jpg" for k in range(2)], ["sa_7.jpg", "deep/sa_8.jpg"]]
    for shard, members in enumerate(names):
        pack(tmp_path / f"sa_{shard:06}.tar", *(name for image in members for name in (image, image[:-3] + "json")))
    images = open_images(str(tmp_path / source))
    assert images.ids == ["sa_000000/sa_0", "sa_000000/sa_1", "sa_000001/sa_7", "sa_000001/deep/sa_8"]
    assert [images.read(index) for index in (3, 0)] == [content("deep/sa_8.jpg"), content("./sa_0.jpg")]
    assert images.where(0) == f"{tmp_path.resolve() / 'sa_000000.tar'}#./sa_0.jpg"
    offset, size = images.span(2) or (0, 0)
    assert (tmp_path / "sa_000001.tar").read_bytes()[offset : offset + size] == content("sa_7.jpg")


def test_many_threads_and_another_process_read_the_same(tmp_path):
    names = [f"{k:03}.jpg" for k in range(50)]
    images: Images = pickle.loads(pickle.dumps(open_images(pack(tmp_path / "a.tar", *names))))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(images.read, range(50))) == [content(name) for name in names]


def test_some_of_the_images_are_images_too(tmp_path):
    images = open_images(pack(tmp_path / "a.tar", "0.jpg", "1.jpg", "2.jpg"))
    some = images.take([2, 0])
    assert some.ids == ["a/2", "a/0"] and some.read(0) == content("2.jpg")
    assert some.digest() != images.digest() == open_images(tmp_path).digest()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_a_cut_tar_names_itself_and_its_last_whole_member(tmp_path, share):
    whole = pack(tmp_path / "a.tar", "0.jpg", "1.jpg", "2.jpg", "3.jpg").read_bytes()[: 4 * (512 + 1536)]
    (tmp_path / "a.tar").write_bytes(whole[: int(share * len(whole))])
    said = refusal(tmp_path / "a.tar")
    last = int(share * 4) - 1
    assert "a.tar is truncated" in said and (f"{last}.jpg)" if last >= 0 else "none)") in said and "again" in said


def test_a_tar_cut_between_two_members_is_cut_too(tmp_path):
    path = pack(tmp_path / "a.tar", "0.jpg", "1.jpg")
    path.write_bytes(path.read_bytes()[: 2 * (512 + 1536)])  # two whole members, and no end
    assert "last complete member is 1.jpg" in refusal(path)


def test_a_damaged_header_is_told(tmp_path):
    path = pack(tmp_path / "a.tar", "0.jpg", "1.jpg", "2.jpg")
    data = bytearray(path.read_bytes())
    data[2048:2148] = b"\xff" * 100
    path.write_bytes(data)
    assert "last complete member is 0.jpg" in refusal(path)


def test_what_cannot_be_a_source_is_told_in_one_sentence(tmp_path):
    place(tmp_path / "empty", "notes.txt")
    place(tmp_path / "zipped", "a.tar.gz")
    pack(place(tmp_path / "both", "a.jpg") / "a.tar", "0.jpg")
    (tmp_path / "names.txt").write_text("a.jpg\nb.doc\n")
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "does not exist" in refusal(str(tmp_path / "sa_{000..002}.tar"))
    assert "No images" in refusal(tmp_path / "empty")
    assert "decompress it to a plain .tar" in refusal(tmp_path / "zipped")
    assert "both tars" in refusal(tmp_path / "both")
    assert "'b.doc'" in refusal(tmp_path / "names.txt")
    assert "No images" in refusal(pack(tmp_path / "t" / "texts.tar", "a.json"))
    assert "points outside" in refusal(pack(tmp_path / "t" / "evil.tar", "../../a.jpg"))
    assert "occurs twice" in refusal(pack(tmp_path / "t" / "twice.tar", "a.jpg", "a.jpg"))


def test_linked_folders_are_images_too_once(tmp_path):
    for place in ("all/a", "disk"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / place / "1.png")
    (tmp_path / "all" / "b").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "all")
    assert open_images(tmp_path / "all").ids == ["a/1", "b/1"]


COLOUR, GREY = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
LEVELS, METRES = np.full((4, 5), 700, np.uint16), np.full((4, 5), 0.7, np.float32)


def encoded(name: str, pixels: np.ndarray) -> bytes:
    """An image in the format of a name."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, Image.registered_extensions()[Path(name).suffix])
    return buffer.getvalue()


def paint(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """Images by name, real ones."""
    for name, pixels in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(name, pixels))
    return folder


def passed(images: Images, root: Path) -> dict[str, str]:
    """Reason by path below a root."""
    return {where.removeprefix(f"{root.resolve()}/"): reason for where, reason in images.passed_over}


SETS: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {
    "NYU": ({"kitchen/rgb_00012.jpg": COLOUR}, {"kitchen/sync_depth_00012.png": LEVELS}),
    "TUM, whose times differ": ({"rgb/1.25.png": COLOUR}, {"depth/1.31.png": LEVELS}),
    "float TIFF": ({"a.tif": COLOUR}, {"b.tif": METRES}),
    "labels of ours": ({"x/photo.jpg": COLOUR}, {"labels/x/photo.png": LEVELS}),
    "8-bit depth beside": ({"0001.jpg": COLOUR}, {"0001_depth.png": GREY, "0001_rawDepth.png": GREY}),
    "8-bit depth alone": ({"x.jpg": COLOUR}, {"disp1.png": GREY, "depthmap/7.png": GREY}),
    "depth in colour": ({"images/7.jpg": COLOUR}, {"depth/7.png": COLOUR, "depth_viz/7.jpg": COLOUR}),
    "Sintel": ({"final/alley_1/frame_0001.png": COLOUR}, {"depth_viz/alley_1/frame_0001.png": COLOUR}),
    "TartanAir V2": (
        {"P0/image_lcam_front/01_lcam_front.png": COLOUR}, {"P0/depth_lcam_front/01_lcam_front_depth.png": COLOUR}
    ),
    "Cityscapes": ({"left/aachen_1_left.png": COLOUR}, {"disparity/aachen_1_disparity.png": GREY}),
    "DrivingStereo": (
        {"left-image-half-size/2018_1.jpg": COLOUR}, {"depth-map-half-size/2018_1.png": LEVELS}
    ),
    "KITTI": (
        {"image_02/data/05.png": COLOUR, "image_00/data/05.png": GREY},
        {"proj_depth/groundtruth/image_02/05.png": LEVELS},
    ),
    "in a folder called depth": ({"nyu_depth_v2/rgb/1.png": GREY, "nyu_depth_v2/x/2.png": COLOUR}, {}),
    "stories": ({"in_depth_story.jpg": COLOUR, "indepth.png": GREY, "depth_of_field/1.jpg": COLOUR}, {}),
    "photographs": (
        {"grey.jpg": GREY, "grey.png": GREY, "alpha.png": np.zeros((4, 5, 4), np.uint8), "displays.png": GREY}, {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_depth_maps_beside_photographs_are_passed_over_and_listed(tmp_path, name):
    photographs, maps = SETS[name]
    paint(tmp_path, photographs | maps)
    images = open_images(tmp_path)
    assert {str(images.path(index)) for index in range(len(images))} == {str(tmp_path / each) for each in photographs}
    assert set(passed(images, tmp_path)) == set(maps)


def test_a_16_bit_photograph_in_colour_is_a_photograph(tmp_path):
    import cv2  # Pillow writes none

    for name in ("a.png", "b.tif"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 5, 3), 40000, np.uint16))
    cv2.imwrite(str(tmp_path / "c.png"), LEVELS)
    assert open_images(tmp_path).ids == ["a", "b"]


def test_why_an_image_is_a_depth_map_is_said(tmp_path):
    paint(tmp_path, {"1.jpg": COLOUR, "1_depth.png": COLOUR, "2_depth.png": GREY, "3.png": LEVELS})
    (tmp_path / "4_depth.png").write_bytes(b"no image")
    found = passed(open_images(tmp_path), tmp_path)
    assert found == {
        "1_depth.png": roles.PAIRED, "2_depth.png": roles.GREY, "3.png": roles.DEEP, "4_depth.png": roles.NOTHING
    }  # fmt: skip


def test_all_is_as_if_the_depth_maps_were_not_there(tmp_path):
    both = open_images(paint(tmp_path / "both", {"rgb/1.jpg": COLOUR, "depth/1.png": LEVELS, "rgb/1.png": LEVELS}))
    alone = open_images(paint(tmp_path / "alone", {"rgb/1.jpg": COLOUR}))
    assert both.ids == alone.ids == ["1"] and both.digest() == alone.digest()
    assert pickle.loads(pickle.dumps(both)).passed_over == both.passed_over and not alone.passed_over


def test_a_list_that_names_depth_maps_is_read_without_them(tmp_path):
    paint(tmp_path, {"rgb_1.jpg": COLOUR, "depth_1.png": LEVELS})
    (tmp_path / "all.txt").write_text("rgb_1.jpg\ndepth_1.png\ngone.png\n")
    images = open_images(tmp_path / "all.txt")
    assert images.ids == ["gone", "rgb_1"] and list(passed(images, tmp_path)) == ["depth_1.png"]


def test_depth_maps_in_tars_are_passed_over_too(tmp_path):
    members = {"1.jpg": COLOUR, "1.depth.png": GREY, "./2.png": LEVELS, "3.png": COLOUR, "4.tif": METRES}
    with tarfile.open(tmp_path / "nyu-depth.tar", "w") as archive:
        for name, pixels in members.items():
            member, data = tarfile.TarInfo(name), encoded(name, pixels)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    images = open_images(tmp_path)
    assert images.ids == ["nyu-depth/1", "nyu-depth/3"]
    assert images.read(1) == encoded("3.png", COLOUR)
    assert set(passed(images, tmp_path)) == {f"nyu-depth.tar#{name}" for name in ("1.depth.png", "./2.png", "4.tif")}


def test_depth_maps_alone_are_refused(tmp_path):
    assert "only 1 depth maps" in refusal(paint(tmp_path / "a", {"1.png": LEVELS}) / "1.png")
    said = refusal(paint(tmp_path / "b", {"1.png": LEVELS, "2.png": LEVELS}))
    assert "only 2 depth maps, first" in said and "Save 16-bit grey photographs with 8 bits" in said


def test_headers_are_read_of_png_and_tiff_alone_and_of_names_that_say_depth(tmp_path, monkeypatch):
    looked = []
    honest = unlabeled._read_mode
    monkeypatch.setattr(unlabeled, "_read_mode", lambda path, span=None: looked.append(path.name) or honest(path, span))
    images = {"a.jpg": COLOUR, "b.png": COLOUR, "c.webp": COLOUR, "d.tif": COLOUR, "e_depth.jpg": COLOUR}
    open_images(paint(tmp_path, images | {"f.jpg": COLOUR, "f_depth.png": LEVELS}))
    assert sorted(looked) == ["b.png", "d.tif", "e_depth.jpg"]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("x_{5..1}.tar", r"\{5\.\.1\} runs backwards"),
        ("x_{0..99999999}.tar", "more than 1,000,000"),
        ("x_{0..999}_{0..999}_{0..9}.tar", "more than 1,000,000"),
        (f"x_{{0..{10**30}}}.tar", "more than 1,000,000"),
        (f"x_{{0..{'9' * 9000}}}.tar", "more than 1,000,000"),
        pytest.param("x_{0..{0..9}99999}.tar", "more than 1,000,000", marks=pytest.mark.slow),
        ("x_{00000000..00000003}.tar", r"x_00000000\.tar does not exist"),
    ],
)
def test_a_range_that_cannot_be_is_told(pattern, says):
    with pytest.raises(ValueError, match=says) as refused:
        open_images(pattern)
    assert len(str(refused.value)) < 1000


def test_shards_keep_their_order_files_before_folders(tmp_path):
    for name in ("b.tar", "a/z.tar", "a/b/y.tar", "c.tar", "a.x/w.tar"):
        pack(tmp_path / name, "0.jpg")
    assert [*open_images(tmp_path).shards] == ["b.tar", "c.tar", "a/z.tar", "a/b/y.tar", "a.x/w.tar"]


def test_members_whose_names_give_no_id_are_listed(tmp_path):
    names = ["\x1b]0;x.jpg", "n" * 100_000 + ".jpg", "a/" * 3000 + "b.jpg", "good.jpg"]
    images = open_images(pack(tmp_path / "a.tar", *names))
    assert images.ids == ["a/good"] and images.read(0) == content("good.jpg")
    assert len(images.unread) == 3 and max(len(where + why) for where, why in images.unread) < 1000
    assert "b.tar" in refusal(pack(tmp_path / "b.tar", *names[:3]))


def test_a_tar_that_is_no_file_is_listed_beside_sound_ones(tmp_path):
    pack(tmp_path / "a.tar", "0.jpg")
    os.mkfifo(tmp_path / "b.tar")
    images = open_images(tmp_path)
    assert images.ids == ["a/0"] and "FIFO" in images.unread[0][1]
    assert "b.tar" in refusal(tmp_path / "b.tar")


def test_a_list_may_begin_with_a_mark_and_its_long_lines_are_listed(tmp_path):
    place(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\n" + b"n" * 1_000_000 + b".jpg\n")
    images = open_images(tmp_path / "list.txt")
    assert images.ids == ["a"] and "more than 240 bytes" in images.unread[0][1]
    (tmp_path / "list.txt").write_bytes(b"a\0b.jpg\n")
    assert "list.txt" in refusal(tmp_path / "list.txt")
