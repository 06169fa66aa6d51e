"""Every notebook runs from its first cell to its last, on renders, ends in what it promises, and is kept clean."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "notebooks"
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

each = pytest.mark.parametrize("name", ENDS)


def kept(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path) -> list[NotebookNode]:
    """Every output of a notebook run in a folder, in order."""
    book = kept(name)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in book.cells for output in cell.get("outputs", [])]


@each
def test_a_notebook_runs_and_ends_in_what_it_promises(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    outputs = executed(name, tmp_path)
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert re.search(".*".join(ENDS[name]), printed, re.DOTALL), printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == FIGURES[name]
    assert "Warning" not in printed
    assert len(list(tmp_path.glob("runs/*/*/report.html"))) == (name in ("lora_zivid", "training_monitoring"))


def test_every_notebook_is_executed_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(ENDS)


def test_the_notebook_follows_the_published_order():
    headings = [cell.source.splitlines()[0] for cell in kept("lora_zivid").cells]
    assert [heading.lstrip("# ") for heading in headings if heading.startswith("## ")] == [
        "Statistics",
        "Data set",
        "Model and LoRA",
        "Loss",
        "Training",
        "Results in millimetres",
    ]


@each
def test_a_notebook_is_kept_without_outputs_and_as_nbformat_writes_it(name):
    book = kept(name)
    nbformat.validate(book)
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    for cell in book.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert json.loads((FOLDER / f"{name}.ipynb").read_text()) == json.loads(nbformat.writes(book))


@each
def test_a_notebook_opens_with_its_purpose_and_its_settings(name):
    """What a reader changes is the first code, alone in its cell; what it writes goes below runs/."""
    first, settings = kept(name).cells[:2]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert settings.cell_type == "code" and re.search(r"^[A-Z_]+ = ", settings.source, re.MULTILINE)
    assert not re.search(r"^(for|if|def) ", settings.source, re.MULTILINE)
    assert "runs/" in "".join(cell.source for cell in kept(name).cells[:3])
