"""What docs/serve.md shows is run as it stands, on a server that this test starts."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_service import encode

from sonde.bench.serving import start_server

PAGE = (Path(__file__).parent.parent / "docs" / "serve.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a server listens."""
    with start_server("sonde-tiny", "--device", "cpu") as place:
        yield f"http://{place.host}:{place.port}"


@pytest.fixture
def photo(tmp_path, monkeypatch) -> Path:
    """The photograph of the examples, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(encode(kind="JPEG"))
    return tmp_path / "photo.jpg"


def test_the_examples_in_python_run_one_after_the_other(address, photo, capsys):
    names: dict[str, object] = {}
    for text in (text for language, text in BLOCKS if language == "python"):
        exec(text.replace("http://127.0.0.1:8000", address), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("disparity 1 ") and lines[-1].endswith("metric m")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_with_curl_run(address, photo):
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line.replace("http://127.0.0.1:8000", address) + " --fail"], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert Path("depth.png").read_bytes().startswith(b"\x89PNG") and Path("preview.png").is_file()
    assert "x-sonde-space: disparity" in Path("headers.txt").read_text().lower()
