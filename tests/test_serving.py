"""The API answers what `sonde predict` and `sonde calibrate` write, and says what its numbers mean."""

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small_service
from PIL import Image
from small_service import CAMERA, HERE, encode, save_metric
from starlette.testclient import TestClient

from sonde import calibration, files, geometry, models, prediction
from sonde.options.serve import ServeOptions
from sonde.serving import make_app

IMAGE = encode()
MEDIA = {
    "png": "image/png",
    "npy": "application/x-npy",
    "ply": "application/x-ply",
    "glb": "model/gltf-binary",
    "preview": "image/png",
}
SAVERS = {"png": "png16", "npy": "npy", "ply": "ply", "glb": "glb", "preview": "preview"}
POINTS = [[10, 40, 1.5], [50, 8, 4.2], [30, 20, 2.0], [5, 5, 3.1], [60, 45, 1.1], [33, 33, 2.4], [12, 9, 2.9]]


@pytest.fixture(scope="module")
def metric(tmp_path_factory) -> Path:
    """A metric model's folder."""
    return save_metric(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def saves(tmp_path_factory) -> Path:
    """Where the server may save calibrations."""
    return tmp_path_factory.mktemp("saves")


@pytest.fixture(scope="module")
def client(metric, saves) -> Iterator[TestClient]:
    """A client of a server with sonde-tiny and the metric model."""
    app = make_app(["sonde-tiny", str(metric)], ServeOptions(allow_save=saves, max_mb=1, max_megapixels=1))
    with TestClient(app, base_url=HERE) as client:
        app.state.service.line.warmed.result(60)
        yield client


def error_of(answer) -> str:
    """The one sentence of an error."""
    document = answer.json()
    assert list(document) == ["error"] and answer.headers["content-type"] == "application/json"
    sentence = document["error"]
    assert sentence and "\n" not in sentence and "Traceback" not in sentence
    return sentence


@pytest.mark.parametrize("name", ["png", "npy", "preview"])
def test_an_answer_equals_what_predict_writes(client, tmp_path, name):
    answer = client.post(f"/v1/depth?format={name}", content=IMAGE)
    assert answer.status_code == 200 and answer.headers["content-type"] == MEDIA[name]
    assert answer.content == small_service.predict(IMAGE, "sonde-tiny", tmp_path, SAVERS[name])


@pytest.mark.parametrize("name", SAVERS)
def test_an_answer_of_a_metric_model_equals_what_predict_writes(client, metric, tmp_path, name):
    query = {"model": str(metric), "format": name, **CAMERA}
    answer = client.post("/v1/depth", params=query, content=IMAGE)
    written = small_service.predict(IMAGE, metric, tmp_path, SAVERS[name], intrinsics=",".join(CAMERA.values()))
    assert answer.status_code == 200 and answer.content == written


@pytest.mark.parametrize("name", ["npy", "ply", "preview"])
def test_the_unit_is_that_of_predict(client, metric, tmp_path, name):
    query = {"model": str(metric), "format": name, "unit": "cm", **CAMERA}
    answer = client.post("/v1/depth", params=query, content=IMAGE)
    intrinsics = ",".join(CAMERA.values())
    assert answer.content == small_service.predict(IMAGE, metric, tmp_path, name, unit="cm", intrinsics=intrinsics)
    assert answer.headers["x-sonde-unit"] == "cm"


def test_a_multipart_body_and_the_image_itself_are_the_same(client):
    sent = client.post("/v1/depth", files={"image": ("../../etc/passwd", IMAGE, "text/plain")})
    assert sent.status_code == 200 and sent.content == client.post("/v1/depth", content=IMAGE).content


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "image/png"),
        ("application/json", "application/json"),
        ("application/x-npy;q=0.5, application/json;q=0.9", "application/json"),
        ("text/html, application/x-npy", "application/x-npy"),
        ("text/html", "image/png"),
        ("application/json;q=rubbish, ;;;,", "image/png"),
    ],
)
def test_the_header_accept_chooses_the_format(client, accept, media):
    assert client.post("/v1/depth", content=IMAGE, headers={"Accept": accept}).headers["content-type"] == media


