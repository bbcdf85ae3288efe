"""How worker processes behave when the process that started them stops."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def obey_parent() -> None:
    """To be called first in a worker: Ctrl-C is the parent's business, and without a parent the worker ends.

    A worker of a pool waits for tasks on a pipe whose other end it holds itself, so that after ``kill -9`` of its
    parent it would wait forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
