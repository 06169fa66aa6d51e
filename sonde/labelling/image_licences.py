"""Images that a licence leaves out: a table says the licence of each, and the user says which are not wanted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sonde.files import read_rows
from sonde.spelling import shorten
from sonde.unlabeled import Images

COLUMNS = ("file", "licence")
"""What the table must have; other columns are ignored."""


def leave_out(images: Images, sources: Path | None, unwanted: Sequence[str] | None) -> Images:
    """The images whose licence holds none of the unwanted texts, ignoring case; `passed_over` lists the others.

    Args:
        images: files, not members of tars.
        sources: a CSV file, as for `match_licences`. None: no licence is known.
        unwanted: such as ("GPL", "no repo licence").

    Raises:
        ValueError: one of `sources` and `unwanted` without the other, a table that is not one, images in tars, an image
            without a row, or no image left; one sentence.
    """
    if sources is None or not unwanted:
        if sources is None and not unwanted:
            return images
        missing = "sources=FILE.csv, which states the licences" if sources is None else "leave_out=TEXT, to choose by"
        raise ValueError(f"sources and leave_out belong together: add {missing}.")
    if images.shards:
        raise ValueError(f"sources={shorten(sources)}: images in tars have no licences there; give files.")
    licences = match_licences(images, sources)
    reasons: dict[int, str] = {}
    for index, licence in enumerate(licences):
        found = next((text for text in unwanted if text.casefold() in licence.casefold()), None)
        if found is not None:
            reasons[index] = f"its licence is {licence!r} (leave_out={found})"
    kept = [index for index in range(len(images)) if index not in reasons]
    if not kept:
        raise ValueError(f"leave_out={','.join(unwanted)} leaves none of the {len(images)} images.")
    dropped = [(images.where(index), reason) for index, reason in reasons.items()]
    return replace(images.take(kept), passed_over=[*images.passed_over, *dropped])


def match_licences(images: Images, table: Path) -> list[str]:
    """The licence of each image, by the row whose `file` is its path from the table's folder, or the end of that path.

    Raises:
        ValueError: a damaged table or none, one without the columns `file` and `licence`, an image without a row or not
            below the table's folder, or a row that two images match.
    """
    licences = read_licences(table)
    folder, used, matched = table.resolve().parent, dict[str, int](), list[str]()
    for index in range(len(images)):
        path = images.path(index).resolve()
        parts = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        name = next((end for end in ends if end in licences), None)
        if name is None:
            raise ValueError(f"{shorten(table)} has no row for {images.where(index)}: add one, with its licence.")
        if name in used:
            raise ValueError(
                f"{shorten(table)}: its row {name} may mean {images.where(used[name])} or {images.where(index)}: write "
                "the path from the table's folder."
            )
        used[name] = index
        matched.append(licences[name])
    return matched


def read_licences(path: Path) -> dict[str, str]:
    """The cells `file` and `licence` of each row.

    Raises:
        ValueError: no such file, a damaged one, or a table without these columns or without a row.
    """
    remedy = "give a CSV file with the columns file and licence"
    rows = read_rows(path, remedy)
    if not rows:
        raise ValueError(f"{shorten(path)} has no row below its columns: {remedy}.")
    if not set(COLUMNS) <= set(rows[0]):
        raise ValueError(f"{shorten(path)}: its columns are {', '.join(rows[0])}: {remedy}.")
    return {row["file"]: row["licence"] for row in rows}
