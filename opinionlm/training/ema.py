"""Exponential moving average of the trained weights: evaluated and saved, while training goes on without it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.adaptation.methods import trained_parameters
from opinionlm.errors import UserError
from opinionlm.training.checkpoints import AVERAGED


def decay_at(decay: float, step: int) -> float:
    """The decay of an average after optimizer step t, from 1: ``min(decay, (1 + t) / (10 + t))``, which warms up."""
    return min(decay, (1 + step) / (10 + step))


def describe_average(decay: float, steps: int) -> str:
    """What an average comes to in a run, for the terminal: the decay that its warm-up reaches."""
    reached = decay_at(decay, steps)
    if reached >= decay:
        first = math.ceil((10 * decay - 1) / (1 - decay) - 1e-9)
        return f"average decay {decay:g} of the weights, reached at step {max(first, 1):,} of {steps:,}"
    return (
        f"warning: ema_decay: {decay:g} is never reached: its warm-up ends at {reached:.4g} with the last of "
        f"{steps:,} steps, so every larger decay is the same run; ask for at most {floored(reached)}, or train longer"
    )


def floored(decay: float) -> str:
    """A decay with three digits, never above itself."""
    return f"{math.floor(decay * 1000) / 1000:g}"


class WeightAverage(TrainerCallback):
    """Average of the trained parameters, updated after every optimizer step (Polyak and Juditsky 1992).

    ``average ← d · average + (1 − d) · weights`` with ``d = min(decay, (1 + t) / (10 + t))`` after step t: the usual
    warm-up, without which a short run would be evaluated by its initial weights. The average is float32 whatever the
    parameters are: 1 − d is below the resolution of bfloat16. All processes hold the same weights, so each keeps the
    same average by itself.

    The engines call `applied` around evaluation, `save` with every checkpoint, and load the best checkpoint's average
    at the end. It takes the memory of the trained parameters once, and once more during an evaluation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        # Made when training begins: until then an engine may still move the model to its device.
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self.averages: list[torch.Tensor] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start from the weights as they are; where a run goes on, from its checkpoint's average."""
        trained = trained_parameters(self.model)
        self.names, self.parameters = list(trained), list(trained.values())
        self.averages = [parameter.detach().float().clone() for parameter in self.parameters]
        if state.global_step > 0:
            self._load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After each optimizer step, before the evaluation that may follow it."""
        self.update(state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """From here on the model has the weights it is evaluated by: those of the best checkpoint, if there is one."""
        if state.best_model_checkpoint is None:
            self._copy(self.averages)
        self.parameters, self.averages = [], []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after an optimizer step, from 1, into the average."""
        decay = decay_at(self.decay, step)
        torch._foreach_lerp_(self.averages, [parameter.float() for parameter in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model computes with the average inside; the raw weights come back bit for bit. Nothing while idle."""
        raw = [parameter.detach().clone() for parameter in self.parameters]
        self._copy(self.averages)
        try:
            yield
        finally:
            self._copy(raw)

    @torch.no_grad()
    def _copy(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def save(self, folder: Path) -> None:
        """Write the average beside a checkpoint's raw weights."""
        state = {name: value.contiguous().cpu() for name, value in zip(self.names, self.averages, strict=True)}
        save_file(state, folder / AVERAGED, metadata={"format": "pt"})

    def _load(self, folder: Path) -> None:
        """Read a checkpoint's average back.

        Raises:
            UserError: the checkpoint has none.
        """
        if not (folder / AVERAGED).is_file():
            raise UserError(
                f"{folder / AVERAGED}: missing, so the average of the weights cannot go on where it stopped; delete "
                "that checkpoint, or set resume_from_checkpoint: false"
            )
        state = load_file(folder / AVERAGED)
        for name, average in zip(self.names, self.averages, strict=True):
            average.copy_(state[name])
