"""Ctrl-C and SIGTERM while training: finish the step, save a checkpoint, say how to go on, leave."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.errors import Interrupted
from opinionlm.training.checkpoints import rotate, seal, writing
from opinionlm.utils.distributed import wait_for_others

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The signal that asked training to stop, 0 while none has; a second Ctrl-C stops at once.

    A second SIGTERM changes nothing: launchers and grids send one to processes that got Ctrl-C already.
    """

    def __init__(self) -> None:
        self.number = 0
        self.previous: dict[int, Any] = {}

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.number == number == signal.SIGINT:
            raise Interrupted(number)
        self.number = self.number or number

    def restore(self) -> None:
        """Put the former handlers back."""
        for each, handler in self.previous.items():
            signal.signal(each, handler)
        self.previous = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it signals are noted instead of raised."""
        self.previous = {each: signal.getsignal(each) for each in SIGNALS}
        # Ignored signals stay ignored: `nohup` and shells in the background rely on that.
        self.previous = {each: handler for each, handler in self.previous.items() if handler is not signal.SIG_IGN}
        for each in self.previous:
            signal.signal(each, self.note)
        try:
            yield
        finally:
            self.restore()


class CheckpointKeeper(TrainerCallback):
    """Seals every checkpoint, deletes surplus ones, and leaves after one when a signal asked for it.

    It has to be the last callback that writes into checkpoints, and knows both engines' (`OpinionTrainer`,
    `TrainingLoop`) checkpoints.
    """

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a checkpoint where a signal came, in all processes when it came in any."""
        self.request.number = agreed_maximum(self.request.number, args)
        # At the end of an epoch evaluation and checkpoint follow anyway; a checkpoint before that would skip them.
        if self.request.number and not (control.should_training_stop or float(state.epoch).is_integer()):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The checkpoint is written; make it count.

        Raises:
            Interrupted: a signal asked to stop here.
        """
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        wait_for_others()
        if state.is_world_process_zero:
            with writing(folder):
                seal(folder)
            if args.save_total_limit is not None:
                rotate(folder.parent, args.save_total_limit, state.best_global_step)
        wait_for_others()
        self.request.number = agreed_maximum(self.request.number, args)
        if self.request.number:
            if state.is_world_process_zero:
                # Said at once: closing the log of the run may take a while.
                name = signal.Signals(self.request.number).name
                line = f"stopped by {name}; step {state.global_step} of {state.max_steps} is saved"
                print(f"{line}, the same command goes on there", file=sys.stderr, flush=True)
            raise Interrupted(self.request.number, message="")


def agreed_maximum(number: int, args: TrainingArguments) -> int:
    """The largest of the numbers of all processes."""
    if args.world_size == 1:
        return number
    largest = torch.tensor(number, device=args.device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)
