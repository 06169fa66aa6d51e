"""Ask whoever answers for one capture after the other; a model is asked for several of one kind at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from sonde.datasets import Capture
from sonde.geometry import scale_intrinsics
from sonde.models import DescribedModel
from sonde.prediction.batches import BatchModel, TooLittleMemory
from sonde.types import MatrixArray, Prediction

Predictor = Callable[[Capture], Prediction]
"""What is scored: a capture's image in; depth out, (h, w) of any size. It must not look at the answer."""


class SeenCapture(NamedTuple):
    """A capture that was read, or why it was not."""

    id: str
    whole: Capture | None = None
    view: Capture | None = None
    """What the protocol shows the model, with the mask that it scores."""
    reason: str = ""
    """Why it cannot be scored."""


class AnsweredCapture(NamedTuple):
    """A capture, and what was answered to it; None where there is nothing to score."""

    seen: SeenCapture
    answer: Prediction | None


class BatchPredictor(ABC):
    """A `Predictor` that also answers to several captures of one kind at once."""

    @abstractmethod
    def __call__(self, capture: Capture) -> Prediction:
        """The answer to one capture."""

    @abstractmethod
    def find_kind(self, capture: Capture) -> Hashable:
        """What the captures of one batch share."""

    @abstractmethod
    def find_size(self, capture: Capture) -> int:
        """How many captures of this one's kind to give at once."""

    @abstractmethod
    def predict_batch(self, captures: Sequence[Capture]) -> list[Prediction]:
        """The answers to captures of one kind.

        Raises:
            ValueError: one of them cannot be answered; the message names it.
        """


class ModelPredictor(BatchPredictor):
    """What a model answers to captures' images, told their camera where that is known.

    Args:
        model: who answers.
        batch_size: captures at once at most, as `BatchModel` takes it.
    """

    def __init__(self, model: DescribedModel, batch_size: int | None = None):
        self.model = model
        self.batches = BatchModel(model, batch_size)

    def __call__(self, capture: Capture) -> Prediction:
        """The answer to one capture; see `BatchPredictor`."""
        try:
            return self.model.predict(capture.image, find_camera(capture))
        except ValueError as error:
            raise ValueError(f"{capture.id}: {error}") from None

    def find_kind(self, capture: Capture) -> Hashable:
        """The shape of the image, and the camera of a model that looks at it: cameras differ in their last digits."""
        camera = None if self.model.spec.canonical_focal is None else find_camera(capture)
        return capture.image.shape, None if camera is None else camera.tobytes()

    def find_size(self, capture: Capture) -> int:
        """How many captures of this one's kind to give at once."""
        return self.batches.find_size(capture.image.shape)

    def predict_batch(self, captures: Sequence[Capture]) -> list[Prediction]:
        """The answers to captures of one kind; see `BatchPredictor`."""
        if len(captures) == 1:
            return [self(captures[0])]
        try:
            answers = self.batches.predict([capture.image for capture in captures], find_camera(captures[0]))
        except TooLittleMemory:
            raise
        except ValueError:  # of one of them: asked by itself, it is named
            return [self(capture) for capture in captures]
        return [answer._replace(intrinsics=find_camera(each)) for answer, each in zip(answers, captures, strict=True)]


def of_network(network: DescribedModel, batch_size: int | None = None) -> ModelPredictor:
    """What a model answers to a capture's image, told its camera where that is known.

    The predictor raises ValueError for an answer that is not finite, or an image that the model cannot read.
    """
    return ModelPredictor(network, batch_size)


def answer_all(predictor: Predictor, captures: Iterable[SeenCapture]) -> Iterator[AnsweredCapture]:
    """Answers in order; a batch holds only captures that follow each other."""
    if not isinstance(predictor, BatchPredictor):
        yield from (AnsweredCapture(seen, None if seen.view is None else predictor(seen.view)) for seen in captures)
        return
    for _, group in groupby(captures, key=lambda seen: None if seen.view is None else predictor.find_kind(seen.view)):
        while batch := _take_batch(predictor, group):
            views = [seen.view for seen in batch if seen.view is not None]
            yield from map(AnsweredCapture, batch, predictor.predict_batch(views) if views else [None])


def _take_batch(predictor: BatchPredictor, captures: Iterator[SeenCapture]) -> list[SeenCapture]:
    """The next captures to give at once; one alone where it has nothing to answer to, none at the end."""
    first = next(captures, None)
    if first is None or first.view is None:
        return [] if first is None else [first]
    return [first, *islice(captures, predictor.find_size(first.view) - 1)]


def find_camera(capture: Capture) -> MatrixArray | None:
    """A capture's intrinsics for its image's pixels."""
    if capture.intrinsics is None:
        return None
    (height, width), (rows, columns) = capture.depth.shape, capture.image.shape[:2]
    return scale_intrinsics(capture.intrinsics, (height, width), (rows, columns))
