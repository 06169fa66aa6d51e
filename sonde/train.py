"""Train: one recipe in, one run folder out. Fine-tuning by LoRA, a teacher on renders and a student are the same code.

A run folder holds `recipe.yaml` (every default resolved), `split.json`, `metrics.jsonl`, `environment.json`,
`checkpoints/`, `best/` (what `sonde.load` reads), `metrics.json` and `report.html`.
"""

import json
import logging
import math
import platform
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainingArguments, set_seed
from transformers.integrations.integration_utils import get_available_reporting_integrations

from sonde import Verb, adapters, datasets, evaluate, losses, models, recipes, report, scenes
from sonde.datasets import Decoded, DepthSet, Samples, depth_range, split
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel
from sonde.recipes import Recipe, nearest
from sonde.trainer import DepthTrainer, JsonLines, Progress

log = logging.getLogger("sonde")

DEFAULTS: dict[str, Any] = {
    "remove_unused_columns": False,
    "label_names": ["depth"],
    "prediction_loss_only": True,
    "report_to": "none",
    "disable_tqdm": True,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
    "save_total_limit": 2,
    "logging_steps": 10,
    "dataloader_pin_memory": False,
}
"""What every run asks of transformers.TrainingArguments unless its recipe says otherwise."""

Listener = Callable[[int, int, dict[str, float]], None]
"""(step, of steps, newest numbers)."""


