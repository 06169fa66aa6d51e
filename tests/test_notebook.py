"""The notebook runs from its first cell to its last, on renders, and is kept without outputs."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "lora_zivid.ipynb"


def test_the_notebook_runs_and_ends_in_a_score_in_millimetres(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.text for output in book.cells[-2].outputs if output.output_type == "stream")
    assert "adapted model" in printed and "MAE (mm)" in printed
    assert len(list(tmp_path.glob("runs/notebook/*/report.html"))) == 1


def test_the_notebook_follows_the_published_order():
    headings = [cell.source.splitlines()[0] for cell in nbformat.read(NOTEBOOK, as_version=4).cells]
    assert [heading.lstrip("# ") for heading in headings if heading.startswith("## ")] == [
        "Statistics",
        "Data set",
        "Model and LoRA",
        "Loss",
        "Training",
        "Results in millimetres",
    ]


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
