"""The outermost layer: who may ask; every error becomes one sentence; every request is counted."""

import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonde import __version__
from sonde.serving.gauges import Gauges
from sonde.serving.refusals import Refusal, make_refusal
from sonde.spelling import shorten

OPEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/page/", "/static-offline-docs/")
"""Paths, and folders, that need no key: they hold nothing of the models or of other clients."""
HEADERS: Mapping[str, str] = {"X-Sonde-Version": __version__, "X-Content-Type-Options": "nosniff"}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself: localhost, 127.0.0.1 or [::1], with or without a port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


class Gatekeeper:
    """An ASGI application around the server's own.

    Args:
        app: the server's own.
        gauges: where requests are counted.
        key: that requests must carry; None: none.
        guarded: without a key, whether only requests to this machine itself are answered.
    """

    def __init__(self, app: ASGIApp, gauges: Gauges, key: str | None, guarded: bool):
        self.app, self.gauges, self.key, self.guarded = app, gauges, key, guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = 499

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check_client(scope["path"], Headers(scope=scope))
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            refusal = make_refusal(error, f"{scope['method']} {shorten(scope['path'], 100)}", [])
            if status == 499:  # nothing was sent yet
                await refusal.answer()(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.gauges.note(route, status, scope.get("state", {}).get("place"))

    def _check_client(self, path: str, headers: Headers) -> None:
        """Refuse who may not ask.

        Raises:
            Refusal: the key is missing or wrong; or there is none, and a page of another site asks.
        """
        if self.key is not None:
            is_open = path in OPEN or path.startswith(tuple(each for each in OPEN[1:] if each[-1] == "/"))
            if not is_open and not _carries(headers, self.key):
                sentence = "The API key is missing or wrong: send `Authorization: Bearer KEY` or `X-API-Key: KEY`."
                raise Refusal(401, sentence, {"WWW-Authenticate": "Bearer"})
        elif self.guarded:
            host, origin = headers.get("host", ""), headers.get("origin")
            if not is_loopback(host) or (origin is not None and origin.partition("//")[2] != host):
                raise Refusal(
                    403,
                    "This server has no API key, so it answers only requests to 127.0.0.1 or localhost that no other "
                    "site makes: start it with --api-key to answer more.",
                )


def _carries(headers: Headers, key: str) -> bool:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = (headers.get("x-api-key", ""), bearer.strip() if scheme.lower() == "bearer" else "")
    # Both are compared, in a time that does not depend on how much of them is right.
    return any([hmac.compare_digest(text.encode("latin-1"), key.encode()) for text in given])
