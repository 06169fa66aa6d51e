"""Finishes: what things are made of, each a material drawn anew from a generator."""

import colorsys
from collections.abc import Sequence

import numpy as np

from sonde.scenes.materials import PATTERNS, Colour, Material
from sonde.scenes.shapes import Group
from sonde.scenes.vectors import Real

Rng = np.random.Generator


def hue(
    rng: Rng, saturation=(0.3, 0.9), value=(0.15, 0.9), around: float | None = None, spread: float = 0.06
) -> Colour:
    """A linear RGB colour; `around` is a hue in turns, else any."""
    turn = rng.random() if around is None else around + rng.normal(0, spread)
    r, g, b = colorsys.hsv_to_rgb(turn % 1, rng.uniform(*saturation), rng.uniform(*value))
    return r**2.2, g**2.2, b**2.2


def grey(rng: Rng, low: float = 0.1, high: float = 0.9) -> Colour:
    """A nearly neutral linear colour; bounds as displayed."""
    value = rng.uniform(low, high)
    r, g, b = (min(max(value + shift, 0.02), 0.97) ** 2.2 for shift in rng.normal(0, 0.025, 3).tolist())
    return r, g, b


def paint(rng: Rng) -> Colour:
    """The colour of a made thing: often neutral, often muted, sometimes loud."""
    kind = rng.random()
    if kind < 0.35:
        return grey(rng)
    return hue(rng, (0.1, 0.5), (0.3, 0.9)) if kind < 0.7 else hue(rng, (0.45, 0.88), (0.25, 0.88))


def shaded(colour: Colour, factor: Real) -> Colour:
    """The colour lighter or darker, kept below 0.95."""
    r, g, b = scaled(colour, factor)
    return min(r, 0.95), min(g, 0.95), min(b, 0.95)


