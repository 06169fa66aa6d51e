"""Repeat a skipped step from its black box."""

from pathlib import Path

from sonde import recipes
from sonde.trainer import BatchTrace, SkippedStep, blackbox
from sonde.training.plan import prepare
from sonde.training.resuming import read_chosen_background
from sonde.training.steps import make_trainer


def replay(run: Path | str, step: int | None = None) -> tuple[SkippedStep, list[BatchTrace]]:
    """Repeat a skipped step on this machine, with its recipe, weights, samples and random state.

    Args:
        run: the run folder.
        step: one that left a black box; None takes the newest.

    Returns:
        The box, and what its batches show now, up to the first that is not finite.

    Raises:
        ValueError: no such box, or one whose weights are no longer kept.
    """
    run = Path(run)
    folder = blackbox.find(run, step)
    box = blackbox.read(folder)
    weights, rng_state = blackbox.read_state(folder, box)
    # The box holds whole weights, so one process repeats the step of a sharded run.
    recipe = recipes.load(folder, [f"output_dir={run}", "train.fsdp=null"])
    trainer = make_trainer(prepare(recipe, chosen=read_chosen_background(run)), [])
    # Frozen weights are not in the box: they are those that the recipe loads.
    loaded = trainer.depth_model.network.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys
    # Half precision as in the run, without an optimizer.
    trainer.accelerator.prepare_model(trainer.depth_model.network, evaluation_mode=True)
    shown = []
    for batch, states in zip(box.batches, rng_state, strict=True):
        shown.append(trainer.guard.trace(trainer.guard.make_batch_again(batch), states, box.scale))
        if not shown[-1].finite:
            break
    return box, shown
