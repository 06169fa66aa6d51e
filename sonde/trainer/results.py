"""The depth maps of every validation on disk, written as they are scored: a batch at a time, each a whole file."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Int
from torch import Tensor
from transformers import TrainerState

from sonde.ids import check_id
from sonde.models import DepthModel
from sonde.prediction import SAVERS, PredictedImage
from sonde.tensors import Depth


class Results:
    """Writes FOLDER/epoch-003/ID.depth.png and ID.preview.png, as `sonde predict` does; each process its own captures.

    Args:
        folder: usually RUN/results.
        ids: the captures of the set, by position.
        model: gives the space and unit of the answers, which are written at the size of the depth that scores them.
        by_epoch: whether each epoch is validated; otherwise folders are named by steps, step-000200.
    """

    def __init__(self, folder: Path, ids: Sequence[str], model: DepthModel, *, by_epoch: bool):
        self.folder = folder
        self.ids = ids
        self.model = model
        self.by_epoch = by_epoch

    def write(self, answers: Depth, index: Int[Tensor, " b"], state: TrainerState) -> None:
        """The model's answers for the captures at `index`: metres, or whatever its space names."""
        name = f"epoch-{round(state.epoch or 0):03}" if self.by_epoch else f"step-{state.global_step:06}"
        space = self.model.space
        unit = self.model.spec.unit if space == "metric" else "1"
        for depth, position in zip(answers.float(), index.tolist(), strict=True):
            written = PredictedImage(None, depth.cpu().numpy(), space, unit, None)
            for saver in (SAVERS["png16"], SAVERS["preview"]):
                saver.write(self.folder / name / f"{check_id(self.ids[int(position)])}{saver.suffix}", written)
