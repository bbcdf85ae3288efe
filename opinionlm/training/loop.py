"""The custom training loop (IMDB report, "Training Loop"), written out with Accelerate.

What `opinionlm.training.trainer.OpinionTrainer` does inside `transformers.Trainer`, one line after the other: the same
batches, the same exact step-wide loss, the same optimizer and schedule, so that the losses of both are equal step by
step. Read this file to see what a training step is; the callbacks are those of Trainer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    DefaultFlowCallback,
    EvalPrediction,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import CallbackHandler
from transformers.trainer_pt_utils import EvalLoopContainer
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.parameter_groups import PLATEAU, decay_groups, new_optimizer, new_schedule
from opinionlm.errors import UserError
from opinionlm.training.batching import BatchPlan, EpochDataLoader, optimizer_steps, workers_watched
from opinionlm.training.checkpoints import load_best_weights, load_trained_weights, save_trained_weights, writing
from opinionlm.training.counters import Counters
from opinionlm.training.ema import WeightAverage
from opinionlm.training.interruption import CheckpointKeeper, StopRequest
from opinionlm.training.loop_state import (
    first_state,
    has_stopped,
    keep_callbacks,
    load_progress,
    restore_callbacks,
    save_progress,
)
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.rdrop import batch_sum
from opinionlm.training.nonfinite import StepFacts, refuse_nonfinite
from opinionlm.training.out_of_memory import Batch, cut, free_memory, in_parts, is_out_of_memory, next_parts, rows_of
from opinionlm.utils.progress import progress_bar


class TrainingLoop:
    """Trains, evaluates, keeps the best checkpoint and predicts, as `OpinionTrainer` does.

    Args:
        model: the model to train, its adaptation applied.
        args: learning rate, schedule, precision, when to evaluate and to log.
        loss: the loss per example.
        plan: the batches of every epoch, for this process.
        train_dataset: read by the plan's positions.
        eval_dataset: validation, for choosing the checkpoint.
        data_collator: rows → batch.
        compute_metrics: scores of gathered logits and labels.
        callbacks: told about every step, log and evaluation.
        preprocess_logits_for_metrics: what is kept of a batch's logits, from logits and labels; by default all.
        parameter_groups: for the optimizer; by default every trained parameter, weight decay not on biases and norms.
        auxiliary_loss: added to the loss of every batch where it returns one (AdaLoRA's orthogonality).
        average: of the trained weights, which evaluation then uses, and which the best checkpoint gives in the end.
        rdrop_alpha: weight of R-Drop's term, see `opinionlm.training.losses.rdrop.batch_sum`; 0 for none.
        max_nonfinite_steps: steps whose loss or gradient is no number that are skipped before training stops.

    Raises:
        UserError: the weights would be split over processes (FSDP).
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        loss: ExampleLoss,
        plan: BatchPlan,
        train_dataset: Dataset,
        eval_dataset: Dataset,
        data_collator: Callable[[list], Batch],
        compute_metrics: Callable[[EvalPrediction], dict[str, float]],
        callbacks: list[TrainerCallback],
        preprocess_logits_for_metrics: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        parameter_groups: list[dict] | None = None,
        auxiliary_loss: Callable[[], torch.Tensor | None] | None = None,
        average: WeightAverage | None = None,
        rdrop_alpha: float = 0.0,
        max_nonfinite_steps: int = 0,
    ) -> None:
        set_seed(args.seed)
        self.model, self.args, self.loss, self.plan = model, args, loss, plan
        self.train_dataset, self.eval_dataset, self.collate = train_dataset, eval_dataset, data_collator
        self.compute_metrics, self.auxiliary_loss = compute_metrics, auxiliary_loss
        self.keep_of_logits = preprocess_logits_for_metrics
        self.average, self.rdrop_alpha, self.max_nonfinite_steps = average, rdrop_alpha, max_nonfinite_steps
        self.accelerator = Accelerator(mixed_precision="bf16" if args.bf16 else "no", cpu=args.use_cpu)
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise UserError("engine: loop keeps all weights on every process; fsdp needs engine: trainer")
        self.wrapped = self.accelerator.prepare_model(model)
        self.optimizer = new_optimizer(args, model, parameter_groups or decay_groups(model, args.weight_decay))
        self.steps_per_epoch = math.ceil(len(plan) / args.gradient_accumulation_steps)
        total = optimizer_steps(plan, args)
        self.scheduler = new_schedule(args, self.optimizer, total)
        self.state = first_state(args, total, math.ceil(total / self.steps_per_epoch))
        self.control, self.stop_request = TrainerControl(), StopRequest()
        told = [DefaultFlowCallback(), *callbacks, *([] if average is None else [average])]
        told.append(CheckpointKeeper(self.stop_request))
        self.handler = CallbackHandler(told, model, None, self.optimizer, self.scheduler)
        self.counters = Counters()

    def train(self, resume_from_checkpoint: str | None = None) -> TrainOutput:
        """Train to the end, from a checkpoint folder if one is given, then put the best checkpoint's weights back."""
        with self.stop_request.listening():
            return self._train(None if resume_from_checkpoint is None else Path(resume_from_checkpoint))

    def _train(self, folder: Path | None) -> TrainOutput:
        if folder is not None:
            self._resume(folder)
        started = time.perf_counter()
        if self.args.activation_checkpointing:
            self.model.activation_checkpointing_enable()
        # With a generator of its own, iterating draws nothing from the model's randomness.
        loader = EpochDataLoader(
            self.train_dataset,
            batch_sampler=self.plan,
            collate_fn=self.collate,
            num_workers=self.args.dataloader_num_workers,
            generator=torch.Generator().manual_seed(self.plan.seed),
        )
        self._tell("on_train_begin")
        self.control.should_training_stop = has_stopped(self.state)
        while self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            epoch, done = divmod(self.state.global_step, self.steps_per_epoch)
            loader.set_epoch(epoch)
            self._tell("on_epoch_begin")
            self._run_epoch(epoch, done, loader)
            self._tell("on_epoch_end")
            self._log_evaluate_save()
        if self.counters.steps_since_log and self.args.logging_strategy != "no":
            self._log_training_loss()
        if self.state.best_model_checkpoint is not None:
            load_best_weights(self.model, Path(self.state.best_model_checkpoint))
        self._tell("on_train_end")
        seconds = time.perf_counter() - started
        return TrainOutput(self.state.global_step, self.counters.mean_loss, {"train_runtime": seconds})

    def _run_epoch(self, epoch: int, done: int, loader: EpochDataLoader) -> None:
        """One pass over the plan's batches, from the step after the last ``done`` one."""
        accumulation = self.args.gradient_accumulation_steps
        batches = islice(iter(loader), done * accumulation, None)
        for step in range(done, self.steps_per_epoch):
            self._tell("on_step_begin")
            self._optimizer_step(batches)
            self.state.global_step += 1
            self.state.epoch = epoch + min((step + 1) * accumulation, len(self.plan)) / len(self.plan)
            self._tell("on_step_end")
            self._log_evaluate_save()
            if self.control.should_epoch_stop or self.control.should_training_stop:
                return

    def _optimizer_step(self, batches: Iterator[Batch]) -> None:
        """Forward and backward over the accumulated batches, then one update of the weights."""
        self.wrapped.train()
        with workers_watched():
            accumulated = [self._to_device(batch) for batch in islice(batches, self.args.gradient_accumulation_steps)]
        # The weighted mean runs over all examples of the step, on all processes: its denominator comes first.
        weight = torch.stack([self.loss.example_weights(batch["labels"]).sum() for batch in accumulated]).sum()
        weight = self.accelerator.gather(weight).sum().clamp(min=torch.finfo(weight.dtype).tiny)
        losses = self._gradients(accumulated, weight)
        for batch in accumulated:
            tokens = self.accelerator.gather(batch["attention_mask"].sum())
            self.state.num_input_tokens_seen += int(tokens.sum())
        self.grad_norm = float(self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.args.max_grad_norm))
        losses_of_all = self.accelerator.gather(losses[None]).mean(dim=0)
        if math.isfinite(self.grad_norm) and bool(losses_of_all.isfinite().all()):
            self.counters.add(float(losses_of_all.sum()))
        else:
            self._skip_or_stop(losses_of_all.tolist())
        self._tell("on_pre_optimizer_step")
        self.optimizer.step()
        self._tell("on_optimizer_step")
        rate = self.optimizer.param_groups[0]["lr"]
        self.counters.last_step = {"grad_norm": self.grad_norm, "learning_rate": rate}
        if self.args.lr_scheduler_type not in PLATEAU:
            self.scheduler.step()
        self.wrapped.zero_grad()

    def _gradients(self, accumulated: list[Batch], weight: torch.Tensor) -> torch.Tensor:
        """Forward and backward over the batches of a step, in as many parts as memory asks for.

        Returns:
            The shares ``(batches,)`` that the batches have in the step's loss.
        """
        while True:
            try:
                return self._gradients_in_parts(accumulated, weight)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                rows = max(rows_of(batch) for batch in accumulated)
                self.counters.parts = next_parts(self.counters.parts, rows, self.args.world_size, error)
            # The pass that broke off has left a part of its gradients behind.
            self.wrapped.zero_grad()
            free_memory()

    def _gradients_in_parts(self, accumulated: list[Batch], weight: torch.Tensor) -> torch.Tensor:
        losses = []
        for number, batch in enumerate(accumulated, start=1):
            parts = cut(batch, self.counters.parts)
            shares = []
            for part_number, part in enumerate(parts, start=1):
                # Gradients are exchanged once per step, with the last batch.
                last = number == len(accumulated) and part_number == len(parts)
                with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                    loss = self._batch_loss(part, weight, len(accumulated) * len(parts))
                    self.accelerator.backward(loss)
                shares.append(loss.detach())
            losses.append(torch.stack(shares).sum())
        return torch.stack(losses)

    def _skip_or_stop(self, losses: list[float]) -> None:
        """The loss or the gradient of a step is no number; see `refuse_nonfinite`."""
        batches = self.plan.batches_of(self.state.global_step, self.args.gradient_accumulation_steps)
        ids = [[self.train_dataset.name_of(position) for position in batch] for batch in batches]
        rate = self.optimizer.param_groups[0]["lr"]
        facts = StepFacts(self.state.global_step + 1, losses, self.grad_norm, rate, ids)
        self.counters.nonfinite_steps += 1
        folder = Path(self.args.output_dir).parent
        refuse_nonfinite(
            facts, self.counters.nonfinite_steps, self.max_nonfinite_steps, folder, self.args.process_index == 0
        )
        # Optimizers leave parameters without gradient alone; the step counts, and the schedule goes on.
        self.wrapped.zero_grad(set_to_none=True)
        self.grad_norm = 0.0

    def _batch_loss(self, batch: Batch, weight: torch.Tensor, batches: int) -> torch.Tensor:
        """This batch's share of the step's weighted mean; distributed training averages gradients, so times n.

        An auxiliary loss counts once per step, however many batches it has.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        weighted_sum, _ = batch_sum(self.wrapped, inputs, batch["labels"], self.loss, self.rdrop_alpha)
        loss = weighted_sum / weight * self.accelerator.num_processes
        extra = None if self.auxiliary_loss is None else self.auxiliary_loss()
        return loss if extra is None else loss + extra / batches

    def _to_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.args.device) for name, value in batch.items()}

    def _tell(self, event: str) -> None:
        """Let the callbacks know; they may ask for a log, an evaluation, a checkpoint or the end.

        The handler's own methods also take back what was asked for before and is done.
        """
        self.control = getattr(self.handler, event)(self.args, self.state, self.control)

    def _log_evaluate_save(self) -> None:
        """Do what the callbacks asked for."""
        if self.control.should_log and self.state.global_step > self.counters.last_logged_step:
            self._log_training_loss()
        if self.control.should_evaluate:
            self._evaluate()
        if self.control.should_save:
            self._save()
            self._tell("on_save")

    def _log_training_loss(self) -> None:
        """Log the loss since it was last logged, and what the last step was made with."""
        logs = self.counters.close_window(self.state.global_step) | self.counters.last_step
        self._log(logs | {"num_input_tokens_seen": self.state.num_input_tokens_seen})

    def _log(self, logs: dict[str, float]) -> None:
        logs = logs | {"epoch": self.state.epoch}
        self.state.log_history.append(logs | {"step": self.state.global_step})
        self.control = self.handler.on_log(self.args, self.state, self.control, logs)

    def _evaluate(self) -> None:
        """Score validation; remember whether it is the best so far."""
        with nullcontext() if self.average is None else self.average.applied():
            scores = self.compute_metrics(self._prediction(self.eval_dataset))
        metrics = {f"eval_{name}": value for name, value in scores.items()} | self.counters.close_evaluation()
        self._log(metrics)
        self.control = self.handler.on_evaluate(self.args, self.state, self.control, metrics)
        score = metrics[f"eval_{self.args.metric_for_best_model}"]
        if self.args.lr_scheduler_type in PLATEAU:
            self.scheduler.step(score)
        # As in Trainer: a score that is no number is never the best.
        best = -math.inf if self.args.greater_is_better else math.inf
        best = best if self.state.best_metric is None else self.state.best_metric
        if score > best if self.args.greater_is_better else score < best:
            self.state.best_metric, self.state.best_global_step = score, self.state.global_step

    def outputs(self, texts: Dataset) -> np.ndarray:
        """Logits of a split, or what is kept of them, in its reading order; every process takes part."""
        return self._prediction(texts).predictions

    @torch.no_grad()
    def _prediction(self, texts: Dataset) -> EvalPrediction:
        """Logits (or what is kept of them) and labels of a split."""
        loader = self.accelerator.prepare_data_loader(
            DataLoader(texts, batch_size=self.args.per_device_eval_batch_size, collate_fn=self.collate)
        )
        self.wrapped.eval()
        kept, labels = EvalLoopContainer(), EvalLoopContainer()
        disable = bool(self.args.disable_tqdm) or not self.accelerator.is_main_process
        for batch in progress_bar(loader, desc="evaluation", unit="batches", disable=disable):
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            logits = in_parts(lambda part: self.wrapped(**part).logits, inputs)
            if self.keep_of_logits is not None:
                logits = self.keep_of_logits(logits, batch["labels"])
            # Rows of several lengths (tagging) are padded before processes exchange them.
            padded = self.accelerator.pad_across_processes((logits, batch["labels"]), dim=1, pad_index=-100)
            for store, rows in zip((kept, labels), self.accelerator.gather_for_metrics(padded), strict=True):
                store.add(rows)
                store.to_cpu_and_numpy()
        return EvalPrediction(kept.get_arrays(), labels.get_arrays())

    def _save(self) -> None:
        """Write a checkpoint of the trained weights and of everything needed to go on from it."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder)
        process = self.args.process_index
        keep_callbacks(self.state, [*self.handler.callbacks, self.control])
        with writing(folder):
            if self.state.is_world_process_zero:
                save_trained_weights(self.model, folder)
                if self.average is not None:
                    self.average.save(folder)
            self.counters.save(folder, process)
            save_progress(folder, self.optimizer, self.scheduler, self.state, process)

    def _resume(self, folder: Path) -> None:
        """Continue from a checkpoint: weights, optimizer, schedule, counters and random numbers."""
        load_trained_weights(self.model, folder)
        stored = load_progress(folder, self.optimizer, self.scheduler, self.args.process_index)
        if stored.best_global_step:
            # Wherever the run folder lies now.
            stored.best_model_checkpoint = str(folder.with_name(f"checkpoint-{stored.best_global_step}"))
        stored.max_steps, stored.num_train_epochs = self.state.max_steps, self.state.num_train_epochs
        stored.is_world_process_zero = self.state.is_world_process_zero
        self.state = stored
        restore_callbacks(stored, self.handler.callbacks)
        self.counters = Counters.load(folder, self.args.process_index)
