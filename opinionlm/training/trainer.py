"""A `transformers.Trainer` with an exact weighted loss and checkpoints that hold only what trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, ProgressCallback, Trainer

from opinionlm.errors import UserError
from opinionlm.training.averaging import WeightAverage
from opinionlm.training.batching import BatchPlan, EpochDataLoader
from opinionlm.training.checkpoints import load_best_weights, load_trained_weights, save_trained_weights
from opinionlm.training.losses import ExampleLoss
from opinionlm.training.rdrop import batch_sum


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
        rdrop_alpha: weight of R-Drop's term, see `opinionlm.training.rdrop.batch_sum`; 0 for none.
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
        **trainer_arguments: Any,
    ) -> None:
        super().__init__(**trainer_arguments)
        self.loss = loss
        self.plan = plan
        self.parameter_groups, self.auxiliary_loss = parameter_groups, auxiliary_loss
        self.batches_of_step = 1
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

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that ``optim`` names, over the given parameter groups if there are any."""
        if self.optimizer is None and self.parameter_groups is not None:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(self.parameter_groups, **settings)
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

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor | None]:
        """Fetch the batches of one optimizer step and the sum of their example weights over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        self.batches_of_step = len(batches)
        weight = torch.stack([self.batch_weight(batch) for batch in batches]).sum().to(device)
        if self.args.world_size > 1:
            weight = self.accelerator.gather(weight).sum()
        # A step of fillers alone has weight zero and, divided by anything positive, loss zero.
        return batches, weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def batch_weight(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the weights of a batch's items, a float32 scalar: its share of the step's weighted mean.

        Args:
            batch: as the collator made it, with ``labels``.
        """
        return self.loss.example_weights(batch["labels"]).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """This batch's share of the step's weighted mean.

        Args:
            model: the classifier, possibly wrapped for distribution.
            inputs: a batch with ``labels``.
            return_outputs: also return the model's outputs.
            num_items_in_batch: sum of the example weights of the whole step, from `get_batch_samples`.
        """
        normaliser = self.batch_weight(inputs) if num_items_in_batch is None else num_items_in_batch
        labels = inputs.pop("labels")
        alpha = self.rdrop_alpha if model.training else 0.0
        weighted_sum, outputs = batch_sum(model, inputs, labels, self.loss, alpha)
        # Distributed training averages the gradients over the processes; the share is one of a sum.
        processes = 1 if num_items_in_batch is None else self.args.world_size
        loss = weighted_sum / normaliser * processes
        extra = None if self.auxiliary_loss is None else self.auxiliary_loss()
        if extra is not None:
            # Once per step, whatever the accumulation.
            loss = loss + extra / self.batches_of_step
        return (loss, outputs) if return_outputs else loss

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
            logits = model(**inputs).logits
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

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write the trained weights only: a checkpoint of a 1B model with one trained block is 57 MB, not 2 GB."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            save_trained_weights(self.model, folder)
            if self.average is not None:
                self.average.save(folder)

    def _load_best_model(self) -> None:
        """Put the weights of the best checkpoint back, averaged where it was judged by its average."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            load_best_weights(self.model, Path(self.state.best_model_checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Put the weights of a checkpoint back before training goes on."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained_weights(self.model if model is None else model, Path(resume_from_checkpoint))