def scaled(colour: Colour, factor: Real) -> Colour:
    """The light stronger or weaker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def any_of(rng: Rng, *choices, p: Sequence[float] | None = None):
    """One of the choices, equally likely or by `p`."""
    if p is None:
        return choices[rng.integers(len(choices))]
    left = rng.random()
    for choice, share in zip(choices, p, strict=True):
        left -= share
        if left < 0:
            return choice
    return choices[-1]


def plain(rng: Rng, colour: Colour | None = None, gloss: float | None = None) -> Material:
    """Painted, moulded or printed in one colour, barely uneven."""
    colour = colour or paint(rng)
    gloss = any_of(rng, 0.0, 0.02, 0.05, 0.1) if gloss is None else gloss
    return Material(
        shaded(colour, 0.85), shaded(colour, 1.1), grey(rng), any_of(rng, "rough", "cloud", "fine"),
        "blotches", tile=rng.uniform(0.2, 1.5), marks_tile=rng.uniform(0.5, 3), shift=rng.random(),
        marked=any_of(rng, 0.0, 0.0, 0.15), gloss=gloss, sharpness=rng.uniform(8, 90),
    )  # fmt: skip


def plaster(rng: Rng) -> Material:
    """Walls and ceilings."""
    colour = any_of(
        rng,
        grey(rng, 0.65, 0.95),
        hue(rng, (0.03, 0.2), (0.6, 0.95)),
        hue(rng, (0.1, 0.55), (0.35, 0.9)),
        p=[0.5, 0.3, 0.2],
    )
    return Material(
        shaded(colour, rng.uniform(0.82, 0.98)), colour, shaded(colour, 0.6),
        any_of(rng, "cloud", "rough", "fine"), "blotches", tile=rng.uniform(0.4, 3),
        marks_tile=rng.uniform(1, 4), shift=rng.random(), marked=any_of(rng, 0.0, 0.0, 0.2),
        relief=any_of(rng, 0.0, 0.0, 0.4, 1.0),
    )  # fmt: skip


def papered(rng: Rng) -> Material:
    """Walls with a printed or panelled pattern."""
    colour = hue(rng, (0.05, 0.5), (0.4, 0.9))
    pattern = any_of(rng, "stripes", "plaid", "marble", "dots", "ribs", "tiles", "planks", "leaves")
    return Material(
        shaded(colour, rng.uniform(0.4, 0.9)), colour, pattern=pattern, tile=rng.uniform(0.4, 2.0),
        shift=rng.random(), contrast=rng.uniform(0.3, 1), angle=any_of(rng, 0.0, np.pi / 2),
    )  # fmt: skip


def masonry(rng: Rng) -> Material:
    """Bricks, tiles, slabs or blocks, with joints in relief."""
    pattern = any_of(rng, "bricks", "bricks", "tiles", "slabs", "cobbles", "herringbone")
    base = any_of(
        rng,
        hue(rng, (0.3, 0.7), (0.3, 0.7), around=0.03, spread=0.02),
        grey(rng, 0.3, 0.85),
        hue(rng, (0.05, 0.4), (0.4, 0.9)),
    )
    joint = grey(rng, 0.3, 0.8)
    tile = {"bricks": rng.uniform(0.9, 1.3), "cobbles": rng.uniform(0.8, 1.6)}.get(pattern, rng.uniform(0.5, 2.4))
    return Material(
        joint, base, shaded(base, 0.4), pattern, any_of(rng, "blotches", "rough"), tile=tile,
        marks_tile=rng.uniform(1, 4), shift=rng.random(), marked=any_of(rng, 0.0, 0.2, 0.4),
        gloss=any_of(rng, 0.0, 0.0, 0.04), relief=rng.uniform(0.2, 1.2),
    )  # fmt: skip


def wood(rng: Rng, boards: bool = False) -> Material:
    """Solid wood or veneer; `boards` shows planks."""
    colour = hue(rng, (0.25, 0.75), (0.25, 0.85), around=0.08, spread=0.015)
    if rng.random() < 0.2:
        colour = grey(rng, 0.3, 0.9)
    return Material(
        shaded(colour, rng.uniform(0.3, 0.7)), colour, shaded(colour, 0.5),
        any_of(rng, "planks", "planks", "herringbone") if boards else "wood", "blotches",
        tile=rng.uniform(0.6, 1.4), stretch=rng.uniform(1, 2.5), angle=any_of(rng, 0.0, np.pi / 2),
        shift=rng.random(), contrast=rng.uniform(0.5, 1.2), marked=any_of(rng, 0.0, 0.1),
        gloss=any_of(rng, 0.0, 0.03, 0.06, 0.1), sharpness=rng.uniform(10, 120),
    )  # fmt: skip


def fabric(rng: Rng, colour: Colour | None = None) -> Material:
    """Cloth, carpet, upholstery."""
    colour = colour or paint(rng)
    pattern = any_of(
        rng,
        "weave",
        "fine",
        "rough",
        "plaid",
        "stripes",
        "dots",
        "marble",
        p=[0.3, 0.2, 0.2, 0.08, 0.08, 0.06, 0.08],
    )
    tile = rng.uniform(0.15, 0.4) if pattern == "weave" else rng.uniform(0.3, 1.2)
    return Material(
        shaded(colour, rng.uniform(0.4, 0.9)), colour, paint(rng), pattern, "blotches", tile=tile,
        marks_tile=rng.uniform(0.3, 1.5), angle=rng.uniform(0, 0.2), shift=rng.random(),
        marked=any_of(rng, 0.0, 0.0, 0.0, 0.25), relief=any_of(rng, 0.0, 0.3),
    )  # fmt: skip


def metal(rng: Rng, colour: Colour | None = None) -> Material:
    """Bare or coated metal."""
    colour = colour or any_of(
        rng, grey(rng, 0.35, 0.85), hue(rng, (0.2, 0.6), (0.5, 0.85), around=0.1, spread=0.02), p=[0.85, 0.15]
    )
    return Material(
        shaded(colour, 0.7), colour, hue(rng, (0.5, 0.8), (0.2, 0.5), around=0.06, spread=0.01),
        any_of(rng, "scratches", "wood", "cloud", "fine"), "blotches", tile=rng.uniform(0.1, 0.6),
        marks_tile=rng.uniform(0.2, 1), shift=rng.random(), marked=any_of(rng, 0.0, 0.0, 0.0, 0.3),
        gloss=rng.uniform(0.15, 0.6), sharpness=rng.uniform(15, 150),
    )  # fmt: skip


def cardboard(rng: Rng) -> Material:
    """Brown board with a print."""
    colour = hue(rng, (0.35, 0.55), (0.5, 0.8), around=0.085, spread=0.01)
    return Material(
        shaded(colour, 0.8), colour, grey(rng, 0.05, 0.3), any_of(rng, "rough", "cloud", "ribs"),
        any_of(rng, "text", "barcode", "blotches"), tile=rng.uniform(0.2, 0.6),
        marks_tile=rng.uniform(0.3, 0.7), shift=rng.random(), contrast=0.6, marked=any_of(rng, 0.0, 0.5, 0.8),
    )  # fmt: skip


def printed(rng: Rng, tile: float) -> Material:
    """Posters, covers, packages, screens: three colours in shapes and words; `tile` is the print's size in metres."""
    return Material(
        paint(rng), paint(rng), any_of(rng, paint(rng), grey(rng, 0.02, 0.1), grey(rng, 0.9, 0.97)),
        any_of(rng, "picture", "poster", "screen", "cloud", "stripes"),
        any_of(rng, "text", "barcode", "picture", "poster", "blotches"), tile=tile * rng.uniform(0.7, 1.3),
        marks_tile=tile * rng.uniform(0.5, 1.6), shift=rng.random(), contrast=rng.uniform(0.8, 2.5),
        marked=rng.uniform(0.3, 1), gloss=any_of(rng, 0.0, 0.03, 0.08), sharpness=rng.uniform(20, 100),
    )  # fmt: skip


