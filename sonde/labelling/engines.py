"""Engines: label the chunks of a job in this process, or with Ray on one machine or a cluster."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from sonde.labelling.chunks import Done, label_chunks, prepare_network
from sonde.labelling.job import Job, find_placement, read_part
from sonde.labelling.teachers import describe_teachers, load_others, load_teacher
from sonde.models import WEIGHT_FILES, DepthModel, ModelSpec, Placement, find_max_depth
from sonde.renamed import keep_old_names

Engine = Callable[[Job, DepthModel, Sequence[int], int], Iterator[Done]]
"""(job, model, chunks to do, threads that decode and encode) -> each chunk when it is done."""


class RayWorker(NamedTuple):
    """What every actor needs: the job, and the model to load for it."""

    job: Job
    name: str
    max_depth: float | None
    """Where the metres of a weight file end, as the file does not say it; else None."""
    spec: ModelSpec
    placement: Placement
    """As in the caller; Ray gives an actor one GPU, which is its first."""
    workers: int
    """Threads that decode and encode."""


def label_locally(job: Job, model: DepthModel, chunks: Sequence[int], workers: int) -> Iterator[Done]:
    """Label one chunk after the other, in this process, on the model's device."""
    with prepare_network(model, find_placement(job, model)):
        yield from label_chunks(job, model, chunks, workers)


def label_on_ray(job: Job, model: DepthModel, chunks: Sequence[int], workers: int) -> Iterator[Done]:
    """Label with Ray Data: one actor for each GPU of the cluster; without a GPU, one for each machine's worth of cores.

    The cluster is the one of RAY_ADDRESS, or this machine. All of its machines must see the images, the output and the
    model under the same names; each actor loads the model itself. Ray restarts an actor that is lost; the new one
    repeats its chunks, except those that are done.

    Raises:
        ValueError: Ray is not installed, or an actor failed for a reason of its own; one sentence with the reason.
        OSError: a disk is full.
    """
    if find_spec("ray") is None:
        raise ValueError(
            "The ray engine needs Ray, which is not installed: pip install 'sonde[ray]', or --engine local."
        )
    import ray
    import ray.exceptions

    own = not ray.is_initialized()
    if own:
        _start_ray()
    try:
        yield from _run_actors(job, model, chunks, workers)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        # Ray wraps the actor's error: only its text says that a disk is full.
        if os.strerror(errno.ENOSPC) in reason:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.out)) from None
        raise ValueError(f"A worker of Ray failed: {reason}") from None
    finally:
        if own:
            ray.shutdown()


def _run_actors(job: Job, model: DepthModel, chunks: Sequence[int], workers: int) -> Iterator[Done]:
    import ray
    import ray.data

    threads, placement = torch.get_num_threads(), find_placement(job, model)
    gpu = placement.device.startswith("cuda")
    available = ray.cluster_resources()
    actors = max(1, int(available.get("GPU", 0) if gpu else available.get("CPU", 1) // threads))
    actors = min(actors, len(chunks))
    # Chunks of one task: enough that an actor works ahead, few enough to repeat when it is lost.
    each = max(1, min(8, len(chunks) // (4 * actors)))
    # An actor runs in another folder, so a local model needs its absolute path.
    name = str(Path(model.name).absolute()) if Path(model.name).exists() else model.name
    max_depth = find_max_depth(model) if Path(name).suffix in WEIGHT_FILES else None
    worker = ray.put(RayWorker(job, name, max_depth, model.spec, placement, workers))
    rows = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=-(-len(chunks) // each))
    done = rows.map_batches(
        Labeller,
        fn_constructor_args=(worker, threads),
        batch_size=None,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=None if gpu else threads,
        num_gpus=1 if gpu else None,
    )  # Ray Data restarts a lost actor and its task
    for row in done.iter_rows():
        yield Done(int(row["chunk"]), int(row["labels"]), int(row["rejected"]))


class Labeller:
    """An actor: one copy of the model, which labels the chunks that the actor receives."""

    def __init__(self, worker: object, threads: int) -> None:
        import ray

        # `worker` is a reference to a RayWorker in Ray's store: one copy for each machine, not for each actor.
        given: RayWorker = ray.get(worker)  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.job, self.workers = given.job, given.workers
        # Ray gives an actor one thread. The number must be that of the caller, as rounding depends on it.
        torch.set_num_threads(threads)
        device, precision, runtime = given.placement
        self.model = load_teacher(
            given.name,
            given.max_depth,
            device=device.partition(":")[0],
            precision=precision if runtime == "torch" else "auto",
            runtime=runtime,
        )
        self.model.spec = given.spec
        teachers = [self.model, *load_others(self.job.options, self.model)]
        if describe_teachers(teachers, None)["weights"] != self.job.teacher["weights"]:
            raise ValueError(
                f"{self.job.teacher['name']} is another model here: save the one you have and give its folder."
            )

    def __call__(self, batch: dict[str, Sequence[int]]) -> Iterator[dict[str, list[int]]]:
        """One row for each chunk done."""
        chunks = [int(chunk) for chunk in batch["chunk"]]
        left = [chunk for chunk in chunks if not self.job.part(chunk).is_file()]
        for done in label_locally(self.job, self.model, left, self.workers):
            yield _make_row(done)
        # The others were done by an actor that was lost before it reported them.
        for chunk in set(chunks) - set(left):
            lines = read_part(self.job, chunk)
            rejected = sum(b'"reason": ' in line for line in lines)
            yield _make_row(Done(chunk, len(lines) - rejected, rejected))


def _make_row(done: Done) -> dict[str, list[int]]:
    return {"chunk": [done.chunk], "labels": [done.labels], "rejected": [done.rejected]}


@contextmanager
def _mute_stderr() -> Iterator[None]:
    """Discard what is written to this process's stderr, by C++ too."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _start_ray() -> None:
    import logging

    import ray
    from ray.data import DataContext

    # Without these two Ray warns of a change to come, and of arguments that sonde keeps alive.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray's C++ reports on stderr that it has read the second.
    with _mute_stderr():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


ENGINES: dict[str, Engine] = {"local": label_locally, "ray": label_on_ray}
"""What `engine` may name."""

keep_old_names(__name__, {"locally": "label_locally", "on_ray": "label_on_ray"})