class Plan(NamedTuple):
    """Everything a run needs, built and checked before the first step."""

    recipe: Recipe
    run: Path
    captures: DepthSet
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""
    model: DepthModel
    args: TrainingArguments

    def samples(self, part: str, *, augment: bool = False) -> Samples:
        """The captures of a part as a torch data set, decoded once."""
        recipe = self.recipe
        decoded = Decoded(self.captures, recipe.model.input_size, recipe.data.cache)
        position = {capture: index for index, capture in enumerate(self.captures.ids)}
        indices = [position[capture] for capture in self.parts[part]]
        return Samples(decoded, indices, recipe.augment if augment else None, recipe.seed)

    @property
    def chooser(self) -> str:
        """The part that chooses the checkpoint."""
        return "validation" if self.parts["validation"] else "test"

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run, as transformers counts them."""
        batches = math.ceil(len(self.parts["train"]) / self.args.per_device_train_batch_size)
        per_epoch = max(1, math.ceil(batches / self.args.gradient_accumulation_steps))
        return self.args.max_steps if self.args.max_steps > 0 else math.ceil(self.args.num_train_epochs * per_epoch)


def train(
    recipe: str | Path | dict[str, Any] | Recipe,
    overrides: list[str] | None = None,
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> Path:
    """Run a recipe to its end and return the run folder.

    Args:
        recipe: a packaged name, a YAML file, a dictionary or a Recipe.
        overrides: dotted `key=value`, such as `train.learning_rate=1e-4`.
        resume: continue from the newest complete checkpoint, bit-identically on a CPU.
        listener: told every step.

    Raises:
        ValueError: whatever is wrong with the recipe, the data or the model, or memory that does not suffice.
    """
    recipe = recipes.load(recipe, overrides)
    if recipe.data.split.folds and recipe.data.split.fold is None:
        return _all_folds(recipe, resume, listener)
    run = Path(recipe.output_dir)
    checkpoint = _newest(run) if resume else None
    if not resume and (run / "checkpoints").exists():
        raise ValueError(f"{run} already holds a run: continue it with --resume, or give another output_dir.")
    render_missing(recipe)
    plan = prepare(recipe)
    _record(plan)
    _fit(plan, checkpoint, listener)
    models.save(plan.model.eval(), run / "best")
    if plan.recipe.model.encoding is not None:
        report.finish(run)
    return run


def dry_run(recipe: str | Path | dict[str, Any] | Recipe, overrides: list[str] | None = None) -> dict[str, Any]:
    """Build everything a run needs and say what it would do, without a step and without a file."""
    plan = prepare(recipes.load(recipe, overrides))
    parameters = list(plan.model.network.parameters())
    rates = learning_rates(plan.args, plan.steps)
    encoding = plan.model.encoding
    return {
        "model": plan.model.name,
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "total_parameters": sum(p.numel() for p in parameters),
        "steps": plan.steps,
        "learning_rate": {"lowest": min(rates), "highest": max(rates), "last": rates[-1]},
        "split": {name: len(ids) for name, ids in plan.parts.items()},
        "chosen_by": plan.chooser,
        "range": encoding and [bound / plan.captures.unit_m for bound in (encoding.min_depth, encoding.max_depth)],
        "unit": plan.captures.unit,
        "output_dir": str(plan.run),
    }


def prepare(recipe: Recipe) -> Plan:
    """Open the data, cut it, load and adapt the model, and check every setting.

    Data that a recipe renders must be there: `train` renders it, a dry run says that it is missing.
    """
    args = training_arguments(recipe)
    for name in recipe.loss:
        if name not in losses.LOSSES:
            raise ValueError(f"Unknown loss {name!r}: {nearest(name, list(losses.LOSSES))}")
    captures = evaluate.open_captures(recipe)
    groups = captures.groups(recipe.data.split.group) if recipe.data.split.group else None
    parts = split(captures.ids, recipe.data.split, groups)
    set_seed(recipe.seed)
    model = models.load(recipe.model.name, init=recipe.model.init)
    plan = Plan(recipe, Path(recipe.output_dir), captures, parts, model, args)
    _give_meaning(plan)
    _adapt(plan)
    return plan


def render_missing(recipe: Recipe) -> None:
    """Render the parts of the data that a recipe describes and that are not there yet."""
    for part in (recipe.data, *recipe.data.also):
        if part.render and not Path(part.root).exists():
            for family, count in part.render.items():
                log.info("rendering %d %s captures into %s", count, family, part.root)
                scenes.synth(family, part.root, count, seed=recipe.seed, rigs=0, layout=part.format)


def training_arguments(recipe: Recipe) -> TrainingArguments:
    """transformers.TrainingArguments of a recipe, with precision settled for this machine.

    Raises:
        ValueError: a name TrainingArguments has not, or a value it refuses.
    """
    known = [field.name for field in fields(TrainingArguments)]
    for key in recipe.train:
        if key not in known:
            raise ValueError(f"Unknown key train.{key}: {nearest(key, known)}")
    settings = {**DEFAULTS, "seed": recipe.seed, **recipe.train}
    settings["output_dir"] = str(Path(recipe.output_dir) / "checkpoints")
    try:
        args = TrainingArguments(**_precision(settings))
    except (TypeError, ValueError) as error:
        raise ValueError(f"train: {' '.join(str(error).split())}") from None
    for name in args.report_to or ():
        if name not in get_available_reporting_integrations():
            raise ValueError(f"train.report_to={name}: it is not installed here; `pip install {name}`, or say none.")
    return args


def learning_rates(args: TrainingArguments, steps: int) -> list[float]:
    """The learning rate of every step, by running the scheduler on nothing."""
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=args.learning_rate)
    scheduler = get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=args.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs or {},  # pyright: ignore[reportArgumentType]
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _precision(settings: dict[str, Any]) -> dict[str, Any]:
    """Half precision only where it is real: a CPU ignores fp16 silently, and emulates bf16 at a crawl."""
    if torch.cuda.is_available() and not settings.get("use_cpu"):
        return settings
    wanted = [name for name in ("fp16", "bf16") if settings.get(name)]
    native = torch.cpu._is_avx512_bf16_supported()
    if "fp16" in wanted or ("bf16" in wanted and not native):
        log.warning("no GPU: training in fp32 (%s is asked for, which this CPU would ignore or crawl in)", wanted[0])
        return settings | {name: False for name in wanted}
    return settings


def _give_meaning(plan: Plan) -> None:
    """Tell the model what its numbers will mean: the encoding over the data's range, or disparity as before."""
    recipe, model, captures = plan.recipe, plan.model, plan.captures
    size = recipe.model.input_size or model.meaning.input_size
    if size is not None and any(side % model.meaning.multiple for side in size):
        step = model.meaning.multiple
        nearest_size = [max(step, round(side / step) * step) for side in size]
        raise ValueError(
            f"model.input_size={list(size)}: {model.name} needs multiples of {step}; the nearest is {nearest_size}."
        )
    meaning = replace(model.meaning, input_size=size, unit=captures.unit)
    if recipe.model.encoding is not None:
        low, high = _range(plan)
        encoding = ENCODINGS[recipe.model.encoding](low, high)
        meaning = replace(meaning, space="metric", encoding=encoding.to_dict())
    model.meaning = meaning


def _range(plan: Plan) -> tuple[float, float]:
    wanted, captures = plan.recipe.data.range, plan.captures
    if isinstance(wanted, tuple):
        return wanted[0] * captures.unit_m, wanted[1] * captures.unit_m
    ids = captures.ids if wanted == "all" else plan.parts["train"]
    position = {capture: index for index, capture in enumerate(captures.ids)}
    return depth_range(captures, [position[capture] for capture in ids])


def _adapt(plan: Plan) -> None:
    """Adapters and the head's start, where the recipe asks for them."""
    recipe, model = plan.recipe, plan.model
    if recipe.model.affine_start and not (recipe.model.train_head and recipe.model.encoding):
        raise ValueError(
            "model.affine_start needs model.train_head=true and an encoding: it sets the head's last layer."
        )
    if recipe.lora is None:
        if recipe.model.affine_start:
            _start(plan)
        return
    if isinstance(model.network, adapters.PeftModel):
        raise ValueError(f"{model.name} is an adapter already: export it with --to hf, and adapt that folder.")
    if recipe.model.init == "random":
        raise ValueError(
            "model.init=random with lora: an adapter is saved without its base, and a random base cannot be had again. "
            "Set lora=null to train the whole network, or init=pretrained."
        )
    base = recipe.model.name
    model.meaning = replace(model.meaning, base=base, fingerprint=models.fingerprint(model.network))
    if recipe.model.affine_start:
        _start(plan)
    head = model.family.head if recipe.model.train_head else ()
    model.network = adapters.add_lora(model.network, recipe.lora, head)


