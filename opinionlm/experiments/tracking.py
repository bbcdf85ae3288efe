"""Log a run to Weights & Biases or TensorBoard without ever endangering it.

Tracking is a guest of the run: whatever it raises is printed once, in one line, and tracking stops; the run goes on.
W&B needs neither account nor network: without them it writes an offline run that ``wandb sync`` uploads later.
"""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.evaluation.reports import Table
from opinionlm.experiments.split_report import Predictions, figures_of, tables_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Tracker(ABC):
    """Where a run is logged; a context manager that closes the log and marks runs that died of an exception."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log values of one optimizer step, named ``train/loss``, ``validation/macro_f1`` and the like."""

    @abstractmethod
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Log values that belong to the run as a whole: test scores, parameter counts, cost. May be nested."""

    @abstractmethod
    def log_predictions(self, split: str, predictions: Predictions) -> None:
        """Log the figures and tables of a split."""

    @abstractmethod
    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Note which data the run used and, where the folder exists, which model came of it."""

    @abstractmethod
    def finish(self, failed: bool = False) -> None:
        """Close the log; nothing may be logged afterwards."""

    def __enter__(self) -> Tracker:
        """The tracker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log."""
        self.finish(failed=error is not None)


class NoTracking(Tracker):
    """Logs nowhere: ``report_to: none``, and every process but the main one."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_predictions(self, split: str, predictions: Predictions) -> None:
        """Do nothing."""

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Do nothing."""

    def finish(self, failed: bool = False) -> None:
        """Do nothing."""


class GuardedTracker(Tracker):
    """Passes everything on to another tracker until that one raises, then says so once and logs no more.

    Args:
        inner: the tracker that may fail.
        name: its name in the message.
    """

    def __init__(self, inner: Tracker, name: str) -> None:
        self.inner = inner
        self.name = name

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass on."""
        self._attempt(lambda: self.inner.log(metrics, step))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Pass on."""
        self._attempt(lambda: self.inner.summarise(values))

    def log_predictions(self, split: str, predictions: Predictions) -> None:
        """Pass on."""
        self._attempt(lambda: self.inner.log_predictions(split, predictions))

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Pass on."""
        self._attempt(lambda: self.inner.log_artifacts(prepared, best))

    def finish(self, failed: bool = False) -> None:
        """Pass on."""
        self._attempt(lambda: self.inner.finish(failed))

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            say(f"{self.name}: tracking stops here, the run goes on ({one_line(error)})")
            broken, self.inner = self.inner, NoTracking()
            # What was logged so far stays readable when the log is closed properly, if that is still possible.
            with suppress(Exception):
                broken.finish()


def open_tracking(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker:
    """Start logging a run. To be called by the main process only; the others use `NoTracking`.

    Args:
        config: the run's options; ``report_to``, ``wandb_project``, ``wandb_group`` and ``wandb_tags`` decide where.
        run_folder: exists; the log is written to ``wandb/`` or ``tensorboard/`` in it.
        environment: what `opinionlm.training.runs.environment` found.

    Returns:
        A tracker that never raises.

    Raises:
        UserError: TensorBoard was asked for and is not installed.
    """
    match config.tracking.report_to:
        case "wandb":
            from opinionlm.experiments.tracking_wandb import WandbTracking, start_wandb

            try:
                run = start_wandb(config, run_folder, environment)
            except Exception as error:
                say(f"W&B: no tracking, the run goes on ({one_line(error)})")
                return NoTracking()
            return (
                NoTracking()
                if run is None
                else GuardedTracker(WandbTracking(run, config.tracking.wandb_artifacts), "W&B")
            )
        case "tensorboard":
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UserError(
                    "report_to: tensorboard is not installed; `pip install -r requirements.txt`, or use wandb or none"
                ) from None
            folder = run_folder / "tensorboard"
            say(f"TensorBoard: logging to {folder}; look at it with: tensorboard --logdir {folder}")
            tracker = GuardedTracker(TensorBoardTracking(SummaryWriter(str(folder))), "TensorBoard")
            tracker.summarise({"config": config.flat(), "environment": dict(environment)})
            return tracker
        case "none":
            return NoTracking()


class TensorBoardTracking(Tracker):
    """Logs to TensorBoard event files.

    Args:
        writer: an open writer.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer
        self.last_step = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log as scalars."""
        self.last_step = max(self.last_step, step)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Numbers as scalars at the last step, everything else as text."""
        for name, value in values.items():
            if isinstance(value, Mapping) and all(is_number(number) for number in value.values()):
                self.log({f"{name}/{key}": number for key, number in value.items()}, self.last_step)
            elif is_number(value):
                self.writer.add_scalar(name, value, self.last_step)
            else:
                content = json.dumps(value, indent=2, ensure_ascii=False, default=str)
                self.writer.add_text(name, f"```json\n{content}\n```", self.last_step)

    def log_predictions(self, split: str, predictions: Predictions) -> None:
        """Log the figures, and the tables as text."""
        for name, figure in figures_of(predictions).items():
            self.writer.add_figure(f"{split}/{name}", figure, self.last_step)
        for name, table in tables_of(predictions).items():
            self.writer.add_text(f"{split}/{name}", markdown(table), self.last_step)

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Name data and model as text; TensorBoard keeps no files."""
        place = str(best) if best.is_dir() else None
        self.summarise({"artifacts": {"data": prepared.name, "fingerprint": prepared.fingerprint, "model": place}})

    def finish(self, failed: bool = False) -> None:
        """Flush and close the files."""
        self.writer.close()


class TrackingCallback(TrainerCallback):
    """Forwards what Trainer logs: ``loss`` → ``train/loss``, ``eval_macro_f1`` → ``validation/macro_f1``.

    Args:
        tracker: where to.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Called by Trainer after every logging step and evaluation."""
        values = {name: float(value) for name, value in (logs or {}).items() if is_number(value)}
        if "train_runtime" in values:
            # Trainer's closing words about the whole run: time, speed, mean loss.
            self.tracker.summarise(values)
        elif values:
            self.tracker.log({tracked_name(name): value for name, value in values.items()}, state.global_step)


def tracked_name(name: str) -> str:
    """Trainer's name of a quantity as this project's logs call it."""
    for prefix, split in (("eval_", "validation"), ("test_", "test")):
        if name.startswith(prefix):
            return f"{split}/{name.removeprefix(prefix)}"
    return f"train/{name}"


def is_number(value: object) -> bool:
    """Whether a value can be plotted."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping of paths: ``{"test": {"f1": 1}}`` → ``{"test/f1": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def markdown(table: Table) -> str:
    """A table in Markdown; line ends and pipes in cells are made harmless."""

    def cell(value: str | int | float) -> str:
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        return " ".join(text.replace("|", "\\|").split())

    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def shown(path: Path) -> Path:
    """A path as short as the user's working directory allows."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def one_line(error: BaseException) -> str:
    """Type and message of an error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def say(line: str) -> None:
    """Print one line, never into a script's standard output."""
    print(line, file=sys.stderr)
