"""What a terminal shows: tables and bars that fit it, what scores are worth, what to do next, and nothing of others."""

import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import warnings
from fcntl import ioctl
from pathlib import Path

import pytest
from small_captures import write_bench
from test_report import make_evaluation

from sonde import evaluation, report
from sonde.cli import evaluations, next_steps, progress, silence, tables
from sonde.spelling import Notice, quantify

SCORES = {"MAE (mm)": 30.11, "MAE of objects (mm)": 41.93, "AbsRel": 0.041, "RMSE (mm)": 39.41, "δ1": 0.992}
ROWS = {
    "one constant depth": {**SCORES, "δ<1.05": 0.745},
    evaluation.MEDIAN_MAP: {**SCORES, "δ<1.05": 0.745},
    evaluation.UNADAPTED: {**SCORES, "δ<1.05": 0.745},
}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NARROW_BAR = """
from sonde.cli.progress import bar
with bar("training the student on pseudo-labels") as show:
    for step in range(1, 31):
        show(step, 30, {"loss": 0.04661, "eval_loss": 0.05, "eval_mae_mm": 30.123, "eval_abs_rel": 0.04})
"""
FAILING_BAR = """
import sys
from sonde import cli
from sonde.cli import progress, use
def predict(*words, **options):
    with progress.bar("predicting") as show:
        show(1, 9, {})
        raise ValueError("it cannot be done")
cli.app.registered_commands[:] = []
cli.app.command("predict")(lambda: predict())
cli.app.command("eval")(lambda: None)
sys.argv = ["sonde", "predict"]
cli.main()
"""


def show_on_terminal(columns: int, *words: str) -> str:
    """Everything that a command writes to a terminal so wide."""
    parent, child = pty.openpty()
    ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    done = subprocess.Popen(
        words, stdin=child, stdout=child, stderr=child, env=environment | {"TERM": "xterm-256color"}
    )
    os.close(child)
    written = b""
    while True:
        try:
            part = os.read(parent, 1 << 16)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        written += part
    done.wait()
    os.close(parent)
    return written.decode()


def list_lines(text: str) -> list[str]:
    """What stands on the lines of the terminal, without colours; a line that is written again counts each time."""
    return [line for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)) if line.strip()]


@pytest.fixture
def bench(tmp_path) -> Path:
    return write_bench(tmp_path / "my bench", 3, 48, 64)


@pytest.fixture
def wide(monkeypatch):
    """Sets how wide the terminal is."""
    return lambda columns: monkeypatch.setattr(tables, "find_width", lambda: columns)


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_a_table_fits_a_narrow_terminal_and_loses_no_number(columns, wide, capsys):
    wide(columns)
    tables.print_table("12 held-out captures", ROWS)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    assert all(shown.count(f"{value:.4g}") == len(ROWS) for value in {**SCORES, "δ<1.05": 0.745}.values())


def test_a_wide_terminal_and_a_pipe_show_all_columns_under_their_own_names(wide, capsys):
    for columns in (120, tables.ENDLESS):
        wide(columns)
        tables.print_table("12 held-out captures", ROWS)
        title, header, _, *rows = capsys.readouterr().out.splitlines()
        assert title == "12 held-out captures" and header.split("  ")[-1].strip() == "δ<1.05"
        assert "MAE of objects (mm)" in header and [row[:30] for row in rows] == [f"{row:<30}"[:30] for row in ROWS]


def test_rows_of_words_fit_a_narrow_terminal_and_no_word_is_cut(wide, capsys):
    wide(60)
    rows = [
        {"set": "driving-stereo", "role": "driving", "images": "182,188", "licence": "CC-BY-NC-SA-3.0", "note": f"{n}"}
        for n in ("a sentence of several words, longer than the column", "[none]")
    ]
    tables.print_rows(rows)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 60 and "[none]" in shown and shown.count("set  ") == 2
    assert all(shown.count(word) >= 2 for word in ("driving-stereo", "182,188", "CC-BY-NC-SA-3.0"))


