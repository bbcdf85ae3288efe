"""Commands of the console as jobs of a SLURM cluster, through submitit, which writes the files that ``sbatch`` takes.

All machines have to see the same folders: a job is started in the folder that this process was started in, by the same
Python, and writes its run and its log there.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.errors import UserError, one_line
from opinionlm.runs.processes import environment_is

if TYPE_CHECKING:
    from submitit import Job

# What `--slurm` takes, by the names of sbatch: texts, and whole numbers with the smallest of them.
TEXTS = ("partition", "account", "qos", "constraint", "mem")
NUMBERS = {"time": 1, "cpus_per_task": 1, "gpus_per_node": 0}
# submitit's name of the executor; its tests and ours run ``local``, processes of this machine.
EXECUTOR = "slurm"
# Between two looks whether a job has ended (seconds).
PAUSE = 1.0


def read_resources(pairs: Sequence[str]) -> dict[str, str | int]:
    """The resources of a job.

    Args:
        pairs: ``name=value``.

    Raises:
        UserError: a pair is none, its name is unknown, its value no such number, or `time` is missing.
    """
    resources: dict[str, str | int] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in (*TEXTS, *NUMBERS):
            raise UserError(f"--slurm: unknown resource {name!r}; known are {', '.join((*TEXTS, *NUMBERS))}")
        if not value:
            raise UserError(f"--slurm: {name} has no value; give {name}=VALUE")
        if name in NUMBERS and not (value.isdecimal() and int(value) >= NUMBERS[name]):
            raise UserError(f"--slurm: {name}={value}: has to be a whole number of at least {NUMBERS[name]}")
        resources[name] = int(value) if name in NUMBERS else value
    if int(resources.get("gpus_per_node", 0)) > 1:
        raise UserError("--slurm: gpus_per_node: a run is one process, which takes one GPU; give 0 or 1")
    if "time" not in resources:
        raise UserError("--slurm: time is missing, the longest that a run may take; give time=MINUTES")
    return resources


class Cluster:
    """Where jobs go.

    Args:
        resources: of every job, from `read_resources`.
        folder: for the files of submitit.

    Raises:
        UserError: submitit is not installed, or this machine reaches no SLURM.
    """

    def __init__(self, resources: Mapping[str, str | int], folder: Path) -> None:
        if find_spec("submitit") is None:
            raise UserError(
                "--launcher slurm: needs the package submitit: pip install -r requirements-slurm.txt, or pip install "
                "'opinionlm[slurm]'"
            )
        from submitit import AutoExecutor

        try:
            self.executor = AutoExecutor(folder.resolve(), cluster=EXECUTOR)
        except RuntimeError as error:
            raise UserError(f"--launcher slurm: {one_line(error)} Start it on a login node of the cluster") from None
        named = {f"slurm_{name}": value for name, value in resources.items()}
        self.executor.update_parameters(name="opinionlm", timeout_min=int(resources["time"]), **named)
        self.lock = threading.Lock()

    def submit(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> ClusterJob:
        """Put a command into the queue.

        Args:
            arguments: the command of the console and its own arguments.
            environment: variables that the process gets besides those of its job.
            log: file that its output is added to.

        Raises:
            UserError: the cluster refuses the job.
        """
        command = [sys.executable, "-m", "opinionlm", *arguments]
        try:
            # The executor is not made for several threads. Jobs get the environment that they are submitted in.
            with self.lock, environment_is(environment):
                job = self.executor.submit(run_command, command, str(log.resolve()))
        except (RuntimeError, OSError) as error:
            raise UserError(f"--launcher slurm: the job was refused: {one_line(error)}") from None
        return ClusterJob(job, log)


class ClusterJob:
    """A job in the queue or under way; what a `opinionlm.runs.processes.ConsoleProcess` is on this machine."""

    def __init__(self, job: Job, log: Path) -> None:
        self.job, self.log = job, log
        self.cancelled = threading.Event()

    def wait(self) -> int | None:
        """Wait until it has ended.

        Returns:
            The command's exit code; None where it has none (no time left, no memory, cancelled), and the log's last
            line says why.
        """
        while not self.job.done():
            if self.cancelled.wait(PAUSE):
                return None
        if self.job.exception() is None:
            return self.job.result()
        why = f"job {self.job.job_id} ended without an exit code, state {self.job.state}; see {self.job.paths.stderr}"
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"\n{why}\n")
        return None

    def terminate(self) -> None:
        """Cancel it."""
        self.cancelled.set()
        self.job.cancel(check=False)


def run_command(command: Sequence[str], log: str) -> int:
    """Run a command to its end, its output into a file; this is what a job does.

    Returns:
        Its exit code.
    """
    with open(log, "ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            return process.wait()
        except BaseException:
            # SLURM's warning that the time is nearly over. A run that is asked to end gives its lock back; one that is
            # killed would leave it to a machine that nobody can ask.
            process.terminate()
            process.wait()
            raise
