"""One self-contained HTML page about a set of captures: every check and its result, histograms, and thumbnails."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sonde import files
from sonde.checks import CHECKS, Diagnosis, Problem
from sonde.checks.edges import find_breaks
from sonde.checks.profile import BINS, Profile
from sonde.datasets import Capture, DepthSet
from sonde.renamed import keep_old_names
from sonde.report import charts
from sonde.report.page import TEMPLATES
from sonde.types import RGBArray

TEMPLATE = Path(__file__).with_name("captures.html")
WIDTH = 360
"""Largest width of a thumbnail, in pixels."""
FAULTY, SOUND = 24, 8
"""Largest number of captures shown, with and without a fault."""
EDGE = (235, 30, 60)
"""RGB of depth edges on the image."""
OTHERS = {
    "pairs": "an image or a depth map without its partner",
    "files": "a file that cannot be read, or holds no depth",
    "shared": "a capture that another set holds too",
}
"""What the checks that are not in CHECKS find."""


class Row(NamedTuple):
    """One check in the table."""

    name: str
    finds: str
    state: str
    """`found`, `sound` or `silent`."""
    found: int
    asked: int
    note: str


class Thumbnail(NamedTuple):
    """A thumbnail of a capture."""

    title: str
    uri: str
    """The image as a data URI."""


class DepthEnds(NamedTuple):
    """The ends of the colour scale of a depth thumbnail, as text in the set's unit."""

    low: str
    high: str


class Card(NamedTuple):
    """One capture of the page."""

    id: str
    problems: list[Problem]
    facts: str
    pictures: list[Thumbnail]
    scale: DepthEnds
    bars: list[float]
    """Heights of the histogram's bars, of 1."""


class Drawing(NamedTuple):
    """How a chart is drawn: from the profiles, the captures with a fault, and the metres per unit."""

    title: str
    caption: str
    draw: Callable[[Figure, Mapping[str, Profile], set[str], float], None]


def write(path: Path, captures: DepthSet, diagnosis: Diagnosis) -> Path:
    """Write the page of a set.

    Args:
        path: the HTML file.
        captures: the set; the captures shown are read again.
        diagnosis: the result of `examine`.
    """
    problems = diagnosis.problems
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = page.from_string(TEMPLATE.read_text().replace("/* as a run's report */", _read_style())).render(
        gradients={
            "depth": ", ".join(to_hex(colormaps["Spectral"](share)) for share in np.linspace(0, 1, 17)),
            "error": "",
        },
        title=captures.root.resolve().name,
        headline=make_headline(captures, problems),
        facts=_list_facts(captures, diagnosis.profiles),
        rows=sorted(_list_rows(diagnosis), key=lambda row: ("found", "silent", "sound").index(row.state)),
        whole=[problem for problem in problems if not problem.capture],
        charts=_draw_charts(captures, diagnosis.profiles, {problem.capture for problem in problems}),
        cards=_make_cards(captures, diagnosis.profiles, problems),
        faulty=len({problem.capture for problem in problems if problem.capture}),
        count=len(captures),
    )
    with files.atomic_write(path) as tmp_path:
        tmp_path.write_text(html, encoding="utf-8")
    return path


def make_headline(captures: DepthSet, problems: list[Problem]) -> tuple[str, str]:
    """The headline of the page: large text, and small text after it."""
    if not problems:
        return "No fault found", f"in {len(captures)} captures"
    own = {problem.capture for problem in problems if problem.capture}
    where = f"in {len(own)} of {len(captures)} captures" if own else f"in a set of {len(captures)} captures"
    return f"{len(problems)} fault{'s' * (len(problems) > 1)}", where


def _read_style() -> str:
    """The style sheet of a run's report, which the page shares."""
    _, html = TEMPLATES
    found = re.search(r"<style>\n(.*?)</style>", html.read_text(), re.DOTALL)
    assert found is not None, "report.html has a style sheet"
    return found[1]


def _list_facts(captures: DepthSet, profiles: Mapping[str, Profile]) -> list[tuple[str, str]]:
    every, unit_m = list(profiles.values()), captures.unit_m
    facts = [("folder", str(captures.root)), ("captures", str(len(captures))), ("depth is", captures.space)]
    if not every:
        return facts
    low = float(np.median([one.low for one in every])) / unit_m
    high = float(np.median([one.high for one in every])) / unit_m
    sizes = sorted({f"{one.size[1]}x{one.size[0]}" for one in every})
    cameras = sum(one.camera for one in every)
    if cameras == len(every):
        known = "known"
    else:
        known = f"known of {cameras}" if cameras else "unknown"
    return [
        *facts,
        ("usual depth", f"{low:.4g} to {high:.4g} {captures.unit}"),
        ("with depth", f"{np.mean([one.valid for one in every]):.0%} of pixels"),
        ("size", ", ".join(sizes[:3]) + (" …" if len(sizes) > 3 else "")),
        ("intrinsics", known),
    ]


def _list_rows(diagnosis: Diagnosis) -> list[Row]:
    finds = OTHERS | {name: each.finds for name, each in CHECKS.items()}
    rows = []
    for name, answer in diagnosis.answers.items():
        undecided = "silent" if answer.note else "sound"
        state = "found" if answer.faults else undecided
        rows.append(Row(name, finds[name], state, len(answer.faults), answer.asked, answer.note))
    return rows


