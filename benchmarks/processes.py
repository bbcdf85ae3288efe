"""What a command costs: seconds, processor seconds and memory, its child processes included."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cost:
    """One run of a command.

    Attributes:
        seconds: by the clock on the wall, from starting the interpreter to its end.
        processor_seconds: of all its processes together.
        peak_mb: the most memory at any time that the system could not take back (anonymous pages), all its processes
            together; pages of files that are mapped do not count, because they cost nothing when memory is short.
    """

    seconds: float
    processor_seconds: float
    peak_mb: float


def run(command: Sequence[str], threads: int = 1) -> Cost:
    """Run a command in the repository's root and measure it; its output is shown only when it fails.

    Raises:
        RuntimeError: the command failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peaks: list[float] = [0.0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - start
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-2000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, used, max(peaks))


def _watch(process: int, peaks: list[float]) -> None:
    """Look at the memory of a process and its children ten times a second until it ends."""
    while (found := sum(map(_anonymous_mb, _family(process)))) > 0:
        peaks.append(found)
        time.sleep(0.1)


def _family(process: int) -> list[int]:
    """A process and everything that it started."""
    family = [process]
    for member in family:
        try:
            children = Path(f"/proc/{member}/task/{member}/children").read_text().split()
        except OSError:
            continue
        family += map(int, children)
    return family


def _anonymous_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return sum(sizes) / 1024
