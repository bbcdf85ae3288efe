"""How a run is optimised, evaluated and logged: options in flat dataclasses, one per subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from opinionlm.config.bounds import LARGEST_SEED
from opinionlm.config.conditions import ABSENT, FIXED_BATCHES, GRADIENT_STEPS, LANGUAGE_MODEL, option
from opinionlm.config.optimization import WITH_WARMUP


@dataclass
class EngineConfig:
    """What runs the training."""

    engine: Literal["trainer", "loop", "sklearn", "tfidf"] = option(
        "trainer", "Trainer, our own Accelerate loop, logistic regression on frozen features, or on TF-IDF"
    )


@dataclass
class RunConfig:
    """The run, its folder and its device."""

    output_dir: str = option("outputs", "the run folder is output_dir/run_name")
    run_name: str = option("", "name of the run; by default the config file's, another --dataset's, and the seed")
    use_cpu: bool = option(False, "stay on the CPU even where a GPU is")
    overwrite: bool = option(False, "delete a finished run of the same name and train again")


@dataclass
class SeedConfig:
    """What is drawn at random."""

    seed: int = option(
        42,
        "seed of initialisation, data order and dropout",
        when={"seeds": ABSENT},
        at_least=0,
        at_most=LARGEST_SEED,
    )


@dataclass
class SeedsConfig:
    """Several executions of one run."""

    seeds: list[str] | None = option(None, "train once per seed, e.g. `0..9` or `1 2 3`, and report mean and spread")


@dataclass
class TuneConfig:
    """Options chosen by trials."""

    tune: dict | None = option(
        None, "choose options on validation before training, as in {trials: 12, space: auto}; see docs/tables.md"
    )


@dataclass
class OptimizationConfig:
    """The optimizer's steps; docs/trainer_arguments.md says which other fields of TrainingArguments may be set."""

    learning_rate: float = option(5e-5, "peak learning rate of AdamW", when=GRADIENT_STEPS, above=0)
    weight_decay: float = option(
        0.01, "decoupled weight decay, not on biases and norms", when=GRADIENT_STEPS, at_least=0
    )
    num_train_epochs: float = option(
        3.0, "passes over the training split", when=GRADIENT_STEPS | {"max_steps": ABSENT}, above=0
    )
    max_steps: int = option(-1, "optimizer steps, instead of num_train_epochs when positive", when=GRADIENT_STEPS)
    lr_scheduler_type: str = option("cosine", "cosine, linear, constant, …", when=GRADIENT_STEPS)
    warmup_steps: float = option(
        0.0,
        "steps of linear warm-up; below 1 it is a share of all steps",
        when=GRADIENT_STEPS | {"lr_scheduler_type": WITH_WARMUP},
        at_least=0,
    )
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", when=GRADIENT_STEPS, above=0)
    optim: str = option(
        "adamw_torch_fused", "adamw_torch_fused, adamw_torch, adamw_bnb_8bit, paged_adamw_8bit, …", when=GRADIENT_STEPS
    )
    bf16: Literal[True, False, "auto"] = option(
        False,
        "bfloat16 autocast around float32 parameters; auto: where GPU or processor compute in it",
        when=LANGUAGE_MODEL,
    )
    activation_checkpointing: bool = option(
        False, "recompute activations in the backward pass to save memory", when=GRADIENT_STEPS
    )
    # Other fields of TrainingArguments that are honoured; each is stated by its own name.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class BatchConfig:
    """How many texts at a time."""

    per_device_train_batch_size: int = option(16, "texts per device and forward pass", when=FIXED_BATCHES, at_least=1)
    per_device_eval_batch_size: int = option(64, "texts per device in evaluation", when=LANGUAGE_MODEL, at_least=1)
    gradient_accumulation_steps: int = option(1, "forward passes per optimizer step", when=GRADIENT_STEPS, at_least=1)
    dataloader_num_workers: int = option(0, "processes that prepare batches", when=LANGUAGE_MODEL, at_least=0)