def _draw_charts(captures: DepthSet, profiles: Mapping[str, Profile], faulty: set[str]) -> list[charts.Chart]:
    if not profiles:
        return []
    unit = captures.unit if captures.space == "metric" else "its own unit"
    drawings = [
        Drawing("Depth of the set", "Pixels by depth, all captures together.", partial(_draw_histogram, unit=unit)),
        Drawing(
            "Capture by capture",
            "Median depth, and the middle 90 %; marked: captures with a fault.",
            partial(_draw_ranges, unit=unit),
        ),
        Drawing("Coverage", "Share of pixels with depth, capture by capture.", _draw_coverage),
    ]
    return [_draw_chart(drawing, number, profiles, faulty, captures.unit_m) for number, drawing in enumerate(drawings)]


def _draw_chart(
    drawing: Drawing, number: int, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float
) -> charts.Chart:
    svg = charts.render_chart(lambda figure: drawing.draw(figure, profiles, faulty, unit_m), number)
    return charts.Chart(drawing.title, drawing.caption, svg)


def _draw_histogram(
    figure: Figure, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float, unit: str
) -> None:
    axes = _make_axes(figure, f"depth ({unit})", "")
    counts = np.sum([each.counts for each in profiles.values()], axis=0)
    held = np.flatnonzero(counts)
    shown = slice(max(0, held[0] - 2), held[-1] + 3)
    axes.bar(BINS[:-1][shown] / unit_m, counts[shown], np.diff(BINS)[shown] / unit_m, align="edge", color=charts.ACCENT)
    if _is_wide(*axes.get_xlim()):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    axes.set_yticks([])


def _draw_ranges(figure: Figure, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float, unit: str) -> None:
    axes = _make_axes(figure, "capture", f"depth ({unit})")
    for place, (name, each) in enumerate(profiles.items(), 1):
        colour = charts.ACCENT if name in faulty else charts.QUIET
        axes.plot([place, place], [each.low / unit_m, each.high / unit_m], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(place, each.median / unit_m, ".", color=colour, markersize=5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if _is_wide(*axes.get_ylim()):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")


def _draw_coverage(figure: Figure, profiles: Mapping[str, Profile], faulty: set[str], unit_m: float) -> None:
    axes = _make_axes(figure, "capture", "pixels with depth (%)")
    colours = [charts.ACCENT if name in faulty else charts.QUIET for name in profiles]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.bar(range(1, len(profiles) + 1), [100 * each.valid for each in profiles.values()], color=colours)
    axes.set_ylim(0, 100)


def _is_wide(low: float, high: float) -> bool:
    """Whether a logarithmic axis has two powers of ten to label; without them it would show no number."""
    return bool(low <= 0 or high / low > 100)


def _make_axes(figure: Figure, x: str, y: str) -> Axes:
    axes = figure.subplots()
    axes.set_xlabel(x, color=charts.INK)
    axes.set_ylabel(y, color=charts.INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(charts.QUIET)
    axes.tick_params(which="both", colors=charts.INK)
    return axes


def _make_cards(captures: DepthSet, profiles: Mapping[str, Profile], problems: list[Problem]) -> list[Card]:
    """Captures with a fault, and some without, evenly spread."""
    lines: dict[str, list[Problem]] = {}
    for problem in problems:
        lines.setdefault(problem.capture, []).append(problem)
    sound = [name for name in profiles if name not in lines]
    shown = [name for name in lines if name in profiles][:FAULTY] + sound[:: max(1, -(-len(sound) // SOUND))]
    places = {name: index for index, name in enumerate(captures.ids)}
    return [_make_card(captures, captures.read(places[name]), profiles[name], lines.get(name, [])) for name in shown]


def _make_card(captures: DepthSet, capture: Capture, profile: Profile, problems: list[Problem]) -> Card:
    step = max(1, -(-capture.depth.shape[1] // WIDTH))
    depth, mask = capture.depth[::step, ::step], capture.mask[::step, ::step]
    small = cv2.resize(capture.image, depth.shape[::-1], interpolation=cv2.INTER_AREA)
    overlaid = (small.mean(2, keepdims=True) * [0.55, 0.55, 0.55] + 70).astype(np.uint8)  # pale, so that edges show
    overlaid[find_breaks(depth)] = EDGE
    low, high = (float(end) for end in np.percentile(capture.depth[capture.mask], [2, 98]))
    return Card(
        capture.id,
        problems,
        f"median {profile.median / captures.unit_m:.4g} {captures.unit} · {profile.valid:.0%} with depth",
        [
            Thumbnail("image", _encode_uri(small)),
            Thumbnail("depth", _encode_uri(files.colour_depth(depth, mask, low, high))),
            Thumbnail("depth edges on the image", _encode_uri(overlaid)),
        ],
        DepthEnds(f"{low / captures.unit_m:.4g}", f"{high / captures.unit_m:.4g} {captures.unit}"),
        _count_bars(capture),
    )


def _count_bars(capture: Capture, bins: int = 48) -> list[float]:
    """Heights, of 1, of a histogram from the smallest to the largest depth; the root makes small counts visible."""
    counts, _ = np.histogram(capture.depth[capture.mask], bins)
    return [round(float(height), 3) for height in np.sqrt(counts / counts.max())]


def _encode_uri(image: RGBArray) -> str:
    _, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 86])
    return f"data:image/webp;base64,{b64encode(data.tobytes()).decode()}"


keep_old_names(__name__, {"headline": "make_headline"})
