"""Procedural materials: a bank of tileable patterns, and recipes that colour them.

A material mixes two colours by one pattern, then a third by a second pattern, and adds gloss, glow and relief. The
bank holds grey patterns with their mip levels in one atlas, drawn once per process from a fixed seed.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial import KDTree

from sonde.scenes.vectors import Real

TILE = 256
"""Pixels along a pattern's side at full resolution."""
LEVELS = 7
"""Mip levels of the atlas, each half the one before."""
Grey = Float[np.ndarray, "s s"]
Colour = tuple[Real, Real, Real]


class Material(NamedTuple):
    """How a surface looks; colours are linear RGB reflectances."""

    dark: Colour
    light: Colour
    """Where the first pattern is 0, and where it is 1."""
    mark: Colour = (0.0, 0.0, 0.0)
    """Where the second pattern is 1."""
    pattern: str = "cloud"
    marks: str = "cloud"
    """Names in PATTERNS."""
    tile: float = 1.0
    marks_tile: float = 2.0
    """Metres along a tile of each pattern."""
    stretch: float = 1.0
    """How much longer a tile of the first pattern is along v."""
    angle: float = 0.0
    """Turn of the patterns on the surface, radians."""
    shift: float = 0.0
    """Offset of the patterns, in tiles."""
    contrast: float = 1.0
    """Steepness of the first pattern about its middle."""
    marked: float = 0.0
    """Strength of the second pattern, 0 to 1."""
    gloss: float = 0.0
    """Share of mirrored light at normal incidence, 0 (matt) to 1 (metal)."""
    sharpness: float = 20.0
    """Phong exponent of the highlight."""
    glow: float = 0.0
    """Light sent out, in units of a white surface's."""
    relief: float = 0.0
    """Tilt of the normal by the first pattern's slope."""


def table(materials: list[Material]) -> Float32[np.ndarray, "c k"]:
    """One column of numbers per material, as the shading reads them."""
    return np.array([_column(material) for material in materials], np.float32).T.copy()


@cache
def atlas() -> Float32[np.ndarray, "height width"]:
    """Every pattern (downwards) at every mip level (rightwards), each tile with a wrapped border of one pixel."""
    return np.concatenate([make_mips(_drawn(name)) for name in PATTERNS])


@cache
def level_start() -> Float32[np.ndarray, " levels"]:
    """Column where each mip level's tiles begin in the atlas, border excluded."""
    sides = TILE >> np.arange(LEVELS)
    return np.r_[0, np.cumsum(sides + 2)[:-1]].astype(np.float32) + 1


def sample(
    row: Float32[np.ndarray, " n"],
    u: Float32[np.ndarray, " n"],
    v: Float32[np.ndarray, " n"],
    level: Float32[np.ndarray, " n"],
    source: Float32[np.ndarray, "height width"] | None = None,
) -> Float32[np.ndarray, " n"]:
    """Values of patterns, or of `source`, at texture coordinates in tiles, bilinear at the given whole mip level."""
    side = np.exp2(-level) * np.float32(TILE)
    column = level_start()[level.astype(np.intp)]
    x = (u - np.floor(u)) * side + column - 0.5
    y = (v - np.floor(v)) * side + row * (TILE + 2) + 0.5
    if not len(u):
        return np.zeros(0, np.float32)
    width = 224  # remap wants two-dimensional maps narrower than 32768
    count = -(-len(x) // width) * width
    x, y = (np.resize(a, count).reshape(-1, width) for a in (x, y))
    return cv2.remap(atlas() if source is None else source, x, y, cv2.INTER_LINEAR).ravel()[: len(u)]


def _column(m: Material) -> tuple[float | int, ...]:
    patterns = PATTERN_ROW[m.pattern], PATTERN_ROW[m.marks]
    scales = 1 / m.tile, 1 / (m.tile * m.stretch), 1 / m.marks_tile, np.cos(m.angle), np.sin(m.angle), m.shift
    return *m.dark, *m.light, *m.mark, *patterns, *scales, m.contrast, m.marked, m.gloss, m.sharpness, m.glow, m.relief


def make_mips(tile: Grey) -> Float32[np.ndarray, "height width"]:
    """A tile at every mip level, rightwards, each with a wrapped border of one pixel."""
    columns = []
    for level in range(LEVELS):
        side = TILE >> level
        small = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
        padded = np.pad(small, 1, mode="wrap")
        columns.append(np.pad(padded, ((0, TILE - side), (0, 0))))
    return np.concatenate(columns, axis=1).astype(np.float32)


def _drawn(name: str) -> Grey:
    row = PATTERN_ROW[name]
    tile = PATTERNS[name](np.random.default_rng([7, row]))
    return np.clip(tile, 0, 1).astype(np.float32)


def spectral(rng: np.random.Generator, power: float, stretch: float = 1.0) -> Grey:
    """Tileable noise whose amplitude falls as frequency^-power, spread evenly over [0, 1]; streaks where stretched."""
    fy, fx = np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE), indexing="ij")
    frequency = np.hypot(fx, fy * stretch)
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.standard_normal((TILE, TILE))) * frequency**-power
    field = np.real(np.fft.ifft2(noise))
    return np.clip(0.5 + 0.22 * field / field.std(), 0, 1)


