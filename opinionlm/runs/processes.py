"""Run commands of the console each in a process of its own, without importing the libraries anew for each.

To import torch, transformers and peft takes about 15 seconds of a processor, more than many a small run. Python's own
fork server (`multiprocessing`, start method ``forkserver``) imports them once, before any thread and any GPU is in
use, and then forks a process for each command. What a process gets of its own: environment, output, standard streams,
exit code, signals, memory.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver, reduction
from typing import Any

PRELOADED = ["opinionlm.runs.preloaded"]
# `multiprocessing` looks after all processes whenever one is started or asked, and two threads at once would both take
# the exit code of the same process.
ONE_AT_A_TIME = threading.Lock()


class ConsoleProcess:
    """A process that does what ``python -m opinionlm`` does with some arguments.

    May be made and waited for in several threads. A process outlives its parent when that is killed. The first one of
    a parent waits until the server has loaded. `multiprocessing` imports the parent's main module anew in each: this
    is for scripts, which do nothing when they are imported, not for whoever calls the public functions.

    Args:
        arguments: the command and its own arguments.
        environment: of the process, whole. How many threads the processes of one parent have (``OMP_NUM_THREADS``) is
            decided by the first of them: libraries read it when they are loaded.
        output: file descriptor for standard output and errors; by default those of this process.
        held: file descriptors that the process keeps open as long as it lives, such as a lock's.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: int | None = None,
        held: Sequence[int] = (),
    ) -> None:
        streams = (1, 2) if output is None else (output, output)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        descriptors = [Descriptor(number) for number in (*streams, *held)]
        self.process = context.Process(target=run_console, args=(list(arguments), dict(environment), descriptors))
        with ONE_AT_A_TIME:
            # The server must look for a GPU without touching it, see `opinionlm.runs.preloaded`.
            with environment_is({**environment, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}):
                forkserver.ensure_running()
            self.process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait until it has ended; returns its exit code, negative for a signal, None after the time given."""
        connection.wait([self.process.sentinel], seconds)
        with ONE_AT_A_TIME:
            return self.process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has ended."""
        with ONE_AT_A_TIME:
            if self.process.exitcode is None:
                self.process.terminate()


def load_libraries(environment: Mapping[str, str]) -> None:
    """Wait until the server of `ConsoleProcess` has loaded, so that the time this takes counts for no process.

    Args:
        environment: of the processes to come.
    """
    with open(os.devnull, "wb") as nowhere:
        ConsoleProcess(["--version"], environment, nowhere.fileno()).wait()


class FreshProcess:
    """What a `ConsoleProcess` is, in a new interpreter, for whoever calls the public functions.

    Args:
        arguments: the command and its own arguments.
        environment: of the process, whole.
        output: file descriptor for standard output and errors.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], output: int) -> None:
        command = [sys.executable, "-m", "opinionlm", *arguments]
        self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment))

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait until it has ended; returns its exit code, negative for a signal, None after the time given."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has ended."""
        self.process.terminate()


class Descriptor:
    """An open file that the other process gets too, under a number of its own."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.number)

    def __setstate__(self, state: Any) -> None:
        self.number = state.detach()


@contextmanager
def environment_is(environment: Mapping[str, str]) -> Iterator[None]:
    """Have processes that are started within the block get an environment; this one has its own again afterwards."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in environment:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def run_console(arguments: list[str], environment: dict[str, str], descriptors: Sequence[Descriptor]) -> None:
    """Be ``python -m opinionlm``; runs in the forked process."""
    forget_exit_functions()
    output, errors, *_ = descriptors
    os.dup2(output.number, 1)
    os.dup2(errors.number, 2)
    os.environ.clear()
    os.environ.update(environment)
    # Worker processes of a loader are started as in every other process.
    multiprocessing.set_start_method(None, force=True)
    sys.argv = ["opinionlm", *arguments]
    try:
        runpy.run_module("opinionlm", run_name="__main__", alter_sys=True)
    finally:
        # A forked process ends without it; temporary folders of libraries would stay.
        atexit._run_exitfuncs()


def forget_exit_functions() -> None:
    """Leave what the server tidies when it ends to the server.

    A forked process inherits all of it, and would delete temporary folders that the next ones need too, such as that
    of W&B's tables (``MEDIA_TMP``).
    """
    atexit._clear()
    # Python has no public way to leave finalizers to the parent; the next one that is made asks to be run again.
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
