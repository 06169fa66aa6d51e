"""What a person does on the page of `sonde serve`, in a real browser."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import sonde
from sonde.files.levels import decode_levels_png
from sonde.geometry import unproject
from sonde.prediction import predict_bytes

pytestmark = pytest.mark.page

WIDTH, HEIGHT = 320, 240
FOCAL = WIDTH / 2 / np.tan(np.radians(30))
CAMERA = [FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2]
"""What the page assumes of a photograph that does not tell: 60 degrees."""


@pytest.fixture
def tab(open_tab):
    return open_tab()


def number(said: str) -> float:
    """0.1234 of `0.1234 m`."""
    return float(said.split()[0])


def matrix(camera: list[float]) -> np.ndarray:
    fx, fy, cx, cy = camera
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def level(photo: Path, model: str | Path) -> float:
    """What a level of the 16-bit PNG is worth."""
    _, notes = decode_levels_png(predict_bytes(photo, model, save=("png16",))[0], photo.name)
    return float(notes["Scale"])


def test_an_uploaded_image_gets_its_depth_at_its_own_size(tab, photo):
    tab.give(photo)
    assert tab.page.evaluate("[depth.width, depth.height]") == [WIDTH, HEIGHT]
    drawn = tab.page.evaluate("[...depth.getContext('2d').getImageData(0, 0, 320, 240).data]")
    assert len(np.unique(np.reshape(drawn, (-1, 4)), axis=0)) > 50
    assert "relative depth (disparity)" in tab.text("#facts") and "mit" in tab.text("#facts").lower()
    assert tab.text("#near").startswith("near") and tab.text("#far").endswith("far")


def test_an_example_a_dropped_a_pasted_and_a_taken_image_are_shown(tab, photo):
    tab.page.click("#examples button >> nth=0")
    tab.wait()
    hand_over = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], kind + ".png", { type: "image/png" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
        document.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        tab.page.evaluate(hand_over, [list(photo.read_bytes()), kind])
        tab.wait()
        assert tab.text("#name") == f"{kind}.png"
    tab.page.evaluate("document.querySelector('#photograph').click()")
    tab.until("document.querySelector('#video').videoWidth > 0")
    tab.page.click("#take")
    tab.wait()
    tab.until("document.querySelectorAll('#strip li').length === 4")
    assert tab.text("#name") == "photograph.png"


def test_the_slider_lays_depth_over_the_image(tab, photo):
    tab.give(photo)
    tab.page.check("[value=over]", force=True)
    clip = "getComputedStyle(document.querySelector('#depth-pane')).clipPath"
    assert tab.page.evaluate(clip) == "inset(0px 0px 0px 50%)"
    tab.page.focus("#split")
    tab.page.keyboard.press("Home")
    assert tab.page.evaluate(clip) in ("inset(0px)", "inset(0px 0px 0px 0%)")
    box, stage = (tab.page.locator(name).bounding_box() for name in ("#split", "#depth-pane"))
    middle = box["y"] + box["height"] / 2
    tab.page.mouse.move(stage["x"], middle)
    tab.page.mouse.down()
    tab.page.mouse.move(stage["x"] + stage["width"] * 0.75, middle, steps=4)
    tab.page.mouse.up()
    assert 70 < float(tab.page.input_value("#split")) < 80


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_the_depth_under_the_pointer_is_the_apis(tab, photo, metric, kind):
    model = str(metric) if kind == "metric" else "sonde-tiny"
    tab.give(photo, model=model)
    pixels = [[5, 5], [160, 120], [313, 231], [41, 200]]
    answer = tab.points(photo, json.dumps({"pixels": pixels}), model=model)
    for (x, y), value in zip(pixels, answer["pixels"], strict=True):
        said = tab.point(x, y, width=WIDTH)
        assert said.endswith(" m" if kind == "metric" else " relative")
        assert number(said) == pytest.approx(value, abs=level(photo, model))


def test_two_clicks_give_the_distance_in_space(tab, photo, metric):
    tab.give(photo, model=str(metric))
    places = [(60, 50), (250, 190)]
    for x, y in places:
        tab.point(x, y, width=WIDTH, click=True)
    xyz = unproject(sonde.load(metric).predict(photo).depth, matrix(CAMERA))
    true = np.linalg.norm(xyz[50, 60] - xyz[190, 250])
    said = tab.text("#distance").splitlines()[-1]
    assert said.startswith("A to B") and said.endswith("with an assumed camera")
    assert number(said.removeprefix("A to B ")) == pytest.approx(true, abs=3 * level(photo, metric))
    tab.page.locator("details summary").click()
    tab.page.fill("#four", "400, 410, 150, 110")
    tab.page.press("#four", "Enter")
    xyz = unproject(sonde.load(metric).predict(photo).depth, matrix([400, 410, 150, 110]))
    true = np.linalg.norm(xyz[50, 60] - xyz[190, 250])
    said = tab.text("#distance").splitlines()[-1]
    assert number(said.removeprefix("A to B ")) == pytest.approx(true, abs=3 * level(photo, metric))
    answer = tab.points(photo, json.dumps({"pairs": [places]}), model=str(metric), fx=400, fy=410, cx=150, cy=110)
    assert answer["distances"][0] == pytest.approx(true, rel=1e-4)


def test_one_known_depth_turns_relative_depth_into_metres(tab, photo):
    tab.give(photo)
    tab.point(160, 120, width=WIDTH, click=True)
    assert tab.text("#distance").endswith("relative")
    tab.page.fill("#length", "85")
    tab.page.select_option("#length-unit", "cm")
    tab.page.click("#known button")
    tab.page.wait_for_selector("#fitted code")
    tab.wait()
    assert number(tab.point(160, 120, width=WIDTH)) == pytest.approx(0.85, abs=1e-4)
    assert "Calibrated by scale: 1 point" in tab.text("#fitted") and "metres = 1 / (" in tab.text("#fitted")
    tab.page.click("text=Remove the calibration")
    tab.wait()
    assert tab.point(160, 120, width=WIDTH).endswith("relative")


def test_one_known_distance_turns_relative_depth_into_metres(tab, photo):
    tab.give(photo)
    for x, y in ((60, 50), (250, 190)):
        tab.point(x, y, width=WIDTH, click=True)
    tab.page.select_option("#quantity", "distance")
    tab.page.fill("#length", "0.4")
    tab.page.press("#length", "Enter")
    tab.page.wait_for_selector("#fitted code")
    tab.wait()
    assert number(tab.text("#distance").splitlines()[-1].removeprefix("A to B ")) == pytest.approx(0.4, abs=3e-4)


def test_more_known_depths_make_a_fit_of_more_points(tab, photo):
    tab.give(photo)
    depth = 1 / (0.2 + sonde.load("sonde-tiny").predict(photo).depth)
    for count, (x, y) in enumerate([(60, 50), (250, 190), (160, 120)], 1):
        tab.page.keyboard.press("Escape")
        tab.page.locator("#clear").click() if count > 1 else None
        tab.point(x, y, width=WIDTH, click=True)
        tab.page.fill("#length", f"{depth[y, x]:.3f}")
        tab.page.press("#length", "Enter")
        tab.until(f"document.querySelector('#fitted').textContent.includes(': {count} point')")
        tab.wait()
    assert "mean error" in tab.text("#fitted") and tab.page.locator("#fitted li").count() == 3
    tab.page.locator("#fitted li button >> nth=0").click()
    tab.until("document.querySelector('#fitted').textContent.includes(': 2 points')")
    tab.wait()


def test_a_length_that_is_none_is_refused_where_it_was_typed(tab, photo):
    tab.give(photo)
    tab.page.click("#known button")
    assert tab.text("#fitted") == "Click a point of the image first."
    tab.point(160, 120, width=WIDTH, click=True)
    tab.page.fill("#length", "a metre")
    tab.page.click("#known button")
    assert tab.text("#fitted") == "Type a length above zero, such as 1.25."
    assert tab.page.get_attribute("#length", "aria-invalid") == "true"


def test_levels_of_any_png_are_read_exactly(tab):
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(40) * 300, np.arange(60) * 700).astype(np.uint16)
    for levels in (smooth, rng.integers(0, 65536, (40, 60), dtype=np.uint16), np.vstack([smooth, smooth[::-1]])):
        file = BytesIO()
        Image.fromarray(levels).save(file, "PNG")
        read = """async bytes => {
            const { decodePng16 } = await import("/page/png16.js");
            const found = await decodePng16(new Uint8Array(bytes).buffer);
            return [found.width, found.height, [...found.levels]];
        }"""
        width, height, found = tab.page.evaluate(read, list(file.getvalue()))
        np.testing.assert_array_equal(np.reshape(found, (height, width)), levels)


def test_pixels_without_depth_say_so(tab):
    read = """async () => {
        const { DepthMap } = await import("/page/depth.js");
        const meta = { space: "metric", unit: "m", scale: 0.0001, offset: 0 };
        const map = new DepthMap({ width: 2, height: 1, levels: new Uint16Array([0, 12345]) }, meta);
        return [map.spell(map.at(0, 0)), map.spell(map.at(1, 0)), map.makeColours("Spectral", [0, 1])[0]];
    }"""
    assert tab.page.evaluate(read) == ["no depth", "1.2345 m", 0xFF808080]


def test_colours_follow_the_chosen_map_and_range(tab, photo, metric):
    tab.give(photo, model=str(metric))
    draw = "[...depth.getContext('2d').getImageData(100, 100, 1, 1).data]"
    automatic = tab.page.evaluate(draw)
    tab.page.select_option("#palette", "Grey")
    grey = tab.page.evaluate(draw)
    assert grey != automatic and len(set(grey[:3])) == 1
    tab.page.check("#lock")
    tab.page.fill("#low", "5")
    assert tab.page.get_attribute("#low", "aria-invalid") != "true"
    tab.page.fill("#high", "9")
    tab.page.press("#high", "Enter")
    assert tab.page.evaluate(draw) == [255, 255, 255, 255]
    assert tab.text("#near") == "near 5 m" and tab.text("#far") == "9 m far"
    tab.page.select_option("#unit", "mm")
    assert tab.text("#near") == "near 5000 mm" and tab.page.input_value("#high") == "9000"
    assert tab.point(100, 100, width=WIDTH).endswith(" mm")


def test_the_cloud_is_drawn_turned_and_filtered(tab, photo, metric):
    tab.give(photo, model=str(metric))
    tab.page.check("[value=cloud]", force=True)
    tab.until("document.querySelector('#cloud-note').textContent.includes('points')")
    first = shot(tab)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 500
    usual = count_points(tab)
    box = tab.page.locator("#cloud").bounding_box()
    tab.page.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 320, box["y"] + 240, steps=4)
    tab.page.mouse.up()
    assert (shot(tab) != first).mean() > 0.02
    tab.page.fill("#edge", "10")
    tab.until("document.querySelector('#cloud-note').textContent === '76,800 points of 76,800 pixels.'")
    assert tab.text("#edge-shown") == "off"
    tab.page.fill("#edge", "0.5")
    tab.until("!document.querySelector('#cloud-note').textContent.startsWith('76,800')")
    assert 0 < count_points(tab) < usual
    tab.page.select_option("#cap", "50000")
    tab.page.fill("#edge", "10")
    tab.until("document.querySelector('#cloud-note').textContent.startsWith('49,')")


def count_points(tab) -> int:
    """How many points the page says that it shows."""
    return int(tab.text("#cloud-note").split()[0].replace(",", ""))


def shot(tab) -> np.ndarray:
    """The picture of the cloud."""
    return np.asarray(Image.open(BytesIO(tab.page.locator("#cloud").screenshot())).convert("RGB"))


@pytest.mark.parametrize("format", ["png", "npy", "preview", "ply", "glb"])
def test_a_download_is_what_predict_writes(tab, photo, metric, format):
    tab.give(photo, model=str(metric))
    got = tab.download(format)
    name = "png16" if format == "png" else format
    camera = CAMERA if format in ("ply", "glb") else None
    assert got == predict_bytes(photo, metric, save=(name,), intrinsics=camera)[0]
    if format in ("ply", "glb"):
        (cloud,) = trimesh.load_scene(BytesIO(got), file_type=format).dump()
        assert isinstance(cloud, trimesh.PointCloud) and len(cloud.vertices) == WIDTH * HEIGHT


def test_a_cloud_of_relative_depth_is_not_offered(tab, photo):
    tab.give(photo)
    assert tab.page.is_disabled("[data-format=ply]") and tab.page.is_disabled("[data-format=glb]")
    assert "need metres" in tab.text("#download-note")
    assert tab.download("png") == predict_bytes(photo, "sonde-tiny", save=("png16",))[0]


def test_an_error_is_the_sentence_of_the_api(tab, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is no image")
    tab.page.set_input_files("#files", broken)
    tab.page.wait_for_selector("#error:visible")
    image = {"name": broken.name, "mimeType": "image/png", "buffer": broken.read_bytes()}
    answer = tab.page.request.post(f"{tab.address}/v1/depth", multipart={"image": image})
    assert not answer.ok and tab.text("#error p") == answer.json()["error"]
    assert tab.page.get_attribute("#error", "role") == "alert"


def test_several_images_wait_their_turn_in_a_strip(tab, photo, tmp_path):
    others = [tmp_path / f"{name}.png" for name in ("two", "three")]
    for path in others:
        path.write_bytes(photo.read_bytes())
    tab.give(photo, *others)
    strip = tab.page.locator("#strip button")
    assert strip.count() == 3
    tab.until("[...document.querySelectorAll('#strip small')].every(each => each.textContent === 'done')")
    strip.nth(2).click()
    tab.wait()
    assert tab.text("#name") == "three.png" and strip.nth(2).get_attribute("aria-current") == "true"


def test_the_place_in_the_queue_is_told_and_a_request_can_be_cancelled(tab, photo):
    queue = {"state": "waiting", "place": 3, "waiting": 5, "running": 1, "limit": 16, "seconds_each": 2.0}
    tab.page.route("**/v1/queue*", lambda route: route.fulfill(json=queue))
    tab.page.route("**/v1/depth*", lambda route: None)
    tab.page.set_input_files("#files", photo)
    tab.until("document.querySelector('#busy p').textContent === 'Place 3 of 5 in the queue, about 8 s.'")
    tab.page.click("#cancel")
    tab.page.wait_for_selector("#error:visible")
    assert tab.text("#error p").startswith("Cancelled")
    tab.page.unroute("**/v1/depth*")
    tab.page.click("#again")
    tab.wait()


def test_a_full_queue_is_told_and_tried_again(tab, photo):
    refusals = [{"status": 429, "headers": {"Retry-After": "1"}, "json": {"error": "The queue is full."}}]
    tab.page.route("**/v1/depth*", lambda route: route.fulfill(**refusals.pop()) if refusals else route.continue_())
    tab.page.set_input_files("#files", photo)
    tab.until("document.querySelector('#busy p').textContent.includes('Trying again in 1 s')")
    tab.wait()


def test_a_key_is_asked_for_where_the_server_wants_one(tab, photo):
    def answer(route):
        good = route.request.headers.get("authorization") == "Bearer open sesame"
        route.continue_() if good else route.fulfill(status=401, json={"error": "This server needs a key."})

    tab.page.route("**/v1/depth*", answer)
    tab.page.set_input_files("#files", photo)
    tab.page.wait_for_selector("#key-dialog[open]")
    assert tab.text("#key-reason") == "This server needs a key."
    tab.page.fill("#key", "open sesame")
    tab.page.keyboard.press("Enter")
    tab.wait()


def test_a_phone_scrolls_down_only(open_tab, photo):
    tab = open_tab(width=390, height=844, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth"
    assert tab.page.evaluate(wide) == 390
    tab.give(photo)
    for view in ("side", "over", "cloud"):
        tab.page.check(f"[value={view}]", force=True)
        assert tab.page.evaluate(wide) == 390
    tab.page.check("[value=side]", force=True)
    tab.page.locator("#depth-pane").tap()
    assert tab.text("#distance").startswith("A ")


def test_all_can_be_reached_and_done_by_the_keyboard(tab, photo):
    tab.give(photo)
    tab.page.evaluate("document.activeElement.blur()")
    seen = set()
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        seen.add(tab.page.evaluate("document.activeElement.id || document.activeElement.dataset.format"))
    wanted = "add depth-pane model quantity length palette lock fov png npy preview".split()
    assert set(wanted) <= seen
    tab.page.focus("#depth-pane")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown", "Enter"):
        tab.page.keyboard.press(key)
    assert tab.text("#readout").startswith("x 161, y 130: ")
    assert tab.text("#distance").startswith("A ")
    tab.page.keyboard.press("Escape")
    assert tab.text("#distance") == "Click two points of the image."


def test_each_control_has_a_name(tab, photo):
    tab.give(photo)
    tab.page.check("[value=cloud]", force=True)
    unnamed = """() => [...document.querySelectorAll("button, input, select, canvas, [tabindex]")]
        .filter(each => each.checkVisibility() && !each.closest("label") && !each.getAttribute("aria-label"))
        .filter(each => !each.textContent.trim() && !document.querySelector(`label[for='${each.id}']`))
        .map(each => each.outerHTML)"""
    assert tab.page.evaluate(unnamed) == []
