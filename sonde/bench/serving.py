"""The server under load: clients that know what they must get, and the rate against the model alone."""

import hashlib
import http.client
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np

from sonde import models, prediction
from sonde.bench.inference import save_small, write_exported
from sonde.bench.inputs import write_photographs
from sonde.bench.rows import BenchRow

PHOTOGRAPH = (384, 512)
"""(height, width) of the photographs that are sent."""
SIDE = 252
"""The short side of the network's input."""
CLIENTS, SECONDS = 50, 120.0
MALFORMED = 0.1
"""Share of the requests whose body is none that a server can answer."""
TO_START = 120
"""Seconds that a server has to load its model."""


@dataclass
class LoadResult:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each sound request."""
    refused: int = 0
    """Malformed requests that got 4xx and one sentence."""
    faults: list[str] = field(default_factory=list)
    """Everything else: 5xx, a lost or another client's answer, a malformed body that was answered."""
    elapsed: float = 0.0
    growth_mb_per_minute: float = 0.0
    """Slope of a line through the server's memory, after the first third of the time."""
    memory_mb: float = 0.0
    """Of the server at the end."""

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.elapsed

    def find_percentile(self, share: float) -> float:
        """Seconds within which so many percent of the answers came."""
        return float(np.percentile(self.seconds, share)) if self.seconds else float("nan")


class ServerPlace(NamedTuple):
    """Where a server is."""

    host: str
    port: int
    process: int
    path: str = "/v1/depth"
    """What the clients ask."""


@contextmanager
def start_server(*words: str) -> Iterator[ServerPlace]:
    """A server in a process of its own while the block runs.

    Args:
        words: after `sonde serve`.

    Raises:
        ValueError: it does not start; the message ends with its last line.
    """
    command = [sys.executable, "-m", "sonde", "serve", *words, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise ValueError(f"A server of the bench did not start: {process.communicate()[1].strip()[-300:]}")
        host, _, port = line.split()[0].removeprefix("http://").rpartition(":")
        yield ServerPlace(host, int(port), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TO_START)


def press(
    place: ServerPlace, images: Sequence[tuple[bytes, str]], clients: int, seconds: float, malformed: float
) -> LoadResult:
    """Ask a server from several clients at once; each checks that it gets the answer to its own image.

    Args:
        place: as `start_server` gives it.
        images: encoded, each with the SHA-256 of the right answer.
        clients: at once; each keeps its connection.
        seconds: for how long.
        malformed: share of the requests with a bad body.
    """
    result, over = LoadResult(), Event()
    threads = [
        Thread(target=_ask_until, args=(place, images[number % len(images)], malformed, number, over, result))
        for number in range(clients)
    ]
    memory: list[tuple[float, float]] = []
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    while (passed := time.perf_counter() - start) < seconds:
        memory.append((passed, _read_memory(place.process)))
        time.sleep(min(0.5, seconds / 10))
    over.set()
    for thread in threads:
        thread.join()
    result.elapsed = time.perf_counter() - start
    late = [each for each in memory if each[0] > seconds / 3]
    if len(late) > 2:
        times, sizes = np.array(late).T
        result.growth_mb_per_minute = 60 * float(np.polyfit(times, sizes, 1)[0])
    result.memory_mb = memory[-1][1]
    return result


def _ask_until(
    place: ServerPlace, image: tuple[bytes, str], malformed: float, seed: int, over: Event, result: LoadResult
) -> None:
    rng = random.Random(seed)
    connection = http.client.HTTPConnection(place.host, place.port, timeout=TO_START)
    while not over.is_set():
        bad = rng.random() < malformed
        try:
            start = time.perf_counter()
            body = rng.choice(BAD)(image[0]) if bad else image[0]
            connection.request("POST", place.path, body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            content = answer.read()
        except OSError as error:
            result.faults.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        if bad and 400 <= answer.status < 500 and content.startswith(b'{"error":'):
            result.refused += 1
        elif not bad and answer.status == 200 and hashlib.sha256(content).hexdigest() == image[1]:
            result.seconds.append(time.perf_counter() - start)
        else:
            result.faults.append(f"{answer.status} to a {'bad' if bad else 'sound'} body: {content[:100]!r}")
    connection.close()


def _read_memory(process: int) -> float:
    """MB of a process in memory; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_serving(quick: bool) -> BenchRow:
    """Photographs of 384x512 per second that `sonde serve` answers to 50 clients over loopback, for two minutes.

    The model is Depth Anything V2 Small at a short side of 252 on the CPU, by ONNX Runtime. The other side is the model
    alone on pixels in memory. A tenth of the requests are malformed, and each client checks every answer. The clients
    run on the same cores. `tiny_ratio` is the same of sonde-tiny, whose network takes less than the rest of a request.
    """
    clients, seconds, warm = (4, 1.0, 0.3) if quick else (CLIENTS, SECONDS, 10.0)
    with tempfile.TemporaryDirectory() as folder:
        small = write_exported(save_small(Path(folder) / "small", 126 if quick else SIDE), "onnx", "fp32")
        paths = sorted(write_photographs(Path(folder) / "photos", PHOTOGRAPH, min(clients, 8)).iterdir())
        with start_server(str(small), "sonde-tiny", "--device", "cpu") as place:
            found, alone = _compare(place, str(small), paths, (clients, seconds, warm))
            tiny, tiny_alone = _compare(place, "sonde-tiny", paths, (clients, seconds / 4, warm))
    for each in (found, tiny):
        if each.faults:
            raise ValueError(f"The server failed {len(each.faults)} times under load, first: {each.faults[0]}")
    figures = {
        "p50_s": found.find_percentile(50),
        "p95_s": found.find_percentile(95),
        "refused": found.refused,
        "growth_mb_per_minute": found.growth_mb_per_minute,
        "tiny_ratio": tiny.rate / tiny_alone,
    }
    note = f"{clients} clients; the server holds {found.memory_mb:.0f} MB"
    return BenchRow(found.rate, alone, "photographs/s", found.rate / alone, note=note, figures=figures)


def _compare(
    place: ServerPlace, name: str, paths: Sequence[Path], how: tuple[int, float, float]
) -> tuple[LoadResult, float]:
    """What the clients saw of a model, and the answers per second of the model alone, before and after."""
    clients, seconds, warm = how
    model = models.load(name, device="cpu", runtime="auto")
    images = [(path.read_bytes(), hashlib.sha256(_predict(path, model)).hexdigest()) for path in paths]
    place = place._replace(path=f"/v1/depth?{urlencode({'model': name})}")
    before = _count_rate(model, paths[0], warm)
    press(place, images, clients, warm, 0.0)
    found = press(place, images, clients, seconds, MALFORMED)
    return found, (before + _count_rate(model, paths[0], warm)) / 2


def _predict(path: Path, model: models.DescribedModel) -> bytes:
    return prediction.predict_bytes(path, model, save=("png16",))[0]


def _count_rate(model: models.DescribedModel, path: Path, seconds: float) -> float:
    """Answers per second of the model alone."""
    pixels = models.as_array(path)
    model.predict(pixels)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        model.predict(pixels)
        count += 1
    return count / (time.perf_counter() - start)


BAD: Sequence[Callable[[bytes], bytes]] = (
    lambda image: b"",
    lambda image: image[: len(image) // 3],
    lambda image: image[:12],
    lambda image: b"<html>" + image,
    lambda image: bytes(4096),
    lambda image: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x0fB@\0\x0fB@\x08\x02\0\0\0" + bytes(64),
)
"""What makes a body malformed."""
