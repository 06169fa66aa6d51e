"""Exported files that are damaged, foreign, of a newer sonde, or that lead elsewhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from case import Case, Make, after, damaged
from hostile_weights import PLACES, load
from sound import copied_file, sound

import sonde

FILE = "m.onnx"
Change = Callable[[Any], object]


def rewritten(change: Change) -> Make:
    """Change the ONNX message of a file."""

    def make() -> None:
        import onnx

        model = onnx.load(FILE, load_external_data=False)
        change(model)
        Path(FILE).write_bytes(model.SerializeToString())

    return make


def noted(change: Callable[[dict[str, Any]], object] | str | None) -> Make:
    """Change the document of a file; a text replaces it, None removes it."""

    def rewrite(model: Any) -> None:
        text = model.metadata_props[0].value
        del model.metadata_props[:]
        if callable(change):
            document = json.loads(text)
            change(document)
            text = json.dumps(document)
        elif change is not None:
            text = change
        if change is not None:
            model.metadata_props.add(key="sonde", value=text)

    return rewritten(rewrite)


NOTES: dict[str, Callable[[dict[str, Any]], object] | str | None] = {
    "none": None,
    "empty": "",
    "no-json": "{",
    "a-list": "[]",
    "10000-deep": "[" * 10_000,
    "newer": lambda note: note.update(layout=99, sonde="9.0", more=[1]),
    "a-key-more": lambda note: note.update(more=1),
    "a-key-less": lambda note: note.pop("parent"),
    "layout-of-words": lambda note: note.update(layout="one"),
    "layout-true": lambda note: note.update(layout=True),
    "size-of-one": lambda note: note.update(size=[64]),
    "size-negative": lambda note: note.update(size=[-64, 96]),
    "size-of-words": lambda note: note.update(size=["64", "96"]),
    "size-larger-than-any": lambda note: note.update(size=[1 << 30, 1 << 30]),
    "spec-empty": lambda note: note.update(spec={}),
    "spec-of-words": lambda note: note.update(spec="metric"),
    "spec-multiple-zero": lambda note: note["spec"].update(multiple=0),
    "spec-std-zero": lambda note: note["spec"].update(std=[0, 1, 1]),
    "spec-huge": lambda note: note["spec"].update(short_side=1 << 20),
    "calibration-empty": lambda note: note.update(calibration={}),
    "background-elsewhere": lambda note: note.update(background={"../x": "AAAA"}),
    "background-no-base64": lambda note: note.update(background={"background.npy": "?"}),
    "background-missing": lambda note: note["spec"].update(background=2.0),
    "parent-of-words": lambda note: note.update(parent="me"),
    "parameters-negative": lambda note: note.update(parameter_count=-1),
    "precision-unheard-of": lambda note: note.update(precision="fp3"),
    "beside-elsewhere": lambda note: note.update(beside={"../model.safetensors": "0"}),
}
"""What the metadata may say instead."""


def _move_weights(location: str, data: bool = True) -> Make:
    """Let the largest tensor lie in another file."""

    def change(model: Any) -> None:
        from onnx import TensorProto

        tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        if data:
            Path("w.data").write_bytes(tensor.raw_data[:100])
        length = str(len(tensor.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return rewritten(change)


def _write_foreign() -> None:
    """A sound ONNX file of another program."""
    import onnx
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), FILE)


def _write_other_network() -> None:
    """A file of another network under sonde's document."""
    import onnx

    note = onnx.load(sound("exported.onnx")).metadata_props[0].value
    _write_foreign()
    rewritten(lambda model: model.metadata_props.add(key="sonde", value=note))()


def cases() -> list[Case]:
    """Every case."""
    copy = copied_file("exported.onnx", FILE)
    words = ("predict", "@photos", "-m", FILE, "-o", "out")
    found = [
        Case("weights/exported/sound/load", copy, load(FILE), "read"),
        Case("weights/exported/sound/predict", copy, words, "read"),
    ]
    for case in damaged("weights/exported/file", FILE, lambda: sound("exported.onnx").read_bytes(), load(FILE)):
        found.append(case)
    found.append(Case("weights/exported/file/half/predict", after(copy, _cut), words, "refused", FILE))
    for fault, place in PLACES.items():
        found.append(Case(f"weights/exported/file/{fault}", place(FILE), load(FILE), "refused", FILE))
    for fault, change in NOTES.items():
        right = "either" if fault in ("a-key-more", "layout-true", "size-larger-than-any") else "refused"
        found.append(Case(f"weights/exported/note/{fault}", after(copy, noted(change)), load(FILE), right, FILE))
    for fault, (location, data) in {
        "missing": ("nowhere.data", False),
        "too-short": ("w.data", True),
        "outside": ("../w.data", True),
        "a-device": ("/dev/zero", False),
        "of-the-system": ("/etc/passwd", False),
    }.items():
        found.append(
            Case(
                f"weights/exported/data/{fault}",
                after(copy, _move_weights(location, data)),
                load(FILE),
                "refused",
                FILE,
            )
        )
    found.append(Case("weights/exported/foreign/load", _write_foreign, load(FILE), "refused", FILE))
    found.append(Case("weights/exported/foreign/another-network", _write_other_network, words, "refused", FILE))
    for verb in (("train", "lora-few", f"model.name={FILE}", "data.root=@bench"), ("features", "@photos", "-m", FILE)):
        found.append(Case(f"weights/exported/verb/{verb[0]}", copy, (*verb, *_name_output(verb[0])), "refused", ""))
    found.append(
        Case("weights/exported/graph/of-other-weights", _write_stale_graph, _ask_stale_graph, "refused", "net")
    )
    return found


def _name_output(verb: str) -> tuple[str, ...]:
    return ("output_dir=out",) if verb == "train" else ("-o", "out")


def _cut() -> None:
    Path(FILE).write_bytes(Path(FILE).read_bytes()[:20_000])


def _write_stale_graph() -> None:
    shutil.copytree(sound("network"), "net")
    copied_file("exported.onnx", "net/model.onnx")()


def _ask_stale_graph() -> object:
    return sonde.load("net", runtime="onnx")
