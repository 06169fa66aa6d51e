"""Charts of a report, as SVG that takes its colours from the page it stands in."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from pydantic import Field

from sonde import files
from sonde.evaluation import Evaluation
from sonde.metrics import is_better_larger
from sonde.recipes import Recipe
from sonde.units import UNITS

LogLine = dict[str, Annotated[float, Field(strict=True)] | None]
"""A line of `metrics.jsonl`: the step, and its numbers by their names; None where one was not finite."""

INK, ACCENT, QUIET = "#010203", "#010204", "#010205"
"""Colours of a chart that the page replaces by its own, light or dark."""


class Chart(NamedTuple):
    """A chart as the page holds it."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Training:
    """How the steps of a training went, by its last log."""

    steps: int
    skipped_steps: float
    """Steps that were skipped, since their loss or gradient was not finite."""
    scaler_skips: float | None
    """Steps that float16's scaler passed over; None without one."""
    data_wait: float | None
    """The share of time spent waiting for data, in [0, 1]; None where the last log does not say."""

    def document(self) -> dict[str, float]:
        """What is known, ready for JSON."""
        steps = {"steps": float(self.steps), "skipped_steps": self.skipped_steps}
        more = {"scaler_skips": self.scaler_skips, "data_wait": self.data_wait}
        return steps | {name: value for name, value in more.items() if value is not None}


def describe_training(training: Training) -> str:
    """How many steps, how many of them were skipped, and how long they waited for data, in words."""
    skipped = f"{training.skipped_steps:.0f} skipped" if training.skipped_steps else "none skipped"
    words = f"{training.steps}, {skipped}"
    if training.scaler_skips:
        words += f", {training.scaler_skips:.0f} passed over by float16's scaler"
    if training.data_wait is not None:
        words += f", {100 * training.data_wait:.1f} % of their time waiting for data"
    return words


