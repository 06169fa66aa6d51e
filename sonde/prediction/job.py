"""One call of `predict` at work: threads read images ahead, the network answers, threads write behind it.

Images keep their order at every stage, and only a few of them are in memory together.
"""

import errno
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from math import prod
from pathlib import Path
from typing import NamedTuple

from sonde import files, models
from sonde.background import Registration, register
from sonde.geometry import check_camera
from sonde.options.predict import PredictOptions
from sonde.overlap import count_cores, map_ahead
from sonde.prediction.batches import BatchModel, TooLittleMemory
from sonde.prediction.manifest import WrittenImage
from sonde.prediction.savers import SAVERS, PredictedImage
from sonde.prediction.sheets import SheetWriter, draw_tile
from sonde.types import MatrixArray, RGBArray

SQUARE, SMALL = 512, 256 * 256
"""Pixels of the side of an image, and of the network's input for it, up to which the input is small."""

MANY = 16
"""Images from which it pays to open the network again with one thread for an answer, which takes a tenth of a second.
Answers side by side use the cores better than threads that share one answer."""


class Threads(NamedTuple):
    """How many threads do each part of the work."""

    reading: int
    asking: int
    """Batches that the network answers at the same time."""
    writing: int


class Pools(NamedTuple):
    """The threads."""

    reading: ThreadPoolExecutor
    asking: ThreadPoolExecutor
    writing: ThreadPoolExecutor


@dataclass
class PredictTask:
    """One image on its way; each stage fills in what it found and drops what is no longer needed."""

    number: int
    path: Path
    stem: Path
    """Of its outputs, without suffix."""
    image: RGBArray | None = None
    answer: PredictedImage | None = None
    reason: str | None = None
    """Why it has no prediction."""
    moved: Registration | None = None
    """If it does not lie on the bench of the model's fixed camera."""
    tile: RGBArray | None = None
    """Of the sheet."""
    written: WrittenImage | None = None

    def reject(self, error: ValueError | str) -> None:
        """Note why the image has no prediction, and drop it."""
        self.reason = files.FOREIGN.get(self.path.suffix.lower(), str(error))
        self.image = self.answer = None


