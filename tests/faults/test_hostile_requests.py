"""Hostile images posted to every route that takes one: a status of 4xx, one sentence, and nothing else happens."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import hostile_images
import pytest
from case import Case
from runner import judge_sentence
from starlette.testclient import TestClient

from sonde.options.serve import ServeOptions
from sonde.serving import make_app

ROUTES = {
    "/v1/depth": {},
    "/v1/points": {"query": '{"pixels": [[0, 0]]}'},
    "/v1/calibrate": {"points": "[[0, 0, 1.5]]"},
}
CASES = [case for case in hostile_images.cases() if not isinstance(case.entry, tuple)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The only folder that the server may write to, besides its own temporary one."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def client(place) -> Iterator[TestClient]:
    """A client of a server with sonde-tiny."""
    app = make_app(["sonde-tiny"], ServeOptions(allow_save=place / "saves", timeout=60))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        app.state.service.line.warmed.result(60)
        yield client


def judge(answer, case: Case) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if answer.status_code == 200:
        return "accepted" if case.right == "refused" else ""
    if case.right == "read":
        return f"refused: {answer.text}"
    if not 400 <= answer.status_code < 500:
        return f"{answer.status_code}: {answer.text}"
    document = json.loads(answer.text)
    return judge_sentence(document["error"], "") if list(document) == ["error"] else answer.text


@pytest.mark.faults
@pytest.mark.filterwarnings(
    "ignore:(Corrupt|Truncated|Image size|Metadata|Invalid)"
)  # of Pillow: the program hears them
@pytest.mark.parametrize("route", ROUTES)
def test_hostile_images_do_no_harm(client, place, route, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    faults = {}
    for case in CASES:
        case.make()
        (path,) = [each for each in Path().iterdir() if each.is_file()]
        data, name = path.read_bytes(), "../../../" + path.name
        path.unlink()
        sent = [client.post(route, files={"image": (name, data)}, data=ROUTES[route])]
        if route == "/v1/depth":
            sent.append(client.post(route, content=data))
        if fault := "; ".join(filter(None, (judge(answer, case) for answer in sent))):
            faults[case.name] = fault
    assert not faults
    assert client.post(route, files={"image": hostile_images.encoded()}, data=ROUTES[route]).status_code == 200
    assert not list(Path().iterdir()) and not list(place.iterdir())
    assert not [each for each in caplog.records if each.name.startswith(("sonde", "uvicorn"))]
    assert capfd.readouterr().err == ""


HOSTILE_BODIES: dict[str, tuple[bytes, str]] = {
    "no boundary": (b"--x\r\n\r\n", "multipart/form-data"),
    "empty boundary": (b"--\r\n\r\n", "multipart/form-data; boundary="),
    "no end": (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc', "multipart/form-data; boundary=x"),
    "no name": (b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    "many fields": (
        b"".join(b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % n for n in range(5000))
        + b"--x--\r\n",
        "multipart/form-data; boundary=x",
    ),
    "many files": (
        b"".join(
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="%d"\r\n\r\n1\r\n' % n for n in range(99)
        )
        + b"--x--\r\n",
        "multipart/form-data; boundary=x",
    ),
    "a name with control characters": (
        b'--x\r\nContent-Disposition: form-data; name="\x1b]0;x\x07"\r\n\r\nabc\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
    ),
    "not UTF-8": (
        b'--x\r\nContent-Disposition: form-data; name="points"\r\n\r\n\xff\xfe\r\n--x--\r\n',
        "multipart/form-data; boundary=x; charset=utf-8",
    ),
    "an unknown charset": (
        b'--x\r\nContent-Disposition: form-data; name="points"\r\n\r\nabc\r\n--x--\r\n',
        "multipart/form-data; boundary=x; charset=nosuch",
    ),
    "deep JSON": (
        b'--x\r\nContent-Disposition: form-data; name="points"\r\n\r\n' + b"[" * 100_000 + b"\r\n--x--\r\n",
        "multipart/form-data; boundary=x",
    ),
    "a type of 9 KB": (b"abc", "image/" + "x" * 9000),
}


@pytest.mark.faults
@pytest.mark.parametrize("route", ROUTES)
def test_hostile_bodies_do_no_harm(client, route, caplog):
    caplog.set_level(logging.INFO)
    faults = {}
    for name, (body, kind) in HOSTILE_BODIES.items():
        answer = client.post(route, content=body, headers={"Content-Type": kind})
        if fault := judge(answer, Case(name, lambda: None, lambda: None)):
            faults[name] = fault
    assert not faults
    assert not [each for each in caplog.records if each.name.startswith(("sonde", "uvicorn"))]


HOSTILE_TEXTS = (
    "\0",
    "\x1b[2J",
    "../../etc/passwd",
    "http://127.0.0.1:9/x",
    "a" * 5000,
    "%",
    "‮",
    "1e999",
    "NaN",
    "[",
    "{}",
)


@pytest.mark.faults
@pytest.mark.parametrize(
    "name", ["model", "format", "calibration", "fx", "fov", "unit", "low", "query", "kind", "save", "x"]
)
def test_hostile_parameters_do_no_harm(client, name, place, caplog):
    before = set(Path().iterdir())
    faults = {}
    for route in ROUTES:
        for text in HOSTILE_TEXTS:
            image = hostile_images.encoded()
            answer = client.post(route, params={name: text}, files={"image": image}, data=ROUTES[route])
            # The field is taken in place of the parameter; and some of these texts are sound names to save by.
            harmless = name == "query" or (name == "save" and text.isalnum())
            if not (harmless and answer.status_code == 200) and (
                fault := judge(answer, Case(name, lambda: None, lambda: None))
            ):
                faults[route, text[:20]] = fault
    assert not faults
    assert set(Path().iterdir()) == before and not caplog.records
    assert {path.name for path in place.glob("*/*")} <= {"1e999", "NaN"} and len(list(place.iterdir())) < 2