def anything(rng: Rng, size: Real = 1.0) -> Material:
    """Any pattern in any colours at any scale about `size` metres: texture that says nothing about what it covers."""
    scale = size * np.exp(rng.uniform(-1.6, 1.1, 2))
    dark, light, mark = (any_of(rng, paint, grey, hue)(rng) for _ in range(3))
    if rng.random() < 0.3:
        light = shaded(dark, rng.uniform(0.5, 1.6))
    return Material(
        dark, light, mark, any_of(rng, *PATTERNS), any_of(rng, *PATTERNS), tile=scale[0], marks_tile=scale[1],
        stretch=np.exp(rng.normal(0, 0.3)), angle=rng.uniform(0, np.pi), shift=rng.random(),
        contrast=rng.uniform(0.2, 2.0), marked=any_of(rng, 0.0, 0.0, rng.uniform(0, 1)),
        gloss=any_of(rng, 0.0, 0.0, 0.05, rng.uniform(0, 0.4)), sharpness=rng.uniform(8, 120),
        relief=any_of(rng, 0.0, 0.0, 0.5, 1.0),
    )  # fmt: skip


def repainted(rng: Rng, group: Group, share: Real, size: Real = 1.0) -> Group:
    """The group with a share of its materials replaced by anything at a scale of `size` metres; changed in place."""
    new: dict[Material, Material] = {}
    for i, batch in enumerate(group.batches):
        if batch.material not in new:
            new[batch.material] = anything(rng, size) if rng.random() < share else batch.material
        group.batches[i] = batch._replace(material=new[batch.material])
    return group


def muted(group: Group, saturation: Real) -> Group:
    """The group with that share of its colours' saturation, as furnished rooms are; changed in place."""

    def paler(colour: Colour) -> Colour:
        r, g, b = (sum(colour) / 3 * (1 - saturation) + part * saturation for part in colour)
        return r, g, b

    for i, batch in enumerate(group.batches):
        old = batch.material
        new = old._replace(dark=paler(old.dark), light=paler(old.light), mark=paler(old.mark))
        group.batches[i] = batch._replace(material=new)
    return group


def rubber(rng: Rng) -> Material:
    """Tyre rubber: dark grey, dusty."""
    value = rng.uniform(0.13, 0.28) ** 2.2
    colour = (value, value * 1.02, value * 1.05)
    return Material(
        shaded(colour, 0.7), colour, grey(rng, 0.25, 0.42), "rough", "blotches", tile=rng.uniform(0.1, 0.4),
        marks_tile=rng.uniform(0.2, 0.8), shift=rng.random(), marked=rng.uniform(0, 0.5),
        gloss=rng.uniform(0, 0.03), sharpness=rng.uniform(5, 20),
    )  # fmt: skip


def stone(rng: Rng) -> Material:
    """Concrete, asphalt, terrazzo, stone."""
    colour = any_of(rng, grey(rng, 0.2, 0.75), hue(rng, (0.05, 0.25), (0.3, 0.7), around=0.1))
    return Material(
        shaded(colour, rng.uniform(0.5, 0.9)), shaded(colour, 1.15), shaded(colour, rng.uniform(0.4, 0.7)),
        any_of(rng, "rough", "fine", "speckle", "marble", "cloud", "gravel"),
        any_of(rng, "blotches", "ridges", "cloud"), tile=rng.uniform(0.4, 1.5), marks_tile=rng.uniform(1.5, 6),
        shift=rng.random(), contrast=rng.uniform(0.4, 1), marked=rng.uniform(0, 0.5),
        gloss=any_of(rng, 0.0, 0.0, 0.04, 0.1), sharpness=rng.uniform(10, 80),
    )  # fmt: skip


