"""The warm process that the tests of this folder share."""

from collections.abc import Iterator

import pytest
from runner import Runner


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """The warm process that runs cases and commands in forked children."""
    warm = Runner(tmp_path_factory.mktemp("faults"))
    yield warm
    warm.close()
