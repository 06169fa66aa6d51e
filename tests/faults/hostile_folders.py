"""Folders in which one entry is no file, or has a name that no terminal should print; and the rest is sound."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from case import Case, Make, junk
from hostile_weights import as_fifo, as_folder, linked
from sound import FEW, SHORT_RUN, copied, write_pairs

LONG = "n" * 246
CONTROL_NAME = b"\x1b]0;x\x07"


class Place(NamedTuple):
    """Where a verb finds entries: the folder, and what it must go on to do."""

    make: Make
    """The sound folder, below the current one."""
    entry: str
    """The bad entry's path, without its suffix; {} stands for its name."""
    suffix: str
    words: tuple[str, ...]
    done: tuple[str, int] | None = None
    partner: str | None = None
    """The other file of a pair, where the verb reads pairs: it is sound."""


def _photos() -> None:
    copied("photos", "photos")()


def _bench() -> None:
    copied("bench", "set")()


def _pairs() -> None:
    write_pairs(Path("set"))


def _answers() -> None:
    copied("predicted", "answers")()


def _measured() -> None:
    copied("photos", "photos")()
    Path("maps").mkdir()
    for index in range(3):
        np.save(f"maps/p{index}.npy", np.full((40, 56), 1.5 + index, np.float32))


PLACES: dict[str, Place] = {
    "predict": Place(
        _photos, "photos/{}", ".png", ("predict", "photos", "-m", "@network", "-o", "out"), ("out/**/p*.depth.png", 3)
    ),
    "label": Place(_photos, "photos/{}", ".png", ("label", "@network", "photos", "out"), ("out/labels/**/p*.png", 3)),
    "check": Place(_bench, "set/images/{}", ".png", ("data", "check", "set"), None, "set/depth/{}.npy"),
    "check-depth": Place(_bench, "set/depth/{}", ".npy", ("data", "check", "set"), None, "set/images/{}.png"),
    "stats": Place(_bench, "set/depth/{}", ".npy", ("data", "stats", "set"), None, "set/images/{}.png"),
    "convert": Place(
        _pairs,
        "set/rgb/{}",
        ".png",
        ("data", "convert", "set/rgb", "set/depth", "out", "--depth-scale", "0.001"),
        ("out/depth/p*.npy", 3),
        "set/depth/{}.png",
    ),
    "convert-depth": Place(
        _pairs,
        "set/depth/{}",
        ".png",
        ("data", "convert", "set/rgb", "set/depth", "out", "--depth-scale", "0.001"),
        ("out/depth/p*.npy", 3),
        "set/rgb/{}.png",
    ),
    "eval": Place(
        _bench,
        "set/images/{}",
        ".png",
        ("eval", "@network", "--data", "set", "--protocol", "zivid-mm", "-o", "out"),
        ("out/metrics.json", 1),
        "set/depth/{}.npy",
    ),
    "calibrate": Place(
        _measured,
        "maps/{}",
        ".npy",
        ("calibrate", "@network", "--depth", "maps", "--image", "photos", "-o", "out"),
        ("out/calibration.json", 1),
        "photos/{}.png",
    ),
}


def as_socket(path: str) -> Make:
    """A Unix socket in place of a file."""

    def make() -> None:
        here = Path.cwd()
        os.chdir(Path(path).parent)  # the path of a socket has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(Path(path).name)
        os.chdir(here)

    return make


def named(name: bytes) -> Callable[[str], Make]:
    """A file that is no image, under a name of bytes; the given path tells its folder and suffix."""

    def place(path: str) -> Make:
        def make() -> None:
            folder, suffix = Path(path).parent, Path(path).suffix
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name + suffix.encode())).write_bytes(junk())

        return make

    return place


def as_junk(path: str) -> Make:
    """A file that holds nothing of its suffix's format."""
    return lambda: Path(path).write_bytes(junk())


ENTRIES: dict[str, tuple[Callable[[str], Make], str]] = {
    "junk": (as_junk, "bad"),
    "fifo": (as_fifo, "bad"),
    "socket": (as_socket, "bad"),
    "folder": (as_folder, "bad"),
    "link-to-dev-zero": (lambda path: linked(path, "/dev/zero"), "bad"),
    "link-to-itself": (lambda path: linked(path, Path(path).name), "bad"),
    "dangling-link": (lambda path: linked(path, "nowhere"), "bad"),
    "name-not-utf8": (named(b"bad\xff"), "bad"),
    "name-of-250-bytes": (named(LONG.encode()), "n" * 40),
    "name-of-control-characters": (named(CONTROL_NAME), "]0;x"),
    "name-of-two-lines": (named(b"bad\nline"), "bad"),
    "name-of-a-formula": (named(b"=cmd|bad"), "bad"),
    "name-of-markup": (named(b"<b>bad[red]"), "bad"),
}
"""Entry -> what makes it at a path, and what the list must name."""
NAMES = {
    "name-not-utf8": b"bad\xff",
    "name-of-250-bytes": LONG.encode(),
    "name-of-control-characters": CONTROL_NAME,
    "name-of-two-lines": b"bad\nline",
    "name-of-a-formula": b"=cmd|bad",
    "name-of-markup": b"<b>bad[red]",
}