def earth(rng: Rng) -> Material:
    """Grass, soil, sand, gravel, fallen leaves, snow."""
    kind = any_of(rng, "grass", "soil", "leaves", "gravel", "snow", p=[0.5, 0.2, 0.12, 0.13, 0.05])
    around = {"grass": 0.24, "soil": 0.08, "leaves": 0.09, "gravel": 0.1, "snow": 0.6}[kind]
    saturation = {
        "grass": (0.35, 0.75),
        "soil": (0.2, 0.6),
        "leaves": (0.4, 0.9),
        "gravel": (0, 0.2),
        "snow": (0, 0.06),
    }[kind]
    value = (0.85, 0.97) if kind == "snow" else (0.3, 0.65)
    colour = hue(rng, saturation, value, around, 0.03)
    pattern = {"soil": "rough", "snow": "cloud"}.get(kind, kind)
    return Material(
        shaded(colour, 0.35 if kind != "snow" else 0.9), shaded(colour, 1.2),
        hue(rng, (0.3, 0.6), (0.3, 0.6), 0.12, 0.03), pattern, "blotches", tile=rng.uniform(0.6, 2.5),
        marks_tile=rng.uniform(3, 15), shift=rng.random(), marked=rng.uniform(0, 0.5), relief=0.5,
    )  # fmt: skip


def foliage(rng: Rng) -> Material:
    """Crowns, hedges and house plants."""
    colour = hue(
        rng,
        (0.4, 0.85),
        (0.25, 0.6),
        any_of(rng, 0.25, 0.27, 0.3, 0.12, 0.05, p=[0.35, 0.3, 0.2, 0.1, 0.05]),
        0.02,
    )
    return Material(
        shaded(colour, 0.3), shaded(colour, 1.4), hue(rng, (0.4, 0.9), (0.3, 0.7), 0.2, 0.05),
        any_of(rng, "leaves", "rough", "grass"), "blotches", tile=rng.uniform(0.5, 1.6),
        marks_tile=rng.uniform(0.6, 2), shift=rng.random(), marked=rng.uniform(0, 0.4), relief=0.8,
    )  # fmt: skip


def leafage(rng: Rng) -> Material:
    """Leaves in the sun: greens of all kinds, autumn, blossom."""
    turn = any_of(rng, rng.uniform(0.2, 0.36), rng.uniform(0.03, 0.16), rng.random(), p=[0.78, 0.16, 0.06])
    colour = hue(rng, (0.35, 0.9), (0.45, 0.85), turn, 0.015)
    return Material(
        shaded(colour, rng.uniform(0.25, 0.6)), shaded(colour, 1.3), hue(rng, (0.3, 0.9), (0.4, 0.9), turn, 0.06),
        any_of(rng, "leaves", "rough", "mosaic", "grass"), any_of(rng, "blotches", "rough"), tile=rng.uniform(0.4, 1.4),
        marks_tile=rng.uniform(0.6, 2), shift=rng.random(), marked=rng.uniform(0, 0.5), relief=0.6,
    )  # fmt: skip


def fur(rng: Rng) -> Material:
    """Coats of animals: plain, striped, spotted."""
    colour = any_of(rng, hue(rng, (0.2, 0.7), (0.15, 0.85), 0.08, 0.02), grey(rng, 0.05, 0.95))
    return Material(
        shaded(colour, rng.uniform(0.5, 0.9)), colour, any_of(rng, grey(rng, 0.03, 0.2), grey(rng, 0.8, 0.95)),
        any_of(rng, "grass", "rough", "fine"), any_of(rng, "camouflage", "waves", "blotches"),
        tile=rng.uniform(0.2, 0.6), marks_tile=rng.uniform(0.5, 2), shift=rng.random(),
        marked=any_of(rng, 0.0, 0.0, 0.9), relief=0.4,
    )  # fmt: skip


def glowing(colour: Colour, strength: float) -> Material:
    """A lamp."""
    return Material(colour, colour, glow=strength)


def outdoors(rng: Rng, strength: float) -> Material:
    """The view from a window: sky above, something blurred below."""
    return Material(
        hue(rng, (0.2, 0.6), (0.2, 0.6), 0.25, 0.1), hue(rng, (0.05, 0.3), (0.85, 1), 0.58, 0.03),
        pattern="cloud", tile=rng.uniform(1, 4), shift=rng.random(), contrast=rng.uniform(0.8, 2),
        glow=strength,
    )  # fmt: skip
