"""Depth maps on disk, as an evaluation scores them."""

from collections.abc import Sequence
from pathlib import Path

from sonde.datasets import Capture
from sonde.evaluation.columns import Row
from sonde.evaluation.rows import Watcher
from sonde.ids import check_id
from sonde.prediction import SAVERS, PredictedImage
from sonde.spelling import nearest
from sonde.types import DepthArray

KINDS = ("png16", "npy", "preview")
"""Names in SAVERS that need no more than a map of metres."""


class Pictures:
    """A watcher of `evaluate` that writes FOLDER/ID.depth.png, .npy or .preview.png of every scored capture, in metres.

    Args:
        folder: where they go; folders of ids are made below it.
        kinds: names in KINDS.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, folder: Path, kinds: Sequence[str]):
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"--save {kind}: {nearest(kind, list(KINDS))}")
        self.folder = folder
        self.savers = [SAVERS[kind] for kind in kinds]

    def __call__(self, capture: Capture, prediction: DepthArray, row: Row) -> None:
        """Write the prediction as scored, (h, w) metres."""
        answer = PredictedImage(None, prediction, "metric", "m", None)
        for saver in self.savers:
            saver.write(self.folder / f"{check_id(capture.id)}{saver.suffix}", answer)


def watchers(*each: Watcher) -> Watcher:
    """One watcher that tells several, in their order."""

    def tell(capture: Capture, prediction: DepthArray, row: Row) -> None:
        for watcher in each:
            watcher(capture, prediction, row)

    return tell
