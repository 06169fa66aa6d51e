"""On Ray Serve a replica that dies loses nothing but time: what it had in hand is asked again of another."""

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

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "ray[serve]"')
pytest.importorskip("ray.serve", reason='Ray Serve is not installed: pip install "ray[serve]"')

RUN = """
import sys, time
import ray
from ray import serve
from sonde.serving.cluster import app

ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(app({"models": "sonde-tiny", "replicas": "2", "cpus": "1", "queue": "16"}))
print("ready", flush=True)
sys.stdin.readline()
serve.shutdown()
ray.shutdown()
"""


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def find_replicas() -> list[int]:
    """The processes of replicas of this machine's Ray."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                name = (path / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::ServeReplica") and b":Replica" in name:
                found.append(int(path.name))
    return found


@pytest.mark.slow
def test_one_of_two_replicas_is_killed_under_load_and_every_request_is_answered(tmp_path):
    port, images = find_free_port(), [encode(96, 128, seed) for seed in range(8)]
    right = [predict(image, "sonde-tiny", tmp_path, "png16") for image in images]
    before = set(find_replicas())
    server = subprocess.Popen(
        [sys.executable, "-c", RUN, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None and server.stdin is not None
        assert server.stdout.readline() == "ready\n"
        wrong, done, over = [], [0], threading.Event()

        def ask(number: int) -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                while not over.is_set():
                    answer = client.post("/v1/depth", content=images[number])
                    if answer.status_code != 200 or answer.content != right[number]:
                        wrong.append((answer.status_code, answer.text[:200]))
                    done[0] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        while done[0] < 20:
            time.sleep(0.05)
        replicas = set(find_replicas()) - before
        assert len(replicas) == 2
        os.kill(min(replicas), signal.SIGKILL)
        seen = done[0]
        deadline = time.monotonic() + 60
        while done[0] < seen + 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        over.set()
        for thread in threads:
            thread.join()
        assert not wrong and done[0] >= seen + 200
        health = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60)
        assert health.status_code == 200 and "x-sonde-version" in health.headers
    finally:
        server.communicate("\n", timeout=120)


def test_settings_are_checked_before_anything_is_deployed():
    from sonde.serving.cluster import app

    for settings, said in (
        ({"queue": "none"}, "queue='none'"),
        ({"modles": "x"}, "modles"),
        ({"models": "sonde-tny"}, "did you mean 'sonde-tiny'"),
        ({"replicas": "many"}, "replicas='many'"),
        ({"host": "0.0.0.0"}, "SONDE_API_KEY"),
    ):
        with pytest.raises(ValueError, match=said):
            app(settings)