def test_headers_and_json_say_what_the_numbers_mean(client, metric):
    query = {"model": str(metric), **CAMERA}
    png = client.post("/v1/depth", params=query, content=IMAGE)
    said = client.post("/v1/depth", params={**query, "format": "json"}, content=IMAGE).json()
    depth = models.load(metric).predict(np.asarray(Image.open(io.BytesIO(IMAGE)))).depth
    levels = np.asarray(Image.open(io.BytesIO(png.content))).astype(np.float64)
    head = {name.removeprefix("x-sonde-"): value for name, value in png.headers.items() if name.startswith("x-sonde-")}
    assert np.abs(levels * float(head["scale"]) + float(head["offset"]) - depth).max() <= float(head["scale"]) / 1.9
    assert (head["space"], head["unit"], head["width"], head["height"]) == ("metric", "m", "64", "48")
    assert (said["space"], said["unit"], said["width"], said["height"]) == ("metric", "mm", 64, 48)
    assert float(head["max"]) == pytest.approx(depth.max()) and said["max"] == pytest.approx(1000 * depth.max())
    assert said["median"] == pytest.approx(1000 * np.median(depth)) and said["valid"] == (depth > 0).mean()
    assert said["intrinsics"] == [60, 61, 31.5, 22.5] and head["intrinsics"] == "60.0,61.0,31.5,22.5"
    assert said["intrinsics_source"] == head["intrinsics-source"] == "given"
    assert said["hash"] == head["hash"] == models.load(metric).hash() and said["model"] == str(metric)
    assert set(said["seconds"]) == {"read", "queue", "network", "write"} and min(said["seconds"].values()) >= 0
    assert head["version"] and float(head["seconds"]) > 0


def test_a_relative_model_says_so(client):
    said = client.post("/v1/depth?format=json", content=IMAGE).json()
    assert (said["space"], said["unit"], said["licence"]) == ("disparity", "1", "mit")
    assert said["intrinsics"] is said["intrinsics_source"] is said["calibration"] is None


