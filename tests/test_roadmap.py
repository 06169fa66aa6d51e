"""Every command of the roadmap is one that sonde has, with options it has and a recipe that loads."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from sonde import cli, recipes

PAGE = (Path(__file__).parents[1] / "docs" / "roadmap.md").read_text()
LINES = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
[OVERFIT] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_has_commands_for_every_phase():
    phases = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert [phase[0] for phase in phases] == list("012345") and all("```sh" in phase for phase in phases)
    assert re.findall(r"^### (4\.\d)", PAGE, re.MULTILINE) == ["4.1", "4.2", "4.3"]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_command_is_one_that_sonde_has(words):
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]  # pyright: ignore[reportAttributeAccessIssue]
    context = command.make_context(command.name, list(words), resilient_parsing=False)
    if command.name == "train" and context.params["recipe"] != "overfit.yaml":
        assert recipes.load(context.params["recipe"], list(context.params["overrides"] or []))


def test_the_overfitting_test_trains_on_ten_images_and_holds_none_back():
    recipe = recipes.load(yaml.safe_load(OVERFIT))
    assert recipe.data.render == {"room": 10} and not recipe.data.split.test and not recipe.data.split.validation
    assert recipe.augment == recipes.AugmentRecipe() and recipe.train["num_train_epochs"] == 100