@torch.no_grad()
def _start(plan: Plan, images: int = 8) -> None:
    """Fit scale and shift of the last layer's output to its target on a few training captures."""
    model, samples = plan.model.eval(), plan.samples("train")
    layer = model.network.get_submodule(model.family.last)
    encoding = model.encoding
    assert isinstance(layer, torch.nn.Conv2d) and encoding is not None
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    outputs, targets, masks = [], [], []
    for index in range(min(images, len(samples))):
        batch = datasets.collate([samples[index]])
        model.respond(model.network, batch["image"])
        raw = seen.pop()
        pick = torch.nn.functional.interpolate
        size = raw.shape[-2:]
        target = encoding.encode(torch.where(batch["mask"], batch["depth"], 1.0))
        target = pick(target[:, None], size, mode="nearest-exact")[:, 0]
        mask = pick(batch["mask"][:, None].float(), size, mode="nearest-exact")[:, 0] > 0.5
        outputs.append(raw.flatten())
        targets.append((torch.logit(target.clamp(0.02, 0.98)) if model.family.sigmoid else target).flatten())
        masks.append(mask.flatten())
    hook.remove()
    fit = adapters.fit_start(
        torch.cat(outputs)[None, None], torch.cat(targets)[None, None], torch.cat(masks)[None, None]
    )
    adapters.affine_start(layer, *fit)


def _fit(plan: Plan, checkpoint: Path | None, listener: Listener | None) -> None:
    callbacks = [JsonLines(plan.run / "metrics.jsonl"), *([Progress(listener)] if listener else [])]
    trainer = DepthTrainer(
        plan.model,
        plan.recipe.loss,
        plan.args,
        train=plan.samples("train", augment=True),
        validation=plan.samples(plan.chooser),
        callbacks=callbacks,
    )
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise ValueError(_memory_remedy(plan)) from None


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _memory_remedy(plan: Plan) -> str:
    height, width = plan.recipe.model.input_size or (0, 0)
    step = plan.model.meaning.multiple
    smaller = [max(step, round(side * 0.7 / step) * step) for side in (height, width)]
    advice = ["train.gradient_checkpointing=true (about a third of the memory, a third slower)"]
    if plan.args.per_device_train_batch_size > 1:
        advice.append(
            "train.per_device_train_batch_size=1 with more gradient_accumulation_steps (memory falls with it)"
        )
    if height:
        advice.append(f"model.input_size={smaller} (about half the memory)".replace(" ", "", 1))
    return f"Memory does not suffice for this run; its checkpoints are kept. Try {'; or '.join(advice)}."


def _newest(run: Path) -> Path:
    """The newest complete checkpoint; one that was being written never bears its name."""
    found = sorted((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if not found:
        raise ValueError(f"{run} has no complete checkpoint to resume from: start it without --resume.")
    return found[-1]


def _record(plan: Plan) -> None:
    """Write down the recipe, the split and the environment."""
    plan.run.mkdir(parents=True, exist_ok=True)
    packages = ("sonde", "torch", "transformers", "peft", "accelerate", "numpy")
    environment = {
        "python": platform.python_version(),
        "platform": platform.system(),
        "device": str(plan.args.device),
        **{name: version(name) for name in packages},
    }
    (plan.run / "recipe.yaml").write_text(recipes.dump(plan.recipe))
    (plan.run / "split.json").write_text(json.dumps(plan.parts, indent=1))
    (plan.run / "environment.json").write_text(json.dumps(environment, indent=1))


def _all_folds(recipe: Recipe, resume: bool, listener: Listener | None) -> Path:
    """Every fold in its own run folder, and the mean of their scores with its spread in the parent."""
    scores = []
    for fold in range(recipe.data.split.folds or 0):
        run = str(Path(recipe.output_dir) / f"fold-{fold}")
        finished = (Path(run) / "metrics.json").is_file()
        if not (resume and finished):
            started = resume and (Path(run) / "checkpoints").is_dir()
            train(recipe, [f"output_dir={run}", f"data.split.fold={fold}"], resume=started, listener=listener)
        scores.append(json.loads((Path(run) / "metrics.json").read_text())["metrics"])
    summary = {}
    for name in scores[0]:
        values = torch.tensor([score[name] for score in scores], dtype=torch.float64)
        summary[name] = {"mean": values.mean().item(), "std": values.std().item()}
    (Path(recipe.output_dir) / "metrics.json").write_text(
        json.dumps({"folds": len(scores), "metrics": summary}, indent=1)
    )
    return Path(recipe.output_dir)


sys.modules[__name__].__class__ = Verb