def test_the_answer_has_the_images_own_size_once_it_is_upright(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    sent = client.post("/v1/depth", content=encode(120, 200, kind="JPEG", exif=exif.tobytes()))
    assert Image.open(io.BytesIO(sent.content)).size == (120, 200)


def test_a_cloud_of_a_relative_model_is_refused_in_the_words_of_predict(client, tmp_path):
    answer = client.post("/v1/depth?format=ply", content=IMAGE)
    with pytest.raises(ValueError) as error:
        small_service.predict(IMAGE, "sonde-tiny", tmp_path, "ply", intrinsics=",".join(CAMERA.values()))
    assert answer.status_code == 400 and error_of(answer) == str(error.value)


def test_an_unknown_camera_is_assumed_for_a_cloud_and_that_is_said(client, metric, tmp_path):
    answer = client.post("/v1/depth", params={"model": str(metric), "format": "glb"}, content=IMAGE)
    focal = 32 / math.tan(math.radians(30))
    assert answer.headers["x-sonde-intrinsics-source"] == "assumed"
    assert [float(number) for number in answer.headers["x-sonde-intrinsics"].split(",")] == [focal, focal, 31.5, 23.5]
    same = small_service.predict(IMAGE, metric, tmp_path, "glb", intrinsics=answer.headers["x-sonde-intrinsics"])
    assert answer.content == same


def test_a_field_of_view_and_exif_give_the_camera(client, metric):
    query = {"model": str(metric), "format": "ply"}
    seen = client.post("/v1/depth", params={**query, "fov": 90}, content=IMAGE).headers
    assert seen["x-sonde-intrinsics-source"] == "fov" and seen["x-sonde-intrinsics"].startswith("32.0")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    seen = client.post("/v1/depth", params=query, content=encode(kind="JPEG", exif=exif.tobytes())).headers
    assert seen["x-sonde-intrinsics-source"] == "exif"
    assert float(seen["x-sonde-intrinsics"].split(",")[0]) == pytest.approx(26 / math.hypot(36, 24) * 80)


def test_the_ends_of_the_colours_can_be_locked(client):
    free, locked, same = (
        client.post(f"/v1/depth?format=preview{ends}", content=IMAGE).content
        for ends in ("", "&low=0&high=1000", "&low=0&high=1000")
    )
    assert locked == same != free


def test_points_boxes_and_distances_are_those_of_the_map(client, metric):
    places = {"pixels": [[3, 5], [63, 47]], "boxes": [[2, 3, 9, 11]], "pairs": [[[3, 5], [60, 40]]]}
    query = {"model": str(metric), "unit": "m", **CAMERA}
    said = client.post("/v1/points", params=query, files={"image": IMAGE}, data={"query": json.dumps(places)}).json()
    depth = np.load(io.BytesIO(client.post("/v1/depth", params={**query, "format": "npy"}, content=IMAGE).content))
    assert said["pixels"] == pytest.approx([depth[5, 3], depth[47, 63]])
    assert said["boxes"] == pytest.approx([np.median(depth[3:12, 2:10])])
    cloud = geometry.unproject(depth, prediction.parse_intrinsics(",".join(CAMERA.values())))
    assert said["distances"] == pytest.approx([np.linalg.norm(cloud[5, 3] - cloud[40, 60])], rel=1e-5)
    assert (said["unit"], said["space"], said["intrinsics_source"]) == ("m", "metric", "given")
    again = client.post("/v1/points", params={**query, "query": json.dumps(places)}, content=IMAGE)
    assert again.json() == said
    in_mm = client.post("/v1/points", params={**query, "unit": "mm", "query": json.dumps(places)}, content=IMAGE).json()
    assert in_mm["distances"][0] == pytest.approx(1000 * said["distances"][0], rel=1e-5)


def test_a_distance_without_a_camera_assumes_one_and_says_so(client, metric):
    query = {"model": str(metric), "query": '{"pairs": [[[3, 5], [60, 40]]]}'}
    said = client.post("/v1/points", params=query, content=IMAGE).json()
    assert said["intrinsics_source"] == "assumed" and said["unit"] == "mm" and said["distances"][0] > 0


def test_calibrate_finds_the_formula_of_sonde_calibrate(client, tmp_path, saves):
    sent = client.post("/v1/calibrate?save=mine", files={"image": IMAGE}, data={"points": json.dumps(POINTS)})
    said = sent.json()
    (tmp_path / "image.png").write_bytes(IMAGE)
    lines = ["image,x,y,depth", *(f"image.png,{x},{y},{depth}" for x, y, depth in POINTS)]
    (tmp_path / "points.csv").write_text("\n".join(lines))
    measured = calibration.read_points(tmp_path / "points.csv")
    found = calibration.calibrate("sonde-tiny", measured, out=tmp_path / "found").calibration
    assert sent.status_code == 200, said
    assert (said["kind"], said["points"], said["saved"]) == (found.kind, len(POINTS), "mine")
    assert said["scale"] == pytest.approx(found.scale, rel=1e-4)
    assert said["shift"] == pytest.approx(found.shift, rel=1e-3, abs=1e-6)
    stored = models.read_calibration(saves / "mine")
    assert (stored.scale, stored.shift, stored.kind) == (said["scale"], said["shift"], said["kind"])
    query = {"calibration": said["calibration"], "format": "png"}
    answer = client.post("/v1/depth", params=query, content=IMAGE)
    assert answer.headers["x-sonde-space"] == "metric" and answer.headers["x-sonde-calibration"] == said["calibration"]
    assert answer.content == small_service.predict(IMAGE, saves / "mine", tmp_path, "png16")
    plain = client.post("/v1/depth", content=IMAGE)
    assert plain.headers["x-sonde-space"] == "disparity" and "x-sonde-calibration" not in plain.headers
    places = json.dumps({"pixels": [point[:2] for point in POINTS]})
    asked = {"calibration": said["calibration"], "query": places}
    seen = client.post("/v1/points", params=asked, content=IMAGE)
    errors = np.abs(np.array(seen.json()["pixels"]) - [point[2] for point in POINTS])
    assert errors.mean() == pytest.approx(said["error_m"], rel=1e-3)


def test_one_known_point_gives_a_scale(client):
    sent = client.post("/v1/calibrate", files={"image": IMAGE}, data={"points": "[[20, 20, 2.5]]"}).json()
    assert (sent["kind"], sent["points"]) == ("scale", 1) and sent["error_m"] < 1e-3


@pytest.mark.parametrize(
    ("points", "query", "said"),
    [
        ("[[20, 20, 0]]", "", "greater than 0"),
        ("[[20, 20]]", "", "expected JSON such as"),
        ("rubbish", "", "expected JSON such as"),
        ("[[64, 20, 1.5]]", "", "outside the image, 64 wide and 48 high"),
        ("[]", "", "expected JSON such as"),
        ("[[20, 20, 1.5]]", "?kind=affine", "kind='affine'"),
        ("[[20, 20, 1.5]]", "?save=../mine", "letters, digits"),
        ("[[20, 20, 1.5]]", "?save=mine/../../x", "letters, digits"),
        ("[[20, 20, 1.5]]", "?kind=log-affine", "log-affine"),
    ],
)
def test_points_that_calibrate_nothing_are_refused_in_one_sentence(client, points, query, said, saves):
    before = sorted(saves.rglob("*"))
    answer = client.post(f"/v1/calibrate{query}", files={"image": IMAGE}, data={"points": points})
    assert answer.status_code == 400 and said in error_of(answer)
    assert sorted(saves.rglob("*")) == before


def test_a_calibration_belongs_to_one_model_and_rubbish_is_none(client, metric):
    name = client.post("/v1/calibrate", files={"image": IMAGE}, data={"points": "[[20, 20, 2]]"}).json()["calibration"]
    other = client.post("/v1/depth", params={"model": str(metric), "calibration": name}, content=IMAGE)
    assert other.status_code == 400 and "another model" in error_of(other)
    for rubbish in ("rubbish", "bnVsbA", "W10", name[:-4], "é"):
        answer = client.post("/v1/depth", params={"calibration": rubbish}, content=IMAGE)
        assert answer.status_code == 404 and "No calibration" in error_of(answer)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v1/depth?model=sonde-tny", 404, "did you mean 'sonde-tiny'?"),
        ("POST", "/v1/depth?modle=sonde-tiny", 400, "No parameter 'modle': did you mean 'model'?"),
        ("POST", "/v1/depth?format=tiff", 400, "format='tiff'"),
        ("POST", "/v1/depth?fx=abc", 400, "fx='abc'"),
        ("POST", "/v1/depth?fx=60", 400, "all of fx, fy, cx and cy"),
        ("POST", "/v1/depth?fx=60&fy=60&cx=31&cy=23&fov=60", 400, "all of fx, fy, cx and cy"),
        ("POST", "/v1/depth?fx=60&fy=60&cx=310&cy=23", 400, "outside this image"),
        ("POST", "/v1/depth?fx=nan&fy=60&cx=31&cy=23", 400, "fx='nan'"),
        ("POST", "/v1/depth?unit=mm", 400, "relative depth"),
        ("POST", "/v1/depth?unit=ell", 400, "unit='ell'"),
        ("POST", "/v1/depth?format=preview&low=2&high=1", 400, "low=2 is not below high=1"),
        ("POST", "/v1/points", 400, "There is no query"),
        ("POST", '/v1/points?query={"pixels":[[64,0]]}', 400, "outside the image"),
        ("POST", '/v1/points?query={"boxes":[[9,9,2,2]]}', 400, "turned over"),
        ("POST", '/v1/points?query={"pairs":[[[1,1],[2,2]]]}', 400, "a distance needs metres"),
        ("POST", '/v1/points?query={"pixel":[[1,1]]}', 400, "expected JSON such as"),
        ("POST", "/v1/points?query=[", 400, "expected JSON such as"),
        ("POST", "/v1/calibrate", 400, "There is no points"),
        ("GET", "/v1/depth", 405, "another method is expected"),
        ("POST", "/v1/models", 405, "another method is expected"),
        ("GET", "/v1/nothing", 404, "no such path"),
        ("GET", "/page/..%2f..%2fapp.py", 404, "no such path"),
        ("GET", "/page/app.py", 404, "no such path"),
    ],
)
def test_a_mistake_is_one_sentence(client, method, path, status, said):
    answer = client.request(method, path, content=IMAGE if method == "POST" else None)
    assert answer.status_code == status and said in error_of(answer)


