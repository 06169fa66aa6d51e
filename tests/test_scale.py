"""Two processes train as one with twice the batch; sharded weights are really cut, saved whole, resumed exactly."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from small_captures import write_bench
from small_networks import saved
from small_recipes import FEW

from sonde.training import train


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return saved("depth_anything", tmp_path_factory.mktemp("base") / "small")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 14)


def settings(base: Path, root: Path, run: Path, *more: str) -> list[str]:
    """A run of four steps of four captures."""
    return [
        "lora=null",
        f"model.name={base}",
        "model.input_size=[28,42]",
        f"data.root={root}",
        f"data.cache={run}-cache",
        "data.split.test=1",
        "data.split.validation=1",
        "augment.crop=1",  # its size is drawn for each batch, of which two processes have two
        "train.max_steps=4",
        "train.eval_steps=2",
        "train.save_steps=2",
        "train.save_total_limit=10",
        "train.logging_steps=1",
        *(["train.use_cpu=true"] if torch.accelerator.is_available() else []),  # else it goes without saying
        "ema=0.9",
        f"output_dir={run}",
        *more,
    ]


def alone(*words: str) -> str:
    """What `sonde train WORDS` says in a process of its own."""
    return _run([sys.executable, "-m", "sonde", "train", *words])


def by_two(*words: str, launcher: str = "torchrun") -> str:
    """What `sonde train WORDS` says in two processes that talk by gloo."""
    starts = {
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sonde"],
        # --cpu would start one process; this is accelerate's way to torchrun, and without a GPU it talks by gloo
        "accelerate": [
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_processes",
            "2",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            "0",
            "-m",
            "sonde",
        ],
    }
    return _run([sys.executable, "-m", *starts[launcher], "train", *words])


def _run(words: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "best" / "model.safetensors")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def one_process(base, root, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    alone(FEW, *settings(base, root, run, "train.per_device_train_batch_size=4"))
    return run


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one_with_twice_the_batch(base, root, one_process, tmp_path):
    run = tmp_path / "run"
    by_two(FEW, *settings(base, root, run, "train.per_device_train_batch_size=2", "save_result=true"))
    assert losses(run) == pytest.approx(losses(one_process), rel=1e-4)
    (judge,) = json.loads((run / "split.json").read_text())["validation"]  # which both processes see, and write
    maps = {f"results/step-{step:06}/{judge}.{kind}.png" for step in (2, 4) for kind in ("depth", "preview")}
    assert {path.relative_to(run).as_posix() for path in run.glob("results/**/*.*")} == maps
    assert_same(weights(run), weights(one_process), 2e-5)
    assert len(losses(run)) == 4 and (run / "report.html").is_file()


@pytest.mark.slow
def test_sharded_weights_are_cut_in_two_and_train_to_the_same_network(base, root, one_process, tmp_path):
    words = settings(base, root, tmp_path / "run", "train.per_device_train_batch_size=2", "train.fsdp=full_shard")
    said = by_two(FEW, *words)
    shares = {tuple(map(int, pair)) for pair in re.findall(r"holds (\d+) of (\d+) weights", said)}
    assert sum(held for held, _ in shares) <= 1.1 * max(total for _, total in shares) and len(shares) in (1, 2)
    assert losses(tmp_path / "run") == pytest.approx(losses(one_process), rel=1e-4)
    assert_same(weights(tmp_path / "run"), weights(one_process), 2e-5)

    whole = weights(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    shutil.rmtree(tmp_path / "run" / "best")
    by_two(FEW, *words, "--resume")
    assert_same(weights(tmp_path / "run"), whole, 0)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_where_one_process_is_killed_the_other_ends_in_one_sentence(base, root, tmp_path, lost):
    more = ("train.per_device_train_batch_size=2", "train.max_steps=40", "train.save_steps=2", "train.eval_steps=2")
    whole, run = tmp_path / "whole", tmp_path / "run"
    by_two(FEW, *settings(base, root, whole, *more))
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sonde", "train", FEW]
    with subprocess.Popen(
        [sys.executable, "-m", *words, *settings(base, root, run, *more)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as both:
        while not list(run.glob("checkpoints/checkpoint-*")):
            time.sleep(0.05)
        (process,) = (
            one for one in psutil.Process(both.pid).children() if one.environ().get("LOCAL_RANK") == str(lost)
        )
        process.kill()
        began = time.monotonic()
        _, said = both.communicate(timeout=120)
    assert time.monotonic() - began < 60 and both.returncode
    sentences = [line for line in said.splitlines() if "Another process of this run has ended" in line]
    assert len(sentences) == 1 and "--resume" in sentences[0], said
    by_two(FEW, *settings(base, root, run, *more), "--resume")
    assert_same(weights(run), weights(whole), 0)


@pytest.mark.slow
def test_accelerate_launch_trains_the_same(base, root, one_process, tmp_path):
    words = settings(base, root, tmp_path / "run", "train.per_device_train_batch_size=2")
    by_two(FEW, *words, launcher="accelerate")
    assert losses(tmp_path / "run") == pytest.approx(losses(one_process), rel=1e-4)


def test_sharding_alone_is_refused(base, root, tmp_path):
    with pytest.raises(ValueError, match="several processes"):
        train(FEW, settings(base, root, tmp_path / "run", "train.fsdp=full_shard"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="full_shard"):
        train(FEW, settings(base, root, tmp_path / "run", "train.fsdp=offload"))
