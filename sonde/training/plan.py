"""Everything a run needs, built and checked before the first step."""

from pathlib import Path
from typing import NamedTuple

import torch
from transformers import TrainingArguments

from sonde.background import Background
from sonde.checks import Screener
from sonde.datasets import DepthDataset, DepthSet
from sonde.models import DepthModel
from sonde.recipes import Recipe, refuse_contradictions
from sonde.training.build import Built, build_model
from sonde.training.choice import Choice
from sonde.training.data import TrainingData, open_data
from sonde.training.rates import RatePlan


class Plan(NamedTuple):
    """A run that can start: its data and its network. Nothing in it is replaced later."""

    data: TrainingData
    built: Built

    @property
    def recipe(self) -> Recipe:
        """The settings."""
        return self.data.recipe

    @property
    def run(self) -> Path:
        """The run folder."""
        return Path(self.recipe.output_dir)

    @property
    def captures(self) -> DepthSet:
        """Every capture of the run."""
        return self.data.captures

    @property
    def parts(self) -> dict[str, list[str]]:
        """Capture ids for train, validation and test."""
        return self.data.parts

    @property
    def args(self) -> TrainingArguments:
        """The settings of transformers' trainer."""
        return self.data.args

    @property
    def rates(self) -> RatePlan:
        """The learning rate of each step."""
        return self.data.rates

    @property
    def model(self) -> DepthModel:
        """The network, adapted."""
        return self.built.model

    @property
    def background(self) -> Background | None:
        """The bench, if the network learns the difference from it."""
        return self.built.background

    @property
    def choice(self) -> Choice | None:
        """What leaving captures out has chosen, if the recipe asks for it; None in a resumed run."""
        return self.built.choice

    def samples(self, part: str, *, augment: bool = False) -> DepthDataset:
        """The captures of a part (train, validation or test) as a torch data set, decoded once."""
        size = self.model.spec.input_size
        return self.data.samples(part, size, augment=augment, background=self.background)

    @property
    def chooser(self) -> str | None:
        """The part that chooses the checkpoint; None if every capture trains, and the last weights are kept."""
        return next((part for part in ("validation", "test") if self.parts[part]), None)

    @property
    def is_sharded(self) -> bool:
        """Whether the weights are cut across processes."""
        return bool(self.recipe.train.get("fsdp"))

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.args.process_index == 0

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run, as transformers counts them."""
        return len(self.rates.rates)


def prepare(
    recipe: Recipe, *, fitting: bool = False, chosen: str | None = None, screener: Screener | None = None
) -> Plan:
    """Check the recipe, open, split and screen the data, and build the model, in this order.

    Data that a recipe renders must exist: `train` renders them. `fitting` and `chosen` are as for `build_model`,
    `screener` as for `open_data`.

    Raises:
        ValueError: whatever is wrong with the recipe, the data or the network, or not enough memory.
    """
    refuse_contradictions(recipe)
    try:
        data = open_data(recipe, screener)
        return Plan(data, build_model(data, fitting=fitting, chosen=chosen))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            "Not enough memory to prepare this run: lower model.input_size or model.input_pixels, or lora.r; or choose "
            "a smaller model."
        ) from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out."""
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
