"""Run the cells of a table that are not finished, each in a process or cluster job and a folder of its own."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml

from opinionlm.config.config import HARMLESS, Config
from opinionlm.config.options import DataConfig
from opinionlm.config.parser import Layer, new_config
from opinionlm.config.trainer_arguments import HONOURED
from opinionlm.config.training_options import TrackingConfig
from opinionlm.config.unread import is_read
from opinionlm.errors import UserError
from opinionlm.experiments.cells import SCRIPTS, Cell
from opinionlm.experiments.cross_fit import soft_labels_file
from opinionlm.experiments.grid import Table
from opinionlm.experiments.grid_progress import Progress, score_of
from opinionlm.runs.cluster_jobs import Cluster, ClusterJob
from opinionlm.runs.folder import changed_start, input_fingerprints, noted_start, require_same_evaluation
from opinionlm.runs.lock import locked
from opinionlm.runs.processes import ConsoleProcess
from opinionlm.runs.seed_families import NOT_COMPARED
from opinionlm.utils.command_line import command
from opinionlm.utils.files import read_object, write_text
from opinionlm.utils.names import counted
from opinionlm.utils.progress import progress_bar
from opinionlm.utils.shipped import job_environment, script_environment


@dataclass(frozen=True)
class Run:
    """One cell under one seed.

    Attributes:
        cell: the cell.
        seed: the seed.
        folder: the run folder that the script writes.
        group: the table and its scale, what the table's runs share at W&B.
        tags: at W&B: paper, scale and the cell's labels.
        offline: whether W&B keeps its files here: a smoke test has nothing that others should see.
    """

    cell: Cell
    seed: int
    folder: Path
    group: str
    tags: tuple[str, ...]
    offline: bool

    @property
    def teacher(self) -> Path | None:
        """Run folder of what labels texts for this run, of the same seed."""
        return None if self.cell.teacher is None else self.folder.with_name(f"{self.cell.teacher}-seed{self.seed}")

    @property
    def config_file(self) -> Path:
        """The config that the script gets, beside the run folders."""
        return self.folder.parent.parent / "cells" / f"{self.folder.name}.yaml"

    @property
    def log_file(self) -> Path:
        """What the script printed."""
        return self.folder.parent.parent / "logs" / f"{self.folder.name}.log"

    @property
    def metrics(self) -> dict[str, Any] | None:
        """``metrics.json``, None where the run is not finished.

        Raises:
            UserError: the file is damaged.
        """
        path = self.folder / "metrics.json"
        return read_object(path) if path.is_file() else None

    def options(self) -> dict[str, Any]:
        """The whole config of the run; a table's own group and tags win over the automatic ones."""
        tracking: dict[str, Any] = {"wandb_group": self.group}
        if "wandb" in self.cell.options.get("report_to", TrackingConfig().report_to):
            tracking["wandb_tags"] = list(self.tags)
        own = {"output_dir": str(self.folder.parent), "run_name": self.folder.name, "seed": self.seed}
        if self.teacher is not None:
            own["soft_labels"] = str(soft_labels_file(self.teacher))
        return tracking | dict(self.cell.options) | own


def runs_of(table: Table, folder: Path) -> list[Run]:
    """Every run of a table, below ``folder/runs``."""
    paper = table.source.split(",")[0]
    return [
        Run(
            cell,
            seed,
            folder / "runs" / f"{cell.name}-seed{seed}",
            table.group,
            # W&B takes tags of at most 64 characters.
            tuple(dict.fromkeys(tag[:64] for tag in (paper, table.scale, *cell.labels.values()))),
            not table.comparable,
        )
        for cell in table.cells
        for seed in table.seeds
    ]


def require_same_options(runs: Sequence[Run], configs: Mapping[str, Config], force: bool) -> None:
    """Folders that are there must hold the runs that the table asks for.

    Args:
        runs: of a table.
        configs: of its cells, from `check_options`; what the table does not say is as by default in them.
        force: everything is run again.

    Raises:
        UserError: a folder holds a run with other options, or other content of the files that they name, and
            ``force`` is not set.
    """
    for run in runs:
        stored = run.folder / "config.yaml"
        if force or not stored.is_file():
            continue
        options = yaml.safe_load(stored.read_text(encoding="utf-8"))
        require_same_evaluation(run.folder, options)
        config, stated = configs[run.cell.name], run.options()
        asked = config.flat() | stated
        # Where things lie need not be said again. What older versions had is no option of this one.
        left_out = HARMLESS | (NOT_COMPARED - stated.keys())
        known = [name for name in options if (name in asked or name in HONOURED) and name not in left_out]
        changed = sorted(name for name in known if not same(options[name], asked.get(name)) and is_read(config, name))
        # Of a student the labels are its teacher's, which are written anew before it trains.
        changed += changed_start(noted_start(run.folder), input_fingerprints(config))
        if changed:
            raise UserError(
                f"{run.folder}: holds a run with other options ({', '.join(changed)}); give another --output_dir, or "
                "--force to run those cells again"
            )


