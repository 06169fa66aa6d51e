"""A run of a fixed camera as training leaves it: every capture trained, answers to captures left out, and a bench."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from trained_runs import make_run

from sonde.background import Background
from sonde.datasets import Capture, open_set
from sonde.types import DepthArray


def leave_out(
    root: Path, run: Path, folds: Sequence[Sequence[str]], answer: Callable[[Capture], DepthArray], sentence: str = ""
) -> Path:
    """A run on all captures of a Zivid set, chosen by `answer` to each of them."""
    make_run(root, run, [], [])
    captures = open_set("zivid", root)
    (run / "split.json").write_text(json.dumps({"train": captures.ids, "validation": [], "test": []}))
    candidates = [
        {"background": kind, "steps": steps, "mae_mm": 9.5, "spread_mm": 1.5}
        for kind in ("none", "farthest")
        for steps in (25, 100)
    ]
    document = {"folds": folds, "chosen": {"background": "farthest", "steps": 100}, "candidates": candidates}
    (run / "choice.json").write_text(json.dumps(document | {"sentence": sentence}))
    (run / "left-out").mkdir()
    (run / "left-out" / "predictions.json").write_text('{"space": "metric", "unit": "m"}')
    for index in range(len(captures)):
        capture = captures.read(index)
        np.save(run / "left-out" / f"{capture.id}.npy", answer(capture).astype(np.float32))
    return run


def plain_bench(depth: DepthArray) -> Background:
    """A bench of this depth, grey."""
    return Background(depth.astype(np.float32), np.full((*depth.shape, 3), 128, np.uint8), "farthest")
