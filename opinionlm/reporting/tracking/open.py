"""Open the tracker that a run asks for, and forward to it what Trainer logs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.config.config import Config
from opinionlm.errors import UserError
from opinionlm.reporting.tracking.base import CLOSING, TENSORBOARD, Point, Tracker, Trackers, curves, say
from opinionlm.training.callbacks import TrainingClock


def open_tracking(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker:
    """Where a run is logged. To be called by the main process only; the others have no trackers.

    Args:
        config: the run's options; ``report_to``, ``wandb_project``, ``wandb_group`` and ``wandb_tags`` decide where.
        run_folder: exists; the log is written to ``wandb/`` or ``tensorboard/`` in it.
        environment: what `opinionlm.runs.folder.environment` found.

    Returns:
        A tracker that never raises.

    Raises:
        UserError: a tracker was asked for and is not installed.
    """
    openers: dict[str, Callable[[], Tracker | None]] = {}
    for name in config.tracking.report_to:
        match name:
            case "wandb":
                if importlib.util.find_spec("wandb") is None:
                    raise UserError(
                        "report_to: wandb is not installed; `pip install -r requirements.txt`, or use "
                        "tensorboard or none"
                    )
                openers["W&B"] = partial(open_wandb, config, run_folder, environment)
            case "tensorboard":
                try:
                    from torch.utils.tensorboard import SummaryWriter  # noqa: F401 — only asked whether it is there
                except ImportError:
                    raise UserError(
                        "report_to: tensorboard is not installed; `pip install -r requirements.txt`, or use wandb or "
                        "none"
                    ) from None
                openers["TensorBoard"] = partial(open_tensorboard, config, run_folder, environment)
    return Trackers(openers)


def open_wandb(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker | None:
    """Start or continue a W&B run; None where it is disabled."""
    from opinionlm.reporting.tracking.wandb import WandbTracking, start_wandb

    run = start_wandb(config, run_folder, environment)
    return None if run is None else WandbTracking(run, config.tracking.wandb_artifacts)


def open_tensorboard(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> Tracker:
    """Start or continue TensorBoard's event files."""
    from opinionlm.reporting.tracking.tensorboard import TensorBoardTracking

    folder = run_folder / TENSORBOARD
    tracker = TensorBoardTracking(folder)
    tracker.describe({"config": config.flat(), "environment": dict(environment)})
    say(f"TensorBoard: logging to {folder}; look at it with: tensorboard --logdir {folder}")
    return tracker


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
