"""From a config to `transformers.TrainingArguments`."""

from __future__ import annotations

import os

from transformers import TrainingArguments, enable_full_determinism
from transformers.trainer_utils import SchedulerType

from opinionlm.adaptation.parameter_groups import check_compiler, check_optimizer, check_schedule
from opinionlm.config.chosen_metric import ChosenMetric
from opinionlm.config.trainer_checks import typed_arguments
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError, one_line
from opinionlm.models.precision import wants_autocast

# Options of ours that TrainingArguments has under the same name.
ALIKE = (
    *("run_name", "seed", "learning_rate", "weight_decay", "max_grad_norm", "optim", "lr_scheduler_type"),
    *("warmup_steps", "num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size"),
    *("gradient_accumulation_steps", "activation_checkpointing", "dataloader_num_workers", "logging_steps"),
    *("eval_strategy", "eval_steps", "save_total_limit"),
)


def training_arguments(training: TrainingConfig, source: str) -> TrainingArguments:
    """Build the arguments of the trainer.

    Checkpoints are chosen by a validation score, which depends on the task that the data tell later
    (`choose_by`); the first of equals wins.

    Raises:
        UserError: a value that TrainingArguments refuses, or an optimizer, a schedule or a compiler that cannot do
            what it is asked for on this machine.
    """
    use_cpu = training.use_cpu or not gpu_present()
    bf16 = wants_autocast(training.bf16, use_cpu)
    check_launcher(bf16, source)
    values = {name: getattr(training, name) for name in ALIKE} | {
        "output_dir": str(training.run_folder / "checkpoints"),
        "bf16": bf16,
        "save_strategy": training.eval_strategy,
        "save_steps": training.eval_steps or 500,
        # How long early stopping has waited already, for one.
        "restore_callback_states_from_checkpoint": True,
        "load_best_model_at_end": True,
        "metric_for_best_model": "macro_f1",
        "greater_is_better": True,
        # Pinned memory serves copies to a GPU; without one torch only warns.
        "dataloader_pin_memory": not use_cpu,
        # EncodedTexts hands out what the model takes, nothing else.
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "use_cpu": use_cpu,
        # False is no bar nowhere: ConsoleCallback shows one on terminals.
        "disable_tqdm": False,
        "report_to": "none",
        "include_num_input_tokens_seen": "non_padding",
        # A frozen prefix leaves nothing unused above it, so the costly search for unused parameters stays off.
        "ddp_find_unused_parameters": False,
    }
    try:
        arguments = TrainingArguments(**(values | training.extra | typed_arguments(training)))
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"{source}: TrainingArguments refuses these options: {one_line(error)}") from error
    if "ddp_timeout" in training.extra and arguments.device.type == "cpu":
        raise UserError(f"{source}: ddp_timeout: is for GPUs, and processes on CPUs do not read it; leave it out")
    if arguments.full_determinism:
        enable_full_determinism(arguments.seed)
    if training.engine in ("trainer", "loop"):
        check_optimizer(arguments, source)
        check_schedule(arguments, source)
        check_compiler(arguments, source)
    return arguments


def check_launcher(bf16: bool, source: str) -> None:
    """A precision that `accelerate launch` puts into the environment would quietly replace the run's own.

    Raises:
        UserError: the two differ.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", "bf16" if bf16 else "no"):
        raise UserError(
            f"{source}: bf16: {str(bf16).lower()} is not the mixed_precision: {launched} that "
            f"accelerate was launched with; launch with --mixed_precision no, and set bf16 as you want it"
        )


def choose_by(arguments: TrainingArguments, chosen: ChosenMetric) -> None:
    """Have engines, early stopping and schedules that follow a score go by this one; before an engine is made."""
    arguments.metric_for_best_model, arguments.greater_is_better = chosen.name, chosen.greater_is_better
    if arguments.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU:
        mode = {"mode": "max" if chosen.greater_is_better else "min"}
        arguments.lr_scheduler_kwargs = (arguments.lr_scheduler_kwargs or {}) | mode


def gpu_present() -> bool:
    """Whether a CUDA device (or another accelerator torch knows) can be used."""
    import torch

    return torch.accelerator.is_available()
