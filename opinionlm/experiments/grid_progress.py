"""Say what a table's runs are doing: live on the terminal, and in a file for whoever looks later."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Progress:
    """Lines of the console and of ``progress.log``: when each run began and ended, its score, and what is left.

    Args:
        path: the file; lines are added.
        total: how many runs there are to do.
    """

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total, self.done = path, total, 0
        self.began = time.monotonic()
        self.lock = threading.Lock()

    def started(self, name: str, log: Path, queued: bool = False) -> None:
        """Note that a run began, or was put into the queue of a cluster."""
        self._write(f"{'submitted' if queued else 'started  '} {name} (see {log})")

    def ended(self, name: str, seconds: float, error: str | None, score: str = "") -> None:
        """Note that a run ended, with its score where it has one."""
        with self.lock:
            self.done += 1
            count, left = f"{self.done}/{self.total} done", self.total - self.done
        minutes = (time.monotonic() - self.began) / self.done * left / 60
        count += f", about {minutes:.0f} min left" if left else ""
        outcome = f"finished  {name}{score}" if error is None else f"failed    {name}: {error};"
        self._write(f"{outcome} after {seconds:.0f} s, {count}")

    def _write(self, line: str) -> None:
        line = f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}"
        with self.lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            tqdm.write(line)


def score_of(metrics: Mapping[str, Any] | None) -> str:
    """The test score that stands for a run: the one that chose its checkpoint, else macro-F1; blank without it."""
    name = (metrics or {}).get("chosen_by", {}).get("name", "macro_f1")
    value = (metrics or {}).get("test", {}).get(name)
    return "" if value is None else f": test {name} {value:.3f}"
