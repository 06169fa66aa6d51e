"""One self-contained HTML page about a set of captures: every question and its answer, histograms, and thumbnails."""

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sonde import files, report
from sonde.checks import CHECKS, Diagnosis, Problem
from sonde.checks.edges import breaks
from sonde.checks.profile import BINS, Profile
from sonde.datasets import Capture, DepthSet
from sonde.report import charts
from sonde.types import RGBArray

TEMPLATE = Path(__file__).parent / "page.html"
WIDTH = 360
"""Of a thumbnail, pixels."""
FAULTY, SOUND = 24, 8
"""Captures that are shown, at most."""
EDGE = (235, 30, 60)
"""Colour of depth edges on the picture."""
OTHERS = {
    "pairs": "an image or a depth map without its partner",
    "files": "a file that cannot be read, or holds no depth",
    "shared": "a capture that another set holds too",
}
"""What the answers find that are not in CHECKS."""


class Row(NamedTuple):
    """One question of the table."""

    name: str
    finds: str
    state: str
    """`found`, `sound` or `silent`."""
    found: int
    asked: int
    note: str


def write(path: Path, captures: DepthSet, diagnosis: Diagnosis) -> Path:
    """Write the page of a set.

    Args:
        path: the HTML file.
        captures: the set; those shown are read again.
        diagnosis: what `examine` said of it.
    """
    problems = diagnosis.problems
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = page.from_string(TEMPLATE.read_text().replace("/* as a run's report */", _style())).render(
        gradients={
            "depth": ", ".join(to_hex(colormaps["Spectral"](share)) for share in np.linspace(0, 1, 17)),
            "error": "",
        },
        title=captures.root.resolve().name,
        headline=headline(captures, problems),
        facts=_facts(captures, diagnosis.profiles),
        rows=sorted(_rows(diagnosis), key=lambda row: ("found", "silent", "sound").index(row.state)),
        whole=[problem for problem in problems if not problem.capture],
        charts=_charts(captures, diagnosis.profiles, {problem.capture for problem in problems}),
        cards=_cards(captures, diagnosis.profiles, problems),
        faulty=len({problem.capture for problem in problems if problem.capture}),
        count=len(captures),
    )
    with files.atomic_write(path) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")
    return path


def headline(captures: DepthSet, problems: list[Problem]) -> tuple[str, str]:
    """The page's few large words, and the small ones after them."""
    if not problems:
        return "No fault found", f"in {len(captures)} captures"
    own = {problem.capture for problem in problems if problem.capture}
    where = f"in {len(own)} of {len(captures)} captures" if own else f"in a set of {len(captures)} captures"
    return f"{len(problems)} fault{'s' * (len(problems) > 1)}", where


def _style() -> str:
    """The style sheet of a run's report."""
    found = re.search(r"<style>\n(.*?)</style>", report.TEMPLATE.read_text(), re.DOTALL)
    assert found is not None, "report.html has a style sheet"
    return found[1]


def _facts(captures: DepthSet, profiles: Mapping[str, Profile]) -> list[tuple[str, str]]:
    every, unit_m = list(profiles.values()), captures.unit_m
    facts = [("folder", str(captures.root)), ("captures", str(len(captures))), ("depth is", captures.space)]
    if not every:
        return facts
    low, high = (float(np.median(ends)) / unit_m for ends in zip(*((one.low, one.high) for one in every), strict=True))
    sizes = sorted({f"{one.size[1]}x{one.size[0]}" for one in every})
    cameras = sum(one.camera for one in every)
    return [
        *facts,
        ("usual depth", f"{low:.4g} to {high:.4g} {captures.unit}"),
        ("with depth", f"{np.mean([one.valid for one in every]):.0%} of pixels"),
        ("size", ", ".join(sizes[:3]) + (" …" if len(sizes) > 3 else "")),
        ("intrinsics", "known" if cameras == len(every) else f"known of {cameras}" if cameras else "unknown"),
    ]


def _rows(diagnosis: Diagnosis) -> list[Row]:
    finds = OTHERS | {name: each.finds for name, each in CHECKS.items()}
    return [
        Row(
            name,
            finds[name],
            "found" if answer.faults else "silent" if answer.note else "sound",
            len(answer.faults),
            answer.asked,
            answer.note,
        )
        for name, answer in diagnosis.answers.items()
    ]


