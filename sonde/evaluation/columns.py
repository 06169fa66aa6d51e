"""The columns of per_image.csv: what a row of scores holds."""

import re
from typing import Any

from sonde import metrics

Row = dict[str, Any]
"""The scores of one image by the names of their columns: text, whole numbers, numbers, or None where there is none."""

RATIO = "scale_ratio"
"""median(truth) / median(prediction)."""
SCALE = "fitted_scale"
"""The scale of the alignment."""
ORDINAL = "ordinal_accuracy"
"""The share of pairs of points that are put in the right order."""
WORDS = ("id", "pixels", "pairs", "group", "scene")
"""The columns that are no scores."""
BY_RANGE = ("abs_rel", "rmse", "delta1")
"""The metrics that are scored by range of true depth too, where the protocol states ranges."""


FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""The start of a text that a spreadsheet would take for a formula, perhaps quoted before."""


def quote_cell(value: object) -> object:
    """A cell as a table holds it: a text that a spreadsheet would run gets an apostrophe before it; numbers stay."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def unquote_cell(text: str) -> str:
    """The text that `quote_cell` wrote."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def is_better_larger(column: str) -> bool:
    """Whether more is better; for a column that is no metric less is."""
    # METRICS are metrics of depth maps, so the accuracy of pairs of points is not among them.
    return column == ORDINAL or metrics.is_better_larger(column)
