"""Model folders and weight files: damaged, with lies in their headers, without tensors, or with code inside."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from case import DAMAGES, Case, Make, Right, after, damaged, put
from hostile_depth import RunsCode
from sound import copied

import sonde

ADAPTER = "run/best/adapter_model.safetensors"
Tensors = dict[str, np.ndarray]


def header(text: bytes, body: bytes = bytes(64), size: int | None = None) -> bytes:
    """A safetensors file with this header, whose length may be claimed otherwise."""
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def one_tensor(kind: str = "F32", shape: object = (2, 2), offsets: object = (0, 16)) -> bytes:
    """A safetensors file of one tensor, described like this."""
    return header(json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": offsets}}).encode())


HEADERS: dict[str, Callable[[], bytes]] = {
    "no-tensors": lambda: header(b"{}", b""),
    "length-of-10-to-the-18": lambda: header(b"{}", size=10**18),
    "length-of-zero": lambda: header(b"", size=0),
    "a-list": lambda: header(b"[]"),
    "null": lambda: header(b"null"),
    "10000-deep": lambda: header(b"[" * 10_000 + b"]" * 10_000),
    "not-utf8": lambda: header(b"\xff\xfe\xfd"),
    "offsets-outside": lambda: one_tensor(offsets=(0, 10**15)),
    "offsets-backwards": lambda: one_tensor(offsets=(16, 0)),
    "offsets-negative": lambda: one_tensor(offsets=(-16, 0)),
    "shape-of-10-to-the-12": lambda: one_tensor(shape=(10**6, 10**6)),
    "shape-overflows": lambda: one_tensor(shape=(2**40, 2**40)),
    "shape-negative": lambda: one_tensor(shape=(-2, -2)),
    "unknown-type": lambda: one_tensor("Q4"),
    "other-tensors": lambda: one_tensor(),
    "20000-tensors": lambda: header(
        json.dumps({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)}).encode(),
        b"",
    ),
}
"""Of safetensors; no network has these."""


def rewritten(path: str, change: Callable[[Tensors], Tensors]) -> Make:
    """Write a safetensors file again with other tensors."""

    def make() -> None:
        from safetensors.numpy import load_file, save_file

        save_file(
            {name: np.asarray(value, order="C") for name, value in change(load_file(path)).items()},
            path,
            {"format": "pt"},
        )

    return make


def _first(tensors: Tensors, word: str = "") -> str:
    return next(name for name in sorted(tensors) if word in name and tensors[name].ndim > 1)


def _replaced(tensors: Tensors, name: str, value: np.ndarray) -> Tensors:
    return tensors | {name: value}


CHANGES: dict[str, Callable[[Tensors], Tensors]] = {
    "one-missing": lambda tensors: {name: value for name, value in tensors.items() if name != _first(tensors)},
    "half-missing": lambda tensors: {name: tensors[name] for name in sorted(tensors)[::2]},
    "all-renamed": lambda tensors: {f"other.{name}": value for name, value in tensors.items()},
    "one-unheard-of": lambda tensors: tensors | {"unheard_of.weight": np.zeros((3, 3), np.float32)},
    "one-of-another-shape": lambda tensors: _replaced(tensors, _first(tensors), np.zeros((5, 7), np.float32)),
    "one-of-no-size": lambda tensors: _replaced(tensors, _first(tensors), np.zeros((0,), np.float32)),
    "one-turned": lambda tensors: _replaced(tensors, _first(tensors), tensors[_first(tensors)].T.copy()),
    "one-of-whole-numbers": lambda tensors: _replaced(
        tensors, _first(tensors), tensors[_first(tensors)].astype(np.int64)
    ),
}
"""What a network's tensors may lack or be instead: name -> the other tensors; each must be refused."""


def not_finite(tensors: Tensors) -> Tensors:
    """The same tensors, all NaN."""
    return {name: np.full_like(value, np.nan) if value.dtype.kind == "f" else value for name, value in tensors.items()}


def some_not_finite(tensors: Tensors) -> Tensors:
    """The same tensors; in one of them a single infinity."""
    value = tensors[_first(tensors)].copy()
    value.flat[0] = np.inf
    return tensors | {_first(tensors): value}


def torch_file(content: object, name: str) -> Make:
    """What `torch.save` writes."""

    def make() -> None:
        import torch

        Path(name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, name)

    return make