def _coordinates() -> tuple[Grey, Grey]:
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    return x, y


def _cells(rng: np.random.Generator, count: int) -> tuple[Grey, Grey, np.ndarray]:
    """Tileable Voronoi cells: distance to the nearest point and to the second, in tiles, and the nearest's index."""
    points = rng.random((count, 2))
    x, y = _coordinates()
    distance, index = KDTree(points, boxsize=1).query(np.stack([x, y], -1).reshape(-1, 2), k=2)
    distance = distance.reshape(TILE, TILE, 2)
    return distance[..., 0], distance[..., 1], np.asarray(index)[:, 0].reshape(TILE, TILE)


def _bricks(rng: np.random.Generator, rows: int, columns: int, joint: float, offset: float) -> Grey:
    x, y = _coordinates()
    row = np.floor(y * rows)
    across = x * columns + offset * (row % 2)
    column = np.floor(across) % columns
    tone = rng.random((rows, columns))[row.astype(int) % rows, column.astype(int)]
    edge = np.minimum(
        np.minimum(y * rows % 1, 1 - y * rows % 1) / rows, np.minimum(across % 1, 1 - across % 1) / columns
    )
    grain = spectral(rng, 0.8) - 0.5
    return np.where(edge < joint, 0.02, 0.45 + 0.4 * tone + 0.35 * grain)


def _wood(rng: np.random.Generator) -> Grey:
    x, _ = _coordinates()
    bend = spectral(rng, 1.8, 6.0)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * x + 2.2 * bend))
    return 0.25 + 0.4 * rings * spectral(rng, 1.0, 4.0) + 0.5 * (spectral(rng, 0.5, 14.0) - 0.3)


def _planks(rng: np.random.Generator) -> Grey:
    x, y = _coordinates()
    column = (x * 8).astype(int)
    length = np.floor(y * 2 + rng.random(8)[column]) % 2
    tone = rng.random((8, 2))[column, length.astype(int)]
    gap = (x * 8 % 1 < 0.04) | ((y * 2 + rng.random(8)[column]) % 1 < 0.006)
    return np.where(gap, 0.0, 0.3 + 0.45 * tone + 0.5 * (_wood(rng) - 0.5))


def _text(rng: np.random.Generator) -> Grey:
    page = np.zeros((TILE, TILE), np.float32)
    for top in range(8, TILE - 10, int(rng.integers(12, 16))):
        left = 10
        stop = TILE - 10 if rng.random() < 0.75 else int(rng.integers(60, 200))
        while left < stop:
            word = int(rng.integers(6, 34))
            for x in range(left, min(left + word, stop), 4):
                page[top + int(rng.integers(0, 3)) : top + 8, x : x + int(rng.integers(2, 4))] = 1
            left += word + 6
    return page


def _picture(rng: np.random.Generator) -> Grey:
    """Overlapping shapes over a soft ground: stands for prints, posters, screens and covers."""
    ground = spectral(rng, 2.2)
    for _ in range(14):
        x, y = (int(v) for v in rng.integers(0, TILE, 2))
        a, b = (int(v) for v in rng.integers(8, 70, 2))
        tone = float(rng.random())
        if rng.random() < 0.5:
            cv2.rectangle(ground, (x, y), (x + a, y + b), tone, -1)
        else:
            cv2.ellipse(ground, (x, y), (a, b), float(rng.uniform(0, 180)), 0, 360, tone, -1)
    return np.maximum(ground, _text(rng) * (rng.random((TILE, 1)) < 0.15)) + 0.15 * (spectral(rng, 1.0) - 0.5)