def test_no_field_but_those_that_are_known_is_taken(client):
    wrong = client.post("/v1/depth", files={"img": IMAGE})
    assert wrong.status_code == 400 and "did you mean 'image'?" in error_of(wrong)
    none = client.post("/v1/depth")
    assert none.status_code == 400 and "There is no image" in error_of(none)
    torn = client.post("/v1/depth", content=b"rubbish", headers={"Content-Type": "multipart/form-data"})
    assert torn.status_code == 400 and "multipart" in error_of(torn)


def test_limits_are_checked_before_the_image_is_decoded(client):
    large = client.post("/v1/depth", content=bytes(1_000_001))
    assert large.status_code == 413 and "1 MB" in error_of(large)
    packed = client.post("/v1/depth", files={"image": bytes(1_000_001)})
    assert packed.status_code == 413
    wide = client.post("/v1/depth", content=encode(1001, 1000))
    assert wide.status_code == 413 and "1000x1001 pixels" in error_of(wide)
    assert client.post("/v1/depth", content=b"GIF89a").status_code == 415
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    assert client.post("/v1/depth", content=heic).status_code in (400, 415)


def test_the_server_says_what_it_has(client, metric):
    client.post("/v1/depth", params={"model": str(metric)}, content=IMAGE)
    said = client.get("/v1/models").json()
    tiny, other = said["models"]
    assert (tiny["name"], tiny["space"], tiny["unit"], tiny["licence"]) == ("sonde-tiny", "disparity", "1", "mit")
    assert (tiny["device"], tiny["runtime"], tiny["precision"]) == ("cpu", "onnx", "fp32") and tiny["loaded"]
    assert (other["name"], other["space"], other["unit"]) == (str(metric), "metric", "mm")
    assert said["limits"] == {"bytes": 1_000_000, "pixels": 1_000_000, "seconds": 120, "queue": 64}
    assert said["formats"] == ["png", "npy", "ply", "glb", "preview", "json"]
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
    queue = client.get("/v1/queue?id=0123456789").json()
    assert (queue["waiting"], queue["running"], queue["limit"], queue["state"]) == (0, 0, 64, "unknown")