def test_long_values_go_on_below_themselves_and_commands_stay_whole(wide, capsys):
    wide(50)
    command = "`sonde train lora-few data.root=captures output_dir=runs/bench`"
    tables.print_lines([("problems", f"the depth of c00 is missing, so write again, then {command}")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("problems  the depth") and lines[1] == " " * 10 + "again, then"
    assert sum(command in line for line in lines) == 1


def test_a_pipe_gets_a_line_for_every_tenth_and_no_control_characters(capsys):
    with progress.bar("labelling") as show:
        for done in range(1, 1001):
            show(done, 1000, {"loss": 0.5})
    told = capsys.readouterr().err
    assert told.splitlines() == [f"labelling {done}/1000  train loss 0.5" for done in range(100, 1001, 100)]
    assert "\x1b" not in told and "\r" not in told


def test_a_bar_names_one_loss_and_one_metric():
    numbers = {"loss": 0.0466, "eval_loss": 0.05, "eval_abs_rel": 0.04, "eval_mae_mm": 30.12, "eval_delta1": 0.9}
    assert progress.describe_numbers(numbers) == "train loss 0.0466  MAE 30.12 mm"
    assert progress.describe_numbers({"eval_loss": 0.05, "eval_delta1": 0.9}) == "validation loss 0.05  δ1 0.9"
    assert progress.describe_numbers({}) == ""


def test_a_bar_keeps_step_time_and_numbers_on_one_line_of_80_columns():
    lines = list_lines(show_on_terminal(80, sys.executable, "-c", NARROW_BAR))
    assert max(map(len, lines)) <= 80
    assert "30/30" in lines[-1] and "0:00:0" in lines[-1] and lines[-1].endswith("train loss 0.04661  MAE 30.12 mm")
    assert lines[-1].startswith("training") and "labels" in lines[-1]


def test_the_bar_of_work_that_fails_is_removed_above_the_error():
    shown = show_on_terminal(80, sys.executable, "-c", FAILING_BAR)
    before, _, after = shown.rpartition("error")
    assert "it cannot be done" in after and after.count("\n") == 1
    assert "\x1b[2K" in before.rpartition("predicting")[2]


def test_few_captures_are_told_to_tell_little():
    scored = make_evaluation(30.0, ["a", "b"])
    scored.rows[0]["mae_mm"], scored.rows[1]["mae_mm"] = 3.1, 9.8
    assert evaluation.describe_worth(scored).startswith("2 captures tell little: 95 % interval 3.1 to 9.8 mm")
    assert evaluation.describe_worth(make_evaluation(30.0, ["a"])) == "1 capture tells little: there is no interval."
    many = evaluation.describe_worth(make_evaluation(30.0, list("abcdef")))
    assert many == "6 captures: mean absolute error 30 mm, 95 % interval 30 to 30 mm."
    assert report.describe_caution(None, scored) == evaluation.describe_worth(scored)


@pytest.mark.parametrize("columns", [80, 120])
def test_scores_are_a_table_of_value_interval_and_unit(columns, wide, capsys):
    wide(columns)
    scored = make_evaluation(30.0, list("abcdef"))
    evaluations.print_evaluation(scored, as_json=False, rivals=ROWS)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0] == "zivid-mm, mean over 6 images" and lines[1].split() == ["value", "95", "%", "interval", "unit"]
    assert lines[3].split() == ["mae", "30", "30", "to", "30", "mm"]
    assert "6 captures: mean absolute error 30 mm" in shown and "beside the answers that it must beat" in shown


def test_a_score_of_one_image_has_no_interval(capsys):
    evaluations.print_evaluation(make_evaluation(30.0, ["a"]), as_json=False)
    shown = capsys.readouterr().out
    assert "mean over 1 image\n" in shown and "interval  " not in shown and "1 capture tells little" in shown


def test_a_run_lends_its_baselines_to_the_same_captures_alone(tmp_path):
    own, baseline = make_evaluation(30.0, list("abcdef")), make_evaluation(90.0, list("abcdef"))
    assert evaluations.find_rivals(tmp_path, own) is None
    own.write(tmp_path, {evaluation.MEAN_MAP: baseline, evaluation.ADAPTED: own})
    again = make_evaluation(25.0, list("abcdef"))
    rows = evaluations.find_rivals(tmp_path, again)
    assert rows is not None and list(rows) == [evaluation.MEAN_MAP, evaluation.ADAPTED]
    assert [row["MAE (mm)"] for row in rows.values()] == [90.0, 25.0]
    assert evaluations.find_rivals(tmp_path, make_evaluation(25.0, ["a", "b"])) is None


def test_the_version_is_told_without_torch():
    code = (
        "import sys; sys.argv = ['sonde', '--version']\nfrom sonde import cli\ntry: cli.main()\n"
        "except SystemExit as stop: print(stop.code or 0, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "sonde 0.1.0\n0 False\n" and done.stderr == ""


def test_counts_agree_with_their_nouns():
    assert [quantify(number, "file") for number in (0, 1, 2, 1000)] == ["0 files", "1 file", "2 files", "1,000 files"]
    assert quantify(2, "box", "boxes") == "2 boxes"


def test_libraries_warn_in_silence_and_sonde_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.setattr(warnings, "showwarning", silence._show_warning)
    warnings.showwarning(UserWarning("lr_scheduler.step() came first"), UserWarning, "torch.py", 1)
    assert capsys.readouterr().err == ""
    warnings.showwarning(Notice("the cache is full"), Notice, "cache.py", 1)
    assert capsys.readouterr().err == "the cache is full\n"
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    warnings.showwarning(UserWarning("lr_scheduler.step() came first"), UserWarning, "torch.py", 1)
    assert "UserWarning: lr_scheduler.step() came first" in capsys.readouterr().err


def list_commands(sentence: str) -> list[list[str]]:
    """The commands between backquotes, as a shell reads them."""
    return [shlex.split(command) for command in re.findall("`([^`]*)`", sentence)]


def test_commands_of_next_steps_hold_the_users_paths_quoted(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    assert list_commands(next_steps.follow_train(run)) == [["sonde", "predict", "photos", "-m", str(run)]]
    (run / "report.html").touch()
    assert list_commands(next_steps.follow_train(run))[0] == ["open", str(run / "report.html")]
    (run / "fold-0").mkdir()
    assert str(run / "fold-0") in list_commands(next_steps.follow_train(run))[-1]
    assert list_commands(next_steps.follow_export(run, "hf"))[0][2].count(str(run)) == 1
    planned = ["train", "lora-few", f"output_dir={run}", "--dry-run"]
    assert list_commands(next_steps.follow_rehearsal(planned)) == [["sonde", *planned[:-1]]]
    planned = ["label", "sonde-tiny", "photos", "--plan", "out", "--total", "9", "--days=2", "--size", "network"]
    kept = ["sonde", "label", "sonde-tiny", "photos", "out", "--size", "network"]
    assert list_commands(next_steps.follow_rehearsal(planned)) == [kept]
    assert "when all 8 shards are labelled" in next_steps.follow_label(run, (0, 8))


@pytest.mark.slow
def test_the_last_line_of_a_verb_says_what_to_do_next(sonde, base, bench, tmp_path):
    photo, out = bench / "images" / "c00.png", tmp_path / "the results"
    commands = {
        ("predict", photo, "-m", base, "-o", out): ["open", str(out / "c00.preview.png")],
        ("predict", bench / "images", "-m", base, "-o", out / "all"): ["open", str(out / "all")],
        ("predict", photo, "-m", base, "-o", out / "s", "--sheet"): ["open", str(out / "s" / "sheet.png")],
        ("features", photo, "-m", base, "-o", out): ["open", str(out / "c00.features.png")],
        ("label", base, bench / "images", out / "labels"): ["sonde", "train", "student-distill"],
        ("data", "check", bench): ["sonde", "train", "fixed-camera", f"data.root={bench}"],
        ("data", "stats", bench): ["sonde", "data", "check", str(bench)],
        ("data", "synth", "bench", out / "renders", "-n", 1): ["sonde", "data", "check", str(out / "renders")],
        ("eval", base, "--data", bench): ["sonde", "eval", str(base), "--data", str(bench), "-o", "results"],
        ("eval", base, "--data", bench, "-o", out / "e"): ["open", str(out / "e" / "report.html")],
        ("compare", out / "e", out / "e", "-o", out / "c"): ["open", str(out / "c" / "comparison.md")],
    }
    for words, command in commands.items():
        said = sonde(*words)
        assert said.code == 0, said.errors
        *_, last = said.text.splitlines()
        assert last.startswith("Next: ") and said.text.count("Next: ") == 1
        assert list_commands(last)[0][: len(command)] == command, last


def test_a_document_and_a_failure_end_without_a_next_step(sonde, base, bench, tmp_path):
    assert list_commands(sonde("data", "check", bench).text.splitlines()[-1])[0][-1] == f"data.root={bench}"
    assert "Next" not in sonde("data", "check", bench, "--json").text
    (bench / "images" / "c01.png").write_bytes(b"none")
    said = sonde("predict", bench / "images", "-m", base, "-o", tmp_path / "out")
    assert said.code == 1 and "Next" not in said.text and "c01.png" in said.text.splitlines()[-1]
    said = sonde("data", "check", bench)
    assert said.code == 1 and "Next" not in said.text


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_a_verb_shows_its_own_lines_alone(columns, base, bench, tmp_path):
    program = [sys.executable, "-c", "from sonde.cli import main; main()"]
    words = ["predict", str(bench / "images"), "-m", str(base), "-o", str(tmp_path / "out")]
    lines = list_lines(show_on_terminal(columns, *program, *words))
    assert max(map(len, lines)) <= columns or str(tmp_path) in max(lines, key=len)
    known = ("predicting", "written", "failed", "Next:", "`open", str(tmp_path))
    assert not [line for line in lines if not line.strip().startswith(known)]
