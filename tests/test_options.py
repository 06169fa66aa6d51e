"""An option is written once: Python, its documentation, the command line and its help all show the same field."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

import sonde
from sonde import cli, labelling
from sonde.cli.options import spell_options, with_options
from sonde.options import Options, option, read_info, takes
from sonde.options.calibrate import CalibrateOptions
from sonde.options.compare import CompareOptions
from sonde.options.evaluate import EvaluateOptions
from sonde.options.export import ExportOptions
from sonde.options.label import LabelOptions, PlanOptions
from sonde.options.predict import PredictOptions
from sonde.options.reproduce import ReproduceOptions
from sonde.options.serve import ServeOptions

VERBS: dict[str, tuple[Callable[..., object], type[Options]]] = {
    "label": (sonde.label, LabelOptions),
    "predict": (sonde.predict, PredictOptions),
    "eval": (sonde.evaluate, EvaluateOptions),
    "compare": (sonde.compare, CompareOptions),
    "reproduce": (sonde.reproduce, ReproduceOptions),
    "export": (sonde.export, ExportOptions),
    "calibrate": (sonde.calibrate, CalibrateOptions),
    "serve": (sonde.serve, ServeOptions),
}
"""Verb of the command line -> its function and its options."""
HEAVY = ("torch", "transformers", "peft", "cv2", "trimesh", "matplotlib", "scipy", "numpy", "jaxtyping")

every_verb = pytest.mark.parametrize("verb", VERBS)


def spell(about: Field) -> str:
    """The first spelling of a field on the command line."""
    flags = read_info(about).flags
    return flags[0] if flags else "--" + about.name.replace("_", "-")


def parse_pair(text: str) -> tuple[int, int]:
    one, _, two = text.partition(",")
    if not (one.isdecimal() and two.isdecimal()):
        raise ValueError(f"Pair {text!r}: expected two whole numbers, such as 3,4.")
    return int(one), int(two)


@dataclass(frozen=True)
class PaintOptions(Options):
    """One field of each kind."""

    colour: str = option("red", "What to paint with.", one_of=("red", "blue"))
    coats: int = option(1, "How often.", least=1)
    hours: int | float = option(0.5, "How long each coat dries.", above=0)
    size: tuple[int, int] = option((3, 4), "Height and width.", parse=parse_pair, shown="3,4")
    out: Path | None = option(None, "Where the picture goes.", flags=("--out", "-o"))
    threads: int | None = option(None, "Painters.", least=1, python_only=True)


@takes(PaintOptions)
def paint(wall: str, *, options: PaintOptions, progress: Callable[[int], None] | None = None) -> PaintOptions:
    """Paint a wall.

    Args:
        wall: which.
        options: the options below, as one value.
        progress: called after each coat.

    Raises:
        ValueError: no such wall.
    """
    assert wall == "north"
    if progress is not None:
        progress(options.coats)
    return options


def run_paint(*words: str) -> PaintOptions:
    """What the command `paint` receives."""
    received: list[PaintOptions] = []
    app = Typer(pretty_exceptions_enable=False)

    @app.command()
    @with_options(PaintOptions)
    def command(wall: str, *, options: PaintOptions) -> None:
        received.append(options)

    result = CliRunner().invoke(app, ["north", *words])
    if isinstance(result.exception, ValueError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return received[0]


def test_keywords_and_one_value_mean_the_same():
    assert paint("north") == PaintOptions()
    assert paint("north", colour="blue", coats=2) == paint("north", options=PaintOptions(colour="blue", coats=2))


def test_a_keyword_beside_the_value_wins():
    assert paint("north", coats=3, options=PaintOptions(colour="blue", coats=2)) == PaintOptions("blue", 3)


def test_a_functions_own_keywords_are_no_options():
    counted: list[int] = []
    paint("north", coats=2, progress=counted.append)
    assert counted == [2]


def test_the_command_gives_what_the_keywords_give():
    assert run_paint() == PaintOptions()
    found = run_paint("--colour", "blue", "--coats", "2", "--hours", "2", "--size", "5,6", "-o", "picture")
    assert found == PaintOptions("blue", 2, 2, (5, 6), Path("picture"))


def test_text_for_a_path_or_a_parsed_value_works_in_python_too():
    options = paint("north", out="picture", size="5,6")
    assert (options.out, options.size) == (Path("picture"), (5, 6))


def test_the_signature_shows_the_fields():
    parameters = inspect.signature(paint).parameters
    assert list(parameters) == ["wall", "options", "progress", *(about.name for about in fields(PaintOptions))]
    assert parameters["options"].default is None
    assert parameters["hours"].default == 0.5 and parameters["hours"].annotation == int | float


def test_the_documentation_explains_the_fields_before_the_errors():
    text = inspect.getdoc(paint)
    assert text is not None
    assert "    coats: How often." in text
    assert text.index("Args:") < text.index("Options:") < text.index("Raises:")


def test_a_wrong_keyword_is_answered_with_the_right_one():
    with pytest.raises(TypeError, match="paint has no option 'colors': did you mean 'colour'"):
        paint("north", colors="blue")
    with pytest.raises(TypeError, match="did you mean 'progress'"):
        paint("north", progres=print)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"coats": 0}, "coats=0: expected 1 or more."),
        ({"hours": 0}, "hours=0: expected more than 0."),
        ({"hours": float("nan")}, "hours=nan: expected more than 0."),
        ({"colour": "rad"}, "colour='rad': did you mean 'red'?"),
        ({"size": "5x6"}, "Pair '5x6': expected two whole numbers, such as 3,4."),
    ],
)
def test_a_wrong_value_is_one_sentence_in_python_and_on_the_command_line(settings, said):
    with pytest.raises(ValueError) as error:
        paint("north", **settings)
    assert str(error.value) == said
    (name, value), *_ = settings.items()
    with pytest.raises(ValueError) as error:
        run_paint(f"--{name}", str(value))
    assert str(error.value) == said


def test_options_of_one_type_become_another_by_their_common_fields():
    labels = LabelOptions(size="network", batch_size=3, shard=(1, 2))
    assert labels.convert(PlanOptions) == PlanOptions(size="network", batch_size=3)


@every_verb
def test_every_option_has_a_default_that_is_allowed_and_a_sentence(verb):
    _, kind = VERBS[verb]
    kind()
    for about in fields(kind):
        info = read_info(about)
        assert info.help.endswith("."), about.name
        if info.parse is not None and info.shown is not None:
            assert info.parse(info.shown) == about.default, about.name


@every_verb
def test_python_shows_every_option_of_a_verb(verb):
    function, kind = VERBS[verb]
    parameters, text = inspect.signature(function).parameters, " ".join(str(function.__doc__).split())
    for about in fields(kind):
        assert parameters[about.name].default == about.default
        assert f"{about.name}: {read_info(about).help}" in text


@every_verb
def test_the_command_line_shows_the_same_options_with_the_same_help_and_defaults(verb):
    _, kind = VERBS[verb]
    answer = CliRunner().invoke(cli.app, [verb, "--help"], env={"COLUMNS": "400"}).stdout
    for about in fields(kind):
        info = read_info(about)
        lines = [
            line for line in answer.splitlines() if spell(about) in line.replace("│", " ").replace(",", " ").split()
        ]
        if info.python_only:
            assert not lines, about.name
            continue
        assert len(lines) == 1 and info.help in lines[0], about.name
        default = about.default if info.parse is None else info.shown
        if isinstance(default, str | int | float) and not isinstance(default, bool):
            assert f"[default: {default}]" in lines[0], about.name


def test_the_command_refuses_what_python_refuses(sonde):
    for words, said in (
        (["--batch-size", "0"], "--batch-size 0: expected 1 or more."),
        (["--size", "imag"], "--size imag: did you mean 'image'?"),
        (["--shard", "0-8"], "--shard 0-8: expected i/n with i from 0 to n - 1, such as 0/8."),
        (["--plan", "--total", "0"], "--total 0: expected 1 or more."),
        (["--plan", "--days", "0"], "--days 0: expected more than 0."),
    ):
        answer = sonde("label", "sonde-tiny", "images", "out", *words)
        assert (answer.code, answer.text) == (2, "")
        assert answer.errors == f"error {said}\n"
    with pytest.raises(TypeError, match="label has no option 'siez': did you mean 'size'"):
        labelling.label("sonde-tiny", "images", "out", siez="image")


@pytest.mark.parametrize("words", [[], *([verb] for verb in VERBS)])
def test_help_imports_nothing_heavy(words):
    program = f"""
