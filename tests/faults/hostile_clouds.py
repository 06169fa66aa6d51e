"""Organised point clouds: PLY, PCD, NPZ and NPY."""

import io
import zipfile
from collections.abc import Callable

import numpy as np
from case import Case, Right, damaged, junk, put
from hostile_depth import METRES, RunsCode, claims, npy, npy_header, npz

from sonde import files

XYZ = np.stack([METRES, METRES, METRES], -1)
TRILLION = 10**12


def ply(
    count: object = 2240,
    order: str = "binary_little_endian 1.0",
    properties: str = "property float x\nproperty float y\nproperty float z",
    notes: str = "obj_info num_cols 56\nobj_info num_rows 40",
    body: bytes | None = None,
) -> bytes:
    """A PLY with this header."""
    head = f"ply\nformat {order}\n{notes}\nelement vertex {count}\n{properties}\nend_header\n"
    return head.encode() + (XYZ.tobytes() if body is None else body)


GRID = (
    "property float x\nproperty float y\nproperty float z\nelement range_grid {}\nproperty list {} int vertex_indices"
)
CELLS = b"".join(b"\1" + number.to_bytes(4, "little") for number in range(2240))


def grid(count: object = 2240, length: str = "uchar", cells: bytes = CELLS) -> bytes:
    """A PLY with a vertex for each pixel of a grid."""
    return ply(properties=GRID.format(count, length), body=XYZ.tobytes() + cells)


def pcd(body: bytes | None = None, **fields: object) -> bytes:
    """A PCD with this header."""
    header = {
        "VERSION": "0.7",
        "FIELDS": "x y z",
        "SIZE": "4 4 4",
        "TYPE": "F F F",
        "COUNT": "1 1 1",
        "WIDTH": 56,
        "HEIGHT": 40,
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": 2240,
        "DATA": "binary",
    }
    lines = [f"{key} {value}" for key, value in (header | fields).items() if value is not None]
    return ("\n".join(lines) + "\n").encode() + (XYZ.tobytes() if body is None else body)


def as_text() -> bytes:
    """The points as lines of text."""
    return "\n".join(" ".join(f"{value:.4f}" for value in point) for point in XYZ.reshape(-1, 3)).encode() + b"\n"


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def bomb() -> bytes:
    """An .npz of about 1 MB whose array takes 1.2 GB."""
    file = io.BytesIO()
    header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10000, 10000, 3), }")
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xyz.npy", "w", force_zip64=True) as out,
    ):
        out.write(header)
        for _ in range(1200):
            out.write(bytes(1_000_000))
    return file.getvalue()


def encrypted() -> bytes:
    """An .npz whose member says that it is encrypted."""
    data = bytearray(npz(xyz=XYZ))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


SOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "ply": ("a.ply", ply),
    "ply-grid": ("a.ply", grid),
    "ply-text": ("a.ply", lambda: ply(order="ascii 1.0", body=as_text())),
    "pcd": ("a.pcd", pcd),
    "pcd-text": ("a.pcd", lambda: pcd(as_text(), DATA="ascii")),
    "npz": ("a.npz", lambda: npz(xyz=XYZ)),
    "npy": ("a.npy", lambda: npy(XYZ)),
}

LIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "ply/claims-a-trillion": ("a.ply", lambda: ply(TRILLION)),
    "ply/text-claims-a-trillion": ("a.ply", lambda: ply(TRILLION, "ascii 1.0", body=as_text())),
    "ply/claims-10-to-the-30": ("a.ply", lambda: ply(10**30)),
    "ply/negative": ("a.ply", lambda: ply(-2240)),
    "ply/count-is-a-word": ("a.ply", lambda: ply("many")),
    "ply/no-count": ("a.ply", lambda: ply("")),
    "ply/no-vertices": ("a.ply", lambda: ply(0)),
    "ply/no-properties": ("a.ply", lambda: ply(properties="comment none")),
    "ply/x-twice": ("a.ply", lambda: ply(properties="\n".join(f"property float {name}" for name in "xxyz"))),
    "ply/list-of-vertices": (
        "a.ply",
        lambda: ply(properties="property list uchar float x\nproperty float y\nproperty float z"),
    ),
    "ply/unknown-type": ("a.ply", lambda: ply(properties="property quad x\nproperty float y\nproperty float z")),
    "ply/property-cut-off": ("a.ply", lambda: ply(properties="property\nproperty float y\nproperty float z")),
    "ply/format-cut-off": ("a.ply", lambda: ply(order="")),
    "ply/unknown-format": ("a.ply", lambda: ply(order="binary_middle_endian 1.0")),
    "ply/only-faces": (
        "a.ply",
        lambda: b"ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int i\nend_header\n3 0 1 2\n",
    ),
    "ply/no-elements": ("a.ply", lambda: b"ply\nformat ascii 1.0\nend_header\n"),
    "ply/100000-properties": (
        "a.ply",
        lambda: ply(properties="\n".join(f"property float f{number}" for number in range(100_000))),
    ),
    "ply/900-wide-properties": (
        "a.ply",
        lambda: ply(
            TRILLION, properties="\n".join([*(f"property double f{n}" for n in range(900)), "property float x"])
        ),
    ),
    "ply/header-without-end": ("a.ply", lambda: b"ply\n" + b"comment more\n" * 1_000_000),
    "ply/header-of-one-line": ("a.ply", lambda: b"ply" + b" " * 20_000_000),
    "ply/size-claims-a-trillion": (
        "a.ply",
        lambda: ply(notes=f"obj_info num_cols {TRILLION}\nobj_info num_rows {TRILLION}"),
    ),
    "ply/size-of-zero": ("a.ply", lambda: ply(notes="obj_info num_cols 0\nobj_info num_rows 0")),
    "ply/size-of-5000-digits": ("a.ply", lambda: ply(notes=f"comment width {'9' * 5000}\ncomment height 40")),
    "ply/text-is-words": ("a.ply", lambda: ply(order="ascii 1.0", body=b"far away up\n" * 2240)),
    "ply/text-not-utf8": ("a.ply", lambda: ply(order="ascii 1.0", body=b"\xff\xfe\xfd 1 2\n" * 2240)),
    "ply/grid-claims-a-trillion": ("a.ply", lambda: grid(TRILLION)),
    "ply/grid-negative": ("a.ply", lambda: grid(-2240)),
    "ply/grid-of-floats": ("a.ply", lambda: grid(length="float")),
    "ply/grid-outside": ("a.ply", lambda: grid(cells=b"\1\xff\xff\xff\x7f" * 2240)),
    "ply/grid-of-negative-vertices": ("a.ply", lambda: grid(cells=b"\1\xff\xff\xff\xff" * 2240)),
    "ply/grid-before-vertices": (
        "a.ply",
        lambda: ply().replace(b"element vertex", b"element range_grid 9\nproperty list uchar int i\nelement vertex"),
    ),
    "ply/y-up-and-z-backwards": ("a.ply", lambda: ply(body=(XYZ * np.array([1, -1, -1], np.float32)).tobytes())),
    "pcd/claims-a-trillion": ("a.pcd", lambda: pcd(WIDTH=TRILLION, HEIGHT=1, POINTS=TRILLION)),
    "pcd/claims-a-million-each-way": ("a.pcd", lambda: pcd(WIDTH=1_000_000, HEIGHT=1_000_000)),
    "pcd/text-claims-a-trillion": ("a.pcd", lambda: pcd(as_text(), DATA="ascii", WIDTH=TRILLION, HEIGHT=40)),
    "pcd/negative": ("a.pcd", lambda: pcd(WIDTH=-56, HEIGHT=-40)),
    "pcd/width-is-a-word": ("a.pcd", lambda: pcd(WIDTH="wide")),
    "pcd/no-width": ("a.pcd", lambda: pcd(WIDTH=None)),
    "pcd/no-fields": ("a.pcd", lambda: pcd(FIELDS=None)),
    "pcd/no-type": ("a.pcd", lambda: pcd(TYPE=None)),
    "pcd/no-size": ("a.pcd", lambda: pcd(SIZE=None)),
    "pcd/no-data": ("a.pcd", lambda: pcd(DATA=None)),
    "pcd/count-of-99999999": ("a.pcd", lambda: pcd(COUNT="1 1 99999999")),
    "pcd/padding-of-99999999": (
        "a.pcd",
        lambda: pcd(FIELDS="x y z _", SIZE="4 4 4 1", TYPE="F F F U", COUNT="1 1 1 99999999"),
    ),
    "pcd/count-of-10-to-the-20": ("a.pcd", lambda: pcd(COUNT=f"1 1 {10**20}")),
    "pcd/count-negative": ("a.pcd", lambda: pcd(COUNT="1 1 -1")),
    "pcd/count-is-a-word": ("a.pcd", lambda: pcd(COUNT="1 1 some")),
    "pcd/size-of-99": ("a.pcd", lambda: pcd(SIZE="4 4 99")),
    "pcd/type-of-code": ("a.pcd", lambda: pcd(TYPE="O O O")),
    "pcd/fewer-types": ("a.pcd", lambda: pcd(TYPE="F F")),
    "pcd/unknown-data": ("a.pcd", lambda: pcd(DATA="sideways")),
    "pcd/compressed-is-junk": ("a.pcd", lambda: pcd(junk(), DATA="binary_compressed")),
    "pcd/compressed-claims-four-gigabytes": (
        "a.pcd",
        lambda: pcd(b"\x10\0\0\0\xff\xff\xff\xff" + junk(16), DATA="binary_compressed"),
    ),
    "pcd/compressed-points-outside": (
        "a.pcd",
        lambda: pcd(b"\x04\0\0\0\x00\x69\0\0" + b"\xff\xff\xff\xff", DATA="binary_compressed"),
    ),
    "npz/claims-a-trillion": ("a.npz", lambda: zipped({"xyz.npy": claims("(1000000, 1000000, 3)")()})),
    "npz/unpacks-to-a-gigabyte": ("a.npz", bomb),
    "npz/member-is-no-npy": ("a.npz", lambda: zipped({"xyz.npy": junk()})),
    "npz/member-is-empty": ("a.npz", lambda: zipped({"xyz.npy": b""})),
    "npz/member-without-suffix": ("a.npz", lambda: zipped({"xyz": junk()})),
    "npz/no-members": ("a.npz", lambda: zipped({})),
    "npz/pickle-that-runs-code": ("a.npz", lambda: npz(xyz=np.array([[[RunsCode()] * 3] * 4] * 4))),
    "npz/encrypted": ("a.npz", encrypted),
    "npz/two-without-a-name": ("a.npz", lambda: npz(one=XYZ, other=XYZ)),
    "npz/wrong-checksum": ("a.npz", lambda: npz(xyz=XYZ).replace(XYZ.tobytes()[:64], junk(64), 1)),
    "npz/a-thousand-members": ("a.npz", lambda: zipped({f"{number}.npy": npy(np.zeros(3)) for number in range(1000)})),
    "npz/name-of-control-characters": ("a.npz", lambda: zipped({"\x1b]0;x\x07.npy": npy(np.zeros(3))})),
    "npy/claims-a-trillion": ("a.npy", claims("(1000000, 1000000, 3)")),
    "npy/pickle-that-runs-code": ("a.npy", lambda: npy(np.array([[[RunsCode()] * 3] * 4] * 4), allow_pickle=True)),
    "npy/four-channels": ("a.npy", lambda: npy(np.ones((40, 56, 4), np.float32))),
    "npy/a-list-of-points": ("a.npy", lambda: npy(XYZ.reshape(-1))),
    "npy/words": ("a.npy", lambda: npy(np.full((4, 4, 3), "far"))),
}
"""Fault -> file name and bytes; no reader can accept them."""

