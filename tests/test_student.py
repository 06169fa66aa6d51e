"""A student learns from a teacher's labels, is judged by measured depth, and what does not fit is refused in words."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import picture, write_bench
from small_networks import saved
from small_recipes import FEW

from sonde import cards, datasets, labelling, models, training
from sonde.datasets import open_set
from sonde.runs import open_captures


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return saved("depth_anything", tmp_path_factory.mktemp("teacher") / "depth_anything")


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("judges") / "set", 6)


@pytest.fixture(scope="module")
def labels(base, tmp_path_factory) -> Path:
    """Labels of five pictures of different sizes, by a teacher that may not be sold."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "photos").mkdir()
    for index in range(5):
        Image.fromarray(picture(index, 40 + 8 * index, 60)).save(folder / "photos" / f"{index}.png")
    labelling.label(base, folder / "photos", folder / "labels", licence="cc-by-nc-4.0", workers=1)
    return folder / "labels"


@pytest.fixture
def words(base, labels, judges, tmp_path):
    """Overrides of student-distill for a run of seconds."""

    def make(*more: str) -> list[str]:
        return [
            f"model.name={base}",
            "model.init=random",
            "model.input_size=[28,42]",
            f"data.root={labels}",
            f"data.measured.root={judges}",
            "data.measured.format=zivid",
            f"data.cache={tmp_path / 'cache'}",
            "train.logging_steps=1",
            "train.max_steps=2",
            "train.eval_steps=2",
            "train.save_steps=2",
            "train.warmup_steps=0",
            "train.per_device_train_batch_size=3",
            f"output_dir={tmp_path / 'run'}",
            *more,
        ]

    return make


def test_a_student_trains_on_labels_alone_and_is_judged_by_measured_depth(words, labels, judges, tmp_path):
    run = training.train("student-distill", words("align_features.weight=0.1"))
    parts = json.loads((run / "split.json").read_text())
    assert [name.split("/")[0] for name in parts["train"]] == ["0-labels"] * 5
    assert {name.split("/")[0] for name in parts["validation"] + parts["test"]} == {f"1-{judges.name}"}
    assert len(parts["validation"]) == len(parts["test"]) == 3
    scores = json.loads((run / "metrics.json").read_text())
    assert scores["protocol"] == "affine-disparity" and scores["images"] == 3 and scores["data"] == str(judges)
    assert list(scores["table"]["trained model"]) == ["AbsRel", "δ1", "δ<1.05"]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"masked_l1", "edge_gradient", "feature_alignment"} <= set(logged[0])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "AbsRel after alignment on 3 held-out captures" in page and "scale of inverse depth" in page


def test_the_students_target_is_the_teachers_answer(words, base, labels):
    plan = training.prepare(training.recipes.load("student-distill", words("data.fit=stretch")))
    capture = plan.captures.read(0)
    teacher = models.load(base).predict(labels.parent / "photos" / "0.png").depth
    learnt = 1 / capture.depth
    assert plan.captures.space == "disparity"
    assert np.corrcoef(learnt[capture.mask], teacher[capture.mask])[0, 1] > 0.9999


def test_a_student_of_a_non_commercial_teacher_says_so(words):
    run = training.train("student-distill", words())
    document = cards.read(run / "best")
    assert document["licence"] == "cc-by-nc-4.0"
    assert any("Not for commercial use: its teacher" in note for note in document["notes"])
    assert [parent["role"] for parent in document["parents"]] == ["teacher"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.encoding=inverse"], "trains metric depth"),
        (["loss.silog=1.0"], "compares logarithms"),
        (["data.measured=null"], "not judged by its teacher"),
        (["data.root=nowhere"], "nowhere does not exist"),
        (["data.fit=crop", "model.input_size=null"], "needs model.input_size"),
        (["model.encoder=facebook/dinov2-small"], "model.size"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_any_work(words, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        training.train("student-distill", words(*more))
    assert not (tmp_path / "run").exists()


def test_labels_cannot_judge(words, labels):
    with pytest.raises(ValueError, match="expected measured depth"):
        training.train("student-distill", words("data.measured.format=pseudo", f"data.measured.root={labels}"))


def test_a_changed_image_is_told_when_it_is_met(base, judges, words, tmp_path):
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.fromarray(picture(index, 40, 60)).save(tmp_path / "photos" / f"{index}.png")
    labelling.label(base, tmp_path / "photos", tmp_path / "labels", workers=1)
    Image.fromarray(picture(9, 40, 60)).save(tmp_path / "photos" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png has changed since it was labelled"):
        training.train("student-distill", words(f"data.root={tmp_path / 'labels'}"))
    assert len(list((tmp_path / "labels").rglob("*.png"))) == 3


def test_unsure_labels_are_left_out(labels):
    copy = labels.with_name("unsure")
    shutil.copytree(labels, copy)
    entries = [json.loads(line) for line in (copy / "manifest.jsonl").read_text().splitlines()]
    lines = [json.dumps(entry | {"confidence": 0.2 * number}) + "\n" for number, entry in enumerate(entries)]
    (copy / "manifest.jsonl").write_text("".join(lines))
    assert datasets.keep_confident(open_set("pseudo", copy), 0.4).ids == ["2", "3", "4"]
    with pytest.raises(ValueError, match="leaves none"):
        datasets.keep_confident(open_set("pseudo", copy), 0.9)


def test_rejected_captures_take_no_part(words, judges, tmp_path):
    rejected = tmp_path / "reject.jsonl"
    rejected.write_text(json.dumps({"capture": "c02", "check": "flat", "reason": "flat"}) + "\n")
    recipe = training.recipes.load(FEW, [f"data.root={judges}", f"data.reject={rejected}"])
    assert open_captures(recipe).ids == ["c00", "c01", "c03", "c04", "c05"]
