"""The main job, offline: render a bench in the Zivid layout, adapt sonde-tiny to it, score held-out captures."""

from collections.abc import Callable
from pathlib import Path

from sonde import scenes, train

CAPTURES = 58
"""As many as the published set has."""
SIZE = (240, 320)
"""(height, width) of the rendered captures."""
SEED = 7
"""Of the rendered bench."""


def render(output: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Render the bench, or go on where a stopped demo left off; returns its root."""
    root = output / "bench"
    scenes.synth("bench", root, CAPTURES, seed=SEED, height=SIZE[0], width=SIZE[1], progress=progress)
    return root


def adapt(root: Path, output: Path, listener: train.Listener | None = None) -> Path:
    """Adapt and score with the recipe `demo`; returns the run folder, new each time."""
    run = next(path for path in (output / f"run-{number}" for number in range(1, 10_000)) if not path.exists())
    return train.train("demo", settings(root, output, run), listener=listener)


def settings(root: Path, output: Path, run: Path) -> list[str]:
    """Where the recipe `demo` reads and writes."""
    return [f"data.root={root}", f"output_dir={run}", f"data.cache={output / 'cache'}"]
