"""Write the page about a run, and the same in Markdown."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from sonde import files
from sonde.evaluation import Evaluation, score_with_baselines
from sonde.report.contents import gather_contents
from sonde.report.gallery import Gallery
from sonde.report.numbers import format_number
from sonde.runs import judged, read_run
from sonde.spelling import escape_markdown, fence_code, quote_code

TEMPLATES = (Path(__file__).with_name("report.md"), Path(__file__).with_name("report.html"))


def finish(folder: Path) -> Path | None:
    """Score a finished run on its held-out captures, and write `metrics.json`, `per_image.csv` and the report.

    Where no captures were kept for the test, those that chose the checkpoint are scored, and the page says so; where
    every capture trained, the answers to captures left out by which the run was chosen. Without those nothing is
    written.

    Returns:
        FOLDER/report.html, or None where nothing was written.
    """
    run = read_run(folder)
    part = run and judged(run)
    if part is None:
        return None
    gallery = Gallery()
    scoreboard = score_with_baselines(folder, part=part, watch=gallery.add)
    list(scoreboard.values())[-1].write(folder, scoreboard)
    return write(folder, scoreboard, gallery)


def write(folder: Path, scoreboard: Mapping[str, Evaluation], gallery: Gallery) -> Path:
    """Write FOLDER/report.html, and report.md beside it.

    Args:
        folder: a run folder; `recipe.yaml`, `split.json`, `metrics.jsonl` and `environment.json` are read where they
            exist.
        scoreboard: evaluations by row name; the last row is the run's own model.
        gallery: of the captures scored with the run's own model.
    """
    contents = gather_contents(folder, scoreboard, gallery)
    for template in TEMPLATES:
        escaped = template.suffix == ".html"
        page = Environment(
            autoescape=escaped,
            finalize=None if escaped else _escape,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page.filters |= {"number": format_number, "code": _make_code, "fence": _make_fence}
        text = page.from_string(template.read_text()).render(vars(contents))
        with files.atomic_write(folder / template.name) as tmp_path:
            tmp_path.write_text(text, encoding="utf-8")
    return folder / "report.html"


class _Written(str):
    """Markdown as it is, that needs no escape."""


def _escape(value: object) -> object:
    """What a template of Markdown writes: words of data are made harmless, `_Written` stays."""
    return value if isinstance(value, _Written) else escape_markdown(value)


def _make_code(text: object) -> str:
    return _Written(quote_code(text))


def _make_fence(text: str) -> str:
    return _Written(fence_code(text.strip()))
