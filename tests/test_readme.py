"""What the README tells a newcomer to type, typed: every command and every piece of Python, in its order.

The French README says the same, and every link of both and of docs/ leads somewhere.
"""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import INTRINSICS, picture, plane_depth

from sonde import scenes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FRENCH = (ROOT / "README.fr.md").read_text()
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = FENCED.findall(README)
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, text in BLOCKS
    for line in text.splitlines()
    if not language and re.match(r"(sonde|make) ", line)
]
SHORT = {
    "sonde train": "train.max_steps=2 train.eval_steps=2 train.save_steps=2 model.input_size=[32,64]",
    "sonde train fixed-camera": "model.input_pixels=null choose.steps=5 train.max_steps=0",
    "sonde train lora-few": "choose.steps=5",
    "sonde train teacher-synthetic": "data.split.test=1 data.split.validation=1",
    "sonde train student": "data.measured.render.room=2 data.split.test=1 data.split.validation=1",
}
"""What keeps a command short here; the rest of it is run as it stands."""
ELSEWHERE = ("sonde demo", "sonde train metric-", "sonde doctor runs/", "sonde export", "sonde serve")
"""Run by other tests: test_demo, test_metric_recipes, test_recorder, test_export_files, test_serving_process."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with what the README supposes: RGB + depth of a camera, photographs, renders made earlier."""
    monkeypatch.chdir(tmp_path)
    for folder in ("rgb", "depth", "photos"):
        (tmp_path / folder).mkdir()
    for index in range(6):
        levels = (plane_depth(480, 640, np.diag([20, 20, 1]) @ INTRINSICS) * 1e4 + index).astype(np.uint16)
        Image.fromarray(levels).save(tmp_path / "depth" / f"{index}.png")
        Image.fromarray(picture(index, 480, 640)).save(tmp_path / "rgb" / f"{index}.png")
    Image.fromarray(picture(7, 48, 64)).save(tmp_path / "photos" / "one.png")
    Image.fromarray(picture(8, 48, 64)).save(tmp_path / "photo.jpg")
    (tmp_path / "points.csv").write_text("image,x,y,depth\nphoto.jpg,10,40,1.5\nphoto.jpg,50,8,4.2\n")
    for family in ("room", "bench", "road"):
        scenes.synth(family, f"data/scenes/{family}", 4, height=48, width=64, layout="folder", workers=1)
    return tmp_path


def test_the_readmes_commands_run_in_its_order(home, sonde):
    ran = [line for line in COMMANDS if line.startswith("sonde ") and not line.startswith(ELSEWHERE)]
    assert len(ran) >= 10
    for line in ran:
        said = sonde(*shorten_command(line))
        assert said.code == 0, f"{line}: {said.errors} {said.text}"
    assert any((home / "depth-of-photos").iterdir())


def shorten_command(line: str) -> list[str]:
    """A command of the README as words after `sonde`, with what keeps it short here."""
    extra = " ".join(words for start, words in SHORT.items() if line.startswith(start))
    return shlex.split(f"{re.sub(r'-n [0-9]+', '-n 2', line)} {extra}")[1:]


@pytest.mark.slow
def test_the_readmes_commands_run_in_a_fresh_clone_with_its_own_environment(home, tmp_path_factory):
    clone = tmp_path_factory.mktemp("clone") / "sonde"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    subprocess.run(["make", "-s", "setup"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
    for line in COMMANDS:
        if line.startswith("sonde ") and not line.startswith((*ELSEWHERE, "sonde bench", "sonde data synth")):
            words = [clone / ".venv" / "bin" / "sonde", *shorten_command(line)]
            ended = subprocess.run(words, cwd=home, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert ended.returncode == 0, f"{line}: {ended.stderr}"
            assert "Traceback" not in ended.stderr and "Warning" not in ended.stderr, line


def test_the_readmes_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {line.split()[1] for line in COMMANDS if line.startswith("make ")}
    assert wanted and wanted <= targets


def test_the_readmes_python_runs(home):
    pieces = [text for language, text in BLOCKS if language == "python"]
    assert pieces
    for piece in pieces:
        exec(compile(piece, "README.md", "exec"), {})


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_each_how_do_i_has_at_most_eight_lines_of_text_and_commands():
    sections = re.findall(r"^## How do I .*?\n(.*?)(?=^## )", README, re.DOTALL | re.MULTILINE)
    lines = [[line for line in section.splitlines() if line and not line.startswith("```")] for section in sections]
    assert len(lines) == 5 and all(len(section) <= 8 for section in lines)


def code(page: str) -> list[tuple[str, list[str]]]:
    """Each block's language and its lines, without comments, which are translated."""
    return [(tag, [re.split(r"  +#", line)[0] for line in text.splitlines()]) for tag, text in FENCED.findall(page)]


def figures(page: str) -> list[list[str]]:
    """The numbers of each row of a table."""
    return [re.findall(r"\d[\d.,]*", line) for line in page.splitlines() if line.startswith("|")]


def test_both_readmes_have_the_same_commands_figures_and_links():
    assert code(README) == code(FRENCH) and len(code(README)) >= 6
    assert figures(README) == figures(FRENCH) and ["29.7", "0.041", "39.0", "0.992", "0.750"] in figures(README)
    assert links(README)[1:] == links(FRENCH)[1:]
    assert (links(README)[0], links(FRENCH)[0]) == ("README.fr.md", "README.md")


def links(page: str) -> list[str]:
    """Where a page's links and pictures lead, those to the web and those in code left out."""
    prose = re.sub(r"`[^`\n]*`", "`", FENCED.sub("", page))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"\w+:", target)]


def anchors(page: str) -> set[str]:
    """What GitHub calls each heading: lower case, spaces as hyphens, no punctuation."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: str, folder: Path) -> list[str]:
    """The links of a page in that folder whose file, or whose heading, is not there."""
    return [link for link in links(page) if not leads(link, page, folder)]


def leads(link: str, page: str, folder: Path) -> bool:
    name, _, anchor = link.partition("#")
    goal = folder / name
    return goal.exists() and (not anchor or anchor in anchors(goal.read_text() if name else page))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path):
    assert broken(path.read_text(), path.parent) == []


def test_a_link_that_leads_nowhere_is_found():
    page = "# Here, it is\n[a](README.md) [b](no.md) [c](#here-it-is) [d](#nor-here) [e](docs/bench.md#no) `[f](no.md)` [g](https://x.y)"
    assert broken(page, ROOT) == ["no.md", "#nor-here", "docs/bench.md#no"]
