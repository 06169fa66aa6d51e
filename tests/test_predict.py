"""Every image gets its depth at its own size under a name of its own; a bad file is told and the rest goes on."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import nn

from sonde import files, models, prediction
from sonde.models import DepthModel, ModelSpec
from sonde.prediction import find_images, name_outputs, parse_intrinsics
from sonde.types import Space

CAMERA = (20.0, 20.0, 3.5, 2.5)


class RedIsFar(nn.Module):
    """Depth in metres: half a metre, and one more where the red channel is full."""

    config = SimpleNamespace(model_type="depth_anything")

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """What a network of transformers would answer."""
        return SimpleNamespace(predicted_depth=0.5 + pixel_values[:, 0])


def model(space: Space = "metric", unit: str = "mm") -> DepthModel:
    spec = ModelSpec(space, None, 1, *models.PLAIN, unit=unit)
    return DepthModel(RedIsFar(), spec, "red-is-far").eval()


def paint(path: Path, height: int = 6, width: int = 8) -> Path:
    """A picture whose red grows from left to right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width).round()
    Image.fromarray(picture).save(path)
    return path


def notes(path: Path) -> dict[str, str]:
    """What a PNG says of itself."""
    with Image.open(path) as image:
        return dict(image.info)  # pyright: ignore[reportReturnType,reportArgumentType]


def test_an_image_gives_a_png_that_reads_back_as_the_models_depth(tmp_path):
    source = paint(tmp_path / "in" / "photo.png")
    outcome = prediction.predict(source, model(), tmp_path / "out")
    assert [path.name for path in outcome.written] == ["photo.depth.png", "photo.preview.png", "predictions.json"]
    depth = files.read_depth(tmp_path / "out" / "photo.depth.png")
    np.testing.assert_allclose(depth, model().predict(source).depth, atol=6e-5)  # half a step
    assert notes(tmp_path / "out" / "photo.depth.png")["Unit"] == "m"


def test_npy_is_in_the_models_own_unit_and_the_manifest_says_so(tmp_path):
    prediction.predict(paint(tmp_path / "photo.png"), model(), tmp_path / "out", save=["npy"])
    depth = np.load(tmp_path / "out" / "photo.npy")
    assert depth.dtype == np.float32 and depth.shape == (6, 8)
    manifest = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert manifest["model"] == "red-is-far" and manifest["space"] == "metric" and manifest["unit"] == "mm"
    entry = manifest["predictions"][0]
    assert entry["outputs"] == ["photo.npy", "photo.npy.json"] and (entry["width"], entry["height"]) == (8, 6)
    assert (entry["min"], entry["max"]) == pytest.approx((500, 1500)) == (depth.min(), depth.max())


