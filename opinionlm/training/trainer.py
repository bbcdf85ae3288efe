"""A `transformers.Trainer` with an exact weighted loss and checkpoints that hold only what trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    EvalPrediction,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.parameter_groups import new_optimizer
from opinionlm.errors import UserError
from opinionlm.training.batching import BatchPlan, EpochDataLoader, workers_watched
from opinionlm.training.checkpoints import load_best_weights, load_trained_weights, save_trained_weights, writing
from opinionlm.training.counters import Counters
from opinionlm.training.ema import WeightAverage
from opinionlm.training.interruption import CheckpointKeeper, StopRequest
from opinionlm.training.loop_state import has_stopped
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.rdrop import batch_sum
from opinionlm.training.nonfinite import StepFacts, refuse_nonfinite
from opinionlm.training.out_of_memory import cut, free_memory, in_parts, is_out_of_memory, next_parts, rows_of


class OpinionTrainer(Trainer):
    """Trainer whose loss is the weighted mean over the whole optimizer step.

    The stock Trainer averages the mean losses of the accumulated batches, which is another number as soon as weights
    or batch sizes differ, and its classification heads multiply the gradient by the number of accumulation steps
    (transformers #47688). Here the sum of weighted losses is divided by the sum of the weights of all examples of
    the step, over accumulation and processes, so that one big batch, accumulation and several processes agree.

    Args:
        loss: the loss per example.
        plan: the batches of every epoch, for this process.
        parameter_groups: for the optimizer; by default every trained parameter, weight decay not on biases and norms.
        auxiliary_loss: added to the loss of every step where it returns one (AdaLoRA's orthogonality).
        average: of the trained weights, which evaluation then uses, and which the best checkpoint gives in the end.
        rdrop_alpha: weight of R-Drop's term, see `opinionlm.training.losses.rdrop.batch_sum`; 0 for none.
        max_nonfinite_steps: steps whose loss or gradient is no number that are skipped before training stops.
        trainer_arguments: passed on to `transformers.Trainer`.

    Raises:
        UserError: an average is asked for where the weights are split over processes.
    """

    def __init__(
        self,
        *,
        loss: ExampleLoss,
        plan: BatchPlan,
        parameter_groups: list[dict[str, Any]] | None = None,
        auxiliary_loss: Callable[[], torch.Tensor | None] | None = None,
        average: WeightAverage | None = None,
        rdrop_alpha: float = 0.0,
        max_nonfinite_steps: int = 0,
        **trainer_arguments: Any,
    ) -> None:
        super().__init__(**trainer_arguments)
        # Trainer comes without types.
        self.optimizer: torch.optim.Optimizer | None
        self.compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None
        self.control: TrainerControl
        self.loss, self.plan, self.parameter_groups = loss, plan, parameter_groups
        self.auxiliary_loss, self.max_nonfinite_steps = auxiliary_loss, max_nonfinite_steps
        self.counters = Counters()
        self.step_batches: list[dict[str, torch.Tensor]] = []
        self.step_losses: list[torch.Tensor] = []
        self.passes_of_step = 1
        self.resumed_from: Path | None = None
        self.started, self.earlier_seconds = 0.0, 0.0
        self.stop_request = StopRequest()
        self.average, self.rdrop_alpha = average, rdrop_alpha
        if average is not None and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise UserError(
                "ema_decay: needs the trained weights whole on every process, which deepspeed and fsdp split up; "
                "leave it out, or launch without them"
            )
        if average is not None:
            self.add_callback(average)
        # The loss below is already normalised for the whole step: Trainer must not divide it again.
        self.loss_is_scaled_for_ga = True
        # Trainer's own printing of every log line; ConsoleCallback says the same in one line per evaluation.
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(CountersCallback(self))
        self.add_callback(CheckpointKeeper(self.stop_request))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that ``optim`` names, over the given parameter groups if there are any."""
        if self.optimizer is None and self.parameter_groups is not None:
            self.optimizer = new_optimizer(self.args, self.model, self.parameter_groups)
        return super().create_optimizer(model)

    def get_train_dataloader(self) -> DataLoader:
        """The batches of the plan, which already belong to this process."""
        return EpochDataLoader(
            self.train_dataset,
            batch_sampler=self.plan,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_num_workers > 0,
            # Without a generator of its own every pass over the loader would draw from the model's randomness.
            generator=torch.Generator().manual_seed(self.plan.seed),
        )

    def train(self, resume_from_checkpoint: str | None = None) -> TrainOutput:
        """Train to the end, from a checkpoint folder if one is given; a signal stops after a checkpoint."""
        with self.stop_request.listening():
            return super().train(resume_from_checkpoint=resume_from_checkpoint)

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: None,
    ) -> tuple[int, int]:
        """Trainer's, with the best checkpoint found wherever the run folder lies now."""
        self.resumed_from = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        place = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if self.state.best_global_step:
            best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best)
        return place

    def _run_epoch(self, **arguments: Any) -> None:
        """Trainer's, unless training had ended when the checkpoint was written: Trainer would make one more step."""
        if self.state.global_step >= self.state.max_steps or has_stopped(self.state):
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**arguments)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor | None]:
        """Fetch the batches of one optimizer step and the sum of their example weights over all processes."""
        with workers_watched():
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_batches, self.step_losses = batches, []
        if not batches:
            return batches, None
        self.passes_of_step = len(batches)
        weight = torch.stack([self.batch_weight(batch) for batch in batches]).sum().to(device)
        if self.args.world_size > 1:
            weight = self.accelerator.gather(weight).sum()
        # A step of fillers alone has weight zero and, divided by anything positive, loss zero.
        return batches, weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Forward and backward of one accumulated batch, in as many parts as memory asks for.

        Where memory does not suffice, the gradients of the step so far are computed again in smaller parts: a
        backward pass that broke off has left a part of its own behind.
        """
        number = len(self.step_losses)
        again = [inputs]
        while True:
            try:
                losses = [self._step_in_parts(model, batch, num_items_in_batch) for batch in again]
                self.step_losses.append(losses[-1])
                return losses[-1]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                rows = max(rows_of(batch) for batch in self.step_batches)
                self.counters.parts = next_parts(self.counters.parts, rows, self.args.world_size, error)
            model.zero_grad()
            free_memory()
            again = self.step_batches[: number + 1]

    def _step_in_parts(
        self, model: nn.Module, batch: dict[str, torch.Tensor], num_items_in_batch: torch.Tensor | None
    ) -> torch.Tensor:
        parts = cut(batch, self.counters.parts)
        self.passes_of_step = len(self.step_batches) * len(parts)
        step = super().training_step
        return torch.stack([step(model, part, num_items_in_batch) for part in parts]).sum()

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | None = None) -> float:
        """Trainer's norm before clipping, between the gradients and the step; here a step is refused."""
        norm = float(super()._get_grad_norm(model, grad_norm))
        losses = torch.stack(self.step_losses)
        if self.args.world_size > 1:
            losses = self.accelerator.gather(losses[None]).mean(dim=0)
        rate = self._get_learning_rate()
        if math.isfinite(norm) and bool(losses.isfinite().all()):
            self.counters.add(float(losses.sum()))
            self.counters.last_step = {"grad_norm": norm, "learning_rate": rate}
            return norm
        batches = self.plan.batches_of(self.state.global_step, self.args.gradient_accumulation_steps)
        ids = [[self.train_dataset.name_of(position) for position in batch] for batch in batches]
        facts = StepFacts(self.state.global_step + 1, losses.tolist(), norm, rate, ids)
        self.counters.nonfinite_steps += 1
        folder = Path(self.args.output_dir).parent
        refuse_nonfinite(
            facts, self.counters.nonfinite_steps, self.max_nonfinite_steps, folder, self.args.process_index == 0
        )
        # Optimizers leave parameters without gradient alone; the step counts, and the schedule goes on.
        model.zero_grad(set_to_none=True)
        self.counters.last_step = {"grad_norm": 0.0, "learning_rate": rate}
        return 0.0

    def batch_weight(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the weights of a batch's items, a float32 scalar: its share of the step's weighted mean."""
        return self.loss.example_weights(batch["labels"]).sum()

    def weighted_sum(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum over a batch's items of weight times loss, a float32 scalar."""
        labels = inputs.pop("labels")
        return batch_sum(model, inputs, labels, self.loss, self.rdrop_alpha if model.training else 0.0)[0]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """This batch's share of the step's weighted mean.

        Args:
            model: the model, possibly wrapped for distribution.
            inputs: a batch with ``labels``.
            return_outputs: not asked for, since `prediction_step` and `evaluate` are our own.
            num_items_in_batch: sum of the example weights of the whole step, from `get_batch_samples`.
        """
        normaliser = self.batch_weight(inputs) if num_items_in_batch is None else num_items_in_batch
        # Distributed training averages the gradients over the processes; the share is one of a sum.
        processes = 1 if num_items_in_batch is None else self.args.world_size
        loss = self.weighted_sum(model, inputs) / normaliser * processes
        extra = None if self.auxiliary_loss is None else self.auxiliary_loss()
        # Once per step, whatever the accumulation.
        return loss if extra is None else loss + extra / self.passes_of_step

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's, with the means of `Counters` as training losses.

        Trainer's own sum counts a skipped step as one, or puts a guess in its place. It also adds time and speed to
        every log where it is given the start: they belong to the run as a whole, and its closing log has them.
        """
        if "loss" in logs:
            del logs["loss"]
            logs |= self.counters.close_window(self.state.global_step)
        if self.is_in_train and any(name.startswith("eval_") for name in logs):
            logs |= self.counters.close_evaluation()
        super().log(logs)

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score a split, in training with the average of the weights where there is one."""
        with nullcontext() if self.average is None else self.average.applied():
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Logits and labels of a batch. The loss is left to ``compute_metrics``: a mean of batch means is inexact."""
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = in_parts(lambda part: model(**part).logits, inputs)
        return None, logits.detach(), labels

    def outputs(self, texts: Dataset) -> np.ndarray:
        """Logits of a split (what ``preprocess_logits_for_metrics`` makes of them) in reading order, unscored.

        ``compute_metrics`` is bound to the validation split, so `predict` cannot be asked for the test split as is.
        """
        compute, self.compute_metrics = self.compute_metrics, None
        try:
            return self.predict(texts).predictions
        finally:
            self.compute_metrics = compute

    def _finalize_training(self, trial: None, num_train_samples: int, start_time: float) -> TrainOutput:
        """Trainer's, with what is left of the training loss logged, and the seconds before an interruption counted."""
        if self.counters.steps_since_log and self.args.logging_strategy != "no":
            self.log({"loss": 0.0} | self.counters.last_step)
        self._tr_loss.zero_()
        steps = self.state.global_step - self._initial_global_step
        self._total_loss_scalar = self.counters.mean_loss * steps
        return super()._finalize_training(trial, num_train_samples, start_time - self.earlier_seconds)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write the trained weights only: a checkpoint of a 1B model with one trained block is 57 MB, not 2 GB."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            save_trained_weights(self.model, folder, state_dict)
            if self.average is not None:
                self.average.save(folder)

    def _save_checkpoint(self, model: nn.Module, trial: None) -> None:
        """Trainer's, with the counters; surplus checkpoints go when this one is sealed, see `CheckpointKeeper`.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)
                self.counters.seconds = self.earlier_seconds + time.time() - self.started
                self.counters.save(folder, self.args.process_index)
        finally:
            self.args.save_total_limit = limit

    def restore_counters(self) -> None:
        """Put back what a checkpoint has counted, where training goes on from one."""
        self.started = time.time()
        if self.resumed_from is None:
            return
        # Trainer's closing words are then about all steps, and all seconds below.
        self._initial_global_step = 0
        self.counters = Counters.load(self.resumed_from, self.args.process_index)
        self.earlier_seconds = self.counters.seconds
        self._globalstep_last_logged = self.counters.last_logged_step

    def _load_best_model(self) -> None:
        """Put the weights of the best checkpoint back, averaged where it was evaluated by its average."""
        load_best_weights(self.model, Path(self.state.best_model_checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Put the weights of a checkpoint back before training goes on."""
        load_trained_weights(self.model if model is None else model, Path(resume_from_checkpoint))


class CountersCallback(TrainerCallback):
    """Restores a trainer's counters when training begins: Trainer sets its own to zero just before."""

    def __init__(self, trainer: OpinionTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called after Trainer set its counters to zero."""
        self.trainer.restore_counters()