@dataclass(frozen=True)
class Curves:
    """Numbers by step, from `metrics.jsonl`; of a step logged twice, as after a resume, the later."""

    series: dict[str, dict[int, float]]

    @classmethod
    def read(cls, path: Path) -> "Curves":
        """Every number the trainer logged; nothing where it logged nothing.

        Raises:
            ValueError: a line that the trainer did not log.
        """
        series: dict[str, dict[int, float]] = {}
        remedy = "remove that line; the curves are drawn from the others"
        lines: list[LogLine] = files.read_lines(path, LogLine, remedy) if path.is_file() else []
        with files.reading(path, remedy):
            for entry in lines:
                for name, value in entry.items():
                    if name not in ("step", "epoch") and value is not None:
                        series.setdefault(name, {})[int(entry["step"] or 0)] = float(value)
        return cls(series)

    def points(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values in order."""
        found = self.series.get(name, {})
        return sorted(found), [found[step] for step in sorted(found)]

    def find_kept_step(self, recipe: Recipe) -> int | None:
        """The step whose weights the run ended with: that of its best validation, else its last; None if not known."""
        if not (recipe.save_model and recipe.train.get("load_best_model_at_end", True)):
            return max(self.series.get("loss", {}), default=None)
        name = str(recipe.train.get("metric_for_best_model") or "loss").removeprefix("eval_")
        scores = {step: value for step, value in self.series.get(f"eval_{name}", {}).items() if np.isfinite(value)}
        sign = -1 if is_better_larger(name) else 1
        return min(sorted(scores), key=lambda step: sign * scores[step], default=None)

    def summarize_training(self) -> Training | None:
        """How the steps went, by the last log; None where nothing was logged."""
        steps, skipped = self.points("skipped_steps")
        if not steps:
            return None
        last = steps[-1]
        scaled, waited = (self.series.get(name, {}).get(last) for name in ("scaler_skips", "data_wait"))
        return Training(last, skipped[-1], scaled, waited)


def draw_charts(
    curves: Curves, errors: Float[np.ndarray, "n 2"], own: Evaluation, kept: int | None = None
) -> list[Chart]:
    """Each chart that there are numbers for.

    Args:
        curves: what the trainer logged.
        errors: true depth and signed error of a sample of pixels, metres.
        own: the scores of the model that the page is about.
        kept: the step of its weights.
    """
    main, unit = own.main, own.unit
    validated = f"eval_{main.metric}"
    label = {"abs_rel": "AbsRel", f"mae_{unit}": f"MAE ({unit})"}.get(main.metric, main.metric)
    charts = [
        (
            "Loss",
            "Training and validation; the dotted line is the checkpoint that was kept.",
            bool(curves.points("eval_loss")[0]),
            partial(_draw_losses, curves=curves, kept=kept),
        ),
        (
            "Validation error",
            f"{main.words[0].upper()}{main.words[1:]} on the captures that chose the checkpoint.",
            bool(curves.points(validated)[0]),
            partial(_draw_validation, curves=curves, name=validated, label=label, kept=kept),
        ),
        (
            "Error against depth",
            f"Mean error{' as a share of depth' * own.relative} by true depth; the band holds 80 % of pixels.",
            len(errors) > 0,
            partial(_draw_errors, errors=errors, unit=unit, relative=own.relative),
        ),
    ]
    return [
        Chart(title, caption, render_chart(draw, number))
        for number, (title, caption, known, draw) in enumerate(charts)
        if known
    ]


def render_chart(draw: Callable[[Figure], None], number: int) -> Markup:
    """An SVG that takes text colour, accent and font from the page it stands in."""
    buffer = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sonde", "font.size": 9}):
        figure = Figure(figsize=(4.2, 3.0), layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>chart{number}-", svg)
    for colour, name in ((INK, "ink"), (ACCENT, "accent"), (QUIET, "quiet")):
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg)


def _draw_losses(figure: Figure, curves: Curves, kept: int | None) -> None:
    axes = _add_axes(figure, "step", "loss")
    for name, label, colour in (("loss", "training", QUIET), ("eval_loss", "validation", ACCENT)):
        steps, values = curves.points(name)
        axes.plot(steps, values, color=colour, linewidth=1.6, label=label)
    if all(value > 0 for name in ("loss", "eval_loss") for value in curves.points(name)[1]):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    _mark_kept(axes, kept)
    axes.legend(frameon=False, labelcolor=INK)


def _draw_validation(figure: Figure, curves: Curves, name: str, label: str, kept: int | None) -> None:
    axes = _add_axes(figure, "step", label)
    axes.plot(*curves.points(name), color=ACCENT, linewidth=1.6, marker="o", markersize=3)
    axes.set_ylim(0, 1.08 * max(curves.points(name)[1]) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _mark_kept(axes, kept)


def _mark_kept(axes: Axes, kept: int | None) -> None:
    """A line at the checkpoint that was kept."""
    if kept is not None:
        axes.axvline(kept, color=INK, linewidth=0.8, linestyle=":")


def _draw_errors(figure: Figure, errors: Float[np.ndarray, "n 2"], unit: str, relative: bool) -> None:
    shares = np.stack([errors[:, 0] / UNITS[unit], 100 * errors[:, 1] / errors[:, 0]], axis=1)
    middles, held = bin_errors(shares if relative else errors / UNITS[unit], logarithmic=relative)
    kept = [n for n, values in enumerate(held) if len(values) >= 10]
    top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    _style_axes(top, "", f"|error| ({'%' if relative else unit})")
    _style_axes(bottom, f"true depth ({unit})", "pixels")
    low, high = ([np.percentile(held[n], share) for n in kept] for share in (10, 90))
    top.fill_between(middles[kept], low, high, color=ACCENT, alpha=0.18, linewidth=0)
    top.plot(middles[kept], [held[n].mean() for n in kept], color=ACCENT, linewidth=1.6)
    top.set_ylim(bottom=0)
    bottom.bar(middles, [len(values) for values in held], width=0.9 * np.gradient(middles), color=QUIET)
    bottom.set_yticks([])
    if relative:
        bottom.set_xscale("log")
        bottom.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        bottom.xaxis.set_major_formatter("{x:g}")
        bottom.xaxis.set_minor_locator(NullLocator())


def bin_errors(
    errors: Float[np.ndarray, "n 2"], bins: int = 24, logarithmic: bool = False
) -> tuple[Float[np.ndarray, " bins"], list[np.ndarray]]:
    """Middles of equal steps of depth, or of its logarithm, and the absolute errors in each, save the outer 0.5 %."""
    low, high = np.percentile(errors[:, 0], [0.5, 99.5])
    edges = (np.geomspace if logarithmic else np.linspace)(low, max(high, low * (1 + 1e-9)), bins + 1)
    place = np.digitize(errors[:, 0], edges[:-1]) - 1
    place[errors[:, 0] > edges[-1]] = bins
    return (edges[:-1] + edges[1:]) / 2, [np.abs(errors[place == n, 1]) for n in range(bins)]


def _add_axes(figure: Figure, x: str, y: str) -> Axes:
    axes = figure.subplots()
    _style_axes(axes, x, y)
    return axes


def _style_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(which="both", colors=INK)
    axes.grid(axis="y", color=QUIET, alpha=0.25, linewidth=0.6)
