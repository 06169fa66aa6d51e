"""Documents that sonde reads: JSON, YAML, JSON lines, CSV and plain text, damaged as a whole or in one field."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, Entry, Make, Right, after, changed, drop_field, junk, put, set_field
from hostile_images import encoded
from sound import FEW, SHORT_RUN, copied, write_pairs

import sonde
from sonde import datasets, evaluation, runs

DEEP = 10_000
OTHERS: dict[str, bytes] = {
    "null": b"null",
    "a-list": b"[1, 2, 3]\n",
    "a-number": b"5\n",
    "a-word": b'"word"\n',
    "not-a-number": b"NaN\n",
    "true": b"true\n",
    "lists-10000-deep": b"[" * DEEP + b"]" * DEEP,
    "objects-10000-deep": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a-number-of-100000-digits": b'{"a": ' + b"9" * 100_000 + b"}",
    "a-key-of-control-characters": b'{"\\u001b]0;x\\u0007": 1}',
    "a-raw-control-character": b'{"a": "\x1b[2J\x07"}',
    "not-utf8": b'{"a": "\xff\xfe\xfd"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
}
"""Documents in place of a JSON object: name -> bytes."""
WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "junk": lambda data: b"{" + junk(),
    "half": lambda data: data[: len(data) // 2],
    "nul-bytes": lambda data: bytes(4096),
} | {name: lambda data, other=other: other for name, other in OTHERS.items()}
WORST = ("empty", "half", "null", "a-list", "lists-10000-deep", "not-utf8", "a-key-of-control-characters")
"""Of WHOLE."""
OBJECTS = {
    *("teacher", "preprocessing", "encoding", "limits", "settings", "metrics", "train", "validation", "test", "record"),
    *("label_span", "image_span", "intrinsics", "mean", "std", "input_size", "images", "accuracy", "parents", "data"),
    *("recipe", "predictions", "log_history", "stateful_callbacks", "folds", "chosen", "target_modules"),
}
"""Fields that hold an object or a list."""
TEXTS = {"settings.data"}
"""Fields that hold a text, though a field of another document that holds a list has the same last part."""
WRONG: tuple[Any, ...] = ({"a": [1]}, [[]], "word", None, -1, True, float("nan"), 1e999)


@dataclass(frozen=True)
class Document:
    """A document of a sound folder, and what reads it."""

    kind: str
    make: Make
    """The sound folder, below the current one."""
    path: str
    entry: Entry
    fields: tuple[str, ...] = ()
    """Keys to leave out and to give another type; dotted below the first level."""
    accepts: tuple[str, ...] = ()
    """Faults that may be read: an empty list names nothing."""
    strict: bool = True
    """Whether a field of a wrong type must be refused; not where the key is another library's or free."""
    says: str = ""
    """By default the file's name."""
    slow: bool = False
    """Whether reading it takes a second: then it meets the worst faults alone."""

    @property
    def named(self) -> str:
        """What the refusal must hold."""
        return self.says or Path(self.path).name


def opened(format: str, root: str) -> Callable[[], object]:
    """Open a set and read its first capture and its groups."""

    def read() -> None:
        captures = datasets.open_set(format, root)
        captures.read(0)

    return read


def _wrong_for(field: str, number: int) -> Any:
    """A value that no field takes: an object in place of a number or a word; a word in place of an object or a list."""
    return "word" if field.rpartition(".")[2] in OBJECTS and field not in TEXTS else WRONG[number % 2]


def run_without_a_test() -> None:
    """A run that was chosen by captures left out in turn."""
    copied("run", "run")()
    Path("run/split.json").write_text(json.dumps({"train": ["b00", "b01"], "validation": [], "test": []}))
    Path("run/left-out").mkdir()
    for capture in ("b00", "b01"):
        np.save(f"run/left-out/{capture}.npy", np.full((48, 64), 0.8, np.float32))
    folds = {"folds": [["b00"], ["b01"]], "chosen": {"background": "none"}, "sentence": ""}
    Path("run/choice.json").write_text(json.dumps(folds))


def labels() -> None:
    """Labels, and their photographs where the manifest says."""
    copied("labels", "labels")()
    copied("photos", "photos")()


def unfinished_labels() -> None:
    """A labelling job whose last step has not been taken."""
    copied("labels", "out")()
    Path("out/manifest.jsonl").unlink()