def same(stored: Any, asked: Any) -> bool:
    """Whether a resolved option equals what a table asks for: ``1e-4`` is text in YAML, a number in a config."""
    if isinstance(stored, float) and not isinstance(asked, bool):
        try:
            return float(asked) == stored
        except (TypeError, ValueError):
            return False
    return stored == asked or str(stored) == str(asked)


def data_of(run: Run) -> DataConfig:
    """Which data a run reads, whole."""
    names = ("dataset", "data_dir", "prepared_dir", "data_source")
    given: dict[str, Any] = {name: str(value) for name, value in run.options().items() if name in names}
    return replace(DataConfig(), **given)


def account_for_data(runs: Sequence[Run], force: bool) -> None:
    """Prepare the data of the runs that are still to be done, once each, and print what became of their records.

    The runs say the same, into their log files. Data that cannot be prepared are named here; their runs will fail with
    the same words.
    """
    from opinionlm.data.loading import load_data

    pending = [data_of(run) for run in runs if run.metrics is None or force]
    for data in {repr(one): one for one in pending}.values():
        print(f"data    {data.dataset}")
        try:
            load_data(data)
        except UserError as error:
            print(f"error: {error}", flush=True)


def run_all(runs: Sequence[Run], jobs: int, force: bool, cluster: Cluster | None = None) -> dict[str, str]:
    """Run what is not finished, ``jobs`` at a time; a run that fails does not stop the others.

    Progress goes to the console and to ``progress.log`` beside the runs.

    Args:
        runs: from `runs_of`.
        jobs: processes at a time; each gets its share of the cores.
        force: run again what holds other options.
        cluster: where each run becomes a job; by default they are processes of this machine.

    Returns:
        Name of the failed run → its last line of output.

    Raises:
        UserError: a finished run cannot be read, or the cluster refuses a job.
    """
    folder = runs[0].folder.parent.parent
    folder.mkdir(parents=True, exist_ok=True)
    # A job has the processors that it asked for, whatever this machine has.
    environment = job_environment(jobs) if cluster is None else script_environment()
    failed: dict[str, str] = {}
    # Waits for another call, and for runs that outlived a killed one: they have inherited the lock.
    wait = f"{folder}: runs of another call are still under way here; waiting until they end"
    with locked(folder / "grid", wait, inherited=True) as lock, ThreadPoolExecutor(jobs) as pool:
        pending = [run for run in runs if run.metrics is None or force]
        children = Children(Progress(folder / "progress.log", len(pending)), lock, cluster)
        with progress_bar(desc="table", total=len(pending), unit="runs") as bar:
            try:
                # Teachers first.
                for group in (
                    [run for run in pending if run.teacher is None],
                    [run for run in pending if run.teacher],
                ):
                    futures = {pool.submit(children.run, run, environment, force): run for run in group}
                    for future in as_completed(futures):
                        run = futures[future]
                        error = future.result()
                        if error is not None:
                            failed[run.folder.name] = error
                        bar.update()
            except (KeyboardInterrupt, UserError):
                pool.shutdown(wait=False, cancel_futures=True)
                children.stop()
                raise
    return failed


class Children:
    """The processes under way, so that an interruption can end them.

    Args:
        progress: told when runs begin and end.
        grid_lock: file descriptors of the grid's lock, which the processes hold too.
        cluster: where jobs take the place of processes.
    """

    def __init__(self, progress: Progress, grid_lock: Sequence[int], cluster: Cluster | None) -> None:
        self.progress, self.grid_lock, self.cluster = progress, grid_lock, cluster
        self.lock = threading.Lock()
        self.processes: set[ConsoleProcess | ClusterJob] = set()
        self.stopped = False

    def run(self, run: Run, environment: Mapping[str, str], force: bool) -> str | None:
        """Run one cell to its end, and drop its checkpoints; None, or the line that says why it failed."""
        run.config_file.parent.mkdir(parents=True, exist_ok=True)
        run.log_file.parent.mkdir(parents=True, exist_ok=True)
        content = yaml.safe_dump(run.options() | ({"overwrite": True} if force else {}), sort_keys=False)
        write_text(run.config_file, f"# {command(Path(run.cell.script).stem)} --config {run.config_file}\n{content}")
        commands = [[SCRIPTS[run.cell.script], "--config", str(run.config_file.resolve())]]
        if run.teacher is not None:
            commands.insert(0, ["self_training", str(run.teacher)])
        self.progress.started(run.folder.name, run.log_file, queued=self.cluster is not None)
        started = time.monotonic()
        own = dict(environment) | ({"WANDB_MODE": "offline"} if run.offline else {})
        with open(run.log_file, "wb") as log:
            # Only what has taken its teacher's labels trains.
            code = next((code for command in commands if (code := self.wait_for(command, log, own)) != 0), 0)
        error = None
        if code != 0 or run.metrics is None:
            lines = run.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            error = f"exit code {code}: {lines[-1][:300] if lines else 'no output'} (see {run.log_file})"
        else:
            # A finished run is never resumed, and the optimizer states of a table of small models fill a disk: 42 GB
            # for 150 runs of MiniLM.
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
        score = score_of(run.metrics) if error is None else ""
        self.progress.ended(run.folder.name, time.monotonic() - started, error, score)
        return error

    def wait_for(self, command: list[str], log: BinaryIO, environment: Mapping[str, str]) -> int | None:
        """Run a command of the console to its end, its output into a log; returns its exit code."""
        process: ConsoleProcess | ClusterJob
        match self.cluster:
            case None:
                process = ConsoleProcess(command, environment, log.fileno(), self.grid_lock)
            case Cluster():
                process = self.cluster.submit(command, environment, Path(log.name))
        with self.lock:
            self.processes.add(process)
        if self.stopped:
            process.terminate()
        code = process.wait()
        with self.lock:
            self.processes.discard(process)
        return code

    def stop(self) -> None:
        """End what is under way."""
        self.stopped = True
        with self.lock:
            for process in self.processes:
                process.terminate()


