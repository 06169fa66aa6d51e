"""Containers of captures: HDF5 and MAT of NYU and Hypersim, and tars of photographs."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from case import DAMAGES, Case, Make, after, junk, put
from hostile_images import encoded

from sonde import datasets

NYU = "set/nyu_depth_v2_labeled.mat"
SCENE = "set/ai_001_001/images/scene_cam_00"
DEPTH = f"{SCENE}_geometry_hdf5/frame.0000.depth_meters.hdf5"
COLOUR = f"{SCENE}_final_hdf5/frame.0000.color.hdf5"
READ_NYU = "nyu_labeled"


def read(format: str) -> Callable[[], object]:
    """The entry of Python: open a set, read its first capture and its groups."""

    def enter() -> None:
        captures = datasets.open_set(format, "set")
        captures.read(0)
        captures.groups("folder")

    return enter


def hdf5(path: str, fill: Callable[..., None]) -> Make:
    """Write an HDF5 file by a function of the open file."""

    def make() -> None:
        import h5py

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            fill(file, h5py)

    return make


def sound_nyu(file, h5py, images: bool = True, depths: bool = True) -> None:
    """Two frames of a scene, small."""
    if images:
        file["images"] = np.zeros((2, 3, 56, 40), np.uint8)
    if depths:
        file["rawDepths"] = np.full((2, 56, 40), 1.5, np.float32)
    file["#refs#/a"] = np.array([[107], [105]], np.uint16)
    file["scenes"] = np.array([[file["#refs#/a"].ref] * 2], h5py.ref_dtype)


def _with_scenes(file, h5py, other: Callable[..., None]) -> None:
    sound_nyu(file, h5py)
    del file["scenes"]
    other(file, "scenes", h5py)


def nyu_with(images: object = None, depths: object = None) -> Callable[..., None]:
    """A file in which one of the two is something else: an array, or a function of the file that makes it."""

    def fill(file, h5py) -> None:
        sound_nyu(file, h5py, images is None, depths is None)
        for name, other in (("images", images), ("rawDepths", depths)):
            if callable(other):
                other(file, name, h5py)
            elif other is not None:
                file[name] = other

    return fill


def group(file, name: str, h5py) -> None:
    """A group in place of an array."""
    file.create_group(name)


def huge(file, name: str, h5py) -> None:
    """A million frames of 10,000 x 10,000, none of them stored."""
    shape = (10**6, 3, 10_000, 10_000) if name == "images" else (10**6, 10_000, 10_000)
    file.create_dataset(name, shape, "u1" if name == "images" else "f4", chunks=True)


def external(file, name: str, h5py) -> None:
    """Pixels that lie in another file of this machine."""
    shape, kind = ((2, 3, 4, 4), "u1") if name == "images" else ((2, 4, 4), "f4")
    file.create_dataset(name, shape, kind, external=[("/etc/passwd", 0, 2 * 48 if name == "images" else 128)])


def link_out(file, name: str, h5py) -> None:
    """A link into another file."""
    file[name] = h5py.ExternalLink("/etc/passwd", "/a")


def link_loop(file, name: str, h5py) -> None:
    """A link to itself."""
    file[name] = h5py.SoftLink(f"/{name}")


def bomb(file, name: str, h5py) -> None:
    """Four gigabytes of zeros in a few megabytes."""
    file.create_dataset(name, (2, 20_000, 25_000), "f4", chunks=(1, 20_000, 2_500), compression="gzip", fillvalue=0)
    file[name][0, :, :2500] = 1


def words(file, name: str, h5py) -> None:
    """Text in place of numbers."""
    file[name] = np.array([b"far"] * 4)


def virtual(file, name: str, h5py) -> None:
    """A virtual array whose source is another file."""
    layout = h5py.VirtualLayout(shape=(2, 56, 40), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", shape=(2, 56, 40))
    file.create_virtual_dataset(name, layout)


def nyu_bytes() -> bytes:
    """A sound file, as bytes."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        sound_nyu(content, h5py)
    return file.getvalue()


NYU_LIES: dict[str, Callable[..., None]] = {
    "images-a-group": nyu_with(images=group),
    "depths-a-group": nyu_with(depths=group),
    "no-images": nyu_with(images=lambda *_: None),
    "no-depths": nyu_with(depths=lambda *_: None),
    "images-of-two-axes": nyu_with(images=np.zeros((4, 4), np.uint8)),
    "images-of-one-number": nyu_with(images=np.uint8(4)),
    "images-of-words": nyu_with(images=words),
    "depths-of-words": nyu_with(depths=words),
    "depths-of-another-size": nyu_with(depths=np.ones((2, 9, 9), np.float32)),
    "depths-of-records": nyu_with(depths=np.zeros((2, 56, 40), "f4,f4")),
    "a-million-frames": nyu_with(images=huge, depths=huge),
    "images-in-another-file": nyu_with(images=external, depths=np.ones((2, 4, 4), np.float32)),
    "depths-in-another-file": nyu_with(images=np.zeros((2, 3, 4, 4), np.uint8), depths=external),
    "images-link-out": nyu_with(images=link_out),
    "depths-link-to-themselves": nyu_with(depths=link_loop),
    "depths-virtual": nyu_with(depths=virtual),
    "depths-unpack-to-4-GB": nyu_with(depths=bomb),
    "scenes-a-group": lambda file, h5py: _with_scenes(file, h5py, group),
    "scenes-link-out": lambda file, h5py: _with_scenes(file, h5py, link_out),
    "scenes-are-numbers": lambda file, h5py: _with_scenes(file, h5py, lambda *_: file.create_dataset("scenes", data=4)),
    "no-frames": nyu_with(images=np.zeros((0, 3, 56, 40), np.uint8), depths=np.zeros((0, 56, 40), np.float32)),
}

