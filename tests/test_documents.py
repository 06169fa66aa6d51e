"""Documents of runs, sets and results: ids stay below their folder, wrong types are told, reports hold no HTML."""

import json
import re
from pathlib import Path

import pytest

from sonde import cards, files, runs
from sonde.ids import check_below, find_fault
from sonde.report import Curves
from sonde.spelling import escape_markdown, fence_code, quote_code
from sonde.trainer import blackbox
from sonde.trainer.state import check_state

STATE = {"global_step": 2, "stateful_callbacks": {"TrainerControl": {"args": {}}}, "epoch": 1.0, "log_history": []}


@pytest.mark.parametrize("id_", ["c00", "tyre/0001", "a b/c.d", "Straße/é", "a-b_c/..d", "x" * 240])
def test_a_relative_path_is_an_id(id_):
    assert not find_fault(id_)


@pytest.mark.parametrize(
    "id_", ["", " ", ".", "..", "/a", "a//b", "a/", "a/../b", "./a", "C:\\a", "a\\..\\b", "a\nb", "a\x1bb", "a" * 241]
)
def test_anything_else_is_none(id_):
    assert find_fault(id_)


def test_a_path_below_may_be_longer_than_an_id_and_not_leave_the_folder():
    assert check_below("labels/" + "x" * 244 + ".png")
    with pytest.raises(ValueError, match="the path '/etc/x' is an absolute path"):
        check_below("/etc/x")


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"train": ["a"], "validation": []}, "`test`: it is missing"),
        ({"train": ["a"], "validation": [], "test": "abc"}, "`test`: should be a valid list"),
        ({"train": ["a"], "validation": [], "test": ["../x"]}, r"`test.0`: the id '\.\./x' has"),
        ([], "should be a valid dictionary"),
    ],
)
def test_a_split_of_another_form_is_told(tmp_path, split, said):
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match=rf"split\.json cannot be read \(.*{said}"):
        runs.read_split(tmp_path)


def test_a_split_with_a_mark_and_a_key_of_another_version_is_read(tmp_path):
    split = {"train": ["a"], "validation": [], "test": [], "later": 1}
    (tmp_path / "split.json").write_text(json.dumps(split), encoding="utf-8-sig")
    assert runs.read_split(tmp_path) == {"train": ["a"], "validation": [], "test": []}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"global_step": "2"}, "`global_step`: should be a valid integer"),
        ({"global_step": 3}, "`global_step`: it is 3, in the folder checkpoint-2"),
        ({"epoch": None}, "`epoch`"),
        ({"log_history": {}}, "`log_history`"),
        ({"best_metric": []}, "`best_metric`"),
        ({"stateful_callbacks": {}}, "`stateful_callbacks.TrainerControl`: it is missing"),
        ({"\x1b]0;x\x07": 1}, r"`\\x1b\]0;x\\x07`: transformers knows no such key"),
    ],
)
def test_a_state_that_training_cannot_go_on_from_is_told(tmp_path, changed, said):
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps(STATE | changed))
    with pytest.raises(ValueError, match=rf"trainer_state\.json cannot be read \(.*{said}"):
        check_state(folder)


def test_a_state_is_left_as_it_is_but_for_its_mark(tmp_path):
    path = tmp_path / "checkpoint-2" / "trainer_state.json"
    path.parent.mkdir()
    for mark in ("", "\ufeff"):
        path.write_text(mark + json.dumps(STATE), encoding="utf-8")
        check_state(path.parent)
        assert path.read_bytes() == json.dumps(STATE).encode()


@pytest.mark.parametrize("line", ["null", "[]", '{"loss": 1}', '{"step": 1, "loss": "low"}', '{"step": 1, "lo'])
def test_a_log_of_another_form_is_told(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl cannot be read"):
        Curves.read(tmp_path / "metrics.jsonl")


def test_weights_of_a_black_box_lie_in_the_run(tmp_path):
    box = blackbox.SkippedStep(1, 0.1, "no", 1.0, [], blackbox.Norms(), "../../elsewhere")
    (tmp_path / "box.json").write_text(json.dumps(blackbox._spell_numbers(blackbox.asdict(box))))
    with pytest.raises(ValueError, match=r"box\.json cannot be read \(its weights are those of .* no black box"):
        blackbox.read(tmp_path)


def test_words_of_data_are_no_markdown():
    assert escape_markdown("δ<1.05, a -> b") == "δ<1.05, a -> b"
    assert escape_markdown("<b>x</b>|y\n[z](javascript:1) &lt;") == (r"&lt;b>x&lt;/b>\|y\n[z]\(javascript:1) &amp;lt;")
    assert quote_code("plain") == "`plain`" and quote_code("a`b``") == "``` a`b`` ```"
    assert fence_code("a\n```\n\x1b", "yaml") == "````yaml\na\n```\n\\x1b\n````"


def test_a_card_holds_no_html_of_names(tmp_path):
    document: cards.CardDocument = {
        "name": "<img src=x>",
        "licence": "mit\nother: x",
        "notes": ["<b>"],
        "parents": [{"role": "teacher", "name": "<i>", "licence": "mit"}],
        "data": [{"format": "zivid", "root": "a<script>b", "licence": None}],
        "accuracy": {},
        "weights_sha256": "0",
        "versions": {"sonde": "1"},
        "recipe": {"name": "x\n  ```\n<b>"},
    }
    cards.write(tmp_path, document)
    page = (tmp_path / "README.md").read_text()
    head, _, recipe = page.partition("````yaml")
    assert not re.search("<[a-z]", head) and recipe.endswith("\n````\n")
    assert files.parse_yaml(page.split("---")[1])["license"] == "mit\nother: x"
    assert cards.read(tmp_path) == document and cards.find_licence(str(tmp_path)) == "mit\nother: x"


@pytest.mark.parametrize("content", [b"", b"null", b"[" * 10_000, b'{"licence": 1}', b"\xff"])
def test_a_damaged_card_is_told(tmp_path: Path, content):
    (tmp_path / "card.json").write_bytes(content)
    for read in (cards.read, lambda folder: cards.find_licence(str(folder))):
        with pytest.raises(ValueError, match=r"card\.json cannot be read"):
            read(tmp_path)
