"""The same server on many machines, by Ray Serve: `serve run sonde.serving.cluster:app models=sonde-tiny replicas=2`.

Each replica is a whole server without a port. The door in front of them takes the requests; when a replica dies, what
it had in hand is asked again of another, since a request changes nothing.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from sonde.options.serve import ServeOptions
from sonde.serving import check_options
from sonde.serving.app import make_app
from sonde.serving.bodies import read_body
from sonde.serving.refusals import Refusal
from sonde.serving.service import MB
from sonde.spelling import nearest

TRIES = 4
"""How often a request is given to a replica: each time the one before has died."""
KNOWN = ("models", "replicas", "cpus", "gpus", *(about.name for about in fields(ServeOptions)))
LOST = (RayActorError, ReplicaUnavailableError)
Sent = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""


class Replica:
    """A server without a port; it is ready once its first model answers."""

    async def __init__(self, models: list[str], options: ServeOptions):
        self.app = make_app(models, options)
        self._live = self.app.router.lifespan_context(self.app)
        await self._live.__aenter__()
        await asyncio.wrap_future(self.app.state.service.line.warmed)

    async def answer(self, scope: dict[str, Any], body: bytes) -> Sent:
        """The answer to one request.

        Args:
            scope: of ASGI, what of it can be sent to another machine.
            body: all of it.
        """
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if not parts:
                await asyncio.Event().wait()  # Ray cancels this call when the client leaves
            return parts.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], sent[0]["headers"], content


class FrontDoor:
    """Takes requests and gives each to a replica, again where that has died."""

    def __init__(self, replicas: DeploymentHandle, most: int):
        self.replicas, self.most = replicas, most

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        kept = ("type", "method", "path", "raw_path", "query_string", "headers", "http_version", "scheme", "root_path")
        scope = {name: request.scope[name] for name in kept if name in request.scope}
        try:
            body = await read_body(request, self.most)
        except Refusal as refusal:
            return refusal.answer()
        for _ in range(TRIES):
            try:
                status, headers, content = await self.replicas.answer.remote(scope, body)
            except LOST:
                continue
            response = Response(content, status)
            response.raw_headers = headers
            return response
        return Refusal(503, f"{TRIES} servers ended at this request, one after the other: ask again.").answer()


def app(settings: Mapping[str, str]) -> Application:
    """The application that `serve run` deploys.

    Args:
        settings: `models` (sonde-lite; several with commas), `replicas` (`2`, or `1-4` for as many as the load needs),
            `cpus` and `gpus` of each replica, and any option of `sonde serve`.

    Raises:
        ValueError: an unknown setting, or a value that does not fit.
    """
    given = dict(settings)
    names = given.pop("models", "sonde-lite").split(",")
    least, most = _parse_count(given.pop("replicas", "1"))
    actor = {"num_cpus": _parse_number(given, "cpus", "1"), "num_gpus": _parse_number(given, "gpus", "0")}
    if (unknown := next((name for name in given if name not in KNOWN), None)) is not None:
        raise ValueError(f"No setting {unknown!r}: {nearest(unknown, KNOWN)}")
    try:
        options = check_options(names, TypeAdapter(ServeOptions).validate_python(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][-1]}={first['input']!r}: {first['msg']}.") from None
    bounds = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": max(1, options.queue // 4)}
    scale = {"num_replicas": least} if least == most else {"autoscaling_config": bounds}
    replicas = serve.deployment(Replica).options(ray_actor_options=actor, max_ongoing_requests=options.queue, **scale)
    door = serve.deployment(FrontDoor).options(
        max_ongoing_requests=10 * options.queue, ray_actor_options={"num_cpus": 0.1}
    )
    return door.bind(replicas.bind(names, options), int(options.max_mb * MB))


def _parse_count(text: str) -> tuple[int, int]:
    """The least and the largest number of replicas: `2`, or `1-4`."""
    least, _, most = text.partition("-")
    if not (least.isdecimal() and (most or least).isdecimal() and 0 < int(least) <= int(most or least)):
        raise ValueError(f"replicas={text!r}: expected a number such as 2, or the least and the most such as 1-4.")
    return int(least), int(most or least)


def _parse_number(settings: dict[str, str], name: str, default: str) -> float:
    try:
        return float(settings.pop(name, default))
    except ValueError as error:
        raise ValueError(f"{name}: {error}; expected a number such as 1.") from None
