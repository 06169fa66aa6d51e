"""Where only the base is installed, sonde predicts; each other verb says in one sentence what it needs."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sonde as package
from sonde import cli, extras
from sonde.files import read_depth

ROOT = Path(__file__).parents[1]
ABSENT = [name for packages in extras.EXTRAS.values() for name in packages] + ["pandas", "networkx", "sympy"]
"""The packages of all extras, and some that come with them."""
HEAVY = ("torch", "transformers", "peft", "trimesh", "matplotlib", "scipy", "h5py", "pandas", "OpenEXR", "onnx")

TRAINS = 'which is not installed: pip install "sonde[train]".'
NEEDING_TORCH = {
    "demo": "",
    "demo --distill": "",
    "train lora-few": "",
    "train lora-few --dry-run": "",
    "train lora-few train.learning_rate=1e-3 --plan-lr": "",
    "label sonde-tiny photos labels": "",
    "eval sonde-tiny --protocol zivid-mm --data captures": "",
    "compare one other": "",
    "reproduce --list": "",
    "features photo.jpg": "",
    "export sonde-tiny --to hf": "",
    "calibrate sonde-tiny --points points.csv": "",
    "bench": "",
    "doctor runs/one": "",
    "doctor --online": "",
    "doctor --clear-cache": "",
    "data check captures": "data check",
    "data stats captures": "data stats",
    "data convert images clouds out": "data convert",
    "data download --list": "data download",
    "data synth bench out": "data synth",
}
"""Command -> the verb as the sentence names it, where that is not the first word."""

RUN = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None  # every import of it now raises ModuleNotFoundError, and none is found
import sonde.geometry, sonde.prediction, sonde.recipes  # once for all processes
from sonde.cli import main

def ask(main):
    # A process for each, since a failed import leaves a part of what it imported.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        out, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(errors):
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException as error:
                code = repr(error)
        os.write(writer, json.dumps([code, out.getvalue(), errors.getvalue()]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = json.loads(answer.read())
    os.waitpid(child, 0)
    return said

answers = {}
for command in json.loads(sys.argv[2]):
    sys.argv = ["sonde", *command.split()]
    answers[command] = ask(main)
print(json.dumps(answers))
"""


