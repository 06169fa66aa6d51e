"""What every test may use: the folder of real captures, or a clean skip where it is absent."""

from pathlib import Path

import pytest

REALDATA = Path(__file__).resolve().parents[2] / "shared" / "realdata"


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The real captures beside the checkout."""
    if not REALDATA.is_dir():
        pytest.skip("no real captures beside the checkout (../shared/realdata)")
    return REALDATA
