"""Open the tracker that a run asks for, and forward to it what Trainer logs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.config.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.evaluation.predictions import Predictions
from opinionlm.reporting.tracking.base import (
    CLOSING,
    TENSORBOARD,
    GuardedTracker,
    NoTracking,
    Point,
    SeveralTrackers,
    Tracker,
    curves,
    say,
    type_and_line,
)
from opinionlm.training.callbacks import TrainingClock


class LateTracker(Tracker):
    """Opens a tracker when it is used first: a start that takes seconds does not stand before the first step.

    A run that fails before that is opened too, and closed as failed.

    Args:
        open_tracker: opens it and never raises; called once.
    """

    def __init__(self, open_tracker: Callable[[], Tracker]) -> None:
        self.open_tracker = open_tracker

    @cached_property
    def inner(self) -> Tracker:
        """The tracker, opened by the first look at it."""
        return self.open_tracker()

    def begin(self, history: Sequence[Point]) -> None:
        """Pass on."""
        self.inner.begin(history)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass on."""
        self.inner.log(metrics, step)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Pass on."""
        self.inner.summarise(values)

    def log_predictions(self, split: str, predictions: Predictions, figures: Mapping[str, Path]) -> None:
        """Pass on."""
        self.inner.log_predictions(split, predictions, figures)

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Pass on."""
        self.inner.log_artifacts(prepared, best)

    def finish(self, failed: bool = False) -> None:
        """Pass on."""
        self.inner.finish(failed)


def open_tracking(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker:
    """Start logging a run. To be called by the main process only; the others use `NoTracking`.

    Args:
        config: the run's options; ``report_to``, ``wandb_project``, ``wandb_group`` and ``wandb_tags`` decide where.
        run_folder: exists; the log is written to ``wandb/`` or ``tensorboard/`` in it.
        environment: what `opinionlm.runs.folder.environment` found.

    Returns:
        A tracker that never raises.

    Raises:
        UserError: a tracker was asked for and is not installed.
    """
    trackers: list[Tracker] = []
    for name in config.tracking.report_to:
        match name:
            case "wandb":
                if importlib.util.find_spec("wandb") is None:
                    raise UserError(
                        "report_to: wandb is not installed; `pip install -r requirements.txt`, or use "
                        "tensorboard or none"
                    )
                trackers.append(LateTracker(partial(open_wandb, config, run_folder, environment)))
            case "tensorboard":
                trackers.append(open_tensorboard(config, run_folder, environment))
    started = [tracker for tracker in trackers if not isinstance(tracker, NoTracking)]
    if not started:
        return NoTracking()
    return started[0] if len(started) == 1 else SeveralTrackers(started)


def open_wandb(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker:
    """Start or continue a W&B run; `NoTracking` where it is disabled or cannot be started."""
    try:
        from opinionlm.reporting.tracking.wandb import WandbTracking, start_wandb

        run = start_wandb(config, run_folder, environment)
        if run is None:
            return NoTracking()
        return GuardedTracker(WandbTracking(run, config.tracking.wandb_artifacts), "W&B")
    except Exception as error:
        say(f"W&B: no tracking, the run goes on ({type_and_line(error)})")
        return NoTracking()


def open_tensorboard(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker:
    """Start or continue TensorBoard's event files; `NoTracking` where they cannot be written.

    Raises:
        UserError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401 — asked for here, so that the message is ours
    except ImportError:
        raise UserError(
            "report_to: tensorboard is not installed; `pip install -r requirements.txt`, or use wandb or none"
        ) from None
    from opinionlm.reporting.tracking.tensorboard import TensorBoardTracking

    folder = run_folder / TENSORBOARD
    try:
        tracker = TensorBoardTracking(folder)
        tracker.describe({"config": config.flat(), "environment": dict(environment)})
    except Exception as error:
        say(f"TensorBoard: no tracking, the run goes on ({type_and_line(error)})")
        return NoTracking()
    say(f"TensorBoard: logging to {folder}; look at it with: tensorboard --logdir {folder}")
    return GuardedTracker(tracker, "TensorBoard")


class TrackingCallback(TrainerCallback):
    """Forwards what Trainer logs: ``loss`` → ``train/loss``, ``eval_macro_f1`` → ``validation/macro_f1``.

    The tracker learns that training begins after the first optimizer step, or before the first log if that comes
    earlier: a tracker may take seconds to open, and what cannot train should fail before.

    Args:
        tracker: where to.
        clock: of the training, which stands still while the tracker opens.
    """

    def __init__(self, tracker: Tracker, clock: TrainingClock) -> None:
        self.tracker, self.clock = tracker, clock
        # What an interrupted run has logged up to where it goes on; None once the tracker knows.
        self.history: list[Point] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep what was logged before; the state's list grows from here on."""
        self.history = [(int(entry["step"]), points) for entry in state.log_history if (points := curves(entry))]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After the first step, begin."""
        self._begin()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Called after every logging step and evaluation, and once more by Trainer when training is over."""
        self._begin()
        logs = logs or {}
        if CLOSING in logs:
            self.tracker.summarise({name: value for name, value in logs.items() if name.startswith("train_")})
        elif points := curves(logs):
            self.tracker.log(points, state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin even where no step was left to make: an earlier part may have lost what it logged last."""
        self._begin()

    def _begin(self) -> None:
        if self.history is not None:
            with self.clock.stopped():
                self.tracker.begin(self.history)
            self.history = None
