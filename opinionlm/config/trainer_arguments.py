"""Every field of `transformers.TrainingArguments`: honoured, fixed by these scripts, or refused.

The names are written out, so that a mistake is answered without importing transformers; a test compares them with the
installed class, and fails on a field that is in no list. `opinionlm.config.trainer_checks`
has the rules across fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from opinionlm.config.bounds import LARGEST_SEED, Bounds
from opinionlm.errors import UserError
from opinionlm.utils.typed_values import CommandLineText, as_yaml, convert, read_scalar

TRAINER, BOTH = ("trainer",), ("trainer", "loop")


@dataclass(frozen=True)
class Honoured:
    """A field that a run sets beside our own options.

    Attributes:
        type: of its value.
        engines: that read it; train_instruct.py and pretraining have the engine ``trainer``.
        help: what it does.
        bounds: what a number may be.
    """

    type: Any
    engines: tuple[str, ...]
    help: str
    bounds: Bounds = Bounds()


@dataclass(frozen=True)
class Decided:
    """A field that a run cannot set.

    Attributes:
        value: what every run uses; stating the same is no mistake.
        reason: why, and what to use instead.
    """

    value: Any
    reason: str


# Options of ours that feed the field of the same name (`opinionlm.config.options`), the choice of the
# checkpoint among them.
OWN_FIELDS = frozenset(
    {
        *("output_dir", "run_name", "learning_rate", "weight_decay", "num_train_epochs", "max_steps"),
        *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
        *("lr_scheduler_type", "warmup_steps", "max_grad_norm", "optim", "bf16", "seed", "eval_strategy"),
        *("eval_steps", "logging_steps", "save_total_limit", "activation_checkpointing", "dataloader_num_workers"),
        *("use_cpu", "resume_from_checkpoint", "report_to", "metric_for_best_model", "greater_is_better"),
        "push_to_hub",
    }
)

HONOURED = {
    "lr_scheduler_kwargs": Honoured(
        dict | None, BOTH, "arguments of the schedule, as in {num_cycles: 2}; the table below has them"
    ),
    "optim_args": Honoured(
        str | None, BOTH, "arguments of the optimizer, as in momentum=0.9; the table below has them"
    ),
    "adam_beta1": Honoured(
        float, BOTH, "AdamW, AdEMAMix and Lion: decay of the mean of the gradients", Bounds(at_least=0, below=1)
    ),
    "adam_beta2": Honoured(
        float, BOTH, "AdamW, AdEMAMix and Lion: decay of the mean of their squares", Bounds(at_least=0, below=1)
    ),
    "adam_epsilon": Honoured(
        float, BOTH, "AdamW and AdEMAMix: added to the root of the mean of the squares", Bounds(above=0, below=1)
    ),
    "data_seed": Honoured(
        int | None,
        BOTH,
        "seed of the order of the batches alone; by default that of seed",
        Bounds(at_least=0, at_most=LARGEST_SEED),
    ),
    "full_determinism": Honoured(bool, BOTH, "deterministic kernels only; slower, and some kernels have none"),
    "logging_strategy": Honoured(
        Literal["steps", "epoch", "no"],
        BOTH,
        "when training losses are logged; their mean between evaluations always is",
    ),
    "logging_first_step": Honoured(bool, BOTH, "log the first step too"),
    "disable_tqdm": Honoured(bool | None, BOTH, "no progress bar, on a terminal either"),
    "tf32": Honoured(bool | None, BOTH, "TF32 matrix products; needs an NVIDIA GPU since Ampere"),
    "ddp_timeout": Honoured(
        int, BOTH, "seconds until a process gives up on the others; needs GPUs", Bounds(at_least=1)
    ),
    "neftune_noise_alpha": Honoured(
        float | None, TRAINER, "noise on the embeddings in training (Jain et al. 2023), e.g. 5", Bounds(above=0)
    ),
    "torch_compile": Honoured(bool, TRAINER, "compile the model for training"),
    "torch_compile_backend": Honoured(str | None, TRAINER, "backend of torch_compile; by default inductor"),
    "torch_compile_mode": Honoured(str | None, TRAINER, "mode of torch_compile"),
    "torch_empty_cache_steps": Honoured(
        int | None, TRAINER, "give unused GPU memory back after every so many steps", Bounds(at_least=1)
    ),
}

FIXED = {
    "save_strategy": Decided(
        None, "a checkpoint is saved at every evaluation, or the best one could be missing; set eval_strategy"
    ),
    "save_steps": Decided(
        None, "a checkpoint is saved at every evaluation, or the best could be missing; set eval_steps"
    ),
    "load_best_model_at_end": Decided(True, "best/ is the checkpoint with the best validation score"),
    "restore_callback_states_from_checkpoint": Decided(True, "a continued run goes on exactly where it stopped"),
    "ignore_data_skip": Decided(False, "a continued run goes on exactly where it stopped"),
    "save_only_model": Decided(False, "checkpoints hold what trains, and all that is needed to go on from them"),
    "save_on_each_node": Decided(False, "every node reads the same output_dir"),
    "enable_jit_checkpoint": Decided(False, "on SIGTERM and Ctrl-C a checkpoint is saved anyway"),
    "remove_unused_columns": Decided(False, "the model gets what it reads and nothing else"),
    "label_names": Decided(["labels"], "targets are always called labels"),
    "include_num_input_tokens_seen": Decided("non_padding", "tokens_per_second counts tokens that are no padding"),
    "average_tokens_across_devices": Decided(True, "the loss is the exact mean over the whole step, over all devices"),
    "ddp_find_unused_parameters": Decided(False, "every trained parameter is used in every step"),
    "prediction_loss_only": Decided(False, "checkpoints are chosen by scores of the predictions"),
    "eval_do_concat_batches": Decided(True, "scores are computed over the whole split"),
    "eval_use_gather_object": Decided(False, "predictions are gathered as tensors"),
    "eval_accumulation_steps": Decided(None, "of a batch only what is scored is kept; set per_device_eval_batch_size"),
    "include_for_metrics": Decided([], "scores are computed from predictions and labels"),
    "batch_eval_metrics": Decided(False, "F1 over a split is no mean over its batches"),
    "length_column_name": Decided("length", "lengths are those of the token ids"),
    "dataloader_pin_memory": Decided(None, "memory is pinned where there is a GPU"),
    "dataloader_persistent_workers": Decided(None, "the processes of dataloader_num_workers live as long as training"),
    "dataloader_in_order": Decided(True, "batches come in the order of the seed; set data_seed"),
    "skip_memory_metrics": Decided(True, "metrics.json has peak_memory_mb anyway"),
    "log_on_each_node": Decided(None, "the main process alone reports"),
    "logging_nan_inf_filter": Decided(
        True, "steps whose loss is no number are counted and stop training; set max_nonfinite_steps"
    ),
    "use_cache": Decided(False, "keys and values are of no use in training"),
    "do_train": Decided(True, "train_classifier.py and train_instruct.py train; predict.py labels new texts"),
    "do_eval": Decided(True, "validation chooses the checkpoint"),
    "do_predict": Decided(True, "the test split is read once, at the end"),
}

HUB = "push_to_hub: user/model alone says where best/ goes, and HF_TOKEN who sends it; see `opinionlm push`"
BATCHES = "batches are planned so that every text counts once in an exact loss"
LAUNCHED = "shards are set up by `accelerate launch --quiet --config_file configs/accelerate/"
TRACKED = "set wandb_project, and report_to: wandb or tensorboard"
HALF = "would round the weights of best/ to half precision; use bf16: true, or dtype: bfloat16"
QUIET = "the libraries' own messages are left out, and what matters of them is an error of ours; leave it out"
REFUSED = {
    "fp16": Decided(
        False, "overflows in Gemma 3 (transformers #39972), and its loss scaling skips steps; use bf16: true"
    ),
    "bf16_full_eval": Decided(False, HALF),
    "fp16_full_eval": Decided(False, HALF),
    "activation_checkpointing_kwargs": Decided(
        None, "reentrant checkpoints lose gradients below frozen blocks; use activation_checkpointing: true alone"
    ),
    "gradient_checkpointing": Decided(False, "is the old name of activation_checkpointing; use that"),
    "gradient_checkpointing_kwargs": Decided(
        None, "is an old name, and so is its successor; use activation_checkpointing"
    ),
    "use_liger_kernel": Decided(
        False, "Liger's kernels replace losses and layers of other models; use torch_compile: true"
    ),
    "liger_kernel_config": Decided(None, "Liger's kernels are not used; use torch_compile: true"),
    "label_smoothing_factor": Decided(0.0, "is not read by the exact losses of these scripts; use label_smoothing"),
    "optim_target_modules": Decided(None, "is for GaLore and APOLLO, which are not used here; use adaptation: lora"),
    "auto_find_batch_size": Decided(False, "a batch that does not fit is cut by itself, with the same result"),
    "dataloader_drop_last": Decided(False, f"{BATCHES}; leave it out"),
    "dataloader_prefetch_factor": Decided(None, f"{BATCHES}; set dataloader_num_workers"),
    "dataloader_multiprocessing_context": Decided(None, f"{BATCHES}; set dataloader_num_workers"),
    "train_sampling_strategy": Decided("random", f"{BATCHES}; set shuffle, group_by_length or max_tokens_per_batch"),
    "accelerator_config": Decided(None, f"{BATCHES}; set gradient_accumulation_steps and the batch sizes"),
    "parallelism_config": Decided(None, f"{LAUNCHED}fsdp2.yaml`"),
    "fsdp": Decided(None, f"{LAUNCHED}fsdp2.yaml`; set here it can silently be none"),
    "fsdp_config": Decided(None, f"{LAUNCHED}fsdp2.yaml`"),
    "deepspeed": Decided(None, f"{LAUNCHED}deepspeed_zero2.yaml`"),
    "ddp_bucket_cap_mb": Decided(None, "torch's own setting is used; leave it out"),
    "ddp_broadcast_buffers": Decided(None, "torch's own setting is used; leave it out"),
    "ddp_static_graph": Decided(None, "the number of passes of a step may change; leave it out"),
    "ddp_backend": Decided(None, "nccl is used on GPUs and gloo on CPUs; leave it out"),
    "local_rank": Decided(-1, "`torchrun` and `accelerate launch` set it in the environment"),
    "eval_on_start": Decided(False, "an untrained checkpoint is never the best one; leave it out"),
    "eval_delay": Decided(0, "every evaluation may choose the checkpoint; set eval_strategy: steps and eval_steps"),
    "debug": Decided("", "a step whose loss is no number names its texts; see max_nonfinite_steps"),
    "log_level": Decided("passive", QUIET),
    "log_level_replica": Decided("warning", QUIET),
    "project": Decided("huggingface", TRACKED),
    "trackio_space_id": Decided(None, TRACKED),
    "trackio_bucket_id": Decided(None, TRACKED),
    "trackio_static_space_id": Decided(None, TRACKED),
    "hub_token": Decided(None, HUB),
    "hub_private_repo": Decided(None, HUB),
    "hub_model_id": Decided(None, HUB),
    "hub_strategy": Decided("every_save", HUB),
    "hub_always_push": Decided(False, HUB),
    "hub_revision": Decided(None, HUB),
}
TRAINER_FIELDS = OWN_FIELDS | HONOURED.keys() | FIXED.keys() | REFUSED.keys()

# Names of other versions, and names that people try, with what to write today.
OLD_NAMES = {
    "evaluation_strategy": "did you mean 'eval_strategy'?",
    "evaluate_during_training": "did you mean 'eval_strategy'?",
    "warmup_ratio": "did you mean 'warmup_steps'? Below 1 it is a share of all steps",
    "no_cuda": "did you mean 'use_cpu'?",
    "use_mps_device": "a GPU is used where there is one; see use_cpu",
    "overwrite_output_dir": "did you mean 'overwrite'?",
    "save_safetensors": "weights are always saved as safetensors",
    "logging_dir": "logs lie in the run folder; see output_dir and run_name",
    "per_gpu_train_batch_size": "did you mean 'per_device_train_batch_size'?",
    "per_gpu_eval_batch_size": "did you mean 'per_device_eval_batch_size'?",
    "batch_size": "did you mean 'per_device_train_batch_size'?",
    "epochs": "did you mean 'num_train_epochs'?",
    "num_epochs": "did you mean 'num_train_epochs'?",
    "lr": "did you mean 'learning_rate'?",
    "device": "did you mean 'use_cpu'? A GPU is used where there is one",
    "cpu": "did you mean 'use_cpu'?",
    "gpu": "a GPU is used where there is one; see 'use_cpu'",
    "model": "did you mean 'model_name_or_path'?",
    "data": "did you mean 'dataset'?",
    "output": "did you mean 'output_dir'? The run folder is output_dir/run_name",
    "name": "did you mean 'run_name'?",
    "steps": "did you mean 'max_steps'?",
    "warmup": "did you mean 'warmup_steps'? Below 1 it is a share of all steps",
    "scheduler": "did you mean 'lr_scheduler_type'?",
    "optimizer": "did you mean 'optim'?",
    "max_len": "did you mean 'max_length'?",
    "sequence_length": "did you mean 'max_length'?",
    "dropout": "did you mean 'classifier_dropout'?",
    "patience": "did you mean 'early_stopping_patience'?",
    "tracker": "did you mean 'report_to'?",
    "precision": "did you mean 'bf16'? See also dtype",
    "peft": "did you mean 'adaptation'?",
    "quantization": "did you mean 'load_in_4bit'?",
    "resume": "did you mean 'resume_from_checkpoint'?",
    "max_seq_length": "did you mean 'max_length'?",
    "fp16_opt_level": "use bf16",
    "fp16_backend": "use bf16",
    "half_precision_backend": "use bf16",
    "fp16_scale_loss": "use bf16",
    "adafactor": "use optim: adafactor",
    "jit_mode_eval": "use torch_compile",
    "use_ipex": "use torch_compile",
    "torchdynamo": "use torch_compile and torch_compile_backend",
    "past_index": "models here keep no state between batches",
    "mp_parameters": "use `accelerate launch --quiet --config_file configs/accelerate/fsdp2.yaml`",
    "sharded_ddp": "use `accelerate launch --quiet --config_file configs/accelerate/fsdp2.yaml`",
    "fsdp_min_num_params": "use `accelerate launch --quiet --config_file configs/accelerate/fsdp2.yaml`",
    "fsdp_transformer_layer_cls_to_wrap": "use `accelerate launch --config_file configs/accelerate/fsdp2.yaml`",
    "dispatch_batches": BATCHES,
    "split_batches": BATCHES,
    "include_inputs_for_metrics": "scores are computed from predictions and labels",
    "include_tokens_per_second": "metrics.json has tokens_per_second anyway",
    "push_to_hub_model_id": HUB,
    "push_to_hub_organization": HUB,
    "push_to_hub_token": HUB,
    "early_stopping": "did you mean 'early_stopping_patience'?",
    "load_best_model": "best/ is the checkpoint with the best validation score",
}


# Equal to what the evaluation says; `opinionlm.config.trainer_checks` compares.
SAVING = {"save_strategy": Literal["epoch", "steps", "no", "best"], "save_steps": float}


def stated_value(name: str, value: Any, place: str) -> dict[str, Any]:
    """What a run keeps of a field that it sets: the typed value of an honoured one, nothing of any other.

    Args:
        name: of the field, one of `TRAINER_FIELDS` that is no option of ours.
        value: from a YAML file, or a `CommandLineText`.
        place: file and option, for errors.

    Raises:
        UserError: a value of a wrong type, or another one than what every run uses.
    """
    if name in HONOURED or name in SAVING:
        if name == "optim_args":
            value = joined_arguments(value)
        kept = convert(value, HONOURED[name].type if name in HONOURED else SAVING[name], place)
        return {} if kept is None else {name: kept}
    decided = FIXED[name] if name in FIXED else REFUSED[name]
    stated = read_scalar(value.text) if isinstance(value, CommandLineText) else value
    if stated is None or is_same(stated, decided.value):
        return {}
    # A token is nobody's business but its owner's.
    shown = "" if name == "hub_token" else f"{stated!r} "
    remedy = "" if ";" in decided.reason else "; leave it out"
    raise UserError(f"{place}: {shown}cannot be set: {decided.reason}{remedy}")


def is_same(stated: Any, decided: Any) -> bool:
    """Whether a value says what is decided; YAML reads the word ``no`` as False, and Python takes False for 0."""
    if isinstance(stated, bool) != isinstance(decided, bool):
        return stated is False and decided == "no"
    return stated == decided


def joined_arguments(value: Any) -> Any:
    """A mapping ``{momentum: 0.9}`` as the text ``momentum=0.9`` that TrainingArguments wants; all else as it is."""
    if not isinstance(value, dict):
        return value
    return ",".join(f"{key}={as_yaml(item)}" for key, item in value.items())