def _charts(captures: DepthSet, profiles: Mapping[str, Profile], faulty: set[str]) -> list[dict[str, Any]]:
    if not profiles:
        return []
    unit = captures.unit if captures.space == "metric" else "its own unit"
    drawings = [
        ("Depth of the set", "Pixels by depth, all captures together.", partial(_histogram, unit=unit)),
        (
            "Capture by capture",
            "Median depth, and the middle 90 %; marked: captures with a fault.",
            partial(_ranges, unit=unit),
        ),
        ("Coverage", "Share of pixels with depth, capture by capture.", _coverage),
    ]
    return [
        {
            "title": title,
            "caption": caption,
            "svg": charts.chart(partial(draw, profiles=profiles, faulty=faulty, unit_m=captures.unit_m), number),
        }
        for number, (title, caption, draw) in enumerate(drawings)
    ]


def _histogram(figure: Figure, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float, unit: str) -> None:
    axes = _axes(figure, f"depth ({unit})", "")
    counts = np.sum([each.counts for each in profiles.values()], axis=0)
    held = np.flatnonzero(counts)
    shown = slice(max(0, held[0] - 2), held[-1] + 3)
    axes.bar(BINS[:-1][shown] / unit_m, counts[shown], np.diff(BINS)[shown] / unit_m, align="edge", color=charts.ACCENT)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks([])


def _ranges(figure: Figure, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float, unit: str) -> None:
    axes = _axes(figure, "capture", f"depth ({unit})")
    for place, (name, each) in enumerate(profiles.items(), 1):
        colour = charts.ACCENT if name in faulty else charts.QUIET
        axes.plot([place, place], [each.low / unit_m, each.high / unit_m], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(place, each.median / unit_m, ".", color=colour, markersize=5)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def _coverage(figure: Figure, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float) -> None:
    axes = _axes(figure, "capture", "pixels with depth (%)")
    colours = [charts.ACCENT if name in faulty else charts.QUIET for name in profiles]
    axes.bar(range(1, len(profiles) + 1), [100 * each.valid for each in profiles.values()], color=colours)
    axes.set_ylim(0, 100)


def _axes(figure: Figure, x: str, y: str) -> Axes:
    axes = figure.subplots()
    axes.set_xlabel(x, color=charts.INK)
    axes.set_ylabel(y, color=charts.INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(charts.QUIET)
    axes.tick_params(which="both", colors=charts.INK)
    return axes


def _cards(captures: DepthSet, profiles: Mapping[str, Profile], problems: list[Problem]) -> list[dict[str, Any]]:
    """Captures with a fault, and some without, evenly taken."""
    lines: dict[str, list[Problem]] = {}
    for problem in problems:
        lines.setdefault(problem.capture, []).append(problem)
    sound = [name for name in profiles if name not in lines]
    shown = [name for name in lines if name in profiles][:FAULTY] + sound[:: max(1, -(-len(sound) // SOUND))]
    places = {name: index for index, name in enumerate(captures.ids)}
    return [_card(captures, captures.read(places[name]), profiles[name], lines.get(name, [])) for name in shown]


def _card(captures: DepthSet, capture: Capture, profile: Profile, problems: list[Problem]) -> dict[str, Any]:
    step = max(1, -(-capture.depth.shape[1] // WIDTH))
    depth, mask = capture.depth[::step, ::step], capture.mask[::step, ::step]
    small = cv2.resize(capture.image, depth.shape[::-1], interpolation=cv2.INTER_AREA)
    overlaid = (small.mean(2, keepdims=True) * [0.55, 0.55, 0.55] + 70).astype(np.uint8)
    overlaid[breaks(depth)] = EDGE
    low, high = (float(end) for end in np.percentile(capture.depth[capture.mask], [2, 98]))
    pictures = [
        ("image", small),
        ("depth", files.colour_depth(depth, mask, low, high)),
        ("depth edges on the image", overlaid),
    ]
    scale = {"low": f"{low / captures.unit_m:.4g}", "high": f"{high / captures.unit_m:.4g} {captures.unit}"}
    return {
        "id": capture.id,
        "problems": problems,
        "facts": f"median {profile.median / captures.unit_m:.4g} {captures.unit} · {profile.valid:.0%} with depth",
        "pictures": [{"title": title, "uri": _data_uri(picture)} for title, picture in pictures],
        "scale": scale,
        "bars": _bars(capture),
    }


def _bars(capture: Capture, bins: int = 48) -> list[float]:
    """Heights, of 1, of a histogram between the smallest and the largest depth."""
    counts, _ = np.histogram(capture.depth[capture.mask], bins)
    return [round(float(height), 3) for height in np.sqrt(counts / counts.max())]


def _data_uri(image: RGBArray) -> str:
    _, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 86])
    return f"data:image/webp;base64,{b64encode(data.tobytes()).decode()}"
