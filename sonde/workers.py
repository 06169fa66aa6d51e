"""Worker processes that end with their parent, however it ends."""

import os
import signal
from multiprocessing import parent_process
from threading import Thread


def begin_worker() -> None:
    """Set up a worker of a pool: Ctrl-C is the parent's to answer, and the worker ends when the parent is gone.

    Called in the worker, as the pool's initializer. A pool notices by itself that its parent closes it, but not that
    its parent is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