def test_a_request_is_known_by_its_id(client):
    client.post("/v1/depth", content=IMAGE, headers={"X-Request-Id": "aa11bb22-0"})
    said = client.get("/v1/queue?id=aa11bb22-0").json()
    assert said["state"] == "done" and said["place"] is None and said["seconds_each"] > 0


def test_the_figures_count_requests_and_stages(client):
    client.post("/v1/depth", content=IMAGE)
    text = client.get("/metrics").text
    assert re.search(r'sonde_requests_total\{route="/v1/depth",status="200"\} [1-9]', text)
    for stage in ("read", "queue", "network", "write"):
        assert f'sonde_stage_seconds_count{{stage="{stage}"}}' in text
    assert "sonde_queue_waiting 0.0" in text and "process_resident_memory_bytes" in text


def test_the_document_and_its_page_load_nothing_from_elsewhere(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]["/v1/depth"]["post"]["responses"]) >= {"200", "400", "413", "415", "429", "503"}
    assert "422" not in json.dumps(document["paths"])
    page = client.get("/docs").text
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    for address in re.findall(r"""(?:src|href)=["'](/[^"']+)""", page):
        assert client.get(address).status_code == 200, address


def test_the_page_is_a_fixed_table_of_files(client):
    folder = Path(small_service.__file__).parents[1] / "sonde" / "serving" / "page"
    for path in folder.iterdir():
        answer = client.get(f"/page/{path.name}")
        assert answer.content == path.read_bytes() and "default-src 'self'" in answer.headers["content-security-policy"]
        again = client.get(f"/page/{path.name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content
    assert client.get("/").status_code == 200


def test_png_levels_are_read_back_by_sonde(client, tmp_path):
    content = client.post("/v1/depth", content=IMAGE).content
    levels, notes = files.decode_levels_png(content, "answer")
    assert notes["Software"] == "sonde" and levels.shape == (48, 64)
