"""What can go wrong in an optimizer step: too little memory, and losses that are no numbers."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed

from opinionlm.errors import UserError, distributed
from opinionlm.training.runs import write_json

Batch = dict[str, torch.Tensor]
# What torch's allocator for the CPU says, as a plain RuntimeError.
CPU_MEMORY = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory")


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

        Args:
            step: the current one.
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is exhausted, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in CPU_MEMORY)


def rows_of(batch: Batch) -> int:
    """Rows of a batch; they are the first dimension of each of its tensors."""
    return len(next(iter(batch.values())))


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into at most so many smaller ones, in its order, padding as it was."""
    size = math.ceil(rows_of(batch) / parts)
    return [
        {name: tensor[start : start + size] for name, tensor in batch.items()}
        for start in range(0, rows_of(batch), size)
    ]


def next_parts(parts: int, rows: int, processes: int, error: BaseException) -> int:
    """Into how many parts batches are cut after memory did not suffice; says so.

    The loss of a step is a sum over its examples divided by the sum of their weights, which is known beforehand: in
    how many forward passes it is computed does not change it.

    Args:
        parts: so far.
        rows: of the largest batch of the step.
        processes: that train together. Distributed training exchanges gradients while it computes them, so a single
            process cannot begin a step again.
        error: what was raised.

    Raises:
        UserError: there is nothing left to cut.
    """
    if processes > 1:
        raise UserError(
            f"out of memory with {math.ceil(rows / parts)} texts per process; halve per_device_train_batch_size and "
            "double gradient_accumulation_steps, which computes the same"
        ) from error
    if parts >= rows:
        raise UserError(
            "out of memory with a single text; lower max_length, set activation_checkpointing: true, or train less of "
            "the model (see docs/methods.md)"
        ) from error
    parts = min(2 * parts, rows)
    print(
        f"out of memory: batches of {rows} are computed in {parts} parts from here on, whose gradients add up; the "
        f"effective batch stays what it was",
        flush=True,
    )
    return parts


def free_memory() -> None:
    """Give back what a failed attempt still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_parts(compute: Callable[[Batch], torch.Tensor], batch: Batch) -> torch.Tensor:
    """Compute rows without gradients, in ever smaller parts where memory does not suffice.

    Args:
        compute: from a batch to rows in its order.
        batch: the batch.
    """
    parts = 1
    while True:
        try:
            return torch.cat([compute(part) for part in cut(batch, parts)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or parts >= rows_of(batch):
                raise
        parts *= 2
        free_memory()


@dataclass(frozen=True)
class StepFacts:
    """An optimizer step, for the file that is written when its loss or its gradient is no number.

    Attributes:
        step: its number, the first is 1.
        losses: of the accumulated batches, shares of the step's loss, summed over processes.
        gradient_norm: before clipping.
        learning_rate: that it would have been made with.
        ids: of the texts, a list per accumulated batch, over all processes.
    """

    step: int
    losses: list[float]
    gradient_norm: float
    learning_rate: float
    ids: list[list[str]]

    @property
    def finite(self) -> bool:
        """Whether the step can be made."""
        return all(math.isfinite(value) for value in (*self.losses, self.gradient_norm))


def refuse_nonfinite(facts: StepFacts, skipped: int, limit: int, folder: Path, is_main: bool) -> None:
    """Write down a step that cannot be made, and say that it is skipped, or stop.

    Args:
        facts: of the step.
        skipped: steps skipped so far, this one included.
        limit: ``max_nonfinite_steps``.
        folder: the run folder.
        is_main: whether this process writes and speaks.

    Raises:
        UserError: more steps than the limit; in the main process, the others leave silently.
    """
    path = folder / f"nonfinite_step_{facts.step}.json"
    loss = sum(facts.losses)
    if is_main:
        # JSON knows neither nan nor infinity: they are written as text.
        content = asdict(facts) | {
            "loss": shown(loss),
            "losses": [shown(value) for value in facts.losses],
            "gradient_norm": shown(facts.gradient_norm),
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    if distributed():
        # The file is written before the first process that leaves ends the others.
        torch.distributed.barrier()
    line = f"step {facts.step}: loss {loss:g}, gradient norm {facts.gradient_norm:g}"
    if skipped > limit:
        if not is_main:
            raise SystemExit(2)
        raise UserError(
            f"{line}; {path} names its texts. Lower learning_rate or max_grad_norm, look at the texts, or let up to "
            "max_nonfinite_steps such steps be skipped"
        )
    if is_main:
        print(f"warning: {line}; the step is skipped ({skipped} of at most {limit}), see {path}", flush=True)


def shown(value: float) -> float | str:
    """A number for JSON."""
    return value if math.isfinite(value) else str(value)
