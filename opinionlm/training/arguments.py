"""From a config to `transformers.TrainingArguments`."""

from __future__ import annotations

from transformers import TrainingArguments

from opinionlm.config import Config
from opinionlm.errors import UserError


def training_arguments(config: Config) -> TrainingArguments:
    """Build the arguments of the trainer.

    Checkpoints are chosen by a validation score, macro-F1 unless the task, which the data tell later, has another;
    the first of equals wins.

    Raises:
        UserError: a value that TrainingArguments refuses.
    """
    training = config.training
    values = {
        "output_dir": str(config.run_folder / "checkpoints"),
        "run_name": training.run_name,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "num_train_epochs": training.num_train_epochs,
        "max_steps": training.max_steps,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "per_device_eval_batch_size": training.per_device_eval_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "lr_scheduler_type": training.lr_scheduler_type,
        "warmup_steps": training.warmup_steps,
        "max_grad_norm": training.max_grad_norm,
        "optim": training.optim,
        "bf16": training.bf16,
        "seed": training.seed,
        "eval_strategy": training.eval_strategy,
        "eval_steps": training.eval_steps,
        "save_strategy": training.eval_strategy,
        "save_steps": training.eval_steps or 500,
        "save_total_limit": training.save_total_limit,
        # How long early stopping has waited already, for one.
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": training.logging_steps,
        "load_best_model_at_end": True,
        "metric_for_best_model": "macro_f1",
        "greater_is_better": True,
        "activation_checkpointing": training.activation_checkpointing,
        "dataloader_num_workers": training.dataloader_num_workers,
        # Pinned memory serves copies to a GPU; without one torch only warns.
        "dataloader_pin_memory": not training.use_cpu and gpu_present(),
        # EncodedTexts hands out what the model takes, nothing else.
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "use_cpu": training.use_cpu or not gpu_present(),
        "report_to": "none",
        "include_num_input_tokens_seen": "non_padding",
        # A frozen prefix leaves nothing unused above it, so the costly search for unused parameters stays off.
        "ddp_find_unused_parameters": False,
    }
    try:
        return TrainingArguments(**(values | training.extra))
    except (TypeError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{config.source}: TrainingArguments refuses these options: {reason}") from error


def gpu_present() -> bool:
    """Whether a CUDA device (or another accelerator torch knows) can be used."""
    import torch

    return torch.accelerator.is_available()
