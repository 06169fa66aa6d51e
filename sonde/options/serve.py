"""The options of `sonde serve` and `sonde.serve`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import (
    Options,
    batch_size_option,
    device_option,
    max_depth_option,
    option,
    precision_option,
    runtime_option,
)


@dataclass(frozen=True)
class ServeOptions(Options):
    """Who may ask, how much, and where the networks run."""

    host: str = option(
        "127.0.0.1", "The address to listen at; any but this machine's own, such as 0.0.0.0, needs a key."
    )
    port: int = option(8000, "The port to listen at; 0 takes a free one.", least=0, most=65535)
    api_key: str | None = option(
        None,
        "What each request must carry, as `Authorization: Bearer KEY`; better SONDE_API_KEY in the environment, which "
        "no list of processes shows.",
    )
    no_api_key: bool = option(False, "Answer everybody, without a key.", flags=("--no-api-key",))
    max_models: int = option(2, "Models kept in memory; past it the one unused for longest leaves.", least=1, most=1000)
    queue: int = option(64, "Requests under way at once; one more is answered with 429.", least=1, most=10_000)
    max_mb: int | float = option(64, "Megabytes of a request at most.", above=0, most=4096)
    max_megapixels: int | float = option(50, "Millions of pixels of an image at most.", above=0, most=178)
    timeout: int | float = option(120, "Seconds that a request may take, its wait included.", above=0, most=86_400)
    grace: int | float = option(10, "Seconds for what runs to finish when the server is stopped.", least=0, most=3600)
    allow_save: Path | None = option(
        None, "A folder for calibrations that clients save by a name; without it they last as long as their ids."
    )
    max_depth: int | float | None = max_depth_option()
    device: str = device_option()
    precision: str = precision_option()
    runtime: str = runtime_option()
    batch_size: int | None = batch_size_option()
