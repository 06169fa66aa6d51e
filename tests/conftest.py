"""What every test may use: the real captures, or a clean skip where they are absent; the program; a small network."""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for every core already; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from small_networks import saved
from transformers.utils import logging

from sonde import cli

REALDATA = Path(__file__).resolve().parents[2] / "shared" / "realdata"


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of every later collection of garbage: each training asks for several."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Path:
    """A folder for decoded captures in place of the user's own; programs that a test starts use it too."""
    os.environ["SONDE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return Path(os.environ["SONDE_CACHE"])


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The real captures beside the checkout."""
    if not REALDATA.is_dir():
        pytest.skip("no real captures beside the checkout (../shared/realdata)")
    return REALDATA


class Said(NamedTuple):
    """What a command answered."""

    code: int
    text: str
    errors: str

    @property
    def json(self):
        """The one document on stdout."""
        return json.loads(self.text)


@pytest.fixture
def no_bars_of_others():
    """As `main` sees to, where transformers is not imported before it."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture
def sonde(monkeypatch, capsys, no_bars_of_others) -> Callable[..., Said]:
    """Runs `sonde WORDS…` in this process."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["sonde", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return Said(int(stop.value.code or 0), output.out, output.err)

    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A small network with weights of its own, saved where a recipe can name it."""
    return saved("glpn", tmp_path_factory.mktemp("base"))
