"""A server in this process, small images for it, and what `sonde predict` writes for the same image."""

import asyncio
import io
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image
from small_networks import saved

from sonde import models, prediction
from sonde.options.serve import ServeOptions
from sonde.serving import make_app

HERE = "http://127.0.0.1:8000"
CAMERA = {"fx": "60", "fy": "61", "cx": "31.5", "cy": "22.5"}


def encode(height: int = 48, width: int = 64, seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    """A photograph of soft colours, encoded."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, kind, **options)
    return file.getvalue()


def save_metric(folder: Path, **changes: Any) -> Path:
    """A small network that answers metres and whose captures were measured in mm."""
    torch.manual_seed(1)
    model = models.load_network(saved("glpn", folder / "plain"))
    model.spec = replace(model.spec, space="metric", unit="mm", **changes)
    models.save(model, folder / "metric")
    return folder / "metric"


def predict(image: bytes, model: str | Path, folder: Path, save: str, **options: Any) -> bytes:
    """What `sonde predict` writes for an image."""
    path = folder / "image.png"
    path.write_bytes(image)
    return prediction.predict_bytes(path, str(model), save=(save,), runtime="auto", **options)[0]


def ask_together(names: list[str], work: Callable[[httpx.AsyncClient, Any], Coroutine[Any, Any, Any]], **options: Any):
    """Run a coroutine with a client of a server in this process, and the server's `Service`."""

    async def run() -> Any:
        async with live_client(names, **options) as (client, service):
            return await work(client, service)

    return asyncio.run(run())


@asynccontextmanager
async def live_client(names: list[str], **options: Any):
    """A client of a server in this process whose first model answers."""
    app = make_app(names, ServeOptions(**options))
    async with app.router.lifespan_context(app):
        await asyncio.wrap_future(app.state.service.line.warmed)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE, timeout=60) as client:
            yield client, app.state.service
