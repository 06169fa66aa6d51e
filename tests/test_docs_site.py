"""The site of the documentation: every page has its place, the reference names what exists, troubles are quoted truly.

mkdocs is not needed here; `make docs` builds the site and lets no warning pass.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml

import sonde as package
from sonde import cli, recipes

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TROUBLES = (DOCS / "troubleshooting.md").read_text()
QUOTES = re.findall(r"^> (.+)$", TROUBLES, re.MULTILINE)
COMMANDS = [
    line.partition("  #")[0].strip()
    for page in ("troubleshooting.md", "index.md")
    for block in re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
PLACEHOLDER = re.compile(r"%(?:\.?\d*[a-z]|%)")
"""How a message for a log takes its values."""


class SiteLoader(yaml.SafeLoader):
    """Reads mkdocs.yml: what a tag of Python stands for does not matter here."""


SiteLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SITE = yaml.load((ROOT / "mkdocs.yml").read_text(), SiteLoader)


def pages(nav: object) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages(entry)


def texts(path: Path) -> Iterator[str]:
    """The texts of a file that a user may see, with a gap in place of each value."""
    if path.suffix == ".html":
        yield re.sub(r"{{.*?}}|{%.*?%}", "\n", path.read_text())
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield PLACEHOLDER.sub("\n", node.value)


@pytest.fixture(scope="module")
def said() -> str:
    """Everything that sonde may say."""
    files = [*ROOT.glob("sonde/**/*.py"), *ROOT.glob("sonde/**/*.html")]
    return "\n\n".join(text for path in files for text in texts(path))


def unsaid(quote: str, said: str) -> list[str]:
    """The clauses of a quoted sentence, between its gaps, that sonde does not say."""
    pieces = (piece.strip(" .,;:()") for piece in re.split(r"…|[,;:.)] ", quote))
    return [piece for piece in pieces if piece not in said]


def test_every_page_has_its_place_in_the_navigation():
    placed = list(pages(SITE["nav"]))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(placed) == sorted(there), "name each page of docs/ once, under nav: in mkdocs.yml"


def test_the_site_loads_nothing_from_elsewhere():
    assert SITE["theme"]["font"] is False
    given = [*SITE["extra_css"], *SITE["extra"]["polyfills"]]
    assert given and all((DOCS / name).is_file() for name in given)


def test_the_reference_has_a_page_for_each_room_it_names_and_every_verb():
    index = (DOCS / "api" / "index.md").read_text()
    assert set(package.VERBS) == set(re.findall(r"^::: sonde\.(\w+)$", index, re.MULTILINE))
    rooms = sorted(path.stem for path in (DOCS / "api").glob("*.md") if path.stem != "index")
    assert rooms == sorted(re.findall(r"\]\((\w+)\.md\)", index)) and set(rooms) <= set(package.MODULES)
    for room in rooms:
        assert f"\n::: sonde.{room}\n" in (DOCS / "api" / f"{room}.md").read_text()
        assert import_module(f"sonde.{room}").__doc__


def test_troubleshooting_quotes_what_sonde_says(said):
    assert len(QUOTES) >= 20
    wrong = {quote: pieces for quote in QUOTES if (pieces := unsaid(quote, said))}
    assert not wrong


def test_a_sentence_that_sonde_does_not_say_is_found(said):
    assert unsaid("There is not enough memory: … be nice, …", said) == ["be nice"]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_pages_parses(line):
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        return
    assert words[0] == "sonde"
    command, words = typer.main.get_command(cli.app), words[1:]
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]  # pyright: ignore[reportAttributeAccessIssue]
    context = command.make_context(command.name, words)
    if command.name == "train":
        assert recipes.load(context.params["recipe"], list(context.params["overrides"] or []))
