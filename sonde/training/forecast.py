"""What a run would do whose data are not there yet: all that the recipe alone tells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForDepthEstimation

from sonde import adapters, architectures, download, models
from sonde.datasets import DATASETS, split
from sonde.models import DepthModel
from sonde.recipes import Part, Recipe
from sonde.training.arguments import takes_no_step
from sonde.training.data import check_settings, planned_rates
from sonde.training.networks import open_model
from sonde.training.rates import NO_RATES, refuse_bad_rates
from sonde.training.rendering import parts_of, to_render


def absent(recipe: Recipe) -> list[Part]:
    """The parts of the data whose folders are not there."""
    return [part for part in parts_of(recipe) if not Path(part.root).exists()]


def forecast(recipe: Recipe) -> dict[str, Any]:
    """What a dry run tells without the data: what would be rendered, the network's size, steps and learning rate.

    Raises:
        ValueError: a setting that is wrong whatever the data are.
    """
    args, counts = check_settings(recipe), count_captures(recipe)
    images = None if counts is None else counts["train"]
    known = args.max_steps > 0 or images is not None
    rates = planned_rates(recipe, args, images) if known and not takes_no_step(recipe) else NO_RATES
    refuse_bad_rates(rates)
    model = _outline(recipe)
    parameters = list(model.network.parameters())
    missing = [get for part in absent(recipe) if not part.render and (get := how_to_get(part))]
    return {
        "model": model.name,
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "total_parameters": sum(p.numel() for p in parameters),
        "steps": len(rates.rates) or None,
        "learning_rate": rates.summary()["learning_rate"],
        "split": counts,
        "render": list(to_render(recipe)),
        "missing": " ".join(missing) or None,
        "output_dir": recipe.output_dir,
    }


def count_captures(recipe: Recipe) -> dict[str, int] | None:
    """Captures that would train, choose the checkpoint and be scored; None where a set's size is not known.

    Of a set that is split by groups, the counts are those of a split without them.
    """
    data = recipe.data
    sizes = [size_of(part) for part in (data, *data.also)]
    if any(size is None for size in sizes):
        return None
    captures, rules = sum(size or 0 for size in sizes), data.split
    if data.measured is None:
        return _lengths(split([str(index) for index in range(captures)], rules))
    judges = size_of(data.measured)
    if judges is None:
        return {"train": captures}
    parts = split([str(index) for index in range(judges)], rules, whole=True)
    return _lengths({**parts, "validation": parts["train"] + parts["validation"]}) | {"train": captures}


def size_of(part: Part) -> int | None:
    """Captures of a part: those there, those that it would render, or those that were published; None if unknown."""
    if Path(part.root).exists():
        return len(DATASETS[part.format](Path(part.root)).ids) if part.format in DATASETS else None
    return sum(part.render.values()) or (entry.training_images if (entry := _published(part)) is not None else None)


def how_to_get(part: Part) -> str:
    """Which folder is missing, and the command that gets it."""
    entry = _published(part)
    if part.format == "pseudo":
        command = f"`sonde label MODEL IMAGES {part.root}` makes it"
    elif entry is not None:
        command = f"`sonde data download {entry.name}` gets it; then give its folder as data.root"
    else:
        command = "`sonde data convert` makes one of your images and depth, and `sonde data synth` renders one"
    return f"{part.root} is missing, the folder of a {part.format} set: {command}."


def _published(part: Part) -> download.Entry | None:
    """The public set of a part's layout."""
    return next((entry for entry in download.known().values() if entry.format == part.format), None)


def _lengths(parts: Mapping[str, list[str]]) -> dict[str, int]:
    return {name: len(ids) for name, ids in parts.items()}


def _outline(recipe: Recipe) -> DepthModel:
    """The network of a recipe; a size is drawn without memory for its weights."""
    wanted = recipe.model
    if wanted.size is None:
        model = open_model(recipe)
    else:
        metres = 1 if wanted.encoding is not None and wanted.size not in architectures.SIZES else wanted.max_depth
        with torch.device("meta"):
            network = AutoModelForDepthEstimation.from_config(architectures.config_of(wanted.size, metres))
            spec = models.spec_of(network)
            head = models.pixel_depth(network) if wanted.head == "pixels" else network
        model = DepthModel(head, spec, wanted.origin)
    if recipe.lora is not None:
        trained = wanted.train_head or wanted.head == "pixels"
        model.network = adapters.add_lora(model.network, recipe.lora, model.family.head if trained else ())
    return model
