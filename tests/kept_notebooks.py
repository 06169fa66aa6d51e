"""Run the notebooks and keep their outputs in them, as `make notebooks-refresh` does.

What is kept is what a reader sees where the code is hosted: text, and pictures of at most 256 colours. What changes
from run to run, such as times and versions, is left out.
"""

import base64
import os
import re
import sys
import tempfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
PNG = "image/png"
ADDRESS = re.compile(r"<[\w.]+(?: object)? at 0x[0-9a-f]+>")
"""How Python prints an object that says nothing about itself: another number in each run."""


def read_notebook(name: str) -> NotebookNode:
    """A notebook as it is kept."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def execute(book: NotebookNode, folder: Path) -> list[NotebookNode]:
    """Run a notebook in a folder, in place; returns every output, in order."""
    resources = {"metadata": {"path": str(folder)}}
    quiet = ["--IPKernelApp.log_level=ERROR"]
    NotebookClient(book, timeout=900, record_timing=False, extra_arguments=quiet, resources=resources).execute()
    return list_outputs(book)


def list_outputs(book: NotebookNode) -> list[NotebookNode]:
    """Every output of a notebook, in order."""
    return [output for cell in book.cells for output in cell.get("outputs", [])]


def hash_sources(book: NotebookNode) -> str:
    """What tells whether the outputs belong to the code beside them."""
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    return sha256("\0".join(code).encode()).hexdigest()[:16]


def refresh(name: str) -> int:
    """Run a notebook in an empty folder and keep what it gives; returns the bytes of its pictures."""
    book = read_notebook(name)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    metadata = {key: book.metadata[key] for key in ("kernelspec", "language_info")}
    with tempfile.TemporaryDirectory() as folder:
        outputs = execute(book, Path(folder))
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = join_texts(cell.outputs)
    book.metadata = nbformat.from_dict({**metadata, "sonde": {"outputs_of": hash_sources(book)}})
    for output in outputs:
        if PNG in output.get("data", {}):
            output.data[PNG] = shrink_png(output.data[PNG])
            output.data.pop("text/plain", None)
    nbformat.validate(book)
    nbformat.write(book, FOLDER / f"{name}.ipynb")
    return sum(len(output.data[PNG]) for output in outputs if PNG in output.get("data", {}))


def join_texts(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs of a cell, with what it printed in one piece: in how many pieces it arrives depends on the time."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def shrink_png(text: str) -> str:
    """A picture of a notebook, in base64, with 256 colours: half of the size, and looks the same."""
    picture = Image.open(BytesIO(base64.b64decode(text))).convert("RGB")
    palette = picture.quantize(255, kmeans=2)
    shown = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    indices = np.array(shown)
    indices[np.asarray(picture).min(axis=2) == 255] = 255  # a page stays white: Pillow takes the next best colour
    shown = Image.fromarray(indices, "P")
    shown.putpalette([*(palette.getpalette() or [])[: 3 * 255], 255, 255, 255])
    small = BytesIO()
    shown.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main() -> None:
    """Refresh the notebooks that are named, or all."""
    # The same number of threads gives the same numbers.
    os.environ.update(OMP_NUM_THREADS="2", HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SONDE_CACHE"] = cache
        for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
            print(f"{name}: {refresh(name) / 1000:.0f} kB of pictures", flush=True)


if __name__ == "__main__":
    main()
