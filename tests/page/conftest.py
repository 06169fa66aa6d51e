"""The page in a real browser: a server with two models, Debian's Chromium, and a page that asks nobody else."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

import sonde
from sonde.calibration.points import Measured
from sonde.scenes import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --use-angle=swiftshader --enable-unsafe-swiftshader --use-fake-device-for-media-stream "
    "--use-fake-ui-for-media-stream"
).split()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'sonde[dev]'")
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture(scope="session")
def photo(tmp_path_factory) -> Path:
    """A rendered bench, 320 wide and 240 high."""
    path = tmp_path_factory.mktemp("photo") / "bench.png"
    Image.fromarray(render("bench", 3, 0, height=240, width=320).image).save(path)
    return path


@pytest.fixture(scope="session")
def metric(tmp_path_factory, photo) -> Path:
    """sonde-tiny with metres from two points of the photo."""
    out = tmp_path_factory.mktemp("models") / "metric"
    x, y, depth = np.array([40, 280]), np.array([60, 200]), np.array([0.9, 0.7])
    sonde.calibrate("sonde-tiny", [Measured(photo, x, y, depth, "two points")], out=out)
    return out


@pytest.fixture(scope="session")
def address(metric) -> Iterator[str]:
    """Where `sonde serve` answers, with a relative and a metric model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "sonde-tiny", str(metric), "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "sonde", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate(timeout=30)


def wait_for(url: str, server: subprocess.Popen) -> None:
    """Until the server's first model is warm."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, server.stdout and server.stdout.read().decode()
        try:
            with urlopen(url):
                return
        except URLError:
            time.sleep(0.1)
    raise AssertionError("the server is not warm after a minute")


class Tab:
    """One page of the browser, with what a person does on it."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address
        self.faults: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: line.type == "error" and self.faults.append(line.text))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#model option", state="attached")

    def give(self, *files: Path, model: str | None = None) -> None:
        """Choose image files, and wait for the depth of the first."""
        if model is not None:
            self.page.evaluate("model => { document.querySelector('#model').value = model }", model)
            self.page.dispatch_event("#model", "change")
        self.page.set_input_files("#files", list(files))
        self.wait()

    def wait(self) -> None:
        """Until the stage shows depth and nothing runs."""
        self.page.wait_for_selector("#depth-pane:not(.empty)", state="attached")
        self.page.wait_for_selector("#busy", state="hidden")

    def point(self, x: int, y: int, *, width: int, click: bool = False) -> str:
        """Move to a pixel of the depth; answers what is said of it."""
        self.page.locator("#depth-pane").scroll_into_view_if_needed()
        box = self.page.locator("#depth-pane").bounding_box()
        scale = box["width"] / width
        self.page.mouse.move(box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale)
        if click:
            self.page.mouse.down()
            self.page.mouse.up()
        said = self.text("#readout")
        assert said.startswith(f"x {x}, y {y}: "), said
        return said.partition(": ")[2]

    def until(self, holds: str) -> None:
        """Until an expression holds; Playwright's own way to wait is one that the page's policy forbids."""
        end = time.monotonic() + 30
        while not self.page.evaluate(holds):
            assert time.monotonic() < end, holds
            self.page.wait_for_timeout(30)

    def text(self, selector: str) -> str:
        """What an element says."""
        return self.page.inner_text(selector)

    def download(self, format: str) -> bytes:
        """Press one of the buttons; answers the file."""
        with self.page.expect_download() as begun:
            self.page.click(f"[data-format={format}]")
        return Path(begun.value.path()).read_bytes()

    def points(self, photo: Path, query: str, **parameters: object) -> dict:
        """What /v1/points answers."""
        image = {"name": photo.name, "mimeType": "image/png", "buffer": photo.read_bytes()}
        answer = self.page.request.post(
            f"{self.address}/v1/points", params=parameters, multipart={"image": image, "query": query}
        )
        assert answer.ok, answer.text()
        return answer.json()

    def check(self) -> None:
        """Nothing failed, and no other server was asked."""
        known = re.compile("Failed to load resource: the server responded with a status of")
        assert not [fault for fault in self.faults if not known.match(fault)]
        assert not [url for url in self.asked if not url.startswith((self.address, "blob:", "data:"))]


@pytest.fixture
def open_tab(browser, address):
    """Opens the page at a size, by default 1280 by 800; afterwards it is checked."""
    opened = []

    def begin(**settings) -> Tab:
        size = {"width": settings.pop("width", 1280), "height": settings.pop("height", 800)}
        context = browser.new_context(viewport=size, **settings)
        context.set_default_timeout(30_000)
        opened.append((context, Tab(context.new_page(), address)))
        return opened[-1][1]

    yield begin
    for context, tab in opened:
        tab.check()
        context.close()