def run_python(program: str, *arguments: str, **options) -> str:
    """What a fresh Python prints, which must end well."""
    words = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def list_commands() -> dict[str, object]:
    """Every command of the program: `train`, `data check`."""
    import typer

    program = typer.main.get_command(cli.app)
    found = {}
    for name, command in program.commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        found |= {f"{name} {below}": each for below, each in getattr(command, "commands", {}).items()} or {
            name: command
        }
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, tuple[int | str, str, str]]:
    """Command -> exit code, stdout and stderr, where no package of an extra is installed."""
    asked = [
        *NEEDING_TORCH,
        "serve",
        *(f"{name} --help" for name in list_commands()),
        "--help",
        "--version",
        "doctor",
        "doctor --json",
    ]
    return json.loads(run_python(RUN, json.dumps(ABSENT), json.dumps(asked), cwd=tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize("command", NEEDING_TORCH)
def test_a_verb_that_needs_more_says_so_in_one_sentence(answers, command):
    code, out, errors = answers[command]
    verb = NEEDING_TORCH[command] or command.split()[0]
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error sonde {verb} needs (torch|scipy), {re.escape(TRAINS)}\n", errors)


def test_every_verb_but_predict_is_asked():
    asked = {NEEDING_TORCH[command] or command.split()[0] for command in NEEDING_TORCH}
    assert asked == set(list_commands()) - {"predict", "serve"}


def test_serving_needs_its_own_extra_alone(answers):
    code, out, errors = answers["serve"]
    assert (code, out) == (2, "")
    assert errors == 'error sonde serve needs uvicorn, which is not installed: pip install "sonde[serve]".\n'


def test_help_needs_the_base_alone(answers):
    for command in (*(f"{name} --help" for name in list_commands()), "--help", "--version"):
        code, out, errors = answers[command]
        assert code == 0 and not errors and len(out) > 10, command


def test_the_doctor_says_what_is_missing_and_how_it_is_installed(answers):
    code, out, errors = answers["doctor"]
    assert (code, errors) == (0, "") and "None" not in out
    assert re.search(r"extras\.train +missing torch, transformers.*: pip install \"sonde\[train\]\"", out)
    assert out.splitlines()[-1] == "Next: `sonde predict photos`"
    facts = json.loads(answers["doctor --json"][1])
    assert facts["torch"] is facts["cache"] is facts["bf16_native"] is None and facts["devices"] == ["cpu"]
    assert set(facts["extras"]) == set(extras.EXTRAS) and "onnxruntime" in facts["parts"]


def test_python_gets_the_same_sentence():
    program = """
import sys
sys.modules["torch"] = None
import sonde
try:
    sonde.train
except ImportError as error:
    print(type(error).__name__, error.name, error)
"""
    assert run_python(program) == f"MissingPackage torch sonde.train needs torch, {TRAINS}\n"


def test_a_package_that_no_extra_installs_is_a_fault_of_sonde(monkeypatch, capsys):
    def break_off(*_):
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")

    monkeypatch.setattr(sys, "argv", ["sonde", "doctor"])
    monkeypatch.setattr("sonde.doctor.describe_machine", break_off)
    with pytest.raises(ModuleNotFoundError, match="nosuch"):
        cli.main()


def test_a_part_that_an_installed_package_lacks_is_no_reason_to_install_it():
    assert extras.explain_missing(ModuleNotFoundError("", name="torch.nosuch"), "sonde train") is None
    assert extras.explain_missing(ModuleNotFoundError("", name=None), "sonde train") is None


def test_the_table_of_extras_is_that_of_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def name(requirement: str) -> str:
        return re.split(r"[\[<>=]", requirement)[0].lower().replace("-", "_")

    listed = project["optional-dependencies"]
    for extra, packages in extras.EXTRAS.items():
        assert {each.lower() for each in packages} == {name(each) for each in listed[extra]} - {"sonde"}, extra
    assert not {name(each) for each in project["dependencies"]} & {each.lower() for each in ABSENT}


def test_prediction_and_the_command_line_import_nothing_that_they_may_not_need():
    program = "import sys, sonde.prediction, sonde.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not set(HEAVY) & set(run_python(program).split())


def test_pictures_and_clouds_are_written_with_the_base_alone(tmp_path):
    program = f"""
import json, sys
for name in {ABSENT}:
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from sonde import background, prediction
from sonde.prediction.sheets import SheetWriter
out = Path({str(tmp_path)!r})
depth = np.linspace(0.5, 2, 48 * 64, dtype=np.float32).reshape(48, 64)
image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
answer = prediction.PredictedImage(image, depth, "metric", "mm", prediction.parse_intrinsics("64,64,31.5,23.5"))
for name in ("png16", "npy", "preview", "ply", "glb"):
    prediction.SAVERS[name].write(out / f"a{{prediction.SAVERS[name].suffix}}", answer)
sheet = SheetWriter([out / "sheet.png"], "sonde-tiny")
sheet.add("a.png", answer)
sheet.finish()
bench = background.Background(depth, image, "median", 1.0)
print(background.register(bench, image).moved)
"""
    assert run_python(program) == "False\n"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.depth.png", "a.npy", "a.npy.json", "a.preview.png", "a.ply", "a.glb", "sheet.png")
    }


def imports_openvino(path: Path) -> bool:
    """Whether a file imports OpenVINO anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return any(name.partition(".")[0] == "openvino" for name in names)


def test_every_file_that_imports_openvino_switches_its_telemetry_off():
    importing = [path for path in Path(package.__file__).parent.rglob("*.py") if imports_openvino(path)]
    assert importing
    for path in importing:
        assert "switch_off_telemetry()" in path.read_text(), path


@pytest.mark.skipif(find_spec("openvino") is None, reason='OpenVINO is not installed: pip install "sonde[openvino]"')
def test_openvino_sends_nothing_once_its_telemetry_is_off(tmp_path):
    program = """
from sonde.extras import switch_off_telemetry
switch_off_telemetry()
import openvino
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__)
"""
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    assert run_python(program, env=quiet | {"HOME": str(tmp_path)}).strip().endswith("telemetry_stub")
    assert not list(tmp_path.rglob("openvino*"))  # where it keeps the number that it sends


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The folder of programs of a fresh environment with the base alone."""
    folder = tmp_path_factory.mktemp("fresh")
    copy = folder / "sonde"
    shutil.copytree(ROOT / "sonde", copy / "sonde", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, copy / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    pip = [programs / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", copy / "constraints.txt", copy], check=True)
    return programs


def run_there(programs: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `sonde WORDS…` of a fresh environment."""
    return subprocess.run(
        [str(programs / "sonde"), *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


@pytest.mark.slow
def test_a_fresh_environment_with_the_base_alone_looks_at_the_machine_and_refuses_to_train(environment, tmp_path):
    installed = subprocess.run([environment / "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"^(torch|transformers|peft|scipy|matplotlib) ", installed, re.MULTILINE)
    assert run_there(environment, tmp_path, "--help").returncode == 0
    facts = run_there(environment, tmp_path, "doctor", "--json")
    assert facts.returncode == 0 and json.loads(facts.stdout)["torch"] is None, facts.stderr
    trained = run_there(environment, tmp_path, "train", "lora-few")
    assert trained.returncode == 2 and TRAINS in trained.stderr


@pytest.mark.slow
def test_a_fresh_environment_with_the_base_alone_predicts(environment, tmp_path):
    model = package.export("sonde-tiny", to="onnx", out=tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (168, 224, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    here = package.load("sonde-tiny").predict(pixels).depth
    for folder, chosen in (("file", ["-m", model]), ("shipped", [])):
        done = run_there(environment, tmp_path, "predict", "photo.png", *chosen, "-o", folder, "--json")
        assert done.returncode == 0, done.stderr
        there = read_depth(tmp_path / folder / "photo.depth.png")
        assert np.abs(there - here).max() < 1e-3 * np.ptp(here)
