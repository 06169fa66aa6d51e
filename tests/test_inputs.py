"""What a user names as images, as a model and as an output is taken as meant, or refused in a sentence before work."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_predict import CAMERA, model, paint

from sonde import cli, features, files, models, prediction
from sonde.files.absent import describe_contents, explain_absent, explain_address
from sonde.files.heif import find_heif_library, is_film, is_heif
from sonde.files.patterns import expand_sources
from sonde.models.naming import explain_folder, explain_unknown, is_hub_id
from sonde.prediction import sources
from sonde.unlabeled import open_images

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
"""The start of a HEIC file."""
NEW = "out"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder, with photographs and runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/b.png", "photos/day/c.png", "photos/day/deep/d.jpg", "one.png"):
        paint(Path(name))
    for name in ("runs/bench/best", "runs/half"):
        Path(name).mkdir(parents=True)
    Path("runs/half/recipe.yaml").touch()
    return tmp_path


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# --- several inputs and patterns


def test_several_images_and_folders_are_predicted_in_one_call(here):
    outcome = prediction.predict(["one.png", "photos/a.png", "photos/day"], model(), NEW, save=["png16"])
    assert not outcome.failed
    names = sorted(path.relative_to(NEW).as_posix() for path in outcome.written if path.suffix == ".png")
    assert names == ["one.depth.png", "photos/a.depth.png", "photos/day/c.depth.png", "photos/day/deep/d.depth.png"]


def test_the_program_takes_them_too(here, sonde):
    said = sonde("predict", "one.png", "photos/a.png", "-o", NEW, "--save", "npy", "--json")
    assert said.code == 0 and not said.json["failed"]
    assert Path(NEW, "one.npy").is_file() and Path(NEW, "photos", "a.npy").is_file()


@pytest.mark.parametrize(
    "pattern,names",
    [
        ("photos/*.png", ["photos/a.png", "photos/b.png"]),
        ("photos/[b-z].png", ["photos/b.png"]),
        ("photos/**/*.png", ["photos/a.png", "photos/b.png", "photos/day/c.png"]),
        ("photos/**/day/*.png", ["photos/day/c.png"]),
        ("ph*/**/*.jpg", ["photos/day/deep/d.jpg"]),
        ("**/c.png", ["photos/day/c.png"]),
        ("photos/d*", ["photos/day"]),
    ],
)
def test_a_pattern_stands_for_what_a_shell_would_give(here, pattern, names):
    assert [path.as_posix() for path in expand_sources([pattern])] == names


def test_a_name_that_looks_like_a_pattern_and_exists_is_that_file(here):
    paint(Path("photos/[1]*.png"))
    paint(Path("photos/1x.png"))
    assert expand_sources(["photos/[1]*.png"]) == [Path("photos/[1]*.png")]


def test_a_pattern_goes_round_no_loop_of_links(here):
    Path("photos/day/up").symlink_to("..")
    assert len(expand_sources(["photos/**/*.png"])) == 3


@pytest.mark.parametrize(
    "pattern,says",
    [
        ("photos/*.tif", "photos holds 2 .png and 1 folder"),
        ("*.tif", "this folder holds 1 .png and 2 folders"),
        ("phots/*.png", "no folder phots"),
        ("a/**/b/**/c.png", "one ** at most"),
    ],
)
def test_a_pattern_that_stands_for_nothing_says_what_is_there(here, pattern, says):
    for take in (lambda: prediction.predict(pattern, model(), NEW), lambda: open_images(pattern)):
        with pytest.raises(ValueError, match=r"stands for no file|expected") as refused:
            take()
        assert says in str(refused.value)


def test_labels_take_patterns(here):
    assert open_images("photos/**/*.png").ids == ["a", "b", "day/c"]
    with pytest.raises(ValueError, match="stands for no image"):
        open_images("photos/d*")


def test_a_folder_is_described_by_what_it_holds(here):
    for name in ("x.heic", "y.heic", "README", *(f"z.{number}" for number in range(9))):
        Path("photos", name).touch()
    said = describe_contents(Path("photos"))
    assert said.startswith("2 ") and "2 .heic" in said and said.endswith("of other kinds and 1 folder")


# --- standard input and output


def test_standard_input_is_one_image_that_gives_what_its_file_gives(here, monkeypatch):
    for _ in range(2):  # the second call replaces the first one's
        feed(monkeypatch, Path("one.png").read_bytes())
        outcome = prediction.predict("-", model(), NEW, save=["png16", "npy"])
    assert [path.name for path in outcome.written[:2]] == ["stdin.depth.png", "stdin.npy"]
    prediction.predict("one.png", model(), "other", save=["png16"])
    assert Path(NEW, "stdin.depth.png").read_bytes() == Path("other", "one.depth.png").read_bytes()
    assert prediction.read_manifest(Path(NEW)).get("predictions", [{}])[0].get("source") == "stdin"


@pytest.mark.parametrize("kind", ["png16", "npy", "preview", "relief", "ply", "glb"])
def test_standard_output_gets_the_bytes_of_the_file(here, monkeypatch, kind):
    prediction.predict("one.png", model(), NEW, save=[kind], intrinsics=CAMERA)
    feed(monkeypatch, Path("one.png").read_bytes())
    written, notes = prediction.predict_bytes("-", model(), save=[kind], intrinsics=CAMERA)
    assert written == Path(NEW, f"one{prediction.SAVERS[kind].suffix}").read_bytes() and not notes


def test_the_program_pipes_an_image_through_and_writes_nothing_else(here, monkeypatch, capfdbinary):
    monkeypatch.setattr(models, "load", lambda name, **options: model())
    feed(monkeypatch, Path("one.png").read_bytes())
    monkeypatch.setattr(sys, "argv", ["sonde", "predict", "-", "-o", "-"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    prediction.predict("one.png", model(), NEW, save=["png16"])
    assert not stop.value.code and capfdbinary.readouterr().out == Path(NEW, "one.depth.png").read_bytes()


@pytest.mark.parametrize(
    "words,says",
    [
        (["one.png", "-o", "-", "--save", "png16,npy"], "one file to standard output, not png16,npy"),
        (["one.png", "-o", "-", "--sheet"], "not png16,sheet"),
        (["one.png", "-o", "-", "--json"], "both write to standard output"),
        (["photos", "-o", "-"], "4 are given"),
        (["-", "one.png"], "give it alone"),
    ],
)
def test_what_cannot_be_piped_is_refused_before_the_model_is_loaded(here, sonde, words, says):
    said = sonde("predict", *words, "-m", "owner/nosuch")
    assert said.code == 2 and said.text == "" and says in " ".join(said.errors.split())


def test_an_input_that_is_no_image_is_refused(here, monkeypatch, sonde):
    feed(monkeypatch, b"")
    assert "Standard input is empty" in sonde("predict", "-").errors
    feed(monkeypatch, b"junk")
    assert "stdin cannot be read" in sonde("predict", "-", "-o", "-").errors
    monkeypatch.setattr(sources, "MOST_STREAMED", 10)
    feed(monkeypatch, Path("one.png").read_bytes())
    assert "holds more than" in sonde("predict", "-").errors
    feed(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert "there is only a terminal" in " ".join(sonde("predict", "-").errors.split())
    assert "for `sonde predict`" in sonde("features", "-").errors


# --- addresses


@pytest.mark.parametrize(
    "address,command",
    [
        ("https://a.b/c//d.jpg?x=1&y=2", "`curl -L -o d.jpg 'https://a.b/c//d.jpg?x=1&y=2'`"),
        ("http://a.b/photos", "`curl -L -o photo.jpg http://a.b/photos`"),
        ("s3://bucket/a.png", "`aws s3 cp s3://bucket/a.png .`"),
        ("rtsp://cam/1", "`ffmpeg -i rtsp://cam/1 frames/%05d.png`"),
        ("ssh://host/a.png", "on this machine"),
    ],
)
def test_an_address_is_refused_as_it_was_typed_with_the_command_that_fetches_it(here, sonde, address, command):
    for verb in (["predict"], ["features"], ["label", "sonde-tiny"]):
        said = " ".join(sonde(*verb, address, *[NEW] * (verb[0] == "label")).errors.split())
        assert f"{address} is an address" in said and command in said, verb
    assert not Path(NEW).exists()


def test_an_address_that_was_a_path_has_its_slashes_again(here, sonde):
    assert explain_address(Path("https://a.b/c.jpg")) == explain_address("https://a.b/c.jpg")
    assert not explain_address("C:/photos") and not explain_address("kitti:/data") and not explain_address("a/b.png")
    for words in (
        ["data", "check", "https://a.b/c"],
        ["eval", "sonde-tiny", "--data", "https://a.b/c"],
        ["calibrate", "sonde-tiny", "--points", "https://a.b/c", "-o", NEW],
        ["train", "lora-few", "data.root=https://a.b/c", "output_dir=out"],
    ):
        assert "https://a.b/c is an address" in sonde(*words).errors, words


def test_a_wrong_name_is_answered_with_the_nearest(here):
    assert "did you mean photos/day?" in explain_absent("phots/day", "a folder")
    assert "did you mean photos/a.png?" in explain_absent("photos/A.PNG", "an image")
    assert "there is no folder nosuch." in explain_absent("nosuch/day/x.png", "an image")


# --- video and HEIC


def test_a_video_says_that_it_is_one_and_names_ffmpeg(here, sonde):
    Path("photos/my clip.MP4").touch()
    said = " ".join(sonde("predict", "photos/my clip.MP4", "-m", "owner/nosuch").errors.split())
    assert "it is a video" in said and "`ffmpeg -i 'my clip.MP4' frames/%05d.png`" in said
    said = " ".join(sonde("label", "sonde-tiny", "photos/my clip.MP4", NEW).errors.split())
    assert "cannot be labelled: it is a video" in said
    outcome = prediction.predict(["one.png", "photos/my clip.MP4"], model(), NEW)
    assert len(outcome.failed) == 1 and "video" in outcome.failed[0][1] and len(outcome.written) == 3
    # In a folder of photographs it is no mistake.
    assert not prediction.predict("photos", model(), "all").failed


def test_a_folder_of_videos_and_an_animation_say_it_too(here):
    Path("clips").mkdir()
    Path("clips/a.mov").touch()
    with pytest.raises(ValueError, match=r"No images in clips: .*a\.mov is passed over: it is a video"):
        prediction.predict("clips", model(), NEW)
    still, moving = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    still.save("still.gif")
    still.save("moving.gif", save_all=True, append_images=[moving])
    assert not prediction.predict("still.gif", model(), NEW, save=["npy"]).failed
    with pytest.raises(ValueError, match="it is a video"):
        prediction.predict("moving.gif", model(), NEW)


def test_contents_tell_a_video_and_a_heic_under_any_name(here):
    assert is_heif(HEIC) and not is_heif(b"\0\0\0\x1cftypavif\0\0\0\0mif1avif") and not is_film(HEIC)
    for head in (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI LIST"):
        Path("x.jpg").write_bytes(head.ljust(40, b"\0"))
        with pytest.raises(ValueError, match="its content is a video"):
            files.read_rgb("x.jpg")


@pytest.mark.skipif(find_heif_library() is not None, reason="a library for HEIC is installed")
def test_a_heic_without_a_library_names_one_and_its_licence(here, sonde):
    Path("phone.HEIC").write_bytes(HEIC)
    Path("phone.jpg").write_bytes(HEIC)  # as some phones name it
    said = " ".join(sonde("predict", "phone.HEIC", "-m", "owner/nosuch").errors.split())
    assert "`pip install pillow-heif`" in said and "GPL" in said and "sips" in said
    with pytest.raises(ValueError, match="pip install pillow-heif"):
        files.read_rgb("phone.jpg")


LIBRARY = """
from io import BytesIO
from PIL import Image, ImageFile

