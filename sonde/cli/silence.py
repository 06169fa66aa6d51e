"""Only sonde speaks: bars, log lines and warnings of libraries stay silent; those of sonde are one printable line each.

Python's own switch still shows everything: PYTHONWARNINGS=default.
"""

import logging
import os
import sys
import warnings
from typing import TextIO

from sonde.spelling import Notice, make_printable

QUIET = {
    # tqdm's bars, which transformers, peft, accelerate and datasets share
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    # tensorboard, and the C++ of torch
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # Ray, whose workers are other processes
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
}
"""What libraries read when they are imported; what the user has set stays."""


def silence_libraries() -> None:
    """Silence libraries; call it before any of them is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.showwarning = _show_warning
    # Libraries warn each other, through sonde, of changes that a user cannot make.
    warnings.simplefilter("ignore", FutureWarning)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of sonde. One about a file that is being read is a part of that file's reason."""
    # Imported here: `sonde --help` needs no readers.
    from sonde.files import hear_warning

    if hear_warning(message):
        return
    if sys.warnoptions:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)
    elif issubclass(category, Notice):
        print(make_printable(message), file=file or sys.stderr)


class PrintableFormatter(logging.Formatter):
    """Log lines that a terminal shows as they are: names in them may hold control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines printable."""
        return "\n".join(map(make_printable, super().format(record).split("\n")))


class PresentStderr(logging.Handler):
    """Writes to what `sys.stderr` is when a line comes: while a bar is shown, that puts the line above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        print(self.format(record), file=sys.stderr)


def set_up_logging() -> None:
    """Print what sonde logs, and of libraries errors alone."""
    handler = PresentStderr()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    logging.getLogger("sonde").setLevel(logging.INFO)
