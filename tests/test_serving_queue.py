"""The queue is bounded, clients that go leave it, memory that is short costs one answer, models leave when unused."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import httpx
import numpy as np
import pytest
from small_service import HERE, ask_together, encode, save_metric
from starlette.testclient import TestClient

from sonde.models import ModelSpec, Placement
from sonde.models.described import DescribedModel, Maps, Pixels
from sonde.options.serve import ServeOptions
from sonde.serving import make_app, shelf
from sonde.serving.gate import is_loopback
from sonde.types import MatrixArray

IMAGES = [encode(seed=seed) for seed in range(8)]


class SlowModel(DescribedModel):
    """Depth from the red channel; it waits for `go`, has memory for so many images, and notes how many it is given."""

    config_end = property(lambda self: None)
    parameter_count = property(lambda self: 0)
    calibration = background = None
    spec = ModelSpec("metric", None, 1)

    def __init__(self, name: str = "slow", device: str = "cpu", room: int = 1000):
        self.name, self.placement, self.room = name, Placement(device), room
        self.go, self.seen, self.fault = threading.Event(), [], None
        self.go.set()

    def hash(self) -> str:
        """None of its own."""
        return "0" * 64

    def identify(self) -> str:
        """None of its own."""
        return "0"

    def answer(self, pixels: Pixels, camera: MatrixArray | None = None) -> Maps:
        """The red channel, in metres."""
        assert self.go.wait(30)
        self.seen.append(len(pixels))
        if self.fault is not None:
            raise self.fault
        if len(pixels) > self.room or pixels.shape[1] > 500:
            raise MemoryError("too much")
        if (pixels[:, 0, 0] == (255, 0, 255)).all(1).any():
            raise ValueError("One of the images is bad.")
        return pixels[..., 0].astype(np.float32) / 255 + 1


@pytest.fixture
def model(monkeypatch) -> SlowModel:
    """What every name loads."""
    made = SlowModel()
    monkeypatch.setattr(shelf.models, "load", lambda name, **_: made)
    monkeypatch.setattr(shelf, "_find_licence", lambda _: "mit")
    return made


async def post(client: httpx.AsyncClient, image: bytes, path: str = "/v1/depth", **headers: str) -> httpx.Response:
    return await client.post(path, content=image, headers=headers)


async def until(true, seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def test_past_the_queue_a_request_is_told_when_to_ask_again(model):
    async def work(client, service):
        model.go.clear()
        under_way = [asyncio.ensure_future(post(client, image)) for image in IMAGES[:3]]
        await until(lambda: len(service.line.places) == 3 and service.line.count("running") == 1)
        told = (await client.get("/v1/queue")).json()
        full = await post(client, IMAGES[3])
        ready, alive = await client.get("/readyz"), await client.get("/healthz")
        model.go.set()
        return told, full, ready, alive, await asyncio.gather(*under_way), await post(client, IMAGES[3])

    told, full, ready, alive, answers, after = ask_together(["slow"], work, queue=3)
    assert (told["waiting"], told["running"], told["limit"]) == (2, 1, 3)
    assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
    assert full.json()["error"].startswith("3 requests are under way")
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert [each.status_code for each in [*answers, after]] == [200] * 4


def test_a_request_knows_its_place(model):
    async def work(client, service):
        model.go.clear()
        names = [f"request-{number}" for number in range(3)]
        under_way = []
        for name, image in zip(names, IMAGES, strict=False):
            under_way.append(asyncio.ensure_future(post(client, image, **{"X-Request-Id": name})))
            await until(lambda name=name: name in service.line.places)
        await until(lambda: service.line.count("running") == 1)
        told = [(await client.get(f"/v1/queue?id={name}")).json() for name in names]
        twice = await post(client, IMAGES[0], **{"X-Request-Id": names[0]})
        model.go.set()
        await asyncio.gather(*under_way)
        return told, twice

    told, twice = ask_together(["slow"], work)
    assert [(each["state"], each["place"]) for each in told] == [("running", None), ("waiting", 1), ("waiting", 2)]
    assert twice.status_code == 400 and "X-Request-Id" in twice.json()["error"]


def test_a_client_that_goes_leaves_the_queue(model):
    async def work(client, service):
        model.go.clear()
        first = asyncio.ensure_future(post(client, IMAGES[0]))
        await until(lambda: service.line.count("running") == 1)
        gone = asyncio.Event()
        parts = [{"type": "http.request", "body": IMAGES[1], "more_body": False}]

        async def receive():
            if parts:
                return parts.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            raise AssertionError(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/depth",
            "raw_path": b"/v1/depth",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1")],
            "scheme": "http",
        }
        second = asyncio.ensure_future(client._transport.app(scope, receive, send))
        await until(lambda: len(service.line.places) == 2 and len(service.line._questions) == 1)
        gone.set()
        await second
        left = len(service.line.places)
        model.go.set()
        await first
        await post(client, IMAGES[2])
        return left

    assert ask_together(["slow"], work) == 1
    assert model.seen == [1, 1, 1]  # the first, at the start; the second was never asked


def test_on_a_cpu_the_network_sees_one_image_at_a_time(model):
    async def work(client, service):
        return await asyncio.gather(*(post(client, image) for image in IMAGES))

    answers = ask_together(["slow"], work)
    assert len({each.content for each in answers}) == len(IMAGES) and set(model.seen) == {1}


def ask_gpu(model: SlowModel, images: Sequence[bytes], **options) -> list[httpx.Response]:
    """Answers of a model on a GPU to images that all wait while it is busy."""

    async def work(client, service):
        model.go.clear()
        first = asyncio.ensure_future(post(client, encode(20, 30)))
        await until(lambda: service.line.count("running") == 1)
        under_way = [asyncio.ensure_future(post(client, image)) for image in images]
        await until(lambda: len(service.line._questions) == len(images))
        model.go.set()
        await first
        return await asyncio.gather(*under_way)

    model.placement = Placement("cuda:0")
    return ask_together(["slow"], work, **options)


def test_on_a_gpu_images_of_one_shape_are_asked_for_together(model):
    other = encode(64, 48)
    answers = ask_gpu(model, [*IMAGES[:3], other, *IMAGES[3:]], batch_size=4)
    assert model.seen == [1, 1, 4, 1, 4]
    model.placement, model.seen = Placement("cpu"), []

    async def one_by_one(client, service):
        return [await post(client, image) for image in [*IMAGES[:3], other, *IMAGES[3:]]]

    assert [each.content for each in answers] == [each.content for each in ask_together(["slow"], one_by_one)]


def test_one_bad_image_of_a_batch_does_not_spoil_the_others(model):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 48), (255, 0, 255)).save(file, "PNG")
    answers = ask_gpu(model, [IMAGES[0], file.getvalue(), IMAGES[1]], batch_size=4)
    assert [each.status_code for each in answers] == [200, 400, 200]
    assert answers[1].json() == {"error": "One of the images is bad."}


def test_too_little_memory_for_a_batch_costs_time_alone(model):
    model.room = 1
    answers = ask_gpu(model, IMAGES[:4], batch_size=4)
    assert [each.status_code for each in answers] == [200] * 4


def test_too_little_memory_for_an_image_is_told_and_the_next_request_works(model):
    async def work(client, service):
        return await post(client, encode(512, 40)), await post(client, IMAGES[0])

    short, after = ask_together(["slow"], work)
    assert short.status_code == 503 and "too little memory for an image of 40x512" in short.json()["error"]
    assert after.status_code == 200


def test_a_fault_of_the_server_is_one_sentence_and_one_line_of_the_log(model, caplog):
    async def work(client, service):
        model.fault = RuntimeError("secret\nof the server")
        failed = await post(client, IMAGES[0])
        model.fault = None
        return failed, await post(client, IMAGES[0])

    failed, after = ask_together(["slow"], work)
    assert failed.status_code == 500 and failed.json() == {
        "error": "The server failed on this request: its log says more."
    }
    assert after.status_code == 200
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.getMessage() == r"POST /v1/depth failed: RuntimeError: secret\nof the server" and not record.exc_info


def test_a_request_that_takes_too_long_is_told(model):
    async def work(client, service):
        model.go.clear()
        slow = await post(client, IMAGES[0])
        model.go.set()
        return slow, len(service.line.places)

    slow, left = ask_together(["slow"], work, timeout=0.2)
    assert slow.status_code == 408 and "longer than 0.2 s" in slow.json()["error"] and not left


def test_models_leave_memory_when_others_are_asked_for(model, monkeypatch):
    made: list[str] = []

    def load(name: str, **_) -> SlowModel:
        made.append(name)
        return SlowModel(name)

    monkeypatch.setattr(shelf.models, "load", load)

    async def work(client, service):
        for name in ("one", "two", "one", "three", "one", "two"):
            answer = await post(client, IMAGES[0], f"/v1/depth?model={name}")
            assert answer.headers["x-sonde-model"] == name
        return (await client.get("/v1/models")).json()["models"]

    said = ask_together(["one", "two", "three"], work, max_models=2)
    assert made == ["one", "two", "three", "two"]
    assert [each["loaded"] for each in said] == [True, True, False]


def test_a_model_that_cannot_be_loaded_is_told_to_whoever_asks_for_it(model, monkeypatch):
    def load(name: str, **_) -> SlowModel:
        if name == "broken":
            raise ValueError("broken is broken.")
        return model

    monkeypatch.setattr(shelf.models, "load", load)

    async def work(client, service):
        return await post(client, IMAGES[0], "/v1/depth?model=broken"), await post(client, IMAGES[0])

    broken, sound = ask_together(["slow", "broken"], work)
    assert broken.status_code == 503 and broken.json()["error"] == "broken cannot be loaded: broken is broken."
    assert sound.status_code == 200


@pytest.fixture
def keyed(model) -> Iterator[TestClient]:
    """A client of a server with a key."""
    app = make_app(["slow"], ServeOptions(api_key="kéy-1"))
    with TestClient(app, base_url="http://depth.example") as client:
        yield client


def test_a_key_is_asked_for_where_there_is_one(keyed):
    for headers in ({}, {"X-API-Key": "key"}, {"Authorization": "Bearer "}, {"Authorization": "Basic kéy-1"}):
        sent = {name: value.encode() for name, value in headers.items()}
        answer = keyed.get("/v1/models", headers=sent)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert "API key" in answer.json()["error"]
    key = "kéy-1".encode()
    for headers in ({"X-API-Key": key}, {"Authorization": b"Bearer " + key}, {"Authorization": b"bearer " + key}):
        assert keyed.get("/v1/models", headers=headers).status_code == 200
    assert keyed.get("/metrics").status_code == 401
    for path in ("/", "/docs", "/openapi.json", "/healthz"):
        assert keyed.get(path).status_code != 401


def test_without_a_key_only_this_machine_is_answered(model):
    with TestClient(make_app(["slow"], ServeOptions()), base_url=HERE) as client:
        for host in ("127.0.0.1", "localhost:8000", "[::1]:8000"):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 200
        for host in ("depth.example", "127.0.0.1.depth.example", "10.0.0.7", ""):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 403
        same = client.post("/v1/depth", content=IMAGES[0], headers={"Host": "localhost", "Origin": "http://localhost"})
        assert same.status_code == 200
        cross = client.post("/v1/depth", content=IMAGES[0], headers={"Origin": "http://depth.example"})
        assert cross.status_code == 403 and "--api-key" in cross.json()["error"]
    with TestClient(make_app(["slow"], ServeOptions(no_api_key=True)), base_url="http://depth.example") as client:
        assert client.get("/v1/models").status_code == 200


def test_a_model_with_a_canonical_focal_wants_a_camera(tmp_path):
    folder = save_metric(tmp_path, canonical_focal=100.0)

    async def work(client, service):
        image = encode(64, 96)
        camera = "&fx=120&fy=120&cx=47.5&cy=31.5"
        plain, cloud, sound = [
            await post(client, image, f"/v1/depth?format={asked}") for asked in ("png", "ply", f"png{camera}")
        ]
        (said,) = (await client.get("/v1/models")).json()["models"]
        return plain, cloud, sound, said

    plain, cloud, sound, said = ask_together([str(folder)], work)
    assert plain.status_code == cloud.status_code == 400 and "focal" in plain.json()["error"]
    assert sound.status_code == 200 and said["needs_intrinsics"]


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", False), ("[::1]", True), ("0.0.0.0", False), ("[x", False)],
)
def test_what_this_machine_is_called(host, own):
    assert is_loopback(host) == own