class Stub(ImageFile.ImageFile):
    format = "HEIF"
    def _open(self):
        self._inner = Image.open(BytesIO(self.fp.read()[24:]))
        self._mode, self._size = self._inner.mode, self._inner.size
    def load(self):
        self.im = self._inner.copy().im
        return super().load() if False else None

def register_heif_opener():
    print("registered")
    Image.register_open("HEIF", Stub, lambda head: head[4:12] == b"ftypheic")
"""
PROGRAM = """
from sonde import files
from sonde.unlabeled import open_images
assert ".heic" in files.IMAGE_SUFFIXES and ".heic" not in files.FOREIGN
files.read_rgb("photos/a.png")
print("before")
assert files.read_rgb("photos/phone.HEIC").shape == files.read_rgb("one.png").shape
assert files.image_size("photos/phone.HEIC") == (6, 8)
print(open_images("photos").ids)
"""


def test_a_heic_in_a_folder_is_an_image_once_a_library_is_there_and_imported_only_then(here):
    Path("pillow_heif.py").write_text(LIBRARY)
    Path("photos/phone.HEIC").write_bytes(HEIC + Path("one.png").read_bytes())
    path = os.pathsep.join([str(here), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, registered, *_, ids = done.stdout.splitlines()
    assert (before, registered) == ("before", "registered") and "'phone'" in ids


def test_a_real_heic_is_read_upright(here):
    library = pytest.importorskip("pillow_heif")
    library.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    paint(Path("wide.png"), 48, 64)
    for name in ("photos/phone.heic", "photos/phone.jpg"):
        Image.open("wide.png").save(name, exif=exif.tobytes(), quality=95)
    ours, theirs = files.read_rgb("photos/phone.heic"), files.read_rgb("photos/phone.jpg")
    assert ours.shape == theirs.shape == (64, 48, 3) and files.image_size("photos/phone.heic") == (64, 48)
    assert np.abs(ours.astype(int) - theirs).mean() < 5
    assert "phone.heic" in {path.name for path in prediction.find_images(["photos"], Path(NEW))}


# --- models


@pytest.mark.parametrize(
    "name,hub",
    [
        ("depth-anything/Depth-Anything-V2-Small-hf", True),
        ("photos/nosuch", True),  # a folder without models may have the name of an owner
        ("photos/a.png", False),
        ("runs/nosuch", False),
        ("./nosuch", False),
        ("../nosuch", False),
        ("a/b/c", False),
        ("~/nosuch", False),
        ("a/b.pth", False),
        ("a/b.safetensors", False),
        ("exp/nosuch", False),  # a folder of models
    ],
)
def test_an_id_of_the_hub_and_a_path_are_told_apart(here, name, hub):
    Path("exp/one").mkdir(parents=True)
    Path("exp/one/config.json").touch()
    assert is_hub_id(name) is hub


@pytest.mark.parametrize(
    "name,says",
    [
        ("runs/nosuch", "No such run folder runs/nosuch: there are runs/bench, runs/half."),
        ("runs/hlf", "there are runs/half, runs/bench"),
        ("bench", "did you mean runs/bench?"),
        ("a/b/c", "there is no folder a"),
        ("~/nosuch", "a quoted ~"),
        ("lora-few", "is a recipe, not a model"),
        ("photos/a.png", "no file of weights"),
        ("https://a.b/owner/name", "by its id, owner/name"),
        ("https://a.b/owner/x.pth", "curl -L -o x.pth"),
        ("nothing.pth", "does not exist: expected an official"),
    ],
)
def test_a_name_that_is_no_model_says_what_there_is(here, name, says):
    with pytest.raises(ValueError) as refused:
        models.load(name)
    assert says in str(refused.value)


def test_every_verb_that_takes_a_model_says_it_first(here, sonde):
    for words in (
        ["predict", "photos", "-m", "runs/nosuch"],
        ["features", "one.png", "-m", "runs/nosuch"],
        ["label", "runs/nosuch", "photos", NEW],
        ["eval", "runs/nosuch", "--data", "photos"],
        ["export", "runs/nosuch", "--to", "hf"],
    ):
        said = sonde(*words)
        assert said.code == 2 and "there are runs/bench, runs/half" in " ".join(said.errors.split()), words


def test_a_folder_without_a_model_says_what_it_is(here):
    Path("folds/fold-0/best").mkdir(parents=True)
    Path("answers").mkdir()
    Path("answers/predictions.json").touch()
    assert "`sonde train runs/half --resume`" in explain_folder(Path("runs/half"))
    assert "there are runs/bench, runs/half" in explain_folder(Path("runs"))
    assert "folds/fold-0" in explain_folder(Path("folds"))
    assert "sonde eval answers" in explain_folder(Path("answers"))
    assert "it holds 2 .png and 1 folder" in explain_folder(Path("photos"))
    assert "sonde-tiny" in explain_unknown("sonde-tny")


def test_a_model_or_a_recipe_among_the_images_is_told(here, sonde):
    for name, says in (
        ("sonde-tiny", "-m sonde-tiny"),
        ("runs/bench", "-m runs/bench"),
        ("lora-few", "sonde train lora-few"),
    ):
        assert says in " ".join(sonde("predict", "photos", name, "-o", NEW).errors.split())


def test_a_hub_that_cannot_be_reached_is_told_with_the_reason(here, monkeypatch):
    monkeypatch.setattr("sonde.models.reading._is_hub_reachable", lambda: False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"Hugging Face hub: it cannot be reached over the network \(behind a proxy"):
        models.load("owner/name")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.local:3128")
    with pytest.raises(ValueError, match=r"through the proxy proxy\.local \(HTTPS_PROXY\)"):
        models.load("owner/name")
    monkeypatch.setattr("sonde.models.reading.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        models.load("owner/name")
    with pytest.raises(ValueError, match="no such folder here"):
        models.load("photos/nosuch")


# --- outputs


@pytest.mark.parametrize(
    "place,says",
    [
        ("one.png", "one.png is a file"),
        ("one.png/below", "one.png is a file"),
        ("/proc/nosuch", "no file can be made in /proc"),
        ("n" * 300, "the name is too long"),
        ("new/" + "n" * 300, "the name is too long"),
        ("a/" * 3000, "the name is too long"),
        ("https://a.b/c", "https://a.b/c is an address"),
        ("/dev/null", "a device"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(here, place, says):
    with pytest.raises(ValueError) as refused:
        files.check_output(place, "-o")
    assert str(refused.value).startswith("-o ") and says in str(refused.value)
    files.check_output("new/er")
    assert not Path("new").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc, which takes no file even of root")
@pytest.mark.parametrize(
    "words",
    [
        ["predict", "photos", "-m", "runs/nosuch", "-o"],
        ["predict", "photos", "-m", "runs/nosuch", "--out"],
        ["features", "one.png", "-m", "runs/nosuch", "-o"],
        ["eval", "runs/nosuch", "--data", "photos", "-o"],
        ["export", "runs/nosuch", "-o"],
        ["calibrate", "runs/nosuch", "--points", "nosuch.csv", "--out"],
        ["compare", "a", "b", "--out"],
        ["data", "download", "nyu", "-o"],
        ["demo", "-o"],
        ["demo", "--output"],
    ],
)
def test_every_verb_says_it_first_with_the_option_as_typed(here, sonde, words):
    said = sonde(*words, "/proc/nosuch")
    assert said.code == 2 and f"{words[-1]} /proc/nosuch cannot be written" in " ".join(said.errors.split())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")
def test_outputs_without_an_option_say_it_too(here, sonde):
    for words in (
        ["label", "runs/nosuch", "photos", "/proc/nosuch"],
        ["data", "convert", "photos", "photos", "/proc/nosuch"],
        ["data", "synth", "bench", "/proc/nosuch"],
        ["train", "lora-few", "output_dir=/proc/nosuch"],
        ["train", "lora-few", "output_dir=/proc/nosuch", "--dry-run"],
    ):
        assert "/proc/nosuch cannot be written" in " ".join(sonde(*words).errors.split()), words


def test_features_of_several_images_are_written(here, sonde, monkeypatch):
    monkeypatch.setattr(features, "features", lambda image, model, out: [Path(out) / Path(image).name])
    written = sonde("features", "one.png", "photos/*.png", "-o", NEW, "--json").json["written"]
    assert written == [f"{NEW}/one.png", f"{NEW}/photos/a.png", f"{NEW}/photos/b.png"]
    paint(Path("one.jpg"))
    assert "have one name" in sonde("features", "one.png", "one.jpg", "-o", NEW).errors
