"""`sonde serve` as a program: it says where it listens, answers, stops on a signal, and refuses in one sentence."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from small_service import encode, predict

from sonde import serving
from sonde.bench.serving import MALFORMED, LoadResult, press, start_server

IMAGE = encode()


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    """`sonde serve WORDS…`, on a free port."""
    command = [sys.executable, "-m", "sonde", "serve", *map(str, words), "--port", "0"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        # What starts in the background of a shell is deaf to Ctrl-C, and so would be the server.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def read_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    assert line.rstrip().endswith("sonde-lite on cpu by ONNX Runtime in fp32")
    return line.split()[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_until_a_signal_stops_it(tmp_path, number):
    process = start()
    try:
        address = read_address(process)
        answer = httpx.post(f"{address}/v1/depth", content=IMAGE)
        assert answer.content == predict(IMAGE, "sonde-lite", tmp_path, "png16")
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        assert (process.returncode, out, errors) == (0, "", f"Stopped by {number.name}.\n")
    finally:
        process.kill()


def test_what_runs_is_finished_before_the_server_ends():
    process = start("--queue", "40")
    try:
        address, statuses = read_address(process), []

        image = encode(700, 900)
        threads = [
            threading.Thread(
                target=lambda: statuses.append(httpx.post(f"{address}/v1/depth", content=image).status_code)
            )
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        while httpx.get(f"{address}/v1/queue").json()["running"] < 1:
            time.sleep(0.005)
        process.terminate()
        for thread in threads:
            thread.join()
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert statuses and set(statuses) <= {200, 503}
    finally:
        process.kill()


def test_a_server_leaves_nothing_behind(tmp_path):
    process = start(TMPDIR=str(tmp_path))
    address = read_address(process)
    assert httpx.post(f"{address}/v1/depth?format=npy", files={"image": IMAGE}).status_code == 200
    process.terminate()
    process.communicate(timeout=20)
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_one_sentence(sonde):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sonde("serve", "--port", port)
    assert said.code == 2 and said.text == ""
    assert (
        said.errors.startswith(f"error --port {port}: another program listens there") and said.errors.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines: set SONDE_API_KEY"),
        (["sonde-tny"], "did you mean 'sonde-tiny'"),
        (["sonde-tiny", "sonde-tiny"], "sonde-tiny is given twice"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--queue", "0"], "--queue 0: expected 1 or more"),
        (["--max-megapixels", "1e9"], "--max-megapixels 1e+09: expected at most 178"),
        (["--no-api-key", "--api-key", "x"], "leave one of them out"),
        (["--allow-save", "/dev/null/x"], "--allow-save"),
        (["--device", "gpu"], "gpu"),
    ],
)
def test_what_cannot_be_served_is_refused_before_work(sonde, words, sentence):
    said = sonde("serve", *words)
    assert said.code == 2 and said.text == "" and sentence in said.errors and said.errors.count("\n") == 1


def test_the_key_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(serving.KEY, "abc")
    options = serving.check_options(["sonde-tiny"], serving.ServeOptions(host="0.0.0.0"))
    assert options.api_key == "abc"


def test_a_first_model_that_is_broken_is_one_sentence(sonde, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    said = sonde("serve", tmp_path, "--port", "0")
    assert said.code == 2 and said.text == "" and said.errors.count("\n") == 1


def press_server(tmp_path: Path, clients: int, seconds: float) -> LoadResult:
    images = []
    for seed in range(min(clients, 8)):
        image = encode(96, 128, seed, "JPEG")
        images.append((image, hashlib.sha256(predict(image, "sonde-tiny", tmp_path, "png16")).hexdigest()))
    with start_server("sonde-tiny", "--device", "cpu") as place:
        press(place, images, clients, 1.0, MALFORMED)
        return press(place, images, clients, seconds, MALFORMED)


def test_under_load_no_answer_is_lost_or_mixed_up(tmp_path):
    found = press_server(tmp_path, 16, 4.0)
    assert not found.faults and len(found.seconds) > 20 and found.refused


@pytest.mark.slow
def test_under_a_longer_load_memory_stays_flat(tmp_path):
    found = press_server(tmp_path, 50, 120.0)
    assert not found.faults and found.refused
    assert found.growth_mb_per_minute < 2