def _strokes(rng: np.random.Generator, count: int, length: float, upright: float) -> Grey:
    """Short lines that wrap around: grass, scratches, fibres."""
    canvas = np.full((TILE * 3, TILE * 3), 0.35, np.float32)
    start = rng.random((count, 2)) * TILE + TILE
    angle = rng.normal(np.pi / 2, np.pi * (1 - upright), count)
    stop = start + length * TILE * rng.random((count, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
    for (x0, y0), (x1, y1), tone in zip(start, stop, rng.random(count), strict=True):
        for sx in (-TILE, 0, TILE):
            for sy in (-TILE, 0, TILE):
                ends = (int(x0) + sx, int(y0) + sy), (int(x1) + sx, int(y1) + sy)
                cv2.line(canvas, *ends, float(tone), 1, cv2.LINE_AA)
    return canvas[TILE : 2 * TILE, TILE : 2 * TILE].astype(float)


def _leaves(rng: np.random.Generator) -> Grey:
    near, second, index = _cells(rng, 420)
    tone = rng.random(420)[index]
    return (0.25 + 0.75 * tone) * np.clip((second - near) * 40, 0.15, 1)


def _facade(rng: np.random.Generator, rows: int, columns: int, wide: float, tall: float) -> Grey:
    """Windows: 0 is glass, about 0.5 frames and ledges, above it the wall."""
    x, y = _coordinates()
    fx, fy = x * columns % 1, y * rows % 1
    glass = (np.abs(fx - 0.5) < wide / 2) & (np.abs(fy - 0.5) < tall / 2)
    frame = (np.abs(fx - 0.5) < wide / 2 + 0.05) & (np.abs(fy - 0.5) < tall / 2 + 0.06)
    bars = (np.abs(fx - 0.5) < 0.02) | (np.abs(fy - 0.42) < 0.02)
    shade = rng.random((rows, columns))[(y * rows).astype(int), (x * columns).astype(int)] ** 2 * 0.35
    wall = 0.8 + 0.4 * (spectral(rng, 1.2) - 0.5)
    return np.where(glass & ~bars, shade, np.where(frame, 0.62, wall))


def _plaid(rng: np.random.Generator) -> Grey:
    x, y = _coordinates()
    bands = np.repeat(rng.random(32), TILE // 32)
    weave = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 64 * (x + y)))
    return np.where(weave > 0.5, bands[None, :], bands[:, None]) + 0 * x


def _speckle(rng: np.random.Generator, count: int, radius: float) -> Grey:
    near, _, index = _cells(rng, count)
    size = radius * rng.uniform(0.3, 1, count)[index]
    return 1.0 * (near < size)


def _wave(cycles_x: float, cycles_y: float) -> Grey:
    x, y = _coordinates()
    return 0.5 + 0.5 * np.sin(2 * np.pi * (cycles_x * x + cycles_y * y))


def _checker(cells: int) -> Grey:
    x, y = _coordinates()
    return ((x * cells).astype(int) + (y * cells).astype(int)) % 2 * 1.0


def _gravel(rng: np.random.Generator, count: int) -> Grey:
    near, second, index = _cells(rng, count)
    return (0.4 + 0.6 * rng.random(count)[index]) * np.clip((second - near) * count**0.5 * 2.5, 0, 1)


def _cracks(rng: np.random.Generator) -> Grey:
    near, second, _ = _cells(rng, 30)
    return 1.0 - 0.9 * (second - near < 0.006 + 0.006 * spectral(rng, 1.5))


def _mesh_holes() -> Grey:
    x, y = _coordinates()
    return 1.0 * (np.hypot(x * 16 % 1 - 0.5, y * 16 % 1 - 0.5) > 0.33)


def _barcode(rng: np.random.Generator) -> Grey:
    bars = np.repeat(rng.random(TILE // 4) < 0.5, 4)
    label = _text(rng)
    label[150:236, 30:220] = bars[30:220]
    label[10:60, 20:120] = spectral(rng, 1.0)[10:60, 20:120] > 0.5
    return label


def _herringbone(rng: np.random.Generator) -> Grey:
    x, y = _coordinates()
    zig = np.abs((x * 8 % 1) - 0.5)
    band = np.floor(y * 16 + zig * 4).astype(int) % 16
    tone = rng.random((8, 16))[(x * 8).astype(int), band]
    joint = ((y * 16 + zig * 4) % 1 < 0.07) | (x * 8 % 1 < 0.03)
    return np.where(joint, 0.05, 0.3 + 0.5 * tone + 0.3 * (spectral(rng, 1.0, 3.0) - 0.5))


def _cut(field: Grey, steps: int) -> Grey:
    """A smooth field in a few flat tones: camouflage, maps, marble floors."""
    return np.floor(np.clip(field, 0, 0.999) * steps) / (steps - 1)


def _scales(rows: int) -> Grey:
    """Overlapping round scales: roof tiles, shingles, feathers."""
    x, y = _coordinates()
    row = np.floor(y * rows)
    across = (x * rows + 0.5 * (row % 2)) % 1 - 0.5
    return np.clip(1.15 - np.hypot(across * 1.7, y * rows % 1), 0, 1)


def _honeycomb(cells: int) -> Grey:
    x, y = (2 * np.pi * cells * axis for axis in _coordinates())
    return 0.5 + 0.2 * (np.cos(x) + np.cos(x / 2 + y) + np.cos(x / 2 - y))


def _mosaic(rng: np.random.Generator, count: int) -> Grey:
    """Flat cells of many tones: terrazzo, stained glass, patchwork."""
    _, _, index = _cells(rng, count)
    return rng.random(count)[index]


def _rings(cycles: int) -> Grey:
    x, y = _coordinates()
    return 0.5 + 0.5 * np.sin(2 * np.pi * cycles * np.hypot(x - 0.5, y - 0.5))


def _glyphs(rng: np.random.Generator) -> Grey:
    """Large blocks of strokes: shop signs, headlines, graffiti."""
    page = np.zeros((TILE, TILE), np.float32)
    for top, left in ((t, s) for t in range(12, TILE - 40, 62) for s in range(10, TILE - 30, 42)):
        points = np.add(rng.integers(0, (34, 46), (4, 2)), (left, top))
        cv2.polylines(page, [points.astype(np.int32)], bool(rng.random() < 0.4), 1.0, int(rng.integers(4, 9)))
    return page


def _bark(rng: np.random.Generator) -> Grey:
    return 0.15 + 1.3 * np.abs(spectral(rng, 1.4, 5.0) - 0.5) + 0.5 * (spectral(rng, 0.9, 3.0) - 0.4)


PATTERNS: dict[str, Callable[[np.random.Generator], Grey]] = {
    "cloud": lambda rng: spectral(rng, 1.7),
    "rough": lambda rng: spectral(rng, 1.2),
    "fine": lambda rng: spectral(rng, 0.4),
    "ridges": lambda rng: 1 - np.abs(spectral(rng, 1.6) - 0.5) * 3,
    "marble": lambda rng: 0.5 + 0.5 * np.sin(14 * spectral(rng, 2.0)) * spectral(rng, 1.0),
    "blotches": lambda rng: np.clip((spectral(rng, 1.6) - 0.6) * 9, 0, 1),
    "wood": _wood,
    "planks": _planks,
    "bricks": lambda rng: _bricks(rng, 16, 4, 0.006, 0.5),
    "tiles": lambda rng: _bricks(rng, 4, 4, 0.004, 0.0),
    "slabs": lambda rng: _bricks(rng, 4, 3, 0.007, 0.5),
    "herringbone": _herringbone,
    "checker": lambda rng: _checker(8),
    "stripes": lambda rng: 1.0 * (_wave(8.0, 0.0) > 0.5),
    "ribs": lambda rng: _wave(16.0, 0.0),
    "plaid": _plaid,
    "weave": lambda rng: _wave(48.0, 0.0) * _wave(0.0, 48.0) + 0.4 * (spectral(rng, 0.8) - 0.5),
    "speckle": lambda rng: _speckle(rng, 700, 0.016),
    "dots": lambda rng: 1 - _mesh_holes(),
    "holes": lambda rng: _mesh_holes(),
    "gravel": lambda rng: _gravel(rng, 500),
    "cobbles": lambda rng: _gravel(rng, 110),
    "cracks": _cracks,
    "text": _text,
    "barcode": _barcode,
    "picture": _picture,
    "poster": _picture,
    "screen": _picture,
    "leaves": _leaves,
    "grass": lambda rng: _strokes(rng, 2200, 0.07, 0.8),
    "scratches": lambda rng: _strokes(rng, 250, 0.4, 0.0),
    "facade": lambda rng: _facade(rng, 4, 4, 0.46, 0.5),
    "offices": lambda rng: _facade(rng, 4, 8, 0.86, 0.55),
    "shutters": lambda rng: _facade(rng, 4, 4, 0.34, 0.62),
    "camouflage": lambda rng: _cut(spectral(rng, 1.9), 4),
    "scales": lambda rng: _scales(12),
    "honeycomb": lambda rng: _honeycomb(8),
    "mosaic": lambda rng: _mosaic(rng, 240),
    "patches": lambda rng: _mosaic(rng, 24),
    "rings": lambda rng: _rings(9),
    "waves": lambda rng: 0.5 + 0.5 * np.sin(2 * np.pi * (10 * _coordinates()[1] + 0.9 * spectral(rng, 1.6))),
    "zigzag": lambda rng: 1.0 * ((_coordinates()[1] * 12 + 2 * np.abs(_coordinates()[0] * 6 % 1 - 0.5)) % 1 > 0.5),
    "diamonds": lambda rng: 0.5 + 0.5 * np.sin(12 * np.pi * _coordinates()[0]) * np.sin(12 * np.pi * _coordinates()[1]),
    "gradient": lambda rng: 1 - np.abs(2 * _coordinates()[1] - 1),
    "glyphs": _glyphs,
    "bark": _bark,
    "soft": lambda rng: spectral(rng, 2.6),
}
"""Name -> drawing of one tile, values in [0, 1]."""
PATTERN_ROW = {name: row for row, name in enumerate(PATTERNS)}
