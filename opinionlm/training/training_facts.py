"""What training did, for ``metrics.json`` and the model card: steps, epochs and batches as they happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerState
from transformers.trainer_utils import TrainOutput

from opinionlm.config.config import Config
from opinionlm.config.options import MANY_LABELS
from opinionlm.config.training_options import BatchConfig, TrainingConfig
from opinionlm.training.batching import BatchPlan
from opinionlm.training.ema import decay_at


def training_facts(
    training: TrainingConfig, ema_decay: float | None, state: TrainerState, plan: BatchPlan, output: TrainOutput
) -> dict[str, Any]:
    """The section ``train`` of ``metrics.json``."""
    if training.engine == "sklearn":
        # A closed fit has neither steps nor epochs nor a running loss.
        return {"steps": 0, "best_step": 0, **output.metrics}
    steps = state.global_step
    texts = plan.texts_read(steps, training.gradient_accumulation_steps)
    facts = {
        "loss": output.training_loss,
        "epochs": state.epoch,
        "steps": steps,
        "best_step": state.best_global_step,
        "processes": plan.processes,
    }
    if steps:
        facts |= {"texts_per_step": texts / steps, "tokens_per_step": state.num_input_tokens_seen / steps}
    if ema_decay is not None:
        facts["ema_decay_reached"] = decay_at(ema_decay, steps)
    return facts


def describe_batches(training: BatchConfig, budget: int | None, facts: Mapping[str, Any]) -> str:
    """What one optimizer step read, in words: what was asked for, and what that came to on average."""
    per_process = f"{training.per_device_train_batch_size} texts"
    if budget is not None:
        per_process = f"texts of at most {budget:,} tokens together, padding included"
    factors = [per_process]
    if training.gradient_accumulation_steps > 1:
        factors.append(f"{training.gradient_accumulation_steps} accumulated")
    if facts["processes"] > 1:
        factors.append(f"{facts['processes']} processes")
    asked = " × ".join(factors)
    if "texts_per_step" not in facts:
        return asked
    return f"{asked}; {facts['texts_per_step']:.1f} texts, {facts['tokens_per_step']:,.0f} tokens on average"


def describe_steps(training: TrainingConfig, facts: Mapping[str, Any]) -> str:
    """Epochs and steps that were made, in words, and why they are not those that the epochs asked for."""
    epochs = facts["epochs"] or 0.0
    made = f"{epochs:.4g} epochs, {facts['steps']:,} steps"
    if training.max_steps > 0:
        stopped = facts["steps"] < training.max_steps
        return f"{made} (stopped early, of at most {training.max_steps:,} steps)" if stopped else made
    # The last step of the last epoch may end a rounding error before it.
    if training.early_stopping_patience is not None and epochs < training.num_train_epochs - 1e-6:
        return f"{made} (stopped early, of at most {training.num_train_epochs:g} epochs)"
    return made


def training_rows(config: Config, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of a model card's table that say how the weights were fitted."""
    training = config.training
    if training.engine == "sklearn":
        return [("fit", f"logistic regression on the frozen features, C {facts['C']:g}")]
    head, many = config.model.head_lr_factor, config.model.many_labels_lr_factor
    factors = [f"head {head:g} times"] * (head != 1) + [f"of {MANY_LABELS} labels or more {many:g} times"] * (
        many != 1
    )
    rate = f"{training.learning_rate:g}" + (f" ({', '.join(factors)})" if factors else "")
    schedule = f"{rate}, {training.lr_scheduler_type}, warm-up {training.warmup_steps:g}"
    rows = [
        ("learning rate, schedule", schedule),
        ("optimizer step", describe_batches(training, config.data.max_tokens_per_batch, facts)),
        ("training", describe_steps(training, facts)),
        ("weight decay, clipping", f"{training.weight_decay:g}, {training.max_grad_norm:g}"),
    ]
    decay = config.robust.ema_decay
    if decay is not None:
        reached = facts["ema_decay_reached"]
        short = "" if reached >= decay else f"; warm-up had reached {reached:.4g} at the last step"
        rows.append(("average of the weights", f"decay {decay:g}{short}"))
    return rows