HYPERSIM_LIES: dict[str, Callable[..., None]] = {
    "no-array": lambda file, h5py: None,
    "a-group": lambda file, h5py: group(file, "dataset", h5py),
    "of-words": lambda file, h5py: words(file, "dataset", h5py),
    "of-one-number": lambda file, h5py: file.create_dataset("dataset", data=4.0),
    "of-five-axes": lambda file, h5py: file.create_dataset("dataset", data=np.ones((1, 2, 3, 4, 5))),
    "of-no-size": lambda file, h5py: file.create_dataset("dataset", data=np.ones((0, 40))),
    "claims-a-million": lambda file, h5py: file.create_dataset("dataset", (10**6, 10**6), "f4", chunks=True),
    "in-another-file": lambda file, h5py: file.create_dataset(
        "dataset", (8, 8), "f4", external=[("/etc/passwd", 0, 256)]
    ),
    "link-out": lambda file, h5py: link_out(file, "dataset", h5py),
}


def tar(*members: tuple[tarfile.TarInfo, bytes], end: bool = True) -> bytes:
    """A tar of these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for about, data in members:
            archive.addfile(about, io.BytesIO(data))
    data = file.getvalue()
    return data if end else data.rstrip(b"\0")


def partly(name: str, data: bytes | None = None, kind: bytes = tarfile.REGTYPE, to: str = "") -> Callable[[], bytes]:
    """A tar of one bad member and two sound ones."""
    return lambda: tar(member(name, data, kind, to), member("a.png"), member("b.png"))


def member(
    name: str, data: bytes | None = None, kind: bytes = tarfile.REGTYPE, to: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar."""
    content = (encoded() if data is None else data) if kind == tarfile.REGTYPE else b""
    about = tarfile.TarInfo(name)
    about.size, about.type, about.linkname = len(content), kind, to
    return about, content


def lying_size(size: int) -> bytes:
    """A tar whose only member claims a size."""
    about = tarfile.TarInfo("a.png")
    about.size = size
    return about.tobuf(tarfile.GNU_FORMAT) + encoded().ljust(1024, b"\0") + bytes(1024)


def long_name(size: int) -> bytes:
    """A tar that begins with a GNU long name of a claimed size."""
    about = tarfile.TarInfo("././@LongLink")
    about.type, about.size = tarfile.GNUTYPE_LONGNAME, size
    return about.tobuf(tarfile.GNU_FORMAT) + encoded().ljust(1024, b"\0") + bytes(1024)


def damaged_pax(key: str, value: str) -> bytes:
    """A tar whose first member has a PAX header with this value."""
    about = tarfile.TarInfo("a.png")
    about.pax_headers = {key: value}
    return about.tobuf(tarfile.PAX_FORMAT) + encoded().ljust(1024, b"\0") + bytes(1024)


TARS: dict[str, Callable[[], bytes]] = {
    **{name: lambda name=name: DAMAGES[name](tar(member("a.png"))) for name in DAMAGES},
    "nothing": lambda: tar(),
    "no-images": lambda: tar(member("a.txt")),
    "no-end": lambda: tar(member("a.png"), member("b.png"), end=False),
    "size-of-a-terabyte": lambda: lying_size(10**12),
    "size-of-10-to-the-20": lambda: lying_size(10**20),
    "size-below-zero": lambda: damaged_pax("size", "-512"),
    "size-that-is-a-word": lambda: damaged_pax("size", "large"),
    "name-of-a-link-of-ten-gigabytes": lambda: long_name(10**10),
    "above": lambda: tar(member("../../x.png")),
    "absolute": lambda: tar(member("/x.png")),
    "the-same-name-twice": lambda: tar(member("a.png"), member("a.png")),
    "3000-folders-deep": lambda: tar(member("a/" * 3000 + "b.png")),
    "a-name-of-a-megabyte": lambda: tar(member("n" * 1_000_000 + ".png")),
    "only-a-link": lambda: tar(member("a.png", kind=tarfile.SYMTYPE, to="/etc/passwd")),
    "only-a-device": lambda: tar(member("a.png", kind=tarfile.CHRTYPE)),
    "only-a-fifo": lambda: tar(member("a.png", kind=tarfile.FIFOTYPE)),
}
"""Of photographs; each must be refused."""

