"""The page's files: complete, small, of the pinned versions, and of colours that can be read."""

import json
import re
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

import sonde

ROOT = Path(sonde.__file__).parents[1]
PAGE = ROOT / "sonde" / "serving" / "page"
TOOLS = ROOT / "tools" / "page"
OWN = [path for path in sorted(PAGE.iterdir()) if path.suffix in (".html", ".css", ".js") and path.name != "three.js"]


def test_three_is_of_the_pinned_version_and_has_its_licence_beside_it():
    pin = json.loads((TOOLS / "package.json").read_text())["devDependencies"]["three"]
    locked = json.loads((TOOLS / "package-lock.json").read_text())["packages"]["node_modules/three"]["version"]
    first = (PAGE / "three.js").read_text().partition("\n")[0]
    assert pin == locked and first.startswith(f"/*! three.js {pin}, MIT: three.LICENSE.txt.")
    assert "MIT License" in (PAGE / "three.LICENSE.txt").read_text()
    assert (PAGE / "three.js").stat().st_size < 800_000


def test_the_page_names_no_other_server():
    known = "http://www.w3.org/2000/svg"
    for path in OWN:
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text().replace(known, "")), path.name
    assert "default-src 'self'" in (PAGE / "index.html").read_text()


def test_every_file_that_the_page_names_is_there_and_in_the_package():
    text = "\n".join(path.read_text() for path in OWN)
    named = set(re.findall(r'"(?:page|\.)/([\w.-]+)"', text))
    assert {"style.css", "app.js", "cloud.js", "three.js", "examples.json"} <= named
    assert not [name for name in named if not (PAGE / name).is_file()]
    kinds = re.findall(r'"\*(\.\w+)"', (ROOT / "pyproject.toml").read_text())
    assert {path.suffix for path in PAGE.iterdir()} <= set(kinds)


def test_every_element_that_the_code_asks_for_is_on_the_page():
    ids = set(re.findall(r'id="([\w-]+)"', (PAGE / "index.html").read_text()))
    asked = {name for path in OWN for name in re.findall(r'\$\("([\w-]+)"\)', path.read_text())}
    assert asked and asked <= ids


def test_the_examples_are_small_pictures():
    listed = json.loads((PAGE / "examples.json").read_text())
    assert len(listed) == 3
    for example in listed:
        path = PAGE / Path(example["url"]).name
        with Image.open(path) as picture:
            assert picture.size == (640, 480) and path.stat().st_size < 150_000


def test_the_scripts_stay_small():
    assert sum(len(path.read_text().splitlines()) for path in OWN if path.suffix == ".js") < 1300
    assert not [path.name for path in OWN if max(map(len, path.read_text().splitlines())) > 200]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_ground(scheme):
    rules = re.findall(r":root \{(.*?)\}", (PAGE / "style.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", rules[scheme == "dark"]))
    pairs = [
        *product(("ink", "quiet", "accent"), ("page", "card", "tint")),
        ("on-accent", "accent"),
        ("bad", "bad-tint"),
    ]
    for ink, ground in pairs:
        assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}"
    for ground in ("page", "card"):
        assert contrast(colours["edge"], colours[ground]) >= 3, f"edge on {ground}"


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, by WCAG 2."""
    bands = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (band / 12.92 if band <= 0.04045 else ((band + 0.055) / 1.055) ** 2.4 for band in bands)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
