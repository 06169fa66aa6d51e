"""What a run would do: from its plan, or, while its data are missing, from the recipe alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForDepthEstimation

from sonde import adapters, architectures, download, files, models
from sonde.datasets import DATASETS, split
from sonde.models import DepthModel
from sonde.recipes import ModelRecipe, Part, Recipe
from sonde.renamed import keep_old_names
from sonde.spelling import shorten
from sonde.training.arguments import takes_no_step
from sonde.training.data import check_settings, plan_recipe_rates
from sonde.training.networks import open_model
from sonde.training.plan import Plan
from sonde.training.rates import NO_RATES, RateRange, refuse_bad_rates
from sonde.training.rendering import PlannedRender, list_parts, list_renders


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    model: str
    trainable_parameters: int
    total_parameters: int
    steps: int | None
    """Optimizer steps; None if they depend on data whose size is not known."""
    learning_rate: RateRange | None
    """None for a run without a step, or whose steps are not known."""
    split: dict[str, int] | None
    """Number of captures for train, validation and test; None if it is not known."""
    output_dir: str
    data_ready: bool
    """Whether the data exist. If not, the fields of the data are None, and `render` and `missing` say what it takes."""
    chosen_by: str | None = None
    """The captures that choose the checkpoint; None if every capture trains."""
    range: tuple[float, float] | None = None
    """Depth range of the encoding, in `unit`; None for a network without an encoding."""
    unit: str | None = None
    render: list[PlannedRender] = field(default_factory=list)
    """The sets that the run would render first."""
    missing: str | None = None
    """Which folders must be fetched first, and how."""
    checks: dict[str, object] | None = None
    """What the checks said of a few captures; None while data are missing."""

    def document(self) -> dict[str, object]:
        """The facts as JSON; the keys depend on whether the data exist."""
        rate = None if self.learning_rate is None else asdict(self.learning_rate)
        document = {
            "model": self.model,
            "trainable_parameters": self.trainable_parameters,
            "total_parameters": self.total_parameters,
            "steps": self.steps,
            "learning_rate": rate,
            "split": self.split,
        }
        if self.data_ready:
            limits = None if self.range is None else list(self.range)
            document |= {"chosen_by": self.chosen_by, "range": limits, "unit": self.unit, "checks": self.checks}
        else:
            document |= {"render": [asdict(each) for each in self.render], "missing": self.missing}
        return {**document, "output_dir": self.output_dir}


def describe_plan(plan: Plan) -> DryRun:
    """What the run of a plan would do."""
    encoding, unit_m = plan.model.encoding, plan.captures.unit_m
    trainable, total = _count_parameters(plan.model)
    return DryRun(
        model=plan.model.name,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=plan.steps,
        learning_rate=plan.rates.range,
        split=_count_ids(plan.parts),
        output_dir=str(plan.run),
        data_ready=True,
        chosen_by="captures left out" if plan.recipe.choose else plan.chooser,
        range=None if encoding is None else (encoding.min_depth / unit_m, encoding.max_depth / unit_m),
        unit=plan.captures.unit,
        checks=None if plan.data.screening is None else plan.data.screening.summarize(),
    )


def forecast_run(recipe: Recipe) -> DryRun:
    """What the run of a recipe would do whose data are missing.

    Raises:
        ValueError: a setting that is wrong whatever the data are.
    """
    args, counts = check_settings(recipe), count_captures(recipe)
    images = None if counts is None else counts["train"]
    known = args.max_steps > 0 or images is not None
    rates = plan_recipe_rates(recipe, args, images) if known and not takes_no_step(recipe) else NO_RATES
    refuse_bad_rates(rates)
    model = _outline_model(recipe)
    trainable, total = _count_parameters(model)
    missing = [explain_missing(part) for part in find_missing_parts(recipe) if not part.render]
    return DryRun(
        model=model.name,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=len(rates.rates) or None,
        learning_rate=rates.range,
        split=counts,
        output_dir=recipe.output_dir,
        data_ready=False,
        render=list(list_renders(recipe)),
        missing=" ".join(missing) or None,
    )


def find_missing_parts(recipe: Recipe) -> list[Part]:
    """The parts of the data whose folders do not exist."""
    return [part for part in list_parts(recipe) if not Path(part.root).exists()]


def count_captures(recipe: Recipe) -> dict[str, int] | None:
    """Number of captures for train, validation and test; None if the size of a set is not known.

    A split by groups gives about these numbers: the groups are known only from the data.
    """
    data = recipe.data
    sizes = [count_part(part) for part in (data, *data.also)]
    if any(size is None for size in sizes):
        return None
    parts = zip((data, *data.also), sizes, strict=True)
    captures, rules = sum(part.repeat * (size or 0) for part, size in parts), data.split
    if data.measured is None:
        return _count_ids(split([str(index) for index in range(captures)], rules))
    judges = count_part(data.measured)
    if judges is None:
        return {"train": captures}
    judging = split([str(index) for index in range(judges)], rules, whole=True)
    return _count_ids({**judging, "validation": judging["train"] + judging["validation"]}) | {"train": captures}


def count_part(part: Part) -> int | None:
    """Number of captures: those in the folder, those to render, or those of the published set; None if not known."""
    if Path(part.root).exists():
        return len(DATASETS[part.format](Path(part.root)).ids) if part.format in DATASETS else None
    if rendered := sum(part.render.values()):
        return rendered
    entry = _find_published(part)
    return None if entry is None else entry.training_images


def explain_missing(part: Part) -> str:
    """A sentence that names the missing folder and the command that makes or fetches it."""
    entry = _find_published(part)
    if part.format == "pseudo":
        command = f"`sonde label MODEL IMAGES {part.root}` makes it"
    elif entry is not None:
        command = f"`sonde data download {entry.name}` gets it; then give its folder as data.root"
    else:
        command = "`sonde data convert` makes one of your images and depth, and `sonde data synth` renders one"
    near = files.find_near(Path(part.root))
    meant = f" Did you mean {shorten(near[0])}?" if near else ""
    return f"{part.root} is missing, the folder of a {part.format} set: {command}.{meant}"


def _find_published(part: Part) -> download.Entry | None:
    """The public set with a part's layout."""
    return next((entry for entry in download.load_known().values() if entry.format == part.format), None)


