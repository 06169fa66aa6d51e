"""Runs for tests: a folder as training leaves it, around a small network; and a run that dies at a step."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import GLPN
from transformers import GLPNForDepthEstimation

from sonde import models, recipes
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel, ModelSpec
from sonde.trainer import DepthTrainer


class Killed(Exception):
    """A run that stopped where a test wanted it to."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """While inside, training dies before it takes the step after `step`, and must."""
    take = DepthTrainer.training_step

    def until(self: DepthTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            raise Killed
        return take(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(DepthTrainer, "training_step", until)
        yield


def relative_model() -> DepthModel:
    """A disparity network of random weights, the same every time."""
    torch.manual_seed(0)
    network = GLPNForDepthEstimation(deepcopy(GLPN))  # a model writes into its own
    return DepthModel(network, ModelSpec("disparity", 32, 32, *models.PLAIN), "relative")


def make_run(root: Path, run: Path, test: list[str], validation: list[str]) -> Path:
    """A run folder as training leaves it, its model a relative one given a depth range."""
    base = run.parent / "base"
    models.save(relative_model(), base)
    encoding = ENCODINGS["inverse"](0.5, 1.5).to_dict()
    adapted = replace(relative_model().spec, space="metric", encoding=encoding, unit="mm")
    models.save(DepthModel(relative_model().network, adapted, "adapted"), run / "best")
    data = {"root": str(root)}
    recipe = recipes.load({"model": {"name": str(base)}, "data": data, "output_dir": str(run)})
    (run / "recipe.yaml").write_text(recipes.dump(recipe))
    parts = {"train": ["c00", "c01"], "validation": validation, "test": test}
    (run / "split.json").write_text(json.dumps(parts))
    return run
