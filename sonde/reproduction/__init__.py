"""Score published numbers again: a paper's row as data, its evaluation by one name, and a verdict for each number.

    published    the rows; your own are a YAML file of the same form
    location     where a row's captures, list and weights are
    job          `reproduce`, and its result

For what is missing, the result names which weights, folder or list, where sonde looked, and how to get it.
"""

from sonde.renamed import keep_old_names
from sonde.reproduction.job import Reproduction, ScoreCheck, reproduce
from sonde.reproduction.location import Sources, find_sources
from sonde.reproduction.published import ROWS, Published, list_rows, read_rows

__all__ = [
    "ROWS",
    "Published",
    "Reproduction",
    "ScoreCheck",
    "Sources",
    "find_sources",
    "list_rows",
    "read_rows",
    "reproduce",
]

keep_old_names(__name__, {"listing": "list_rows", "rows": "read_rows", "sources": "find_sources"})