@dataclass
class PredictJob:
    """One call of `predict`: the model, and the results so far."""

    model: "models.DescribedModel"
    camera: MatrixArray | None
    options: PredictOptions
    unit: str
    """Of metric depth; `1` for relative depth."""
    out: files.OutputFolder
    contents: Mapping[Path, bytes]
    """The encoded images that are no files."""
    sheets: SheetWriter | None = None
    unread: Sequence[tuple[Path, str]] = ()
    """What cannot be read, each with its reason."""
    batches: BatchModel = field(init=False)
    ended: list[PredictTask] = field(default_factory=list)
    """Images that were written or rejected, in the order in which they ended."""

    def __post_init__(self) -> None:
        """Set up the batches."""
        self.batches = BatchModel(self.model, self.options.batch_size)

    def predict_images(self, stems: Mapping[Path, Path]) -> Generator[int, None, None]:
        """Predict images and write their outputs; yield how many are done, after each.

        An image that cannot be predicted is noted in `failed`. No thread goes on when the generator ends or is closed.

        Args:
            stems: image -> the path of its outputs without suffix.

        Raises:
            OSError: the disk is full, or the output folder was removed.
            TooLittleMemory: too little memory for a batch, even for half of it.
        """
        threads = count_threads(self.model)
        if threads.asking > 1 and len(stems) >= MANY and isinstance(self.model, models.ExportedModel):
            self.batches.model = self.model.use_one_thread()
        pools = Pools(*(ThreadPoolExecutor(count, name) for name, count in threads._asdict().items()))
        try:
            tasks = (PredictTask(number, path, stem) for number, (path, stem) in enumerate(stems.items()))
            read = map_ahead(pools.reading, self._read, tasks, self._count_ahead(threads.reading))
            batches = self._make_batches(read)
            if threads.asking == 1:
                answered = map(self._answer, batches)
            else:
                answered = map_ahead(pools.asking, self._answer, batches, threads.asking + 1)  # none waits for work
            ahead = self._count_ahead(threads.writing)
            written = map_ahead(pools.writing, self._write, chain.from_iterable(answered), ahead)
            for done, task in enumerate(written, start=1):
                if self.sheets is not None and task.tile is not None:
                    self.sheets.take(task.tile, self.unit)
                task.tile = None
                yield done
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)

    def _count_ahead(self, threads: int) -> int:
        """Images that one stage holds for the next: so many that neither waits, and no more."""
        return threads + (self.batches.asked or 1)

    def _read(self, task: PredictTask) -> PredictTask:
        content = self.contents.get(task.path)
        try:
            task.image = files.read_rgb(task.path) if content is None else files.decode_rgb(content, str(task.path))
            if self.camera is not None:
                check_camera(self.camera, *task.image.shape[:2])
        except ValueError as error:
            task.reject(error)
        return task

    def _make_batches(self, tasks: Iterator[PredictTask]) -> Iterator[list[PredictTask]]:
        """Images of one shape that follow each other; one that cannot be read is by itself."""
        for shape, group in groupby(tasks, key=lambda task: None if task.image is None else task.image.shape):
            while batch := list(islice(group, 1 if shape is None else self.batches.find_size(shape))):
                yield batch

    def _answer(self, batch: list[PredictTask]) -> list[PredictTask]:
        """Ask the network for a batch, which is returned."""
        if batch[0].image is not None:
            self._ask(batch)
        return batch

    def _ask(self, batch: Sequence[PredictTask]) -> None:
        images = [task.image for task in batch if task.image is not None]
        try:
            answers = self.batches.predict(images, self.camera)
        except ValueError as error:
            if len(batch) == 1:
                batch[0].reject(error)
                return
            if isinstance(error, TooLittleMemory):
                raise
            for task in batch:  # one of them is bad
                self._ask([task])
            return
        for task, image, answer in zip(batch, images, answers, strict=True):
            task.answer = PredictedImage(image, answer.depth, answer.space, self.unit, self.camera, str(task.path))
            task.image = None

    def _write(self, task: PredictTask) -> PredictTask:
        """Write the outputs of an image that has an answer."""
        if task.answer is not None:
            try:
                task.moved = _find_moved(self.model, task.answer)
            except ValueError as error:
                task.reject(error)
        if task.answer is not None:
            self.out.check()
            self._save(task, task.answer)
            task.answer = None
        self.ended.append(task)
        return task

    def _save(self, task: PredictTask, answer: PredictedImage) -> None:
        try:
            outputs = [path for name in self.options.save for path in _save(task.stem, name, answer)]
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            task.reject("the name of its output is too long for the file system; shorten it")
            return
        task.written = _describe_image(task.path, answer, outputs)
        if self.sheets is not None:
            shown = (task.stem.parent / task.path.name).relative_to(self.out.path).as_posix()
            task.tile = draw_tile(shown, answer)

    def check(self) -> None:
        """Raise FileNotFoundError if the output folder, or a file that was written, is gone."""
        self.out.check()
        lost = next((path for path in self.list_outputs() if not path.is_file()), None)
        if lost is not None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(lost))

    def list_outputs(self) -> list[Path]:
        """Every prediction that was written, in order."""
        return [output for entry in self.entries for output in entry.outputs]

    @property
    def entries(self) -> list[WrittenImage]:
        """What was written for each image, in order."""
        return [task.written for task in self._sort() if task.written is not None]

    @property
    def failed(self) -> list[tuple[Path, str]]:
        """What cannot be read, then images without a prediction, each with its reason."""
        return [*self.unread, *((task.path, task.reason) for task in self._sort() if task.reason is not None)]

    @property
    def moved(self) -> dict[Path, Registration]:
        """Images that do not lie on the bench of the model's fixed camera."""
        return {task.path: task.moved for task in self._sort() if task.moved is not None and task.reason is None}

    def _sort(self) -> Iterable[PredictTask]:
        return sorted(self.ended, key=lambda task: task.number)


def count_threads(model: "models.DescribedModel") -> Threads:
    """How many threads read, ask and write for a model.

    On a CPU the network wants the cores for itself; a GPU leaves them idle. torch gives the same bytes only with the
    same number of threads for each answer, and these take all cores: it is asked for one batch after the other. ONNX
    Runtime gives the same bytes in any way, and answers several small inputs at the same time.
    """
    cores = count_cores()
    if model.placement.device != "cpu":
        return Threads(min(8, cores), 1, min(8, cores))
    spec = model.spec
    is_small = not spec.pads and prod(spec.network_size(SQUARE, SQUARE)) <= SMALL
    asking = min(4, cores) if is_small and model.placement.runtime == "onnx" else 1
    return Threads(max(1, min(4, cores // 4)), asking, max(1, min(4, cores // 2)))


def name_targets(stem: Path, name: str) -> list[Path]:
    """The files of one kind for one image; first the one with the suffix of its saver."""
    saver = SAVERS[name]
    return [stem.with_name(stem.name + suffix) for suffix in (saver.suffix, *saver.beside)]


def _save(stem: Path, name: str, answer: PredictedImage) -> list[Path]:
    targets = name_targets(stem, name)
    SAVERS[name].write(targets[0], answer)
    return targets


def _find_moved(model: "models.DescribedModel", answer: PredictedImage) -> Registration | None:
    """How far an image lies off the bench, if its model belongs to a fixed camera and it does not lie on its bench."""
    if model.background is None or answer.image is None:
        return None
    found = register(model.background, answer.image)
    return found if found.moved else None


def _describe_image(source: Path, answer: PredictedImage, outputs: list[Path]) -> WrittenImage:
    height, width = answer.depth.shape
    low, _, median, _, high = answer.quantiles
    return WrittenImage(source, outputs, width, height, low, median, high)