def _count_ids(parts: Mapping[str, list[str]]) -> dict[str, int]:
    return {name: len(ids) for name, ids in parts.items()}


def _count_parameters(model: DepthModel) -> tuple[int, int]:
    """Number of trainable parameters, and of all."""
    parameters = list(model.network.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def _outline_model(recipe: Recipe) -> DepthModel:
    """The network of a recipe, adapted; a network of a size has no weights in memory."""
    wanted = recipe.model
    model = open_model(recipe) if wanted.size is None else _outline_size(wanted, wanted.size)
    if recipe.lora is not None:
        trained = wanted.train_head or wanted.head == "pixels"
        model.network = adapters.add_lora(model.network, recipe.lora, model.family.head if trained else ())
    return model


def _outline_size(wanted: ModelRecipe, size: str) -> DepthModel:
    """A network of a size without weights: even the largest takes no memory on torch's `meta` device."""
    max_depth = 1 if wanted.encoding is not None and size not in architectures.SIZES else wanted.max_depth
    with torch.device("meta"):
        network = AutoModelForDepthEstimation.from_config(architectures.make_config(size, max_depth))
        spec = models.read_spec(network)
        head = models.make_pixel_depth(network) if wanted.head == "pixels" else network
    return DepthModel(head, spec, wanted.origin)


keep_old_names(
    __name__,
    {
        "absent": "find_missing_parts",
        "forecast": "forecast_run",
        "size_of": "count_part",
        "how_to_get": "explain_missing",
    },
)