def write_rows(folder: str) -> None:
    """Pairs of points, as DA-2K has them."""
    Path(folder, "images").mkdir(parents=True)
    Path(folder, "images", "a.png").write_bytes(encoded())
    pair = {"point1": [5, 5], "point2": [30, 30], "closer_point": "point1"}
    Path(folder, "annotations.json").write_text(json.dumps({"images/a.png": [pair]}))


def pairs() -> None:
    """The sound set of the folder layout."""
    write_pairs(Path("set"))


def resumed() -> None:
    """A run that stopped after its second step."""
    copied("run", "run")()
    shutil.rmtree("run/checkpoints/checkpoint-3")


RESUME = ("train", FEW, "data.root=@bench", "output_dir=run", *SHORT_RUN, "--resume")
DRY = ("train", FEW, "data.root=set", "output_dir=out", *SHORT_RUN, "--dry-run")


DOCUMENTS = [
    Document(
        "dataset.json",
        pairs,
        "set/dataset.json",
        opened("folder", "set"),
        ("depth_scale", "unit", "rotated_bits", "intrinsics"),
    ),
    Document(
        "config.json",
        copied("network", "m"),
        "m/config.json",
        lambda: sonde.load("m"),
        (
            "model_type",
            "hidden_sizes",
            "depths",
            "num_attention_heads",
            "decoder_hidden_size",
            "max_depth",
            "patch_sizes",
            "strides",
            "num_channels",
        ),
        strict=False,
    ),
    Document(
        "sonde.json",
        copied("run", "run"),
        "run/best/sonde.json",
        lambda: sonde.load("run"),
        (
            "space",
            "short_side",
            "multiple",
            "mean",
            "std",
            "input_size",
            "encoding",
            "scale",
            "canonical_focal",
            "background",
            "head",
            "unit",
            "base",
            "fingerprint",
            "base_max_depth",
            "encoding.name",
            "encoding.min_depth",
            "encoding.max_depth",
        ),
    ),
    Document(
        "adapter_config.json",
        copied("run", "run"),
        "run/best/adapter_config.json",
        lambda: sonde.load("run"),
        (
            "peft_type",
            "r",
            "lora_alpha",
            "target_modules",
            "bias",
            "lora_dropout",
            "modules_to_save",
            "rank_pattern",
            "task_type",
        ),
        strict=False,
    ),
    Document(
        "calibration.json",
        copied("calibrated", "m"),
        "m/calibration.json",
        lambda: sonde.load("m"),
        ("kind", "space", "scale", "shift", "limits", "fingerprint", "base", "record"),
    ),
    Document(
        "split.json",
        copied("run", "run"),
        "run/split.json",
        lambda: runs.read_run("run"),
        ("train", "validation", "test"),
    ),
    Document(
        "metrics.json",
        copied("scored", "scored"),
        "scored/metrics.json",
        lambda: evaluation.read_evaluation(Path("scored")),
        (
            "protocol",
            "metrics",
            "settings",
            "settings.protocol",
            "settings.ids",
            "settings.data",
            "settings.limits",
            "settings.protocol.align",
            "settings.protocol.metrics",
        ),
    ),
    Document(
        "manifest.jsonl",
        labels,
        "labels/manifest.jsonl",
        opened("pseudo", "labels"),
        (
            "id",
            "image",
            "image_span",
            "image_sha256",
            "label",
            "label_span",
            "confidence",
            "teacher",
            "space",
            "teacher.name",
            "teacher.weights",
            "teacher.licence",
        ),
        says="manifest",
    ),
    Document(
        "rejects.jsonl",
        after(pairs, put("rejects.jsonl", b'{"capture": "p0", "check": "a", "reason": "b"}\n')),
        "rejects.jsonl",
        ("data", "check", "set", "--format", "folder", "--reject", "rejects.jsonl"),
        ("capture",),
        ("empty",),
        slow=True,
    ),
    Document(
        "predictions.json",
        copied("predicted", "answers"),
        "answers/predictions.json",
        ("predict", "@photos", "-m", "@network", "-o", "answers", "--save", "npy"),
        ("model", "weights", "space", "unit", "predictions"),
        says="answers",
        slow=True,
    ),
    Document(
        "kept-predictions.json",
        copied("scored-kept", "kept"),
        "kept/predictions.json",
        ("eval", "kept", "--data", "@bench", "--protocol", "zivid-mm"),
        ("space", "unit"),
        accepts=("a-key-of-control-characters",),
        says="kept",
        slow=True,
    ),
    Document(
        "images.jsonl",
        copied("scored-kept", "kept"),
        "kept/images.jsonl",
        ("eval", "@network", "--data", "@bench", "--protocol", "zivid-mm", "--keep", "kept"),
        ("capture", "image"),
        tuple(WHOLE),
        says="kept",
        slow=True,
    ),
    Document(
        "choice.json",
        run_without_a_test,
        "run/choice.json",
        ("eval", "run"),
        ("folds", "chosen", "sentence"),
        strict=False,
        slow=True,
    ),
    Document(
        "job.json",
        unfinished_labels,
        "out/job.json",
        ("label", "@network", "@photos", "out", "--no-confidence"),
        ("teacher", "preprocessing", "space", "size", "format", "chunk", "shards", "images"),
        ("empty",),
        says="out",
        slow=True,
    ),
    Document(
        "annotations.json",
        lambda: write_rows("set"),
        "set/annotations.json",
        ("eval", "@network", "--protocol", "da2k", "--data", "set"),
        (),
        slow=True,
    ),
    Document(
        "trainer_state.json",
        resumed,
        "run/checkpoints/checkpoint-2/trainer_state.json",
        RESUME,
        ("global_step", "max_steps", "best_metric", "epoch", "log_history", "stateful_callbacks"),
        strict=False,
        slow=True,
    ),
    Document(
        "resumed-split.json", resumed, "run/split.json", RESUME, ("train", "validation", "test"), says="run", slow=True
    ),
    Document(
        "render.json",
        copied("rendered", "set"),
        "set/render.json",
        ("train", FEW, "data.root=set", "output_dir=out", "data.render={bench: 4}", *SHORT_RUN),
        ("family", "count", "seed", "size", "rigs", "format"),
        slow=True,
    ),
    Document(
        "card.json",
        copied("run", "run"),
        "run/best/card.json",
        ("export", "run", "-o", "out"),
        ("licence", "parents", "data", "recipe", "weights_sha256", "accuracy"),
        strict=False,
        slow=True,
    ),
]
"""Every JSON document that a verb reads back."""


