"""Where the chunks of a job are labelled: in this process, or by Ray on one machine or a cluster."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sonde.labelling.chunks import Done, ready, run
from sonde.labelling.job import Job
from sonde.models import WEIGHT_FILES, DepthModel, load, max_depth_of, weights_hash

Engine = Callable[[Job, DepthModel, Sequence[int], int], Iterator[Done]]
"""(job, model, chunks to do, threads that decode and encode) -> each chunk when it is done."""


def locally(job: Job, model: DepthModel, chunks: Sequence[int], workers: int) -> Iterator[Done]:
    """One after the other, in this process, on the model's device."""
    with ready(model):
        yield from run(job, model, chunks, workers)


def on_ray(job: Job, model: DepthModel, chunks: Sequence[int], workers: int) -> Iterator[Done]:
    """By Ray Data: one actor for each GPU of the cluster, or for each machine's worth of cores where there is none.

    The cluster of RAY_ADDRESS, else this machine. All of its machines must see the images, the output and the model
    under the same names; each actor loads the model itself. An actor that is lost is started again and repeats its
    chunks; those done already are passed over.

    Raises:
        ValueError: Ray is not installed, or an actor failed for a reason of its own; one sentence with the reason.
        OSError: a disk is full.
    """
    if find_spec("ray") is None:
        raise ValueError(
            "The ray engine needs Ray, which is not installed: pip install 'sonde[ray]', or --engine local."
        )
    import ray.data
    import ray.exceptions

    own = not ray.is_initialized()
    if own:
        _start()
    try:
        threads, gpu = torch.get_num_threads(), model.mean.device.type == "cuda"
        available = ray.cluster_resources()
        actors = max(1, int(available.get("GPU", 0) if gpu else available.get("CPU", 1) // threads))
        actors = min(actors, len(chunks))
        each = max(1, min(8, len(chunks) // (4 * actors)))  # chunks a task: enough to work ahead, few to repeat
        name = str(Path(model.name).absolute()) if Path(model.name).exists() else model.name
        end = max_depth_of(model) if Path(name).suffix in WEIGHT_FILES else None  # which its file does not hold
        worker = ray.put((job, name, end, model.spec, gpu, workers))
        rows = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=-(-len(chunks) // each))
        done = rows.map_batches(
            Labeller,
            fn_constructor_args=(worker, threads),
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=None if gpu else threads,
            num_gpus=1 if gpu else None,
        )  # Ray Data starts a lost actor again, and its task with it
        for row in done.iter_rows():
            yield Done(int(row["chunk"]), int(row["labels"]), int(row["rejected"]))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        if os.strerror(errno.ENOSPC) in reason:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.out)) from None
        raise ValueError(f"A worker of Ray failed: {reason}") from None
    finally:
        if own:
            ray.shutdown()


class Labeller:
    """An actor: one copy of the model, labelling the chunks it is given."""

    def __init__(self, worker: Any, threads: int) -> None:
        import ray

        self.job, name, end, spec, gpu, self.workers = ray.get(worker)
        torch.set_num_threads(threads)  # Ray would give it one; and rounding depends on the number
        self.model = load(name, max_depth=end)
        self.model.spec = spec
        if weights_hash(self.model.network) != self.job.teacher["weights"]:
            raise ValueError(f"{name} is another model here: save the one you have and give its folder.")
        self.model.to("cuda" if gpu else "cpu")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """One row for each chunk done."""
        chunks = [int(chunk) for chunk in batch["chunk"]]
        left = [chunk for chunk in chunks if not self.job.part(chunk).is_file()]
        for done in locally(self.job, self.model, left, self.workers):
            yield {name: [value] for name, value in done._asdict().items()}
        for chunk in set(chunks) - set(left):  # done before this actor's forerunner was lost
            lines = self.job.part(chunk).read_text().splitlines()
            rejected = sum('"reason": ' in line for line in lines)
            yield {"chunk": [chunk], "labels": [len(lines) - rejected], "rejected": [rejected]}


def _start() -> None:
    import logging

    import ray
    from ray.data import DataContext

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of arguments that we keep alive
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(address="auto", **quiet)
    else:
        ray.init(include_dashboard=False, **quiet)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


ENGINES: dict[str, Engine] = {"local": locally, "ray": on_ray}
"""What `engine` may name."""