import sys
from sonde.cli import main
sys.argv = ["sonde", *{words}, "--help"]
try:
    main()
except SystemExit:
    print("loaded", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()[-1].split()
    assert "typer" in loaded and not set(HEAVY) & set(loaded)


@pytest.mark.parametrize(
    ("words", "sentence", "typed"),
    [
        (
            ["eval", "MODEL"],
            "a fit with align='disparity', reported as x+y.",
            "a fit with --align disparity, reported as x+y.",
        ),
        (["eval", "MODEL"], "max_depth_eval=80: expected more.", "--max-depth-eval 80: expected more."),
        (["eval", "MODEL"], "set data.max_depth_eval=80 or raise data.max_depth.", None),
        (
            ["eval", "M", "--depth-scale=2"],
            "no depth_scale 2: leave depth_scale out.",
            "no --depth-scale 2: leave --depth-scale out.",
        ),
        (["eval", "M"], "its key depth_scale is no number", None),
        (["predict", "in", "-o", "out"], "out='a b': it holds files.", "-o 'a b': it holds files."),
        (["label", "M", "I", "O"], "with confidence=False nothing is left.", "with --no-confidence nothing is left."),
        (
            ["data", "convert"],
            "by_time=3: expected the largest difference.",
            "--by-time 3: expected the largest difference.",
        ),
        (["train", "lora-few"], "train.max_steps=0: expected 1.", None),
    ],
)
def test_a_message_names_an_option_as_it_is_typed(words, sentence, typed):
    assert spell_options(sentence, cli.app, words) == (typed or sentence)
