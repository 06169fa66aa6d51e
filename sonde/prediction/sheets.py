"""Sheets: every image beside its depth, with its name and the range of its colours. No torch is imported here.

A sheet holds at most PER_SHEET images, so that memory does not grow with their number: `sheet.png`, then
`sheet-002.png`, `sheet-003.png` …
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sonde import files
from sonde.files.palettes import draw_ramp
from sonde.prediction.savers import PredictedImage, find_ends, spell_value
from sonde.spelling import shorten
from sonde.types import RGBArray

SHEET = "sheet.png"
TILE = (400, 400)
"""The largest (width, height) of an image on the sheet, and of its depth; it is scaled to fit, and keeps its shape."""
COLUMNS, PER_SHEET = 2, 20
"""Images side by side, each with its depth; and images of one sheet."""

GAP, MARGIN, CAPTION, HEADER = 8, 24, 30, 78
"""Pixels between an image and its depth, around a sheet, above an image, and above all images."""
TEXT, TITLE = 15, 18
"""Sizes of the letters."""
INK, GREY = (0, 0, 0), (96, 96, 96)
LEAST_WIDTH = 320
"""Pixels that a caption has, however narrow its image."""
RAMP = (180, 14)
"""(width, height) of the colours from near to far."""

RULE = "Each image has its own colours: they end at its 2nd and 98th percentile{end}."
RELATIVE, METRIC = "; relative depth has no unit", ", the numbers above it"


def name_sheets(out: Path, images: int) -> list[Path]:
    """The sheets of so many images."""
    pages = max(1, -(-images // PER_SHEET))
    return [out / SHEET, *(out / f"sheet-{page:03}.png" for page in range(2, pages + 1))]


class SheetWriter:
    """The sheets of a call, each written when it is full.

    Args:
        pages: their paths, as `name_sheets` gives them.
        model: the name of the model, for the title.
    """

    def __init__(self, pages: Sequence[Path], model: str):
        self.pages = pages
        self.model = model
        self.written: list[Path] = []
        self._tiles: list[RGBArray] = []
        self._unit = ""

    def add(self, name: str, answer: PredictedImage) -> None:
        """Show one image beside its depth, under its name."""
        self.take(draw_tile(name, answer), answer.unit)

    def take(self, tile: RGBArray, unit: str) -> None:
        """Show what `draw_tile` drew; `unit` is that of the depth."""
        self._unit = unit
        self._tiles.append(tile)
        if len(self._tiles) == PER_SHEET:
            self._write()

    def finish(self) -> list[Path]:
        """Write the last sheet, and return all that were written."""
        if self._tiles:
            self._write()
        return self.written

    def _write(self) -> None:
        page = self.pages[len(self.written)]
        grid = tile_images(self._tiles, COLUMNS)
        which = f"   sheet {len(self.written) + 1} of {len(self.pages)}" if len(self.pages) > 1 else ""
        header = _draw_header(grid.shape[1], self.model, self._unit, which)
        sheet = np.concatenate([header, grid])
        files.write_rgb(page, np.pad(sheet, ((0, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=255))
        self.written.append(page)
        self._tiles = []


def tile_images(tiles: Sequence[RGBArray], columns: int = 4) -> UInt8[np.ndarray, "_ _ 3"]:
    """Arrange tiles in rows; smaller ones, and a last row that is not full, end in white."""
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    width = max(tile.shape[1] for tile in tiles)
    return np.concatenate([_join_row(row, width, min(columns, len(tiles))) for row in rows])


def draw_tile(name: str, answer: PredictedImage) -> UInt8[np.ndarray, "_ _ 3"]:
    """An image and its depth side by side, each fitted into TILE, below its name and its range."""
    assert answer.image is not None
    low, high = find_ends(answer)
    depth = files.colour_depth(answer.own, None, low, high, space=answer.space)
    halves = [_fit_picture(picture) for picture in (answer.image, depth)]
    width, height = halves[0].size
    wide = 2 * TILE[0] + GAP + MARGIN
    tile = Image.new("RGB", (wide, CAPTION + height + MARGIN), "white")
    for left, half in zip((0, width + GAP), halves, strict=True):
        tile.paste(half, (left, CAPTION))
    metric = answer.space == "metric"
    span = f"{spell_value(low)} to {spell_value(high)} {answer.unit}" if metric else "relative"
    draw, font = ImageDraw.Draw(tile), _load_font(TEXT)
    right = max(2 * width + GAP, LEAST_WIDTH)
    left = right - draw.textlength(span, font)
    draw.text((left, 6), span, GREY, font)
    draw.text((0, 6), _fit_text(name, left - 2 * GAP, font), INK, font)
    return np.asarray(tile)


def _fit_picture(picture: RGBArray) -> Image.Image:
    """The picture at the size that fits TILE; a strip is at least one pixel high."""
    height, width = picture.shape[:2]
    scale = min(TILE[0] / width, TILE[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return ImageOps.fit(Image.fromarray(picture), size, Image.Resampling.LANCZOS)


def _join_row(row: Sequence[RGBArray], width: int, columns: int) -> UInt8[np.ndarray, "_ _ 3"]:
    joined = np.full((max(tile.shape[0] for tile in row), columns * width, 3), 255, np.uint8)
    for place, tile in enumerate(row):
        joined[: tile.shape[0], place * width : place * width + tile.shape[1]] = tile
    return joined


def _draw_header(width: int, model: str, unit: str, which: str) -> RGBArray:
    """The model and the unit at the left, the colours from near to far at the right, and what they mean."""
    header = Image.new("RGB", (width, HEADER), "white")
    draw, text, bold = ImageDraw.Draw(header), _load_font(TEXT), _load_font(TITLE, bold=True)
    far = width - MARGIN - draw.textlength("far", text)
    ramp, left = far - GAP - RAMP[0], far - 2 * GAP - RAMP[0] - draw.textlength("near", text)
    colours = draw_ramp(RAMP[0])[None]
    header.paste(Image.fromarray(np.repeat(colours, RAMP[1], axis=0)), (round(ramp), 20))
    draw.text((left, 17), "near", INK, text)
    draw.text((far, 17), "far", INK, text)
    kind = "relative depth" if unit == "1" else f"depth in {unit}"
    about = f"   {kind}{which}"
    name = _fit_text(model, left - 2 * GAP - draw.textlength(about, text), bold)
    draw.text((0, 15), name, INK, bold)
    draw.text((draw.textlength(name, bold), 17), about, INK, text)
    rule = RULE.format(end=RELATIVE if unit == "1" else METRIC)
    draw.text((0, 46), rule, GREY, _load_font(TEXT - 2))
    return np.asarray(header)


def _fit_text(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, without its middle where it is longer than so many pixels."""
    shown = shorten(text)
    while font.getlength(shown) > width and len(shown) > 4:
        shown = shorten(text, len(shown) - 1)
    return shown


@cache
def _load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The letters of matplotlib's plots, which have Greek, Cyrillic and accents; Pillow's own, English, without them.

    matplotlib is looked for and not imported, which would take a tenth of a second.
    """
    found = find_spec("matplotlib")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if path.is_file():
            return ImageFont.truetype(path, size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
