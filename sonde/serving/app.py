"""The routes: POST /v1/depth, /v1/points and /v1/calibrate, what describes the server, and the page."""

import mimetypes
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from sonde import __version__
from sonde.options.serve import ServeOptions
from sonde.serving import documents
from sonde.serving.answers import FORMATS, choose_format, write_answer
from sonde.serving.calibrations import calibrate, check_name
from sonde.serving.documents import BINARY, CalibrateQuery, DepthQuery, PointsQuery, describe_body, describe_errors
from sonde.serving.gate import Gatekeeper
from sonde.serving.images import MILLION
from sonde.serving.points import PLACES, POINTS, measure, parse_known, parse_places
from sonde.serving.refusals import Refusal, make_refusal
from sonde.serving.service import MB, Finish, Service
from sonde.spelling import shorten

ASKING = describe_errors(400, 401, 403, 404, 408, 413, 415, 429, 500, 503)
LOOKING = describe_errors(400, 401, 403)
STATE = {"responses": {**describe_errors(403, 503)}, "response_model": dict[str, str]}
RequestId = Annotated[str | None, Header(alias="X-Request-Id", description="Of your own, for GET /v1/queue?id=…")]
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob: data:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What the page may load: nothing from another server."""


def make_app(models: Sequence[str], options: ServeOptions) -> FastAPI:
    """The application, for any ASGI server; its models load when it starts. `app.state.service` is its `Service`.

    Args:
        models: names as `sonde.load` takes them; clients choose among them, and the first is the default.
        options: as `sonde.serve` takes them.
    """
    service = Service(models, options)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    about = {"title": "sonde", "version": __version__, "summary": "Depth of single images."}
    app = FastAPIOffline(**about, lifespan=live, docs_url="/docs", redoc_url=None)
    app.state.service = service
    _add_asking(app, service)
    _add_looking(app, service)
    _add_page(app)
    _add_errors(app)
    app.add_middleware(Gatekeeper, gauges=service.gauges, key=options.api_key, guarded=not options.no_api_key)
    return app


def _add_asking(app: FastAPI, service: Service) -> None:
    """The routes that take an image."""
    binary = {"content": dict.fromkeys([each.media for each in FORMATS.values()], BINARY)}
    depth_answer = {"model": documents.DepthDocument, "description": "The depth, or what is known of it.", **binary}

    @app.post("/v1/depth", responses={**ASKING, 200: depth_answer}, openapi_extra=describe_body())
    async def depth(request: Request, query: Annotated[DepthQuery, Query()], name: RequestId = None) -> Response:
        """The depth of an image at its own size, as `sonde predict` writes it; headers `X-Sonde-…` say what it is."""
        chosen = choose_format(query.format, request.headers.get("accept", ""))
        if query.low is not None and query.high is not None and query.low >= query.high:
            raise ValueError(f"low={query.low:g} is not below high={query.high:g}: expected the ends of the colours.")
        how = {"save": (FORMATS[chosen].saver,), "assume": chosen in ("ply", "glb")}
        finish = partial(write_answer, name=chosen, query=query, folder=service.folder)
        return await service.answer(request, query, lambda _: (how, finish))

    @app.post(
        "/v1/points",
        responses=ASKING,
        openapi_extra=describe_body(query=f"JSON, such as {PLACES}"),
        response_model=documents.PointsDocument,
    )
    async def points(request: Request, query: Annotated[PointsQuery, Query()], name: RequestId = None) -> Response:
        """Depth at pixels, its median in boxes, and the distance in space between pairs of pixels."""

        def prepare(fields: dict[str, str]) -> tuple[dict[str, Any], Finish]:
            places = parse_places(fields.get("query", query.query))
            return {"assume": bool(places.pairs)}, partial(measure, places=places)

        return await service.answer(request, query, prepare, "query")

    @app.post(
        "/v1/calibrate",
        responses={**ASKING, **describe_errors(501)},
        openapi_extra=describe_body(["points"], points=f"JSON: x, y and metres of known points, such as {POINTS}"),
        response_model=documents.CalibrationDocument,
    )
    async def find(request: Request, query: Annotated[CalibrateQuery, Query()], name: RequestId = None) -> Response:
        """The formula from a model's answer to metres that `sonde calibrate` chooses for a few known points."""
        folder = service.options.allow_save
        check_name(query.save, folder)

        def prepare(fields: dict[str, str]) -> tuple[dict[str, Any], Finish]:
            return {"raw": True}, partial(
                calibrate, known=parse_known(fields.get("points")), query=query, folder=folder
            )

        return await service.answer(request, query, prepare, "points")


def _add_looking(app: FastAPI, service: Service) -> None:
    """The routes that say how the server is."""
    line, options = service.line, service.options
    limits = {
        "bytes": int(options.max_mb * MB),
        "pixels": int(options.max_megapixels * MILLION),
        "seconds": options.timeout,
        "queue": options.queue,
    }

    @app.get("/v1/models", responses=LOOKING, response_model=documents.ModelsDocument)
    async def models() -> Response:
        """The models that may be asked, and what a request may take."""
        return JSONResponse({"models": service.shelf.describe(), "limits": limits, "formats": list(FORMATS)})

    @app.get("/v1/queue", responses=LOOKING, response_model=documents.QueueDocument)
    async def queue(id: str | None = None) -> Response:
        """How many requests are under way, and the place of one of them."""
        found: dict[str, object] = {state: line.count(state) for state in ("waiting", "running")}
        found |= {"limit": line.limit, "seconds_each": line.seconds_each}
        if id is not None:
            found["state"], found["place"] = line.find(id)
        return JSONResponse(found)

    @app.get("/healthz", **STATE)
    async def healthz() -> Response:
        """Whether the first model answers."""
        if not line.is_warm:
            raise Refusal(503, "The first model is not loaded yet: ask again in a few seconds.")
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", **STATE)
    async def readyz() -> Response:
        """Whether a request would be taken now."""
        if not line.is_warm or line.stopping or len(line.places) >= line.limit:
            raise Refusal(503, "The server starts or stops, or its queue is full: ask again in a few seconds.")
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", responses={**LOOKING, 200: {"content": {CONTENT_TYPE_LATEST: {}}}}, response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(service.gauges.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _add_page(app: FastAPI) -> None:
    """The page and its files: a fixed table, read once; no path of a client is joined."""
    folder = resources.files("sonde.serving") / "page"
    contents = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()} if folder.is_dir() else {}

    @app.get("/", include_in_schema=False)
    @app.get("/page/{name}", include_in_schema=False)
    async def page(request: Request, name: str = "index.html") -> Response:
        if name not in contents:
            raise HTTPException(404)
        tag = f'"{sha256(contents[name]).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(contents[name], media_type=mimetypes.guess_type(name)[0], headers=headers)


def _add_errors(app: FastAPI) -> None:
    """FastAPI's own errors become sentences, and 422, which is never answered, leaves the document."""
    known = sorted({name for kind in (DepthQuery, PointsQuery, CalibrateQuery) for name in kind.model_fields})
    make_document = app.openapi

    async def tell(request: Request, error: Exception) -> Response:
        return make_refusal(error, f"{request.method} {shorten(request.url.path, 100)}", known).answer()

    def describe() -> dict[str, Any]:
        document = make_document()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return document

    app.add_exception_handler(HTTPException, tell)
    app.add_exception_handler(RequestValidationError, tell)
    app.openapi = describe  # type: ignore[method-assign]  # as FastAPI documents it
