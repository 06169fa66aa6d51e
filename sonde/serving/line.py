"""The queue: a bounded number of requests under way, and one thread that asks the networks in their order.

On a CPU the network is asked for one image at a time, so that answers are those of `sonde predict`. On a GPU images of
one shape that wait together are asked for together.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from threading import Condition, Thread
from typing import NamedTuple

from sonde.background import register
from sonde.models import Calibration
from sonde.prediction import check_request
from sonde.prediction.batches import TooLittleMemory
from sonde.prediction.manifest import choose_unit
from sonde.serving.images import Camera, assume_camera
from sonde.serving.refusals import Refusal
from sonde.serving.shelf import LoadedModel, Shelf, free_memory
from sonde.types import DepthArray, RGBArray, Space

STAGES = ("read", "queue", "network", "write")
REMEMBERED = 1000
"""Requests that are over and whose ids are still known."""
RECENT = 100
"""Requests whose seconds tell how long the next will take."""
STOPPING = "The server is stopping: ask again when it runs."


@dataclass
class Place:
    """A request under way."""

    id: str
    state: str = "waiting"
    """waiting or running."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Name in STAGES → seconds."""
    entered: float = field(default_factory=time.perf_counter)


class Answer(NamedTuple):
    """What a network answered."""

    depth: DepthArray
    """(h, w), the image's size; metres if the space is metric."""
    space: Space
    unit: str
    """Of the numbers that are written: a key of UNITS for metric depth, else `1`."""
    camera: Camera
    loaded: LoadedModel
    note: str | None
    """What must be known before the depth is believed: a fixed camera that has moved."""


@dataclass(eq=False)
class Question:
    """What a network is asked."""

    place: Place
    model: str
    image: RGBArray
    camera: Camera
    save: tuple[str, ...] = ()
    """Names in SAVERS of what will be written of the answer."""
    unit: str | None = None
    calibration: Calibration | None = None
    """A client's; None: the model's own."""
    raw: bool = False
    """Without any calibration."""
    assume: bool = False
    """Whether to assume a field of view where the camera is unknown."""
    future: "Future[Answer]" = field(default_factory=Future)

    def is_like(self, other: "Question") -> bool:
        """Whether both can be asked together."""
        mine, theirs = (
            (each.model, each.image.shape, each.camera.numbers, each.calibration, each.raw) for each in (self, other)
        )
        return mine == theirs

    def fail(self, error: Exception) -> None:
        """Tell an error to the request; its traceback would keep the image in memory."""
        if not self.future.done():
            self.future.set_exception(error.with_traceback(None))