@dataclass
class CheckpointConfig:
    """What is logged and kept on the way."""

    logging_steps: float = option(
        10, "optimizer steps between logged training losses; below 1 a share of all", when=GRADIENT_STEPS, above=0
    )
    save_total_limit: int = option(2, "checkpoints kept, the best always among them", when=GRADIENT_STEPS, at_least=1)
    resume_from_checkpoint: bool = option(
        True, "continue a run whose folder holds checkpoints but no metrics.json", when=GRADIENT_STEPS
    )


@dataclass
class EvaluationConfig:
    """When validation is evaluated, and which checkpoint it chooses."""

    eval_strategy: Literal["epoch", "steps"] = option(
        "epoch", "when to evaluate and to save a checkpoint", when=GRADIENT_STEPS
    )
    eval_steps: int | None = option(
        None, "optimizer steps between evaluations", when={"eval_strategy": ("steps",)}, at_least=1
    )
    metric_for_best_model: str | None = option(
        None,
        "validation score that chooses the checkpoint, e.g. accuracy or loss; by default that of the task",
        when=GRADIENT_STEPS,
    )
    greater_is_better: bool | None = option(
        None, "its direction; known by the score's name, so it may be left out", when=GRADIENT_STEPS
    )
    early_stopping_patience: int | None = option(
        None, "evaluations without a better score before stopping", when=GRADIENT_STEPS, at_least=1
    )
    max_nonfinite_steps: int = option(
        0,
        "steps whose loss or gradient is nan or infinite that are skipped; one more stops training",
        when=GRADIENT_STEPS,
        at_least=0,
    )


@dataclass
class HubConfig:
    """Where the trained model goes."""

    push_to_hub: str | None = option(
        None,
        "upload best/ to this new, private repository of the Hugging Face hub, as in user/model, when the run is "
        "finished",
        when=LANGUAGE_MODEL,
    )


@dataclass
class TrainingConfig(
    EngineConfig,
    RunConfig,
    SeedConfig,
    SeedsConfig,
    TuneConfig,
    OptimizationConfig,
    BatchConfig,
    CheckpointConfig,
    EvaluationConfig,
    HubConfig,
):
    """A run and its training, mostly fields of `transformers.TrainingArguments`."""

    @property
    def run_folder(self) -> Path:
        """The folder that this run writes."""
        return Path(self.output_dir) / self.run_name

    def member_name(self, seed: int) -> str:
        """The name of the run of one of several ``seeds``."""
        return f"{self.run_name}-seed{seed}"

    def seed_list(self) -> list[int]:
        """The seeds that ``seeds`` names, ranges written out; ``seed`` alone where it names none.

        Raises:
            ValueError: not a whole number, an empty range, a seed named twice, or one that is none (`LARGEST_SEED`).
        """
        if self.seeds is None:
            return [self.seed]
        seeds: list[int] = []
        for entry in self.seeds:
            first, dots, last = entry.partition("..")
            begin, end = int(first), int(last if dots else first)
            # A range is looked at before it is written out, which may take more than there is memory.
            if not 0 <= begin <= end <= LARGEST_SEED:
                raise ValueError
            seeds += range(begin, end + 1)
        if len(set(seeds)) < len(seeds) or not seeds:
            raise ValueError
        return seeds


@dataclass
class TrackingConfig:
    """Where a run is logged."""

    report_to: list[Literal["wandb", "tensorboard", "none"]] = option(
        ["wandb"], "wandb, tensorboard, both, or none; W&B needs no account: it then runs offline"
    )
    wandb_project: str = option("opinionlm", "W&B project", when={"report_to": ("wandb",)})
    wandb_group: str | None = option(None, "runs of one comparison share a group, at W&B and in group_report")
    wandb_tags: list[str] = option([], "tags to find runs by", when={"report_to": ("wandb",)})
    wandb_artifacts: Literal["references", "files", "none"] = option(
        "references",
        "W&B versions of prepared data and best model: where they lie with checksums, or uploaded whole",
        when={"report_to": ("wandb",)},
    )
