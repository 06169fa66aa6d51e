"""The house stands as its list says: one order of imports, a word about every public name, no room too large."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from inspect import isfunction
from pathlib import Path

import pytest

import sonde

HOUSE = Path(sonde.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
DOORS = {HOUSE / "__init__.py", HOUSE / "__main__.py"}
"""The package's own name and its program; they open the rooms and are in none."""
HEAVY = ("torch", "transformers", "peft", "cv2", "trimesh", "matplotlib", "scipy")

named = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())


def module_of(path: Path) -> str:
    """`sonde.files.clouds` for its file."""
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """Modules of the house a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are written out, not relative"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names if node.module in MODULES)


def room(module: str) -> str:
    """`files` for sonde.files.clouds."""
    return (module + ".").split(".")[1]


def test_every_room_is_in_the_list_and_every_word_of_the_list_is_a_room():
    rooms = {room(module_of(path)) for path in FILES if path not in DOORS}
    assert rooms == set(sonde.MODULES)
    assert len(sonde.MODULES) == len(set(sonde.MODULES))


def test_the_design_lists_the_rooms_in_their_order():
    house = (HOUSE.parent / "docs" / "design.md").read_text().partition("\nsonde/\n")[2].partition("```")[0]
    listed = [line.split()[1].rstrip("/") for line in house.splitlines() if line[0] in "├└"]
    assert listed == [*sonde.MODULES, "weights"]


@named
def test_a_module_imports_only_from_modules_before_it(path):
    if path in DOORS:
        return
    own = room(module_of(path))
    others = {room(module) for module in imported(path)} - {own, ""}
    later = [other for other in others if sonde.MODULES.index(other) > sonde.MODULES.index(own)]
    assert not later, f"{own} imports {later}, which come after it"


def test_no_two_files_import_each_other():
    graph = {module_of(path): set(imported(path)) - {module_of(path)} for path in FILES if path not in DOORS}
    TopologicalSorter(graph).prepare()  # raises CycleError


@named
def test_every_public_name_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    names = [node for owner in (tree, *classes) for node in owner.body]
    public = [node for node in names if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]
    assert ast.get_docstring(tree), "the module itself"
    assert not [node.name for node in public if not ast.get_docstring(node)]


def test_a_class_name_has_one_meaning():
    homes: dict[str, list[Path]] = {}
    for path in FILES:
        if "scenes" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(path)
    assert not {name: found for name, found in homes.items() if len(found) > 1}


@named
def test_no_file_is_too_long_to_read(path):
    assert len(path.read_text().splitlines()) <= 450


def alone(program: str) -> str:
    """What a fresh Python prints for a program, which must end well."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_sonde_and_its_help_import_nothing_heavy():
    program = """
import sys, sonde
from sonde.cli import main
sys.argv = ["sonde", "--help"]
try:
    main()
except SystemExit:
    print("loaded", *sys.modules)
"""
    loaded = alone(program).splitlines()[-1].split()
    assert "typer" in loaded
    assert not set(HEAVY) & set(loaded)


@pytest.mark.slow
def test_every_module_imports_on_its_own():
    program = f"""
import sys
from importlib import import_module
for module in {sonde.MODULES}:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "sonde"]:
        del sys.modules[loaded]
    import_module(f"sonde.{{module}}")
"""
    alone(program)


def test_a_promised_verb_is_a_function():
    assert all(isfunction(getattr(sonde, verb)) for verb in sonde.VERBS)
    with pytest.raises(AttributeError, match="trayn"):
        getattr(sonde, "trayn")  # noqa: B009


TORCH_FREE = (
    "types",
    "files",
    "files.roles",
    "recipes",
    "encoding",
    "geometry",
    "models",
    "models.loading",
    "models.spec",
    "models.calibration",
    "models.inputs",
    "prediction",
    "prediction.manifest",
    "prediction.savers",
    "prediction.sheets",
    "prediction.sources",
)
"""Modules that must import, and work, where torch is not installed: exported models run there."""


def test_without_torch_predictions_are_written_recipes_read_and_the_loader_answers(tmp_path):
    program = f"""
import sys
sys.modules["torch"] = None  # every import of it now raises ImportError
from importlib import import_module
from pathlib import Path
import numpy as np
import sonde
for module in {TORCH_FREE}:
    import_module(f"sonde.{{module}}")

out = Path({str(tmp_path)!r})
depth = np.linspace(0.5, 2, 48, dtype=np.float32).reshape(6, 8)
camera = sonde.prediction.parse_intrinsics("20,20,3.5,2.5")
image = np.zeros((6, 8, 3), np.uint8)
answer = sonde.prediction.PredictedImage(image, depth, "metric", "mm", camera)
for name in ("png16", "npy", "preview", "ply"):
    saver = sonde.prediction.SAVERS[name]
    saver.write(out / ("a" + saver.suffix), answer)
assert np.allclose(sonde.files.read_depth(out / "a.depth.png"), depth, atol=6e-5)
assert np.allclose(np.load(out / "a.npy"), 1000 * depth)
assert list(sonde.prediction.find_images([out / "a.preview.png"], out / "more")) == [out / "a.preview.png"]

inverse = sonde.encoding.ENCODINGS["inverse"](0.4, 3.0)
assert np.allclose(inverse.decode(inverse.encode(depth)), depth)
assert np.allclose(sonde.models.Calibration("scale", "metric", 2.0).apply(depth), 2 * depth)
assert sonde.recipes.load("lora-few").train

assert sonde.load("sonde-tiny").predict(image).depth.shape == (6, 8)
for name in ("missing.onnx", "sonde-tny", "owner/network"):
    try:
        sonde.load(name)
    except ValueError as error:
        print(error)
try:
    sonde.prediction.render_relief(answer)
except ValueError as error:
    print(error)
"""
    unknown, misspelt, hub, relief = alone(program).splitlines()
    assert unknown.startswith("missing.onnx does not exist") and "did you mean 'sonde-tiny'" in misspelt
    assert hub.startswith("owner/network needs torch")
    assert relief.startswith("A relief needs torch")
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"a.depth.png", "a.npy", "a.npy.json", "a.preview.png", "a.ply"}


def test_the_names_of_models_that_need_torch_are_all_found():
    from sonde import models

    assert set(models.NEEDS_TORCH) < set(models.__all__)
    assert all(getattr(models, name) is not None for name in models.__all__)
