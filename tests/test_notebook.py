"""Every notebook runs from its first cell to its last, on renders, ends in what it promises, and is kept with it."""

import json
import re

import nbformat
import pytest
from kept_notebooks import ADDRESS, FOLDER, PNG, execute, hash_sources, list_outputs, read_notebook
from nbformat import NotebookNode

NUMBER = r"\s+([\d.]+)"
ENDS = {
    "baseline_inference": (
        r"space disparity, shape \(120, 160\), float32",
        r"zivid-mm\+disparity",
        rf"mean map{NUMBER}",
        rf"sonde-tiny, aligned per image{NUMBER}",
    ),
    "data_exploration": (
        r"capture_00001 ends at [\d.]+ mm: it looks like metres",
        r"4 faults in the spoilt copy; in the others: \{'bench': 0, 'room': 0, 'road': 0\}",
    ),
    "dinov2_features": (
        r"layer 12: 384 channels on a grid of 14 x 19 tokens",
        *(rf"stage {stage}: (\d+)% of the variance depends on the place alone" for stage in (1, 2, 3, 4)),
    ),
    "evaluation_analysis": (
        r"Predictions in space 'disparity' cannot be scored under zivid-mm",
        r"95 % interval",
        r"mean map.* of 8 images",
        rf"sonde-tiny{NUMBER}{NUMBER}",
    ),
    "lora_zivid": (r"MAE \(mm\)", r"adapted model"),
    "training_monitoring": (
        r"stopped; complete checkpoints: \['checkpoint-12', 'checkpoint-6'\]",
        r"each step is logged once: True",
        rf"best validation loss{NUMBER} at step \d+",
        rf"held-out captures:{NUMBER} mm of mean absolute error over 2 images",
    ),
}
"""Notebook -> what it must have printed, in this order."""
FIGURES = {
    "baseline_inference": 2,
    "data_exploration": 3,
    "dinov2_features": 4,
    "evaluation_analysis": 3,
    "lora_zivid": 5,
    "training_monitoring": 2,
}

LARGEST, LARGEST_OF_ALL = 300_000, 1_500_000
"""Bytes of a notebook, and of all: they are cloned by everybody, and shown in a browser."""
PLACES = re.compile(r"/home/|/root/|/tmp/|/Users/|/var/folders|[A-Z]:\\\\|site-packages")
"""What a path of the machine that ran a notebook would hold."""

each = pytest.mark.parametrize("name", ENDS)


def check_outputs(name: str, outputs: list[NotebookNode]) -> None:
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert re.search(".*".join(ENDS[name]), printed, re.DOTALL), printed
    assert sum(PNG in output.get("data", {}) for output in outputs) == FIGURES[name]
    assert "Warning" not in printed


@pytest.mark.parametrize(
    "name",
    [name if name == "baseline_inference" else pytest.param(name, marks=pytest.mark.slow) for name in ENDS],
)
def test_a_notebook_runs_and_ends_in_what_it_promises(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    check_outputs(name, execute(read_notebook(name), tmp_path))
    assert len(list(tmp_path.glob("runs/*/*/report.html"))) == (name in ("lora_zivid", "training_monitoring"))


def test_every_notebook_is_executed_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(ENDS)


def test_the_notebook_follows_the_published_order():
    headings = [cell.source.splitlines()[0] for cell in read_notebook("lora_zivid").cells]
    assert [heading.lstrip("# ") for heading in headings if heading.startswith("## ")] == [
        "Statistics",
        "Data set",
        "Model and LoRA",
        "Loss",
        "Training",
        "Results in millimetres",
    ]


@each
def test_a_notebook_is_kept_with_what_its_own_code_gives(name):
    """`make notebooks-refresh` where this fails."""
    book = read_notebook(name)
    outputs = list_outputs(book)
    assert book.metadata["sonde"]["outputs_of"] == hash_sources(book)
    check_outputs(name, outputs)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = json.dumps([{**output, "data": {**output.get("data", {}), PNG: ""}} for output in outputs])
    assert not PLACES.search(shown) and not ADDRESS.search(shown)


@each
def test_a_notebook_is_small_and_as_nbformat_writes_it(name):
    book = read_notebook(name)
    nbformat.validate(book)
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    assert all(cell.metadata == {} for cell in book.cells), "no times, no state of a window"
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < LARGEST_OF_ALL
    assert json.loads((FOLDER / f"{name}.ipynb").read_text()) == json.loads(nbformat.writes(book))


@each
def test_a_notebook_opens_with_its_purpose_and_its_settings(name):
    """What a reader changes is the first code, alone in its cell; what it writes goes below runs/."""
    first, settings = read_notebook(name).cells[:2]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert settings.cell_type == "code" and re.search(r"^[A-Z_]+ = ", settings.source, re.MULTILINE)
    assert not re.search(r"^(for|if|def) ", settings.source, re.MULTILINE)
    assert "runs/" in "".join(cell.source for cell in read_notebook(name).cells[:3])