def zip_with_code() -> bytes:
    """torch's own format whose pickle makes a folder named `ran`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(RunsCode(), protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


WEIGHT_FILES: dict[str, Callable[[], bytes]] = {
    **{
        name: lambda name=name: DAMAGES[name](zip_with_code())
        for name in ("empty", "junk", "zeros", "half", "a-web-page")
    },
    "a-pickle-that-runs-code": lambda: pickle.dumps(RunsCode(), protocol=2),
    "a-zip-that-runs-code": zip_with_code,
    "a-pickle-of-nothing": lambda: b"\x80\x02.",
    "a-pickle-cut-off": lambda: b"\x80\xff.",
    "a-pickle-of-a-billion": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**40),
    "a-pickle-10000-deep": lambda: b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".",
    "a-word": lambda: pickle.dumps("far", protocol=2),
    "whole-numbers-as-keys": lambda: pickle.dumps({1: 2, 3: 4}, protocol=2),
    "a-zip-of-nothing": lambda: b"PK\x05\x06" + bytes(18),
    "a-tar": lambda: b"archive/data.pkl".ljust(257, b"\0") + b"ustar\x0000" + bytes(1024),
}
"""Of .pth, .ckpt and .bin."""


def linked(path: str, to: str) -> Make:
    """A symbolic link in place of a file."""

    def make() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).symlink_to(to)

    return make


def as_fifo(path: str) -> Make:
    """A FIFO in place of a file."""

    def make() -> None:
        Path(path).unlink(missing_ok=True)
        os.mkfifo(path)

    return make


def as_folder(path: str) -> Make:
    """A folder in place of a file."""

    def make() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).mkdir()

    return make


PLACES: dict[str, Callable[[str], Make]] = {
    "fifo": as_fifo,
    "folder": as_folder,
    "link-to-dev-zero": lambda path: linked(path, "/dev/zero"),
    "link-to-itself": lambda path: linked(path, Path(path).name),
    "dangling-link": lambda path: linked(path, "nowhere"),
}
"""What may lie where a file is expected."""


def changed_json(path: str, **fields: object) -> Make:
    """Set some keys of a JSON document."""

    def make() -> None:
        document = json.loads(Path(path).read_text())
        Path(path).write_text(json.dumps(document | fields))

    return make


def load(name: str) -> Callable[[], object]:
    """The entry of Python."""
    return lambda: sonde.load(name)


def cases() -> list[Case]:
    """Every case."""
    return [*_networks(), *_adapters(), *_files(), *_folders(), *_answers(), *_code()]


def _networks() -> list[Case]:
    network, path = copied("network", "m"), "m/model.safetensors"
    found = []
    for case in damaged("weights/network", path, lambda: Path(path).read_bytes(), load("m")):
        found.append(Case(case.name, after(network, case.make), load("m"), "refused", "m"))
    for fault, data in HEADERS.items():
        found.append(Case(f"weights/network/{fault}", after(network, put(path, data)), load("m"), "refused", "m"))
    for fault, change in CHANGES.items():
        right = "either" if fault == "one-of-whole-numbers" else "refused"
        found.append(Case(f"weights/network/{fault}", after(network, rewritten(path, change)), load("m"), right, "m"))
    for fault, place in PLACES.items():
        found.append(Case(f"weights/network/{fault}", after(network, place(path)), load("m"), "refused", "m"))
        beside = after(network, place("m/config.json"))
        found.append(Case(f"weights/config/{fault}", beside, load("m"), "refused", "m"))
    found.append(Case("weights/network/sound", network, load("m"), "read"))
    return found


def _adapters() -> list[Case]:
    run = copied("run", "run")
    found = []
    for case in damaged("weights/adapter", ADAPTER, lambda: Path(ADAPTER).read_bytes(), load("run")):
        found.append(Case(case.name, after(run, case.make), load("run"), "refused", "run"))
    for fault in ("no-tensors", "length-of-10-to-the-18", "a-list", "other-tensors", "shape-of-10-to-the-12"):
        make = after(run, put(ADAPTER, HEADERS[fault]))
        found.append(Case(f"weights/adapter/{fault}", make, load("run"), "refused", "run"))
    for fault in ("one-missing", "half-missing", "all-renamed", "one-unheard-of", "one-of-another-shape", "one-turned"):
        make = after(run, rewritten(ADAPTER, CHANGES[fault]))
        found.append(Case(f"weights/adapter/{fault}", make, load("run"), "refused", "run"))
    for fault, place in PLACES.items():
        found.append(Case(f"weights/adapter/{fault}", after(run, place(ADAPTER)), load("run"), "refused", "run"))
    settings: dict[str, dict[str, object]] = {
        "rank-of-a-billion": {"r": 10**9},
        "rank-negative": {"r": -4},
        "modules-of-nothing": {"target_modules": ["no_such_module"]},
        "modules-by-a-slow-pattern": {"target_modules": "(a+)+(a+)+(a+)+$"},
        "unknown-kind": {"peft_type": "MAGIC"},
        "another-kind": {"peft_type": "PREFIX_TUNING"},
        "base-elsewhere": {"base_model_name_or_path": "../../../etc"},
    }
    for fault, fields in settings.items():
        make = after(run, changed_json("run/best/adapter_config.json", **fields))
        right = "either" if fault == "base-elsewhere" else "refused"
        found.append(Case(f"weights/adapter/{fault}", make, load("run"), right, "run"))
    bases: dict[str, object] = {
        "base-is-itself": "run/best",
        "base-is-empty": "",
        "base-is-a-device": "/dev/zero",
        "base-is-nowhere": "no/such/model",
        "base-of-control-characters": "\x1b]0;x\x07",
    }
    for fault, base in bases.items():
        # The base that lies beside an adapter is taken before the one that the document names.
        make = after(run, lambda: shutil.rmtree("run/best/base"), changed_json("run/best/sonde.json", base=base))
        found.append(Case(f"weights/adapter/{fault}", make, load("run"), "either" if not base else "refused", ""))
    return found


def _files() -> list[Case]:
    found = []
    for name in ("depth_anything_v2_vits.pth", "depth_anything_vits14.pth", "glpdepth_kitti.ckpt", "model.pt"):
        for fault, data in WEIGHT_FILES.items():
            found.append(Case(f"weights/{name}/{fault}", put(name, data), load(name), "refused", name, never=("ran",)))
    contents: dict[str, object] = {
        "a-list": [1, 2, 3],
        "words": {"pretrained.cls_token": "far"},
        "nothing": {},
        "nested": {"model": {"state_dict": {"model": {}}}},
    }
    for fault, content in contents.items():
        name = "depth_anything_v2_vits.pth"
        found.append(Case(f"weights/{name}/{fault}", torch_file(content, name), load(name), "refused", name))
    network = copied("network", "m", lambda: Path("m/model.safetensors").unlink())
    for fault, data in WEIGHT_FILES.items():
        make = after(network, put("m/pytorch_model.bin", data))
        found.append(Case(f"weights/pytorch_model.bin/{fault}", make, load("m"), "refused", "m", never=("ran",)))
    adapter = copied("run", "run", lambda: Path(ADAPTER).unlink())
    for fault, data in WEIGHT_FILES.items():
        make = after(adapter, put("run/best/adapter_model.bin", data))
        found.append(Case(f"weights/adapter_model.bin/{fault}", make, load("run"), "refused", "run", never=("ran",)))
    return found


def _folders() -> list[Case]:
    def empty(name: str) -> Make:
        return lambda: Path(name).mkdir(parents=True)

    def shards() -> None:
        copied("network", "m")()
        Path("m/model.safetensors").unlink()
        index = {"metadata": {}, "weight_map": {"a": "../../elsewhere.safetensors"}}
        Path("m/model.safetensors.index.json").write_text(json.dumps(index))

    bare = copied("network", "m", lambda: Path("m/model.safetensors").unlink())
    no_adapter = copied("run", "run", lambda: Path(ADAPTER).unlink())
    no_best = copied("run", "run", lambda: shutil.rmtree("run/best"))
    empty_best = copied("run", "run", lambda: shutil.rmtree("run/best"), empty("run/best"))
    found = {
        "empty": (empty("m"), "m"),
        "no-weights": (bare, "m"),
        "shards-elsewhere": (shards, "m"),
        "adapter-without-weights": (no_adapter, "run"),
        "run-without-best": (no_best, "run"),
        "best-empty": (empty_best, "run"),
        "best-a-file": (after(empty("run"), put("run/best", b"")), "run"),
        "best-links-to-its-run": (after(empty("run"), linked("run/best", ".")), "run"),
        "a-device": (linked("m", "/dev/zero"), "m"),
        "a-text": (put("m", b"word"), "m"),
    }
    return [Case(f"weights/folder/{fault}", make, load(name), "refused", name) for fault, (make, name) in found.items()]


def _answers() -> list[Case]:
    """Weights that load, and whose answers are not finite: each image fails."""
    path = "m/model.safetensors"
    found = []
    for fault, change in (("all-nan", not_finite), ("one-infinity", some_not_finite)):
        make = after(copied("network", "m"), rewritten(path, change))
        for verb, words in (
            ("predict", ("predict", "@photos", "-m", "m", "-o", "out")),
            ("label", ("label", "m", "@photos", "out")),
            ("eval", ("eval", "m", "--data", "@bench", "--protocol", "zivid-mm")),
            ("export", ("export", "m", "-o", "out")),
            ("features", ("features", "@photos/p0.png", "-m", "m", "-o", "out")),
        ):
            # A decoder that is not finite leaves the encoder's features as they are.
            right: Right = "either" if (fault, verb) == ("one-infinity", "features") else "refused"
            found.append(Case(f"weights/{fault}/{verb}", make, words, right, ""))
    return found


def _code() -> list[Case]:
    """A config that names code of its own: it must not run."""
    remote = {"AutoConfig": "code.Config", "AutoModelForDepthEstimation": "code.Model"}

    def make() -> None:
        copied("network", "m")()
        Path("m/code.py").write_text("import os\nos.mkdir('ran')\nraise SystemExit\n")
        changed_json("m/config.json", auto_map=remote)()

    def unknown() -> None:
        make()
        changed_json("m/config.json", model_type="mine")()

    words = ("predict", "@photos", "-m", "m", "-o", "out")
    return [
        Case("weights/code/in-a-known-family", make, load("m"), "either", "m", never=("ran", "../ran")),
        Case("weights/code/in-an-unknown-family", unknown, load("m"), "refused", "m", never=("ran", "../ran")),
        Case("weights/code/predict", unknown, words, "refused", "m", never=("ran", "../ran")),
    ]
