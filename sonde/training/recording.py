"""The documents that a run writes about itself, at its start and at its end."""

import json
import platform
from importlib.metadata import version
from typing import Any

from sonde import cards, files, models, recipes
from sonde.runs import Origin
from sonde.training.plan import Plan

REMEDY = "resume the run, which writes it again"
PACKAGES = ("sonde", "torch", "transformers", "peft", "accelerate", "numpy")
"""Packages whose versions `environment.json` records."""


def record_start(plan: Plan, origin: Origin) -> None:
    """Write the recipe, its origin, the split, the environment and, if the run chose, its choice into the folder."""
    # The scores of a run that continues belong to its earlier weights.
    (plan.run / "metrics.json").unlink(missing_ok=True)
    environment = {
        "python": platform.python_version(),
        "platform": platform.system(),
        "device": str(plan.args.device),
        **{name: version(name) for name in PACKAGES},
    }
    documents = {
        "recipe.yaml": recipes.dump(plan.recipe),
        "split.json": json.dumps(plan.parts, indent=1),
        "environment.json": json.dumps(environment, indent=1),
    }
    if plan.choice is not None:
        plan.choice.write(plan.run, plan.captures.unit_m, plan.captures.unit)
    if plan.data.screening is not None:
        plan.data.screening.write(plan.run)
    origin.write(plan.run)
    for name, text in documents.items():
        # Atomically, because another process may still read them in `check_resumable`.
        with files.atomic_write(plan.run / name) as tmp_path:
            tmp_path.write_text(text)


def write_card(plan: Plan) -> None:
    """Write the model's card beside its weights: where it comes from, and what it may be used for."""
    recipe, run = plan.recipe, plan.run
    path = run / "metrics.json"
    scores = files.read_json(path, dict[str, Any], REMEDY) if path.is_file() else {}
    shown = ("protocol", "metrics", "images", "data", "captures")
    with files.reading(path, REMEDY):
        accuracy: cards.Accuracy = files.check_type(
            {key: scores[key] for key in shown if key in scores}, cards.Accuracy
        )
    document = cards.make_card(
        run.name,
        recipe,
        plan.captures,
        cards.find_parents(recipe, plan.captures, plan.model.name),
        versions=files.read_json(run / "environment.json", dict[str, str], REMEDY),
        accuracy=accuracy,
        # Of the weights as `sonde.load` gives them, so that a reader of the card can compare.
        weights=models.hash_weights(models.load_network(run).network),
        background=plan.model.background,
    )
    cards.write(run / "best", document)
