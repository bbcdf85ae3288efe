"""Counters of a training run that its checkpoints keep."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from opinionlm.utils.files import write_json


@dataclass
class Counters:
    """What an engine has counted up to a checkpoint, of one process; kept so that a resumed run goes on exactly.

    The loss of a step is the weighted mean over its examples on all processes. A step that was skipped has none, so
    that it enters no mean.

    Attributes:
        loss_total: sum of the losses of all steps made.
        steps: made, skipped ones not counted.
        loss_since_log: sum of the losses since the training loss was logged.
        steps_since_log: that it is a sum of.
        last_logged_step: number of the step after which it was logged.
        loss_since_evaluation: sum of the losses since the last evaluation.
        steps_since_evaluation: that it is a sum of.
        last_step: gradient norm before clipping and learning rate of the last step, for the log after it.
        seconds: of training so far.
        parts: into how many parts a batch is cut, because it does not fit into memory as a whole.
        nonfinite_steps: steps that were skipped because their loss or gradient was no number.
    """

    loss_total: float = 0.0
    steps: int = 0
    loss_since_log: float = 0.0
    steps_since_log: int = 0
    last_logged_step: int = 0
    loss_since_evaluation: float = 0.0
    steps_since_evaluation: int = 0
    last_step: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    parts: int = 1
    nonfinite_steps: int = 0

    def add(self, loss: float) -> None:
        """Count a step that was made, with its loss."""
        self.loss_total += loss
        self.steps += 1
        self.loss_since_log += loss
        self.steps_since_log += 1
        self.loss_since_evaluation += loss
        self.steps_since_evaluation += 1

    @property
    def mean_loss(self) -> float:
        """Mean over all steps made, 0 where none was."""
        return self.loss_total / max(self.steps, 1)

    def close_window(self, step: int) -> dict[str, float]:
        """The training loss since it was last logged, as ``loss``, and over how many steps it is the mean.

        The windows are those of ``logging_steps`` alone: neither evaluations nor ends of epochs cut them, so that all
        are equally long, but the last one of a run. Without a step that was made there is nothing to tell.
        """
        total, steps = self.loss_since_log, self.steps_since_log
        self.loss_since_log, self.steps_since_log, self.last_logged_step = 0.0, 0, step
        return {"loss": total / steps, "loss_steps": steps} if steps else {}

    def close_evaluation(self) -> dict[str, float]:
        """The mean training loss since the last evaluation, as ``loss_since_evaluation``."""
        total, steps = self.loss_since_evaluation, self.steps_since_evaluation
        self.loss_since_evaluation, self.steps_since_evaluation = 0.0, 0
        return {"loss_since_evaluation": total / steps} if steps else {}

    def save(self, folder: Path, process: int) -> None:
        """Write into a checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(counters_file(folder, process), asdict(self))

    @classmethod
    def load(cls, folder: Path, process: int) -> Counters:
        """Read from a checkpoint."""
        content = json.loads(counters_file(folder, process).read_text(encoding="utf-8"))
        if "steps" not in content:
            # Written when only logged steps were in the total: the window that it had begun is counted, not shown.
            content["loss_total"] += content.pop("loss_since_log")
            content["steps"] = int(folder.name.rpartition("-")[2]) - content["nonfinite_steps"]
        return cls(**content)


def counters_file(folder: Path, process: int) -> Path:
    """Where a process keeps its counters in a checkpoint."""
    return folder / f"counters_{process}.json"
