"""What one server holds, and the way of a request: body → pixels → queue → network → answer."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sonde.options.serve import ServeOptions
from sonde.overlap import count_cores
from sonde.serving.bodies import Upload, read_upload
from sonde.serving.calibrations import decode
from sonde.serving.documents import AskQuery, ImageQuery
from sonde.serving.gauges import Gauges
from sonde.serving.images import Photograph, choose_camera, read_photograph
from sonde.serving.line import STOPPING, Answer, Place, Question, WaitingLine
from sonde.serving.refusals import Refusal
from sonde.serving.shelf import Shelf
from sonde.types import RGBArray

MB = 1_000_000
ID = re.compile(r"[0-9A-Za-z-]{8,64}")
"""An X-Request-Id; a request with another gets one of its own."""
Finish = Callable[[Answer, RGBArray, Place], Response]
"""Makes what is sent of an answer, its image and its place; it runs in a thread."""
R = TypeVar("R")


class Service:
    """Models, queue, threads and figures of one server; `running` starts and ends them.

    Args:
        names: of the models, as `sonde.load` takes them.
        options: as `sonde.serve` takes them.
    """

    def __init__(self, names: Sequence[str], options: ServeOptions):
        self.options, self.shelf = options, Shelf(names, options)
        self.line = WaitingLine(self.shelf, options.queue)
        self.gauges = Gauges(self.line)
        self.unfinished = 0
        """Requests that the server's end has cut off."""
        self._folder: TemporaryDirectory[str] | None = None
        cores = count_cores()
        self._reading = ThreadPoolExecutor(max(1, min(4, cores // 4)), "reading")
        self._writing = ThreadPoolExecutor(max(1, min(4, cores // 2)), "writing")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the threads while the block runs."""
        self._folder = TemporaryDirectory(prefix="sonde-serve-", ignore_cleanup_errors=True)
        self.line.thread.start()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Ask the network nothing more, refuse what waits, and remove the server's own folder."""
        self.line.stop()
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._writing.shutdown(wait=False, cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """The server's own, for files that are written to be sent."""
        if self._folder is None:
            raise Refusal(503, STOPPING)
        return Path(self._folder.name)

    async def answer(
        self,
        request: Request,
        query: ImageQuery,
        prepare: Callable[[dict[str, str]], tuple[dict[str, Any], Finish]],
        *fields: str,
    ) -> Response:
        """Answer a request that holds an image.

        Args:
            request: whose body nobody has read.
            query: its parameters.
            prepare: the fields beside the image → what else the `Question` says, and how the answer is sent.
            fields: names of the fields that it may have.

        Raises:
            Refusal: the queue is full, the server stops, the request takes too long, or what reading it says.
        """
        name = request.headers.get("x-request-id", "")
        model = self.shelf.check_name(query.model)
        with self.line.enter(name if ID.fullmatch(name) else str(uuid4())) as place:
            request.state.place = place
            try:
                async with asyncio.timeout(self.options.timeout):
                    upload = await read_upload(request, int(self.options.max_mb * MB), *fields)
                    place.entered = perf_counter()
                    return await while_there(request, self._work(upload, model, query, place, *prepare(upload.fields)))
            except asyncio.CancelledError:
                self.unfinished += 1
                raise
            except TimeoutError:
                sentence = (
                    f"The request took longer than {self.options.timeout:g} s, the most that this server gives it."
                )
                raise Refusal(408, sentence) from None

    async def _work(
        self, upload: Upload, model: str, query: ImageQuery, place: Place, how: dict[str, Any], finish: Finish
    ) -> Response:
        loop = asyncio.get_running_loop()
        image, focal = await loop.run_in_executor(self._reading, self._read, upload.image, place)
        camera = choose_camera(image.shape, (query.fx, query.fy, query.cx, query.cy), query.fov, focal)
        if isinstance(query, AskQuery):
            how |= {"unit": query.unit, "calibration": decode(query.calibration)}
        answer = await asyncio.wrap_future(self.line.ask(Question(place, model, image, camera, **how)))
        return await loop.run_in_executor(self._writing, partial(finish, answer, image, place))

    def _read(self, data: bytes, place: Place) -> Photograph:
        start = perf_counter()
        found = read_photograph(data, self.options.max_megapixels)
        place.seconds["read"] = perf_counter() - start
        return found


async def while_there(request: Request, work: Coroutine[object, object, R]) -> R:
    """The result of the work; when the client goes, the work is cancelled, and leaves the queue.

    Args:
        request: whose body is read.
        work: for it.

    Raises:
        ClientDisconnect: the client has gone.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