def test_a_relative_map_claims_no_unit(tmp_path):
    prediction.predict(paint(tmp_path / "photo.png"), model("disparity"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["unit"] == "1"
    about = notes(tmp_path / "out" / "photo.depth.png")
    assert about["Space"] == "disparity" and about["Unit"] == "1"


def test_a_folder_is_mirrored_and_what_is_no_image_is_left_alone(tmp_path):
    for name in ("b.png", "day1/a.jpg", "day1/deep/c.png"):
        paint(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    outcome = prediction.predict(tmp_path / "in", model(), tmp_path / "out", save=["npy"])
    names = [path.relative_to(tmp_path / "out").as_posix() for path in outcome.written if path.suffix == ".npy"]
    assert names == ["b.npy", "day1/a.npy", "day1/deep/c.npy"]


def test_a_second_run_into_a_folder_inside_the_source_predicts_the_same_images(tmp_path):
    paint(tmp_path / "a.png")
    first = prediction.predict(tmp_path, model(), tmp_path / "out")
    assert prediction.predict(tmp_path, model(), tmp_path / "out").written == first.written


def test_a_corrupt_file_is_told_and_the_rest_goes_on(tmp_path):
    for name in ("a.png", "c.png"):
        paint(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    seen = []
    outcome = prediction.predict(
        tmp_path / "in",
        model(),
        tmp_path / "out",
        save=["npy"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [path.name for path in outcome.written] == [
        "a.npy",
        "a.npy.json",
        "c.npy",
        "c.npy.json",
        "predictions.json",
    ]
    ((path, reason),) = outcome.failed
    assert path.name == "b.png" and "b.png" in reason
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert list(json.loads((tmp_path / "out" / "predictions.json").read_text())["failed"]) == [str(path)]


def test_an_interrupted_call_lists_what_it_wrote(tmp_path):
    for number in range(30):
        paint(tmp_path / "in" / f"{number:02}.png")

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prediction.predict(tmp_path / "in", model(), tmp_path / "out", save=["npy"], progress=interrupt)
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    names = [name for entry in listed for name in entry["outputs"] if name.endswith(".npy")]
    assert names[0] == "00.npy" and len(names) < 30  # threads were a few images ahead
    assert names == sorted(path.name for path in (tmp_path / "out").glob("*.npy"))


def test_only_corrupt_files_leave_a_manifest_that_says_so(tmp_path):
    (tmp_path / "b.png").write_bytes(b"")
    outcome = prediction.predict(tmp_path / "b.png", model(), tmp_path / "out")
    assert len(outcome.failed) == 1 and [path.name for path in outcome.written] == ["predictions.json"]


@pytest.mark.parametrize(
    "names",
    [
        ["a/x.png", "b/x.jpg", "x.png", "x.jpg"],
        ["x.png", "x.jpg", "x.png.jpg", "x.png.png"],
        ["x.png", "X.jpg"],
        ["x.png", "x.depth.png", "x.preview.png", "x.preview.jpg"],
    ],
)
def test_output_names_never_collide(tmp_path, names):
    for name in names:
        paint(tmp_path / "in" / name)
    outcome = prediction.predict(tmp_path / "in", model(), tmp_path / "out", save=["png16", "npy", "preview"])
    written = [str(path).lower() for path in outcome.written]
    assert len(written) == len(set(written)) == 4 * len(names) + 1
    assert not outcome.failed


def test_names_stay_short_where_nothing_clashes(tmp_path):
    images = {Path(name): Path(name) for name in ("a/x.png", "b/x.png", "b/y.png", "b/y.jpg")}
    assert [path.as_posix() for path in name_outputs(images, Path("out")).values()] == [
        "out/a/x",
        "out/b/x",
        "out/b/y.png",
        "out/b/y.jpg",
    ]


def test_several_sources_keep_their_folders_apart(tmp_path):
    sources = [paint(tmp_path / "a" / "x.png"), paint(tmp_path / "b" / "x.png"), tmp_path / "a"]
    found = find_images(sources, tmp_path / "out")
    assert [place.as_posix() for place in found.values()] == ["a/x.png", "b/x.png"]


def test_the_input_is_never_overwritten(tmp_path):
    for name in ("x.png", "x.depth.png"):
        paint(tmp_path / name)
    before = (tmp_path / "x.depth.png").read_bytes()
    with pytest.raises(ValueError, match="would be overwritten"):
        prediction.predict([tmp_path / "x.png", tmp_path / "x.depth.png"], model(), tmp_path)
    with pytest.raises(ValueError, match="both source and output"):
        prediction.predict(tmp_path, model(), tmp_path)
    assert (tmp_path / "x.depth.png").read_bytes() == before
    own = paint(tmp_path / "sheet.png").read_bytes()
    with pytest.raises(ValueError, match="would be overwritten"):
        prediction.predict(tmp_path / "sheet.png", model(), tmp_path, save=("npy",), sheet=True)
    assert (tmp_path / "sheet.png").read_bytes() == own


def test_upright_depth_of_a_sideways_photograph(tmp_path):
    paint(tmp_path / "photo.jpg", height=6, width=8)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "photo.jpg") as photo:
        photo.save(tmp_path / "turned.jpg", exif=exif)
    prediction.predict(tmp_path / "turned.jpg", model(), tmp_path / "out", save=["npy"])
    assert np.load(tmp_path / "out" / "turned.npy").shape == (8, 6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16"])
def test_any_kind_of_image_gives_a_depth_of_its_size(tmp_path, mode):
    pixels = np.full((6, 8), 1000, np.uint16) if mode == "I;16" else None
    image = Image.fromarray(pixels) if pixels is not None else Image.new("RGB", (8, 6)).convert(mode)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    outcome = prediction.predict(path, model(), tmp_path / "out", save=["npy"])
    assert not outcome.failed and np.load(outcome.written[0]).shape == (6, 8)


@pytest.mark.parametrize("kind", ["ply", "glb"])
def test_a_point_cloud_holds_every_pixel(tmp_path, kind):
    source = paint(tmp_path / "photo.png")
    prediction.predict(source, model(), tmp_path / "out", save=[kind], intrinsics=CAMERA)
    loaded = trimesh.load(tmp_path / "out" / f"photo.{kind}")
    points = np.asarray(loaded.vertices if kind == "ply" else next(iter(loaded.geometry.values())).vertices)  # pyright: ignore
    assert points.shape == (48, 3)
    metres = np.abs(points[:, 2]) * (0.001 if kind == "ply" else 1)  # glTF knows no unit but metres
    np.testing.assert_allclose(metres, model().predict(source).depth.ravel(), rtol=1e-5)


def test_a_point_cloud_that_cannot_be_is_refused_before_any_work(tmp_path):
    source = paint(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="fx,fy,cx,cy"):
        prediction.predict(source, model(), tmp_path / "out", save=["png16", "ply"])
    with pytest.raises(ValueError, match="relative depth"):
        prediction.predict(source, model("disparity"), tmp_path / "out", save=["glb"], intrinsics=CAMERA)
    assert not (tmp_path / "out").exists()


def test_intrinsics_of_another_size_are_told(tmp_path):
    source = paint(tmp_path / "photo.png")
    outcome = prediction.predict(
        source, model(), tmp_path / "out", save=["ply"], intrinsics=(1780.0, 1780.0, 960.0, 600.0)
    )
    assert "another size" in outcome.failed[0][1]


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "-5,5,1,1", "nan,5,1,1", ""])
def test_intrinsics_are_four_numbers(text):
    with pytest.raises(ValueError, match="fx,fy,cx,cy"):
        parse_intrinsics(text)


def test_intrinsics_are_read_from_text_or_file(tmp_path):
    matrix = parse_intrinsics("20, 21, 3.5, 2.5")
    np.testing.assert_array_equal(matrix, [[20, 0, 3.5], [0, 21, 2.5], [0, 0, 1]])
    files.write_intrinsics(tmp_path / "camera.txt", matrix)
    np.testing.assert_array_equal(parse_intrinsics(str(tmp_path / "camera.txt")), matrix)


@pytest.mark.parametrize(
    ("source", "save", "answer"),
    [("photo.png", ["png"], "png16"), ("nothing", ["npy"], "does not exist"), ("empty", ["npy"], "No images")],
)
def test_a_request_that_cannot_be_is_one_sentence(tmp_path, source, save, answer):
    paint(tmp_path / "photo.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=answer):
        prediction.predict(tmp_path / source, model(), tmp_path / "out", save=save)


@pytest.mark.parametrize("space", ["metric", "disparity"])
@pytest.mark.parametrize("width", [8, 300, 1000])
def test_a_preview_is_the_picture_and_its_legend(tmp_path, space, width):
    source = paint(tmp_path / "photo.png", height=6, width=width)
    prediction.predict(source, model(space), tmp_path / "out", save=["preview"])
    preview = files.read_rgb(tmp_path / "out" / "photo.preview.png")
    assert preview.shape[1] == width and 6 < preview.shape[0] <= 6 + 54
    near, far = (preview[3, 0], preview[3, -1]) if space == "metric" else (preview[3, -1], preview[3, 0])
    assert near[0] > near[2] and far[2] > far[1]  # red, violet


@pytest.mark.parametrize("space, unit", [("metric", "mm"), ("disparity", "1")])
def test_a_relief_shows_a_groove_that_a_preview_cannot(space, unit):
    ramp = np.linspace(0.6, 1.4, 160, dtype=np.float32)[:, None].repeat(200, axis=1)
    ramp[:, 100:104] *= 1.008 if space == "metric" else 1 / 1.008  # 8 mm deeper at 1 m
    answer = prediction.PredictedImage(None, ramp, space, unit, None)
    picture = prediction.render_relief(answer)[:160]
    slope, groove = picture[20:140, 20:80].astype(int), picture[20:140, 101:103]
    assert abs(slope - 127).max() <= 2  # a slope alone stands out nowhere
    preview = prediction.render_preview(answer)[20:140].astype(int)
    assert abs(preview[:, 102] - preview[:, 80]).max() < 20 < 40 < 127 - groove.max()


def test_a_relief_is_written_where_it_is_asked_for(tmp_path):
    prediction.predict(paint(tmp_path / "photo.png"), model(), tmp_path / "out", save=["relief"])
    assert files.read_rgb(tmp_path / "out" / "photo.relief.png").ndim == 3


def listed(out: Path) -> dict[str, list[str]]:
    """Name of an image -> its outputs, as the manifest says, without what states their units."""
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    return {
        Path(entry["source"]).name: [name for name in entry["outputs"] if not name.endswith(".json")]
        for entry in entries
    }


def test_a_second_call_adds_to_what_the_manifest_lists(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "torn.png").write_bytes(b"no picture")
    prediction.predict([paint(tmp_path / "a.png"), tmp_path / "torn.png"], model(), out, save=["png16"])
    prediction.predict(paint(tmp_path / "b.png"), model(), out, save=["npy"])
    assert listed(out) == {"a.png": ["a.depth.png"], "b.png": ["b.npy"]}
    prediction.predict([paint(tmp_path / "torn.png"), tmp_path / "a.png"], model(), out, save=["npy"])
    assert listed(out) == {"a.png": ["a.npy", "a.depth.png"], "b.png": ["b.npy"], "torn.png": ["torn.npy"]}
    assert json.loads((out / "predictions.json").read_text())["failed"] == {}


def test_the_same_call_again_writes_the_same_manifest(tmp_path):
    for name in ("a.png", "b.png"):
        paint(tmp_path / "in" / name)
    manifests = []
    for _ in range(2):
        prediction.predict(tmp_path / "in", model(), tmp_path / "out")
        manifests.append((tmp_path / "out" / "predictions.json").read_bytes())
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (model("disparity"), r"another space \(metric, not disparity\)"),
        (model(unit="m"), r"another unit \(mm, not m\)"),
        (DepthModel(RedIsFar(), model().spec, "blue-is-far"), r"another model \(red-is-far, not blue-is-far\)"),
    ],
)
def test_predictions_of_another_kind_are_not_mixed_in(tmp_path, other, told):
    out = tmp_path / "out"
    prediction.predict(paint(tmp_path / "a.png"), model(), out, save=["npy"])
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=told):
        prediction.predict(paint(tmp_path / "b.png"), other, out, save=["npy"])
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_predictions_of_the_same_name_with_other_weights_are_not_mixed_in(tmp_path):
    first, second = model(), model()
    for each, value in ((first, 1.0), (second, 2.0)):
        each.network.register_buffer("weight", torch.tensor(value))
    prediction.predict(paint(tmp_path / "a.png"), first, tmp_path / "out", save=["npy"])
    with pytest.raises(ValueError, match=r"another weights .*: give another folder"):
        prediction.predict(tmp_path / "a.png", second, tmp_path / "out", save=["png16"])


def test_the_prediction_of_another_image_is_never_overwritten(tmp_path):
    first, second = paint(tmp_path / "day1" / "a.png"), paint(tmp_path / "day2" / "a.png")
    prediction.predict(first, model(), tmp_path / "out", save=["npy"])
    with pytest.raises(ValueError, match=r"a\.npy is the prediction of .*day1.* give another folder"):
        prediction.predict(second, model(), tmp_path / "out", save=["npy"])
    first.unlink()  # it was moved
    prediction.predict(second, model(), tmp_path / "out", save=["npy"])
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert (entry["source"], entry["outputs"][0]) == (str(second), "a.npy")


def test_a_file_that_no_call_wrote_is_never_overwritten(tmp_path):
    for name in ("a.npy", "sheet.png"):
        (tmp_path / "depth").mkdir(exist_ok=True)
        measured = tmp_path / "depth" / name
        measured.write_bytes(b"measured")
        with pytest.raises(ValueError, match=rf"{name} exists and is not a prediction .*: give another folder"):
            prediction.predict(paint(tmp_path / "a.png"), model(), tmp_path / "depth", save=["npy"], sheet=True)
        assert [path.name for path in (tmp_path / "depth").iterdir()] == [name] and measured.read_bytes() == b"measured"
        measured.unlink()


def test_what_a_killed_or_failed_call_left_is_written_anew(tmp_path, monkeypatch):
    out, sources = tmp_path / "out", [paint(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    with monkeypatch.context() as killed:
        killed.setattr(prediction, "write_manifest", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            prediction.predict(sources, model(), out, save=["npy"], sheet=True)
    assert listed(out) == {} and {path.name for path in out.glob("*.*")} >= {"a.npy", "b.npy", "sheet.png"}
    other = DepthModel(RedIsFar(), model().spec, "blue-is-far")  # nothing is listed yet: any model may go on
    prediction.predict(sources, other, out, save=["npy"], sheet=True)
    assert listed(out) == {"a.png": ["a.npy"], "b.png": ["b.npy"]}
    whole = sources[0].read_bytes()
    sources[0].write_bytes(b"no picture")
    prediction.predict(sources, other, out, save=["npy"], sheet=True)
    assert listed(out) == {"b.png": ["b.npy"]} and (out / "a.npy").is_file()
    sources[0].write_bytes(whole)
    prediction.predict(sources, other, out, save=["npy"], sheet=True)
    assert listed(out) == {"a.png": ["a.npy"], "b.png": ["b.npy"]}


def test_a_source_with_dots_in_its_path_is_written_below_the_output(tmp_path, monkeypatch):
    for source in ("c/train/a.png", "other/b.png"):
        paint(tmp_path / source)
    (tmp_path / "c" / "x").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    sources = ["train", "../other", "../c/x/../train/a.png"]
    outcome = prediction.predict(sources, model(), "pred", save=["npy"])
    written = sorted(path.resolve().relative_to(tmp_path).as_posix() for path in outcome.written)
    assert written[::2] == ["c/pred/c/train/a.npy", "c/pred/other/b.npy", "c/pred/predictions.json"]


def test_a_manifest_that_is_none_is_told_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("{")
    with pytest.raises(ValueError, match=r"predictions\.json cannot be read"):
        prediction.predict(paint(tmp_path / "a.png"), model(), tmp_path / "out")
    assert (tmp_path / "out" / "predictions.json").read_text() == "{"


def test_an_output_that_is_a_file_is_told_before_any_work(tmp_path):
    source = paint(tmp_path / "a.png")
    for out in (source, source / "below"):
        with pytest.raises(ValueError, match=r"a\.png is a file: expected a folder"):
            prediction.predict(source, model(), out)


def test_an_elongated_image_is_told_and_the_rest_goes_on(tmp_path):
    paint(tmp_path / "in" / "a.png", 48, 64)
    paint(tmp_path / "in" / "strip.png", 1, 2000)
    outcome = prediction.predict(tmp_path / "in", models.load("sonde-tiny"), tmp_path / "out", save=["npy"])
    assert [path.name for path in outcome.written] == ["a.npy", "a.npy.json", "predictions.json"]
    ((path, reason),) = outcome.failed
    assert path.name == "strip.png" and "2000x1, longer than 8 times its short side" in reason


def test_images_below_the_output_are_predicted_and_what_was_written_there_is_not(tmp_path, monkeypatch):
    for name in ("cap/a/x.png", "cap/b/y.png"):
        paint(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        outcome = prediction.predict("cap/a", model(), ".", save=["png16"])
        assert [path.name for path in outcome.written] == ["x.depth.png", "predictions.json"]
    for _ in range(2):
        outcome = prediction.predict(["cap/a", "cap/b"], model(), "cap", save=["png16"])
        assert [str(path) for path in outcome.written[:-1]] == ["cap/a/x.depth.png", "cap/b/y.depth.png"]


def test_a_source_with_nothing_but_its_output_says_so(tmp_path):
    paint(tmp_path / "in" / "images" / "x.png")
    with pytest.raises(ValueError, match=r"No images in .* but those below the output folder .*images"):
        prediction.predict(tmp_path / "in", model(), tmp_path / "in" / "images")


@pytest.mark.parametrize("what", ["out", "out/day"])
def test_an_output_that_is_removed_midway_is_an_error_and_not_made_anew(tmp_path, what):
    for index in range(4):
        paint(tmp_path / "in" / ("day" if index < 2 else ".") / f"{index}.png")

    def remove() -> None:
        if (tmp_path / what).exists():
            (tmp_path / what).rename(tmp_path / "removed")  # at once: other threads write into it

    with pytest.raises(FileNotFoundError) as stop:
        prediction.predict(
            tmp_path / "in",
            model(),
            tmp_path / "out",
            save=["npy"],
            progress=lambda done, _: remove() if done == 4 or what == "out" else None,
        )
    assert str(tmp_path / what) in str(stop.value.filename)
    assert what != "out" or not (tmp_path / "out").exists()


def test_a_path_too_long_for_its_output_is_a_failure_of_its_image(tmp_path, monkeypatch):
    for name in ("a", "b"):
        paint(tmp_path / "in" / f"{name}.png")

    def save(path, answer):
        if path.name == "a.npy":
            raise OSError(errno.ENAMETOOLONG, "File name too long", str(path))
        np.save(path, answer.own)

    monkeypatch.setitem(prediction.SAVERS, "npy", prediction.Saver(".npy", save))
    outcome = prediction.predict(tmp_path / "in", model(), tmp_path / "out", save=["npy"])
    assert [path.name for path in outcome.written] == ["b.npy", "predictions.json"]
    assert "too long" in outcome.failed[0][1]


def test_names_reach_the_terminal_printable(sonde, base, tmp_path):
    paint(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "\x1b]0;x\x07.png").write_bytes(b"junk")
    said = sonde("predict", tmp_path / "in", "-m", base, "-o", tmp_path / "out", "--save", "npy")
    assert said.code == 1 and "\\x1b]0;x\\x07.png" in said.text and "\x1b" not in said.text + said.errors
