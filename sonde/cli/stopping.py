"""What the program says when it is stopped: what is kept, and how to go on."""

import signal
from collections.abc import Sequence
from types import FrameType

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""The signals that end the program with a sentence, and with exit code 128 + number."""

AGAIN = "give the same command again to go on"
WHOLE = "is written whole or not at all: if it is not there, give the same command again"
KEPT = {
    "train": "Complete checkpoints are kept: add --resume to go on; if none is there, give the same command again.",
    "demo": f"Renders and checkpoints are kept: {AGAIN}.",
    "label": f"The labels written so far are kept: {AGAIN}.",
    "predict": "The predictions written so far are kept: give the same command again to write the rest.",
    "eval": "Nothing was scored; answers that --keep has written are kept and used again.",
    "reproduce": f"What was fetched or predicted so far is kept: {AGAIN}.",
    "data synth": f"The renders written so far are kept: {AGAIN}.",
    "data download": f"What was fetched so far is kept: {AGAIN}.",
    "data convert": f"A set {WHOLE}.",
    "export": f"A model {WHOLE}.",
    "calibrate": f"A calibration {WHOLE}.",
}
"""Verb -> what is kept and how to go on."""


class Interrupted(BaseException):
    """A signal that ends the program. No Exception, so that nothing on the way takes it for a fault of a file."""

    def __init__(self, number: signal.Signals):
        super().__init__(number)
        self.number = number
        self.kept: str | None = None
        """What is kept and how to go on, where the verb knows it better than `KEPT`."""


def listen() -> None:
    """Turn the first signal into `Interrupted`; the second ends the program at once."""
    for number in SIGNALS:
        # A program that was started with the signal ignored, such as by nohup, goes on ignoring it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def describe_stop(number: signal.Signals, words: Sequence[str], kept: str | None = None) -> str:
    """The last line of a command that is stopped.

    Args:
        number: the signal.
        words: the command line without `sonde`.
        kept: what is kept and how to go on, as the verb itself says it.
    """
    names = [word for word in words if not word.startswith("-")]
    kept = kept or KEPT.get(" ".join(names[:2])) or KEPT.get(names[0] if names else "") or "Nothing was written."
    return f"Stopped by {SIGNALS[number]}. {kept}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise Interrupted(signal.Signals(number))
