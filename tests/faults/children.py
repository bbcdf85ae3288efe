"""Run a script of this project in a child process that dies by SIGKILL at a chosen event.

Events are what the child does to files below a folder (open for writing, rename, remove, make: Python's own audit
events) and its optimizer steps. They come in the same order in every run, so "the n-th event" is a moment that a seed
can choose and that a second look finds again; between two events the process computes or writes through C libraries.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import CONTEXT

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "os.link", "os.symlink"}


@dataclass(frozen=True)
class Job:
    """A call of a script.

    Attributes:
        script: module name, such as ``train_classifier``.
        arguments: its command line.
        folder: whose files' changes are events.
        log: gets what the script prints.
        patches: names of functions of `tests.faults.patches` that are called first.
    """

    script: str
    arguments: Sequence[str]
    folder: Path
    log: Path
    patches: Sequence[str] = field(default=())


def run(job: Job, kill_at: int = 0, kill_after: float = 0.0, signal_at: int = 0, number: int = signal.SIGTERM) -> int:
    """Run a job to its end.

    Args:
        job: what to run.
        kill_at: number of the event at which the whole process group is killed; 0 for none.
        kill_after: seconds after the first event at which it is killed; 0 for never.
        signal_at: number of the event at which the process sends itself a signal; 0 for none.
        number: of that signal.

    Returns:
        The exit code, negative for the signal that ended it.
    """
    child = CONTEXT.Process(target=_child, args=(job, kill_at, kill_after, signal_at, number))
    child.start()
    child.join(240)
    if child.exitcode is None:
        os.killpg(child.pid, signal.SIGKILL)
        raise TimeoutError(f"hangs: {job.log.read_text()[-2000:]}")
    return child.exitcode


def events(job: Job) -> list[str]:
    """Run a job to its end; what happened, in order, such as ``os.rename best`` or ``step``."""
    assert run(job) == 0, job.log.read_text()[-3000:]
    return Path(f"{job.log}.events").read_text().splitlines()


def picked(found: Sequence[str], part: str, count: int, seed: int) -> list[int]:
    """Numbers of ``count`` events whose description holds ``part``, drawn with a seed; the first event is 1."""
    numbers = [number for number, event in enumerate(found, start=1) if part in event]
    assert len(numbers) >= count, (part, found)
    return sorted(random.Random(seed).sample(numbers, count))


def _child(job: Job, kill_at: int, kill_after: float, signal_at: int, number: int) -> None:
    from tests.drawing import draw_nothing

    os.setsid()
    # Shells start what runs in the background with Ctrl-C ignored, and so would the tests' children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A run that was tracked in the tests' own process has left W&B's service there, which no kill of this one ends.
    os.environ.pop("WANDB_SERVICE", None)
    # As in a script that was started by its name; here it would be the fork server.
    multiprocessing.set_start_method("fork", force=True)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 — the child's own, until it ends
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 — likewise
    draw_nothing()
    for name in job.patches:
        getattr(importlib.import_module("tests.faults.patches"), name)()
    _Watch(job, kill_at, kill_after, signal_at, number).start()
    sys.argv = [f"{job.script}.py", *job.arguments]
    main = importlib.import_module(job.script).main
    from opinionlm.errors import run_script

    run_script(lambda: sys.exit(main()) if job.script == "reproduce" else main())


def trains(optimizer: Any) -> bool:
    """Whether an optimizer has a model; options are tried out on a few numbers before training."""
    return sum(value.numel() for group in optimizer.param_groups for value in group["params"]) > 5000


class _Watch:
    """Counts events and acts at the chosen one."""

    def __init__(self, job: Job, kill_at: int, kill_after: float, signal_at: int, number: int) -> None:
        self.folder, self.kill_at, self.kill_after = str(job.folder), kill_at, kill_after
        self.signal_at, self.number = signal_at, number
        self.count, self.process = 0, os.getpid()
        self.list = os.open(f"{job.log}.events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def start(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(lambda optimizer, *_: self.note("step") if trains(optimizer) else None)
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple) -> None:
        if event != "open" and event not in CHANGES:
            return
        path = arguments[0]
        if not isinstance(path, str | Path) or not str(path).startswith(self.folder) or os.getpid() != self.process:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(str(mode)) & set("wax+")):
                return
        self.note(f"{event} {str(path).removeprefix(self.folder)}")

    def note(self, description: str) -> None:
        self.count += 1
        os.write(self.list, f"{description}\n".encode())
        if self.count == 1 and self.kill_after:
            timer = threading.Timer(self.kill_after, os.killpg, (os.getpgid(0), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        if self.count == self.kill_at:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        if self.count == self.signal_at:
            os.kill(os.getpid(), self.number)
