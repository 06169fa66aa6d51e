"""Photographs that surfaces and the sky of a render wear: true texture, with the depth of the scene below it.

A photograph on a wall is as flat as the wall. Such renders are for training. A test on them would favour networks that
were trained on the same photographs.
"""

from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int

from sonde.files import IMAGE_SUFFIXES, describe_contents, list_files, read_rgb, refuse_source
from sonde.scenes import materials
from sonde.scenes.vectors import Scalars, Vectors, unit
from sonde.spelling import quantify, shorten

MOST = 6
"""Photographs on the surfaces of one scene."""
WORN = 0.3
"""Share of the materials that wear one; posters, covers and screens always do."""
PRINTED = ("picture", "poster", "screen")
"""Patterns in PATTERNS that stand for a print."""
SKIES = 0.4
"""Share of the scenes whose sky is the upper half of a photograph."""
HALF = materials.TILE // 2


class Prints(NamedTuple):
    """What a scene wears."""

    atlases: Float32[np.ndarray, "3 height width"]
    """The photographs in linear red, green and blue, each laid out as `materials.atlas`; the sky's is the last."""
    row: Int[np.ndarray, " materials"]
    """The photograph of each material; -1 for none."""
    sky: float
    """How bright the photograph in the sky is; 0 for a sky without one."""

    def cover(self, albedo: Vectors, material: Int[np.ndarray, " n"], x: Scalars, y: Scalars, level: Scalars) -> None:
        """Replace the colours of the hits whose material wears a photograph, at texture coordinates in tiles."""
        row = self.row[material]
        worn = np.flatnonzero(row >= 0)
        at = row[worn].astype(np.float32), x[worn], y[worn], level[worn]
        for channel, atlas in zip(albedo, self.atlases, strict=True):
            channel[worn] = materials.sample(*at, atlas)

    def cover_sky(self, light: Vectors, directions: Vectors) -> None:
        """Replace the light of a sky along rays: the photograph goes from the horizon to the zenith."""
        if not self.sky or not directions.shape[1]:
            return
        x, y, z = unit(directions)
        u, v = np.arctan2(x, y) / np.float32(np.pi), np.float32(0.5) * (1 - np.clip(z, 0, 1))
        row = np.full(len(z), len(self.atlases[0]) // (materials.TILE + 2) - 1, np.float32)
        for channel, atlas in zip(light, self.atlases, strict=True):
            channel[:] = materials.sample(row, u, v, np.zeros_like(row), atlas) * np.float32(self.sky)


def draw_prints(table: Float32[np.ndarray, "c k"], folder: Path, brightness: float, rng: np.random.Generator) -> Prints:
    """Choose what the materials and the sky of a scene wear.

    Args:
        table: the scene's `materials.table`. Photographs are larger than patterns: the scales of what wears one change.
        folder: of the photographs.
        brightness: light of the sky at the horizon.
        rng: chooses the photographs, their cuts and where they hang.
    """
    paths = list_photographs(folder)
    chosen = [paths[index] for index in rng.integers(len(paths), size=MOST + 1)]
    tiles = [_cut(_read(path), rng) for path in chosen[:-1]]
    sky = cv2.resize(_read(chosen[-1])[:HALF], (HALF, HALF), interpolation=cv2.INTER_AREA)
    count = table.shape[1]
    printed = np.isin(table[9], [materials.PATTERN_ROW[name] for name in PRINTED])
    row = np.where(printed | (rng.random(count) < WORN), rng.integers(MOST, size=count), -1)
    table[11:13, row >= 0] *= np.exp(-rng.uniform(0, 2, np.count_nonzero(row >= 0))).astype(np.float32)
    linear = np.stack([_mirror(tile) for tile in [*tiles, sky]])
    atlases = [np.concatenate([materials.make_mips(tile) for tile in linear[..., channel]]) for channel in range(3)]
    return Prints(np.stack(atlases), row, 2 * brightness if rng.random() < SKIES else 0.0)


@cache
def list_photographs(folder: Path) -> tuple[Path, ...]:
    """The images below a folder, in order.

    Raises:
        ValueError: there is no such folder, or no image in it.
    """
    refuse_source(folder, "a folder of photographs")
    if not folder.is_dir():
        raise ValueError(f"{shorten(folder)} is a file: expected a folder of photographs.")
    names = list_files(folder, IMAGE_SUFFIXES).names
    if not names:
        raise ValueError(f"{shorten(folder)} holds {describe_contents(folder)}: expected a folder of photographs.")
    return tuple(folder / name for name in names)


def describe_photographs(folder: Path) -> str:
    """How many photographs a folder holds, and a digest of their names, for the card of a set."""
    names = [path.relative_to(folder).as_posix() for path in list_photographs(folder)]
    return f"{quantify(len(names), 'image')}, names {sha256(chr(0).join(names).encode()).hexdigest()[:12]}"


@lru_cache(maxsize=256)
def _read(path: Path) -> np.ndarray:
    return cv2.resize(read_rgb(path), (materials.TILE, materials.TILE), interpolation=cv2.INTER_AREA)


def _cut(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of the photograph, from three eighths of it to the whole."""
    side = int(rng.integers(materials.TILE * 3 // 8, materials.TILE + 1))
    top, left = rng.integers(materials.TILE - side + 1, size=2)
    return cv2.resize(photograph[top : top + side, left : left + side], (HALF, HALF), interpolation=cv2.INTER_AREA)


def _mirror(photograph: np.ndarray) -> Float32[np.ndarray, "s s 3"]:
    """A tile without seams, in linear light: the photograph and its mirror images."""
    linear = (photograph / np.float32(255)) ** np.float32(2.2)
    wide = np.concatenate([linear, linear[:, ::-1]], 1)
    return np.concatenate([wide, wide[::-1]]).astype(np.float32)
