"""Deferred re-weighting: class weights that count from a share of training on (Cao et al. 2019)."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.config.config import Config
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.imbalance import MarginLoss


class DeferredWeighting(TrainerCallback):
    """Lets class weights count from a share of training on (LDAM-DRW, Cao et al. 2019, section 3.3).

    It acts between optimizer steps, so that the denominator of a step's weighted mean and its losses always have the
    same weights. Whether they count depends on the number of the step alone, so a resumed run goes on the same way.

    Args:
        loss: whose weights wait.
        share: of all optimizer steps, from 0 to 1.
    """

    def __init__(self, loss: MarginLoss, share: float) -> None:
        self.loss, self.share = loss, share

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Where a run goes on behind that step, or begins there, they count at once."""
        self._start_if_due(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After each optimizer step: does the next one count them?"""
        self._start_if_due(state)

    def _start_if_due(self, state: TrainerState) -> None:
        if self.share < 1 and state.global_step >= math.ceil(self.share * state.max_steps):
            self.loss.start_weighting()


def loss_callbacks(loss: ExampleLoss, config: Config) -> list[TrainerCallback]:
    """Callbacks that a loss needs while it trains; most need none."""
    return [DeferredWeighting(loss, config.method.ldam_reweight_from)] if isinstance(loss, MarginLoss) else []