class WaitingLine:
    """Requests under way, and the thread that asks the networks.

    Args:
        shelf: the models; the first is loaded as soon as the thread runs.
        limit: requests under way at once.
    """

    def __init__(self, shelf: Shelf, limit: int):
        self.shelf, self.limit, self.stopping = shelf, limit, False
        self.places: dict[str, Place] = {}
        self.warmed: Future[LoadedModel] = Future()
        """The first model, once it answers."""
        self.thread = Thread(target=self._work, name="network", daemon=True)
        self._over: OrderedDict[str, None] = OrderedDict()
        self._taken: deque[float] = deque(maxlen=RECENT)
        self._questions: deque[Question] = deque()
        self._changed = Condition()

    @contextmanager
    def enter(self, name: str) -> Iterator[Place]:
        """A place in the queue while the block runs.

        Args:
            name: the request's id.

        Raises:
            Refusal: the queue is full, or the server stops.
        """
        if self.stopping:
            raise Refusal(503, STOPPING)
        if len(self.places) >= self.limit:
            wait = str(max(1, math.ceil(self.limit * self.seconds_each)))
            sentence = f"{self.limit} requests are under way, the most that this server takes: ask again in {wait} s."
            raise Refusal(429, sentence, {"Retry-After": wait})
        if name in self.places:
            raise Refusal(400, f"A request with the id {name} is under way: give each its own X-Request-Id.")
        self.places[name] = Place(name)
        try:
            yield self.places[name]
        finally:
            del self.places[name]
            self._over[name] = None
            while len(self._over) > REMEMBERED:
                self._over.popitem(last=False)

    @property
    def is_warm(self) -> bool:
        """Whether the first model answers."""
        return self.warmed.done() and self.warmed.exception() is None

    @property
    def seconds_each(self) -> float:
        """Median seconds that the network took for each of the latest answers."""
        return median(self._taken) if self._taken else 0.0

    def count(self, state: str) -> int:
        """Requests that wait for the network, or that it has or had: `waiting` or `running`."""
        return sum(place.state == state for place in list(self.places.values()))

    def find(self, name: str) -> tuple[str, int | None]:
        """The state of a request by its id, and its place among those that wait, from 1."""
        if name not in self.places:
            return ("done" if name in self._over else "unknown"), None
        waiting = [place.id for place in self.places.values() if place.state == "waiting"]
        return self.places[name].state, waiting.index(name) + 1 if name in waiting else None

    def ask(self, question: Question) -> "Future[Answer]":
        """Queue a question; cancelling the future takes it out again, unless the network has it."""
        with self._changed:
            if self.stopping:
                raise Refusal(503, STOPPING)
            self._questions.append(question)
            self._changed.notify()
        return question.future

    def stop(self) -> None:
        """Ask nothing more; what waits is refused."""
        with self._changed:
            self.stopping = True
            left = [question for question in self._questions if question.future.set_running_or_notify_cancel()]
            self._questions.clear()
            self._changed.notify()
        for question in left:
            question.fail(Refusal(503, STOPPING))

    def _work(self) -> None:
        try:
            self.warmed.set_result(self.shelf.warm())
        except Exception as error:
            self.warmed.set_exception(error)
        while (question := self._take()) is not None:
            self._answer(question)
            del question  # not kept while the thread waits

    def _take(self) -> Question | None:
        """The next question that nobody has cancelled; None when the server stops."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._questions or self.stopping)
                if not self._questions:
                    return None
                question = self._questions.popleft()
                if question.future.set_running_or_notify_cancel():
                    return question

    def _take_alike(self, first: Question, most: int) -> list[Question]:
        """The first question, and others that can be asked together with it; the rest keep their order."""
        with self._changed:
            alike = [other for other in self._questions if other.is_like(first)][: most - 1]
            for other in alike:
                self._questions.remove(other)
        return [first, *(other for other in alike if other.future.set_running_or_notify_cancel())]

    def _answer(self, first: Question) -> None:
        """Answer a question, and those like it on a GPU; all of them get an error that one causes."""
        questions, short = [first], False
        try:
            loaded = self.shelf.open(first.model)
            questions = self._take_alike(first, loaded.batches.find_size(first.image.shape))
            with loaded.calibrated(first.calibration, first.raw):
                ready = [question for question in questions if _prepare(question, loaded)]
                short = bool(ready) and self._ask(ready, loaded)
        except Exception as error:  # such as a model that cannot be loaded
            for question in questions:
                question.fail(error)
        if short:
            free_memory()

    def _ask(self, questions: list[Question], loaded: LoadedModel) -> bool:
        """Ask the network for images of one shape; whether memory was short for one of them."""
        start, answers = time.perf_counter(), []
        try:
            answers = loaded.batches.predict([each.image for each in questions], questions[0].camera.matrix)
        except (ValueError, MemoryError) as error:
            if len(questions) == 1:
                questions[0].fail(error)
                return isinstance(error, MemoryError | TooLittleMemory)
        if not answers:  # one of them is bad, or they are too many together
            return any([self._ask([each], loaded) for each in questions])
        seconds = (time.perf_counter() - start) / len(questions)
        for question, answer in zip(questions, answers, strict=True):
            place = question.place
            self._taken.append(seconds)
            place.seconds |= {"queue": start - place.entered - place.seconds["read"], "network": seconds}
            note, unit = _find_moved(loaded, question.image), choose_unit(loaded.model, question.unit)
            question.future.set_result(Answer(answer.depth, answer.space, unit, question.camera, loaded, note))
        return False


def _prepare(question: Question, loaded: LoadedModel) -> bool:
    """Check a question against its model, now that this is loaded; False if it is refused."""
    question.place.state, model = "running", loaded.model
    if question.assume and question.camera.matrix is None and model.spec.canonical_focal is None:
        question.camera = assume_camera(question.image.shape)
    try:
        check_request(model, question.save, question.camera.matrix)
        choose_unit(model, question.unit)
    except ValueError as error:
        question.fail(error)
        return False
    return True


def _find_moved(loaded: LoadedModel, image: RGBArray) -> str | None:
    bench = loaded.model.background
    found = None if bench is None else register(bench, image)
    return found.describe("The image") if found is not None and found.moved else None
