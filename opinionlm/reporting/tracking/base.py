"""Log a run to Weights & Biases or TensorBoard without ever endangering it.

Tracking is a guest of the run: whatever it raises is printed once, in one line, and tracking stops; the run goes on.
W&B needs neither account nor network: without them it writes an offline run that ``wandb sync`` uploads later.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import one_line
from opinionlm.evaluation.predictions import Predictions

# The mean loss over the whole run, which Trainer logs once, when training is over; the loss on the way is `loss`. Time
# and speed do not tell: Trainer adds them to every log where tokens are counted.
CLOSING = "train_loss"
# What trackers keep in a run folder so that a resumed run is one run there; ``wandb/`` holds W&B's own files.
WANDB_RUN_ID, TENSORBOARD = "wandb_run_id", "tensorboard"
# An optimizer step and what was logged of it, named ``train/loss``, ``validation/macro_f1`` and the like.
Point = tuple[int, Mapping[str, float]]


class Tracker(ABC):
    """Where a run is logged; a context manager that closes the log and marks runs that died of an exception."""

    def begin(self, history: Sequence[Point]) -> None:
        """Training begins: log what an earlier part of the run logged, which it may have lost when it was killed.

        Args:
            history: what was logged before the checkpoint that training goes on from, in order; empty for a new run.
        """
        for step, points in history:
            self.log(points, step)

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log values of one optimizer step, named ``train/loss``, ``validation/macro_f1`` and the like."""

    @abstractmethod
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Log values that belong to the run as a whole: test scores, parameter counts, cost. May be nested."""

    @abstractmethod
    def log_predictions(self, split: str, predictions: Predictions, figures: Mapping[str, Path]) -> None:
        """Log the figures and tables of a split.

        Args:
            split: its name.
            predictions: of the split.
            figures: what was drawn of them: name → PNG file.
        """

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


class Trackers(Tracker):
    """Passes everything on to any number of trackers, and lets none of them endanger the run; with none logs nowhere.

    A tracker opens when it is used first: a start that takes seconds does not stand before the first step. A run that
    fails before that is opened too, and closed as failed. One that raises is named once and logs no more.

    Args:
        openers: name for messages → opens the tracker; None where it is switched off.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Tracker | None]]) -> None:
        self.waiting = dict(openers)
        self.opened: dict[str, Tracker] = {}

    def begin(self, history: Sequence[Point]) -> None:
        """Pass on."""
        self._tell(lambda tracker: tracker.begin(history))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass on."""
        self._tell(lambda tracker: tracker.log(metrics, step))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Pass on."""
        self._tell(lambda tracker: tracker.summarise(values))

    def log_predictions(self, split: str, predictions: Predictions, figures: Mapping[str, Path]) -> None:
        """Pass on."""
        self._tell(lambda tracker: tracker.log_predictions(split, predictions, figures))

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Pass on."""
        self._tell(lambda tracker: tracker.log_artifacts(prepared, best))

    def finish(self, failed: bool = False) -> None:
        """Pass on."""
        self._tell(lambda tracker: tracker.finish(failed))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        waiting, self.waiting = self.waiting, {}
        for name, open_tracker in waiting.items():
            try:
                if (tracker := open_tracker()) is not None:
                    self.opened[name] = tracker
            except Exception as error:
                say(f"{name}: no tracking, the run goes on ({type_and_line(error)})")
        for name, tracker in list(self.opened.items()):
            try:
                call(tracker)
            except Exception as error:
                say(f"{name}: tracking stops here, the run goes on ({type_and_line(error)})")
                del self.opened[name]
                # What was logged so far stays readable when the log is closed properly, if that is still possible.
                with suppress(Exception):
                    tracker.finish()


def curves(logs: Mapping[str, Any]) -> dict[str, float]:
    """What of an engine's log belongs to curves over optimizer steps: all finite numbers, under this project's names.

    An evaluation does not repeat the epoch and the tokens seen, which are curves of training.
    """
    if CLOSING in logs:
        return {}
    names = logs.keys() - {"step", "loss_steps"}
    if evaluated := {name for name in names if name.startswith("eval_")}:
        names = evaluated | (names & {"loss_since_evaluation"})
    # In the order of the log, which is that of the charts.
    return {tracked_name(name): float(logs[name]) for name in logs if name in names and is_number(logs[name])}


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


def shown(path: Path) -> Path:
    """A path as short as the user's working directory allows."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def type_and_line(error: BaseException) -> str:
    """Type and message of an error: services fail in ways of their own, whose name is half of the message."""
    return f"{type(error).__name__}: {one_line(error)}"


def say(line: str) -> None:
    """Print one line, never into a script's standard output."""
    print(line, file=sys.stderr)
