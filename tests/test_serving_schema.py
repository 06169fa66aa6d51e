"""Whatever the OpenAPI document allows, and what it does not, is answered as the document says."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from small_service import encode

from sonde.bench.serving import start_server

EXAMPLES = 20
ROUTES = [
    ("POST", "/v1/depth"),
    ("POST", "/v1/points"),
    ("POST", "/v1/calibrate"),
    ("GET", "/v1/models"),
    ("GET", "/v1/queue"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]
IMAGES = strategies.sampled_from([encode(), encode(20, 30, 1, "JPEG"), b"", b"rubbish", encode()[:90]])
"""What is sent as an image: sound ones, and others."""
HELD = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]

for media in ("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp"):
    schemathesis.openapi.media_type(media, IMAGES)


@pytest.fixture(scope="module")
def document() -> Iterator[Any]:
    """The document of a server that runs."""
    with start_server("sonde-tiny", "--device", "cpu", "--max-mb", "1", "--max-megapixels", "1") as place:
        yield schemathesis.openapi.from_url(f"http://{place.host}:{place.port}/openapi.json")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_api_answers_as_its_document_says(document, method, path):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(case=document[path][method].as_strategy())
    def check(case) -> None:
        case.call_and_validate(checks=HELD)

    check()


def test_every_route_of_the_document_is_asked(document):
    found = [result.ok() for result in document.get_all_operations()]
    assert {(each.method.upper(), each.path) for each in found} == set(ROUTES)
