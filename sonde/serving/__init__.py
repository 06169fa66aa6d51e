"""A page and a REST API of depth on one port, with warm models: `sonde serve`.

A request goes through `bodies` (its bytes), `images` (its pixels), `line` (the queue and the network) and `answers` or
`points` (what is sent). `service` holds these together, `app` has the routes, and `gate` is around them all.
"""

import errno
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import NamedTuple

import uvicorn

from sonde import files, models
from sonde.options import takes
from sonde.options.serve import ServeOptions
from sonde.serving.app import make_app
from sonde.serving.gate import is_loopback
from sonde.serving.service import Service
from sonde.serving.shelf import LoadedModel

__all__ = ["ServeResult", "make_app", "serve"]

KEY = "SONDE_API_KEY"
"""The environment variable that holds the API key."""
BACKLOG = 1024
"""Connections that the system accepts ahead of the server."""


class ServeResult(NamedTuple):
    """How a server ended."""

    signal: str | None
    """What stopped it."""
    left: int
    """Requests that were not finished within the grace period."""


class StoppableServer(uvicorn.Server):
    """A server that a signal stops: it takes nothing new, finishes what runs, and returns."""

    stopped_by: str | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals while the server runs, and to nothing afterwards: uvicorn raises them again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
        before = {each: signal.signal(each, self.handle_exit) for each in numbers}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; a second signal does not wait for what runs."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.stopped_by = self.stopped_by or signal.Signals(sig).name


@takes(ServeOptions)
def serve(
    names: str | Sequence[str] = "sonde-lite",
    *,
    options: ServeOptions,
    ready: Callable[[str], None] | None = None,
) -> ServeResult:
    """Answer requests until a signal stops the server.

    Args:
        names: models as `sonde.load` takes them; clients choose among them, and the first is the default.
        options: the options below, as one value.
        ready: called once with a line that says where the server listens, when its first model answers.

    Raises:
        ValueError: before any work: no such model, an address that is not this machine's own without a key, a port in
            use, or a folder that cannot be written; or the first model cannot be loaded.
    """
    names = [names] if isinstance(names, str) else list(names)
    options = check_options(names, options)
    app = make_app(names, options)
    service: Service = app.state.service
    with _listen(options) as listening:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            log_level="critical",
            server_header=False,
            timeout_graceful_shutdown=math.ceil(options.grace),
        )
        server = StoppableServer(config)
        service.line.warmed.add_done_callback(partial(_attend, server, _tell_address(listening), ready))
        try:
            server.run(sockets=[listening])
        finally:
            service.close()
    fault = service.line.warmed.exception() if service.line.warmed.done() else None
    if fault is not None:
        raise fault
    if not server.started:
        raise ValueError("The server did not start: expected a folder of temporary files (TMPDIR) that can be written.")
    return ServeResult(server.stopped_by, service.unfinished)


def check_options(names: Sequence[str], options: ServeOptions) -> ServeOptions:
    """The options with the key of the environment; what cannot be served is refused before work.

    Raises:
        ValueError: no model of a name, or an address that other machines reach, without a key.
    """
    if not names:
        raise ValueError("No model to serve: give at least one, such as sonde-lite.")
    for name in names:
        models.refuse_unknown(name)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice: give each model once.")
    key = options.api_key or os.environ.get(KEY) or None
    if options.no_api_key and key is not None:
        raise ValueError(f"no_api_key=True beside a key, which {KEY} or api_key gives: leave one of them out.")
    if key is None and not options.no_api_key and not is_loopback(_bracket(options.host)):
        raise ValueError(
            f"host={options.host} can be reached from other machines: set {KEY} to a key that clients must send, or "
            "give no_api_key=True to answer everybody."
        )
    if options.allow_save is not None:
        files.check_output(options.allow_save, "--allow-save")
    return options.change(api_key=key)


def _listen(options: ServeOptions) -> socket.socket:
    """A socket that listens, before any model is loaded."""
    host, port = options.host, options.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError:
        raise ValueError(f"host={host}: expected an address or a name of this machine, such as 127.0.0.1.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ValueError(_explain_socket(error, host, port)) from None
    return listening


def _explain_socket(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port={port}: another program listens there; stop it, or give another port, such as {port + 1}, or 0."
    if error.errno == errno.EACCES:
        return f"port={port}: only the system's administrator may listen there; give a port above 1023."
    return f"host={host}: nothing can listen there ({error.strerror}); expected an address of this machine."


def _tell_address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{_bracket(host)}:{port}"


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _attend(
    server: StoppableServer, address: str, ready: Callable[[str], None] | None, warmed: "Future[LoadedModel]"
) -> None:
    """Say that the first model answers, or stop where it cannot be loaded."""
    if warmed.exception() is not None:
        server.should_exit = True
    elif ready is not None:
        model = warmed.result().model
        ready(f"{address}  {model.name} {model.placement.describe()}")