def cases() -> list[Case]:
    """Every case."""
    found = []
    for document in DOCUMENTS:
        found += _damaged(document) + _fields(document)
    return found


def _rewritten(document: Document, change: Callable[[bytes], bytes]) -> Make:
    def make() -> None:
        document.make()
        path = Path(document.path)
        path.write_bytes(change(path.read_bytes()))

    return make


def _damaged(document: Document) -> list[Case]:
    found = []
    for fault, change in WHOLE.items():
        if document.slow and fault not in WORST:
            continue
        right: Right = "either" if fault in document.accepts else "refused"
        name = f"documents/{document.kind}/{fault}"
        found.append(Case(name, _rewritten(document, change), document.entry, right, document.named))
    with_mark = _rewritten(document, lambda data: b"\xef\xbb\xbf" + data)
    found.append(
        Case(f"documents/{document.kind}/a-byte-order-mark", with_mark, document.entry, "read", document.named)
    )
    return found


def _fields(document: Document) -> list[Case]:
    found = []
    for number, field in enumerate(document.fields):
        lacking = after(document.make, changed(document.path, drop_field(field)))
        name = f"documents/{document.kind}/{field}"
        # What a library of others refuses of its own keys may name another file of the same folder.
        says = document.named if document.strict else Path(document.path).parts[0]
        found.append(Case(f"{name}/missing", lacking, document.entry, "either", says))
        wrong = after(document.make, changed(document.path, set_field(field, _wrong_for(field, number))))
        right: Right = "refused" if document.strict else "either"
        found.append(Case(f"{name}/wrong-type", wrong, document.entry, right, says))
    if document.kind in ("sonde.json", "dataset.json", "split.json", "calibration.json"):
        more = after(document.make, changed(document.path, set_field("unheard_of", 1)))
        known: Right = "refused" if document.kind in ("sonde.json", "dataset.json") else "either"
        found.append(Case(f"documents/{document.kind}/extra-key", more, document.entry, known, document.named))
    return found
