"""Images that their licence leaves out of labelling: a table says the licence, the user says which are not wanted."""

import json

import pytest
from small_captures import picture
from small_networks import saved

from sonde import files, labelling, models
from sonde.labelling.image_licences import leave_out
from sonde.unlabeled import open_images

TABLE = "file,licence,repo\n0.png,MIT,a/b\n1.png,GPL-3.0 (repo),c/d\nsub/2.png,no repo licence; README,e/f\n"


@pytest.fixture
def photos(tmp_path):
    for name in ("0.png", "1.png", "sub/2.png"):
        files.write_rgb(tmp_path / "photos" / name, picture(len(name), 64, 96))
    (tmp_path / "photos" / "SOURCES.csv").write_text(TABLE)
    return tmp_path / "photos"


def test_images_of_unwanted_licences_are_not_labelled_and_are_listed(photos, tmp_path):
    model = models.load(saved("glpn", tmp_path / "network"))
    out = tmp_path / "out"
    result = labelling.label(model, photos, out, sources=photos / "SOURCES.csv", leave_out="gpl,No repo licence")
    assert (result.labels, result.passed_over) == (1, 2)
    lines = [json.loads(line) for line in (out / "passed_over.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["../photos/1.png", "../photos/sub/2.png"]
    assert lines[0]["reason"] == "its licence is 'GPL-3.0 (repo)' (leave_out=gpl)"
    with pytest.raises(ValueError, match="1 image, not these 3"):
        labelling.label(model, photos, out)


def test_a_plan_measures_only_the_images_that_would_be_labelled(photos, tmp_path):
    model = models.load(saved("glpn", tmp_path / "network"))
    files.write_rgb(photos / "1.png", picture(0, 128, 192))
    table = {"sources": photos / "SOURCES.csv", "leave_out": "GPL"}
    measured = labelling.plan(model, photos, total=10, seconds=0.01, confidence=False, **table).measured
    assert measured.megapixels == pytest.approx(64 * 96 / 1e6) and measured.images > 3
    with pytest.raises(ValueError, match=r"leave_out=M,G,n leaves none of the 3 images"):
        labelling.plan(model, photos, total=10, **table | {"leave_out": "M,G,n"})


def test_a_list_of_paths_finds_its_images_in_the_table(photos, tmp_path):
    (tmp_path / "some.txt").write_text("photos/0.png\nphotos/sub/2.png\n")
    kept = leave_out(open_images(tmp_path / "some.txt"), photos / "SOURCES.csv", ["no repo"])
    assert [kept.path(index).name for index in range(len(kept))] == ["0.png"]


def test_a_table_may_lie_above_the_folder_of_the_images(photos, tmp_path):
    (tmp_path / "all.csv").write_text("file,licence\n0.png,MIT\n1.png,GPL\nphotos/sub/2.png,GPL\n")
    assert leave_out(open_images(photos), tmp_path / "all.csv", ["GPL"]).ids == ["0"]
    files.write_rgb(photos / "sub" / "0.png", picture(0, 64, 96))
    with pytest.raises(
        ValueError, match=r"its row 0\.png may mean .*photos/0\.png or .*photos/sub/0\.png: write the path"
    ):
        leave_out(open_images(photos), tmp_path / "all.csv", ["GPL"])


@pytest.mark.parametrize(
    ("table", "unwanted", "said"),
    [
        (None, ("GPL",), "sources and leave_out belong together: add sources=FILE.csv"),
        (TABLE, (), "sources and leave_out belong together: add leave_out=TEXT"),
        (TABLE, ("MIT", "GPL", "no repo"), "leave_out=MIT,GPL,no repo leaves none of the 3 images"),
        ("name,licence\n0.png,MIT\n", ("GPL",), "its columns are name, licence: give a CSV file with the columns"),
        ("", ("GPL",), "it names no columns in its first row"),
        ("file,licence\n", ("GPL",), r"SOURCES\.csv has no row below its columns: give a CSV file"),
        ("file,licence\n0.png,MIT\n", ("GPL",), r"SOURCES\.csv has no row for .*1\.png: add one"),
    ],
)
def test_what_cannot_be_is_one_sentence(photos, table, unwanted, said):
    if table is not None:
        (photos / "SOURCES.csv").write_text(table)
    with pytest.raises(ValueError, match=said):
        leave_out(open_images(photos), None if table is None else photos / "SOURCES.csv", unwanted)