UNUSUAL: dict[str, tuple[str, Callable[[], bytes]]] = {
    **{f"{kind}/sound": found for kind, found in SOUND.items()},
    "ply/big-endian": ("a.ply", lambda: ply(order="binary_big_endian 1.0", body=XYZ.astype(">f4").tobytes())),
    "ply/with-colours": (
        "a.ply",
        lambda: ply(
            properties="\n".join(
                [*(f"property float {n}" for n in "xyz"), *(f"property uchar {n}" for n in ("red", "green"))]
            ),
            body=b"".join(point.tobytes() + b"\x01\x02" for point in XYZ.reshape(-1, 3)),
        ),
    ),
    "pcd/not-finite": ("a.pcd", lambda: pcd((XYZ * np.float32(np.nan)).tobytes())),
    "npz/float64": ("a.npz", lambda: npz(points=XYZ.astype(np.float64))),
    "npz/compressed": ("a.npz", lambda: zipped({"xyz.npy": npy(XYZ)}, zipfile.ZIP_DEFLATED)),
}


def cases() -> list[Case]:
    """Every case."""

    def read(name: str) -> Callable[[], object]:
        return lambda: files.read_xyz(name)

    found = []
    for kind, (name, sound) in SOUND.items():
        found += damaged(f"clouds/{kind}", name, sound, read(name))
    tables: dict[Right, dict[str, tuple[str, Callable[[], bytes]]]] = {"refused": LIES, "read": UNUSUAL}
    for right, table in tables.items():
        for fault, (name, data) in table.items():
            found.append(Case(f"clouds/{fault}", put(name, data), read(name), right, name, never=("ran",)))
    for fault in ("ply/claims-a-trillion", "npz/unpacks-to-a-gigabyte", "npy/claims-a-trillion", "pcd/count-negative"):
        name, data = LIES[fault]
        found.append(Case(f"clouds/{fault}/z", put(name, data), lambda name=name: files.read_z(name), "refused", name))
    return found