MEMBERS = {"the-same-name-twice": "a/a.png", "3000-folders-deep": "a/a"}
"""What the refusal names in place of the tar: a member, as an id."""

PARTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "one-is-junk": (partly("bad.png", junk()), "bad"),
    "one-is-empty": (partly("bad.png", b""), "bad"),
    "one-links-out": (partly("bad.png", kind=tarfile.SYMTYPE, to="/etc/passwd"), ""),
    "one-of-control-characters": (partly("\x1b]0;x\x07.png", junk()), "]0;x"),
}
"""Tars of which the rest is labelled: bytes, and what the list must name."""


def cases() -> list[Case]:
    """Every case."""
    found = []
    for damage, change in DAMAGES.items():
        found.append(Case(f"containers/nyu/{damage}", _put_nyu(change), read(READ_NYU), "refused", "nyu_depth"))
        found.append(Case(f"containers/splits/{damage}", _put_splits(change), _keep_listed, "refused", "splits.mat"))
    for fault, fill in NYU_LIES.items():
        make = hdf5(NYU, fill)
        found.append(
            Case(
                f"containers/nyu/{fault}",
                make,
                read(READ_NYU),
                "refused",
                "set" if fault == "no-frames" else "nyu_depth",
            )
        )
    found.append(Case("containers/nyu/sound", hdf5(NYU, sound_nyu), read(READ_NYU), "read"))
    for fault, fill in HYPERSIM_LIES.items():
        for name, path in (("depth", DEPTH), ("colour", COLOUR)):
            make = after(_sound_hypersim, hdf5(path, fill))
            found.append(Case(f"containers/hypersim/{name}-{fault}", make, read("hypersim"), "refused", "frame.0000"))
    found.append(Case("containers/hypersim/sound", _sound_hypersim, read("hypersim"), "read"))
    return found + _splits() + _tars()


def _put_nyu(change: Callable[[bytes], bytes]) -> Make:
    return put(NYU, lambda: change(nyu_bytes()))


def _sound_hypersim() -> None:
    for path, shape in ((DEPTH, (24, 32)), (COLOUR, (24, 32, 3))):
        hdf5(
            path, lambda file, h5py, shape=shape: file.create_dataset("dataset", data=np.full(shape, 1.5, np.float16))
        )()


def _mat(**arrays: object) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def _keep_listed() -> object:
    captures = datasets.open_set(READ_NYU, "set")
    return datasets.keep_listed(captures, Path("splits.mat"))


def _put_splits(change: Callable[[bytes], bytes]) -> Make:
    sound = {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[2]])}
    return after(hdf5(NYU, sound_nyu), put("splits.mat", lambda: change(_mat(**sound))))


def _splits() -> list[Case]:
    contents: dict[str, dict[str, object]] = {
        "no-keys": {"other": 1},
        "words": {"trainNdxs": "a", "testNdxs": "b"},
        "not-finite": {"trainNdxs": np.array([np.nan]), "testNdxs": np.array([np.nan])},
        "records": {"trainNdxs": np.zeros(2, "f4,f4"), "testNdxs": np.zeros(2, "f4,f4")},
        "frames-of-10-to-the-18": {"trainNdxs": np.array([10**18]), "testNdxs": np.array([10**18])},
        "negative": {"trainNdxs": np.array([-1]), "testNdxs": np.array([-1])},
        "frames-of-a-half": {"trainNdxs": np.array([1.5]), "testNdxs": np.array([2.0])},
        "no-frames": {"trainNdxs": np.zeros((0, 1)), "testNdxs": np.zeros((0, 1))},
    }
    found = [
        Case(
            f"containers/splits/{fault}",
            _put_splits(lambda _, arrays=arrays: _mat(**arrays)),
            _keep_listed,
            "refused",
            "splits.mat",
        )
        for fault, arrays in contents.items()
    ]
    newer = after(hdf5(NYU, sound_nyu), hdf5("splits.mat", sound_nyu))
    return [*found, Case("containers/splits/a-newer-format", newer, _keep_listed, "refused", "splits.mat")]


def _tars() -> list[Case]:
    found = []
    for fault, data in TARS.items():
        words = ("label", "@network", "a.tar", "out")
        says = MEMBERS.get(fault, "a.tar")
        found.append(Case(f"containers/tar/{fault}", put("a.tar", data), words, "refused", says, never=("../x.png",)))
    for fault, (data, says) in PARTLY.items():
        words = ("label", "@network", "a.tar", "out")
        case = Case(
            f"containers/tar/{fault}", put("a.tar", data), words, "listed", says, done=("out/labels/**/*.png", 2)
        )
        found.append(case)
    for suffix in ("tar.gz", "tgz", "tar.zst"):
        name = f"a.{suffix}"
        found.append(
            Case(f"containers/{suffix}/junk", put(name, junk()), ("label", "@network", name, "out"), "refused", name)
        )
    found.append(
        Case(
            "containers/tar/sound",
            put("a.tar", lambda: tar(member("a.png"))),
            ("label", "@network", "a.tar", "out"),
            "read",
        )
    )
    return found
