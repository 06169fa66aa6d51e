"""One self-contained HTML page about a run: its scores beside its rivals', its curves, and its worst cases as pictures.

    page        `write` and `finish`: the page, and the same in Markdown
    contents    sentences, facts and tables, as the templates take them
    charts      curves of the training, and errors by depth
    gallery     the captures to show, kept while they are scored
    pictures    captures and the bench, in colour
    numbers     how a number is written
    captures    the page of `sonde data check` about a set of captures

The page loads nothing, so that it can be mailed; numbers are those of `metrics.json`, beside it. `report.md` says the
same in text, for a pull request or a wiki.
"""

from sonde.renamed import keep_old_names
from sonde.report import captures
from sonde.report.charts import INK, Curves, Training, bin_errors, describe_training
from sonde.report.contents import Contents, compose_headline, describe_caution
from sonde.report.gallery import Gallery, Panel
from sonde.report.numbers import format_number
from sonde.report.page import finish, write
from sonde.report.pictures import colour_error

__all__ = [
    "INK",
    "Contents",
    "Curves",
    "Gallery",
    "Panel",
    "Training",
    "bin_errors",
    "captures",
    "colour_error",
    "compose_headline",
    "describe_caution",
    "describe_training",
    "finish",
    "format_number",
    "write",
]

keep_old_names(
    __name__,
    {
        "binned": "bin_errors",
        "caution": "describe_caution",
        "headline": "compose_headline",
        "number": "format_number",
        "told": "describe_training",
    },
)
