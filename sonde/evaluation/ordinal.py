"""Which of two points is nearer: DA-2K (Yang et al., 2024).

    root/annotations.json        {"images/indoor/a.jpg": [{"point1": [row, column], "point2": [row, column],
                                                           "closer_point": "point1"}, …], …}
    root/images/indoor/a.jpg

Points are (row, column) in the picture. A prediction is sampled at the picture's own size; a tie is wrong. Accuracy is
told over all pairs and, by the folder that a picture lies in, for each scene.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde import files
from sonde.datasets import Capture
from sonde.evaluation.asking import AnsweredCapture, Predictor, SeenCapture, answer_all
from sonde.evaluation.columns import ORDINAL, Row
from sonde.evaluation.evaluation import Evaluation, means, versions
from sonde.evaluation.scoring import at_size
from sonde.evaluation.settings import Settings
from sonde.ids import check_id
from sonde.metrics import ordinal
from sonde.overlap import map_ahead
from sonde.protocols import Protocol
from sonde.strict import EXACT
from sonde.types import Prediction

FILE = "annotations.json"
REMEDY = "expected a picture's path -> pairs with point1, point2 and closer_point, as DA-2K has it"


Point = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]
"""[row, column], cut to whole pixels."""


@with_config(EXACT)
class PointPair(TypedDict):
    """One entry of annotations.json."""

    point1: Point
    point2: Point
    closer_point: Literal["point1", "point2"]


class Pairs(NamedTuple):
    """The annotated points of one picture, (row, column)."""

    nearer: list[tuple[int, int]]
    farther: list[tuple[int, int]]


def read_pairs(root: Path) -> dict[str, Pairs]:
    """Picture, as its path below `root`, -> its pairs.

    Raises:
        ValueError: no annotations, or other than DA-2K's form.
    """
    document: dict[str, list[PointPair]] = files.read_json(root / FILE, dict[str, list[PointPair]], REMEDY)
    found = {path.removeprefix("./"): _read_pairs(entries) for path, entries in document.items()}
    with files.reading(root / FILE, REMEDY):
        for path in found:
            check_id(str(PurePosixPath(path).with_suffix("")))
    return found


def score_pairs(predictor: Predictor, name: str, root: Path, rules: Protocol) -> Evaluation:
    """Ordinal accuracy of what answers, called `name`: a row for each picture, the mean over all pairs.

    Raises:
        ValueError: no annotations, a picture that is not there, or a point outside its picture.
    """
    found = {path: pairs for path, pairs in sorted(read_pairs(root).items()) if pairs.nearer}
    pool = ThreadPoolExecutor(1, "read")
    try:
        seen = map_ahead(pool, partial(_see, root), found.items(), 1)
        rows = [
            _row(answered, path, found[path], rules)
            for path, answered in zip(found, answer_all(predictor, seen), strict=True)
        ]
    finally:
        pool.shutdown(cancel_futures=True)
    if not rows:
        raise ValueError(f"{root / FILE} names no picture: {REMEDY}.")
    ids = [row["id"] for row in rows]
    settings = Settings(rules, name, str(root), "all pictures", ids, versions())
    return Evaluation(rules.name, means(rows, [ORDINAL]), rows, {}, settings)


def _read_pairs(entries: list[PointPair]) -> Pairs:
    nearer, farther = [], []
    for entry in entries:
        first, second = entry["point1"], entry["point2"]
        near, far = {"point1": (first, second), "point2": (second, first)}[entry["closer_point"]]
        nearer.append((int(near[0]), int(near[1])))
        farther.append((int(far[0]), int(far[1])))
    return Pairs(nearer, farther)


def _see(root: Path, annotated: tuple[str, Pairs]) -> SeenCapture:
    path, pairs = annotated
    image = files.read_rgb(root / path)
    height, width = image.shape[:2]
    outside = [point for side in pairs for point in side if not (0 <= point[0] < height and 0 <= point[1] < width)]
    if outside:
        raise ValueError(
            f"{root / FILE} has point {outside[0]} in {path}, which is {width}x{height}: points are (row, column)."
        )
    blank = np.zeros((height, width), np.float32)
    capture = Capture(Path(path).with_suffix("").as_posix(), image, blank, blank > 0)
    return SeenCapture(capture.id, capture, capture)


def _row(answered: AnsweredCapture, path: str, pairs: Pairs, rules: Protocol) -> Row:
    (id_, capture, *_), prediction = answered
    assert capture is not None and prediction is not None
    hits = _hits(prediction, capture.depth.shape, pairs, rules)
    return {"id": id_, "pairs": len(hits), "group": Path(path).parent.name, ORDINAL: float(np.mean(hits))}


def _hits(prediction: Prediction, size: tuple[int, ...], pairs: Pairs, rules: Protocol) -> list[bool]:
    depth = torch.from_numpy(np.asarray(prediction.depth))[None].double()
    depth = at_size(-depth if prediction.space == "disparity" else depth, size, rules)
    near, far = (torch.tensor(side)[None] for side in pairs)
    return ordinal(depth, near, far)[0].tolist()