def check_options(runs: Sequence[Run], source: Path) -> dict[str, Config]:
    """Parse the config of every cell, as its script will; returns them by the cells' names.

    Raises:
        UserError: an option that the script does not know, or a config it refuses; with the cell's name.
    """
    configs = {}
    # Seeds of a cell have the same options.
    for run in {run.cell.name: run for run in runs}.values():
        # What `run_all` writes there holds the same values.
        layer = Layer(str(run.config_file), run.options())
        try:
            configs[run.cell.name] = new_config(None, layer, SCRIPTS[run.cell.script])
        except UserError as error:
            reason = str(error).replace(f"{layer.place}: ", "")
            raise UserError(f"{source}: cell {run.cell.name!r}: {reason}") from None
    return configs


def plan_text(table: Table, runs: Sequence[Run], jobs: int = 1) -> str:
    """Runs of a table, all or of some cells, which of them are finished, and how long the others may take."""
    metrics = {run.folder.name: run.metrics for run in runs}
    pending = [run for run in runs if metrics[run.folder.name] is None]
    lines = [f"{table.title} ({table.source}), scale {table.scale}"]
    cells = counted(len(table.cells), "cell")
    if (selected := len(runs) // len(table.seeds)) < len(table.cells):
        cells = f"{selected} of {cells}"
    lines.append(
        f"{cells} × {counted(len(table.seeds), 'seed')}, "
        f"{counted(len(pending), 'run')} to do; " + estimate(table, runs, metrics, jobs)
    )
    if table.tuning is not None and not table.tuned:
        lines.append(f"before them {table.tuning.trials} trials for every row, on validation")
    for name, kept in table.kept.items():
        which = f"all {len(kept)} cells" if len(kept) == len(table.cells) else ", ".join(kept)
        lines.append(f"--{name}: not for {which}, which have their own from an axis")
    places: dict[str, set[str]] = {}
    for cell in table.cells:
        for name, reason in cell.left_out.items():
            places.setdefault(name, set()).add(reason)
    if places:
        shown = "; ".join(f"{name} ({', '.join(sorted(reasons))})" for name, reasons in places.items())
        lines.append(f"left out of the cells that do not read them: {shown}")
    for run in runs:
        done = "finished" if metrics[run.folder.name] is not None else "to do"
        lines.append(f"  {done:<9} {run.cell.script:<20} {run.folder.name}")
    return "\n".join(lines)


def whole_seconds(cost: Mapping[str, Any]) -> float:
    """Seconds that a finished run took; of one from before totals were kept, what it trained and predicted."""
    if "total_seconds" in cost:
        return cost["total_seconds"]
    return sum(cost[name] for name in ("train_seconds", "predict_seconds") if name in cost)


def estimate(table: Table, runs: Sequence[Run], metrics: Mapping[str, Mapping[str, Any] | None], jobs: int) -> str:
    """Minutes of training that are left.

    A run is taken to last as long as the finished seeds of its own cell, else as the mean of all finished runs, else
    as long as the table says.
    """
    seconds: dict[str, list[float]] = {}
    for run in runs:
        found = metrics[run.folder.name]
        if found is not None and "cost" in found:
            seconds.setdefault(run.cell.name, []).append(whole_seconds(found["cost"]))
    pending = [run for run in runs if metrics[run.folder.name] is None]
    if not pending:
        return "nothing left to run"
    shared = f" with {jobs} at a time" if jobs > 1 else ""
    if seconds:
        typical = float(np.mean([value for values in seconds.values() for value in values]))
        left = sum(float(np.mean(seconds.get(run.cell.name, [typical]))) for run in pending) / jobs
        return f"about {left / 60:.0f} min of training left{shared} ({typical:.0f} s per run so far)"
    if table.minutes is not None:
        left = len(pending) * table.minutes / jobs
        return f"about {left:.0f} min{shared}, by experience {table.minutes:g} min per run on two cores"
    return "cost unknown until the first run is finished"