def cases() -> list[Case]:
    """Every case."""
    found = []
    for verb, place in PLACES.items():
        for fault, (put_entry, says) in ENTRIES.items():
            make = _with_entry(place, put_entry, NAMES.get(fault, b"bad"))
            # A folder that is named like an image is a folder, and holds none.
            right = "either" if fault == "folder" else "listed"
            found.append(Case(f"folders/{verb}/{fault}", make, place.words, right, says, done=place.done))
        found.append(_looped(verb, place))
    return found + _foreign() + _sources() + _outputs()


def _foreign() -> list[Case]:
    """Pictures of formats that no reader knows, and a folder whose name no terminal should print."""
    found = []
    for verb in ("predict", "label", "convert"):
        place = PLACES[verb]
        folder = Path(place.entry).parent
        for name in ("bad.heic", "bad.AVIF", "bad.dng"):

            def make(place: Place = place, path: Path = folder / name) -> None:
                place.make()
                path.write_bytes(junk())

            case = Case(f"folders/{verb}/{name.replace('.', '-')}", make, place.words, "listed", name, done=place.done)
            found.append(case)

        def make_folder(place: Place = place, folder: Path = folder) -> None:
            place.make()
            below = Path(os.fsdecode(os.fsencode(folder) + b"/bad\x1b[2J"))
            below.mkdir()
            shutil.copy(next(folder.glob("*.png")), below)

        name = f"folders/{verb}/folder-of-control-characters"
        right = "either" if verb == "convert" else "listed"
        found.append(Case(name, make_folder, place.words, right, "bad", done=place.done))
    return found


def _with_entry(place: Place, put_entry: Callable[[str], Make], name: bytes) -> Make:
    def make() -> None:
        place.make()
        put_entry(place.entry.format("bad") + place.suffix)()
        if place.partner is not None:
            at = Path(place.partner)
            sound = sorted(path for path in at.parent.iterdir() if path.name[0] in "bp" and path.suffix == at.suffix)[0]
            shutil.copy(sound, os.fsdecode(os.fsencode(at.parent) + b"/" + name + at.suffix.encode()))

    return make


def _looped(verb: str, place: Place) -> Case:
    """A folder with a link to itself below: each file is read once."""

    def make() -> None:
        place.make()
        Path(place.entry.format("loop")).symlink_to(".")

    if verb.startswith("check"):  # of the sound bench it says that all of its depth is affine
        return Case(f"folders/{verb}/link-loop", make, place.words, "listed", "6 of 6 captures")
    return Case(f"folders/{verb}/link-loop", make, place.words, "read", done=place.done)


def _sources() -> list[Case]:
    """What may be given in place of a folder or an image."""
    found = []
    kinds: dict[str, Make] = {
        "a-fifo": as_fifo("in.png"),
        "a-device": linked("in.png", "/dev/zero"),
        "a-terminal": linked("in.png", "/dev/tty"),
        "a-link-to-itself": linked("in.png", "in.png"),
        "nowhere": lambda: None,
        "an-empty-folder": lambda: Path("in.png").mkdir(),
        "a-socket": as_socket("./in.png"),
    }
    for kind, make in kinds.items():
        for verb, words in (
            ("predict", ("predict", "in.png", "-m", "@network", "-o", "out")),
            ("label", ("label", "@network", "in.png", "out")),
            ("features", ("features", "in.png", "-o", "out")),
            ("check", ("data", "check", "in.png")),
            ("points", ("calibrate", "@network", "--points", "in.png", "-o", "out")),
            ("train", ("train", "in.png", "--dry-run")),
            ("eval", ("eval", "in.png", "--data", "@bench")),
            ("model", ("predict", "@photos", "-m", "in.png", "-o", "out")),
        ):
            found.append(Case(f"folders/source/{kind}/{verb}", make, words, "refused", "in.png"))
    return found


def _outputs() -> list[Case]:
    """Where results cannot be written."""
    found = []
    places: dict[str, tuple[Make, str]] = {
        "a-file": (lambda: Path("out").write_bytes(b"mine"), "out"),
        "below-a-file": (lambda: Path("out").write_bytes(b"mine"), "out/below"),
        "a-fifo": (as_fifo("out"), "out"),
        "a-link-to-itself": (linked("out", "out"), "out"),
        "below-dev-null": (lambda: None, "/dev/null/out"),
        "below-proc": (lambda: None, "/proc/out"),
        "a-name-of-300-bytes": (lambda: None, "o" * 300),
        "a-path-of-5000-bytes": (lambda: None, "out/" * 1250 + "a"),
    }
    for kind, (make, out) in places.items():
        says = "out" if out.startswith("out") else out[:5]
        for verb, words in (
            ("predict", ("predict", "@photos", "-m", "@network", "-o", out)),
            ("label", ("label", "@network", "@photos", out)),
            ("features", ("features", "@photos/p0.png", "-o", out)),
            ("synth", ("data", "synth", "bench", out, "-n", "1", "--size", "48,64")),
            ("convert", ("data", "convert", "@pairs/rgb", "@pairs/depth", out, "--depth-scale", "0.001")),
            ("export", ("export", "@network", "-o", out)),
            ("train", ("train", FEW, "data.root=@bench", f"output_dir={out}", *SHORT_RUN)),
            ("eval", ("eval", "@network", "--data", "@bench", "--protocol", "zivid-mm", "-o", out)),
        ):
            found.append(Case(f"folders/output/{kind}/{verb}", make, words, "refused", says))
    return found
