"""The options of every script, in flat dataclasses, one per subject; `opinionlm.config.config` puts them together.

Names follow Hugging Face where a name exists. Beside an option stands what has to be chosen for it to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from opinionlm.config.conditions import (
    ABSENT,
    CLASSIFIER,
    EVALUATION,
    EVERYWHERE,
    FINE_TUNING,
    GIVEN,
    GRADIENT_STEPS,
    LABELS_OF_TEXTS,
    LANGUAGE_MODEL,
    RUNS,
    TRAINING,
    Script,
    option,
)
from opinionlm.config.method_options import (
    Adaptation,
    AdaptConfig,
    ClassWeights,
    DecisionConfig,
    DecisionKind,
    Loss,
    MethodConfig,
    RobustConfig,
    SetScore,
)

__all__ = [
    "AdaptConfig",
    "Adaptation",
    "ClassWeights",
    "DataConfig",
    "DecisionConfig",
    "DecisionKind",
    "InstructConfig",
    "Loss",
    "MethodConfig",
    "ModelConfig",
    "PretrainConfig",
    "PromptConfig",
    "RobustConfig",
    "SetScore",
    "TrackingConfig",
    "TrainingConfig",
]

# The schedules of transformers that begin with a warm-up.
WITH_WARMUP = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant_with_warmup", "inverse_sqrt"),
    *("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"),
)
FIXED_BATCHES = GRADIENT_STEPS | {"max_tokens_per_batch": ABSENT}


@dataclass
class DataConfig:
    """Which texts, and how they become batches."""

    scripts: ClassVar[tuple[Script, ...]] = RUNS

    task: Literal["auto", "sequence", "token", "similarity"] = option(
        "auto",
        "what is predicted: one label per text, a tag per word, or a score per pair; auto: what the data hold",
        scripts=CLASSIFIER,
    )
    dataset: str = option(
        "configs/datasets/sample.yaml", "dataset YAML, or a folder written by preprocess.py", scripts=EVERYWHERE
    )
    data_dir: str = option("data", "folder that the files of the dataset YAML are relative to", scripts=EVERYWHERE)
    data_source: Literal["auto", "hub", "files"] = option(
        "auto",
        "which of the sources of the dataset YAML is read; auto: its files if they are there, else the hub",
        scripts=EVERYWHERE,
    )
    prepared_dir: str = option("outputs/data", "where raw files are prepared, once per content", scripts=EVERYWHERE)
    train_platforms: list[str] | None = option(
        None,
        "train and choose (validation) on posts of these platforms only, e.g. [reddit, twitter]",
        scripts=(*FINE_TUNING, "prompt", "mining"),
    )
    eval_platforms: list[str] | None = option(
        None, "test on posts of these platforms only, e.g. [youtube]", scripts=EVALUATION
    )
    max_length: int = option(512, "longer texts are truncated to this many tokens", when=LANGUAGE_MODEL)
    label_all_subwords: bool = option(
        False,
        "every piece of a word carries its tag, not only the first",
        when={"task": ("token",)},
        scripts=CLASSIFIER,
    )
    pad_to_max: bool = option(
        False,
        "pad every batch to max_length, as the opinion paper does (slow)",
        when=FIXED_BATCHES,
        scripts=FINE_TUNING,
    )
    shuffle: Literal["every_epoch", "once"] = option(
        "every_epoch", "`once` keeps one order, as the opinion paper", when=GRADIENT_STEPS, scripts=TRAINING
    )
    group_by_length: bool = option(
        False,
        "put texts of similar length into the same batch",
        when=FIXED_BATCHES,
        scripts=TRAINING,
    )
    max_tokens_per_batch: int | None = option(
        None,
        "batches of similar length under this budget of padded tokens, instead of a fixed number of texts",
        when=GRADIENT_STEPS,
    )
    platform_prefix: bool = option(
        False,
        "the model reads the platform's name in front of the text, as in `reddit: …`",
        when=LABELS_OF_TEXTS,
        scripts=CLASSIFIER,
    )
    max_train_samples: int | None = option(
        None,
        "use only so many training texts (drawn with the seed)",
        when=({"shots": GIVEN}, {"script": (*TRAINING, "mining")}),
        scripts=EVERYWHERE,
    )
    max_eval_samples: int | None = option(
        None, "use only so many validation and test texts, the same for every seed", scripts=EVALUATION
    )


# Draws the texts of max_eval_samples; the default of seed, so that runs with it keep the texts they always had.
EVALUATION_SEED = 42


@dataclass
class ModelConfig:
    """Which backbone, how it is loaded, and the head on top."""

    scripts: ClassVar[tuple[Script, ...]] = RUNS

    model_name_or_path: str = option(
        "models/gemma3-mini",
        "local directory, GGUF file or hub name; best/ of a run of train_classifier.py gives its backbone",
        when=LANGUAGE_MODEL,
        scripts=EVERYWHERE,
    )
    tokenizer_name_or_path: str | None = option(
        None, "tokenizer, when it is not in the model's directory", when=LANGUAGE_MODEL, scripts=EVERYWHERE
    )
    model_revision: str = option(
        "main", "branch, tag or commit on the hub", when=LANGUAGE_MODEL | {"model_source": ("hub",)}
    )
    trust_remote_code: bool = option(
        False, "run Python code that a hub repository carries (read it first)", when=LANGUAGE_MODEL
    )
    dtype: Literal["auto", "fastest", "float32", "bfloat16", "float16"] = option(
        "float32",
        "data type of the parameters; fastest: bfloat16 where GPU or processor compute in it, else float32",
        when=LANGUAGE_MODEL,
    )
    attn_implementation: str | None = option(
        None, "eager, sdpa or flash_attention_2; the model's best by default", when=LANGUAGE_MODEL
    )
    load_in_4bit: bool = option(
        False,
        "frozen blocks in 4 bits; trained blocks keep dtype",
        when=LANGUAGE_MODEL | {"method": ("language_model",)},
        scripts=EVALUATION,
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = option(
        "nf4", "4-bit data type", when={"load_in_4bit": (True,)}, scripts=EVALUATION
    )
    bnb_4bit_use_double_quant: bool = option(
        True,
        "quantise the quantisation constants too",
        when={"load_in_4bit": (True,)},
        scripts=EVALUATION,
    )
    random_weights: bool = option(
        False,
        "same architecture without its weights: the baseline for pretraining",
        when=LANGUAGE_MODEL | {"method": ("language_model",)},
        scripts=EVALUATION,
    )
    head_hidden_sizes: list[int] = option(
        [], "hidden layers of the head; [1024, 512] is the opinion paper's", when=GRADIENT_STEPS, scripts=CLASSIFIER
    )
    head_bias: bool = option(
        True,
        "bias of the head's last layer; false as in the decoders' own heads",
        when=GRADIENT_STEPS,
        scripts=CLASSIFIER,
    )
    pooling: Literal["auto", "first", "last", "mean", "pooler"] = option(
        "auto",
        "auto: last token if causal, else mean; pooler: BERT's own dense layer over the first token",
        when=LANGUAGE_MODEL | {"task": ("sequence", "similarity")},
        scripts=CLASSIFIER,
    )
    classifier_dropout: float = option(
        0.1, "dropout before every linear layer of the head", when=GRADIENT_STEPS, scripts=CLASSIFIER
    )


@dataclass
class InstructConfig:
    """How a language model is asked, and how its answers are read (train_instruct.py)."""

    scripts: ClassVar[tuple[Script, ...]] = ("train_instruct", "prompt")

    prompt_template: str = option("configs/prompts/classify.yaml", "how prompts and answers are written")
    decode: Literal["score", "generate"] = option(
        "score",
        "score: the likeliest of the labels; generate: what the model writes, for answers of any kind",
        when={"method": ("language_model",)},
    )
    score_normalisation: Literal["sum", "mean"] = option(
        "sum", "of a label's token log-probabilities; mean does not favour short labels", when={"decode": ("score",)}
    )
    calibration: Literal["none", "contextual", "batch"] = option(
        "none",
        "take out what the model prefers for texts that say nothing, or over all evaluated texts",
        when=({"decode": ("score",)}, {"method": ("entailment",)}),
    )
    max_answer_length: int = option(
        64, "longest answer in tokens; prompts of free answers leave so much room", when={"decode": ("generate",)}
    )
    num_beams: int = option(
        4, "width of the beam search; 1 takes the likeliest token each time", when={"decode": ("generate",)}
    )


@dataclass
class PretrainConfig:
    """Pretraining on the training texts (pretrain.py)."""

    scripts: ClassVar[tuple[Script, ...]] = ("pretrain",)

    mlm_probability: float = option(
        0.15, "share of the tokens that are masked or replaced", when={"objective": ("masked words",)}
    )
    held_out_share: float = option(0.05, "share of the training texts that only measures the perplexity")


@dataclass
class PromptConfig:
    """Labels without training (prompt.py)."""

    scripts: ClassVar[tuple[Script, ...]] = ("prompt",)

    method: Literal["language_model", "entailment"] = option(
        "language_model", "ask a language model, or ask an entailment (NLI) model which hypothesis a text supports"
    )
    shots: int = option(
        0,
        "solved examples in every prompt, drawn from train with the seed, balanced over classes",
        when={"method": ("language_model",)},
    )
    hypothesis_template: str = option(
        "This text is {label}.", "{label} takes the label's words", when={"method": ("entailment",)}
    )


@dataclass
class TrainingConfig:
    """The `transformers.TrainingArguments` that a run sets; docs/trainer_arguments.md says which others may be."""

    scripts: ClassVar[tuple[Script, ...]] = TRAINING

    engine: Literal["trainer", "loop", "sklearn", "tfidf"] = option(
        "trainer",
        "Trainer, our own Accelerate loop, logistic regression on frozen features, or on TF-IDF",
        scripts=CLASSIFIER,
    )
    output_dir: str = option("outputs", "the run folder is output_dir/run_name", scripts=RUNS)
    run_name: str = option(
        "", "name of the run; by default the config file's, another --dataset's, and the seed", scripts=RUNS
    )
    learning_rate: float = option(5e-5, "peak learning rate of AdamW", when=GRADIENT_STEPS)
    weight_decay: float = option(0.01, "decoupled weight decay, not on biases and norms", when=GRADIENT_STEPS)
    num_train_epochs: float = option(
        3.0, "passes over the training split", when=GRADIENT_STEPS | {"max_steps": ABSENT}
    )
    max_steps: int = option(-1, "optimizer steps, instead of num_train_epochs when positive", when=GRADIENT_STEPS)
    per_device_train_batch_size: int = option(16, "texts per device and forward pass", when=FIXED_BATCHES)
    per_device_eval_batch_size: int = option(64, "texts per device in evaluation", when=LANGUAGE_MODEL)
    gradient_accumulation_steps: int = option(1, "forward passes per optimizer step", when=GRADIENT_STEPS)
    lr_scheduler_type: str = option("cosine", "cosine, linear, constant, …", when=GRADIENT_STEPS)
    warmup_steps: float = option(
        0.0,
        "steps of linear warm-up; below 1 it is a share of all steps",
        when=GRADIENT_STEPS | {"lr_scheduler_type": WITH_WARMUP},
    )
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", when=GRADIENT_STEPS)
    optim: str = option(
        "adamw_torch_fused", "adamw_torch_fused, adamw_torch, adamw_bnb_8bit, paged_adamw_8bit, …", when=GRADIENT_STEPS
    )
    bf16: bool = option(False, "bfloat16 autocast around float32 parameters", when=LANGUAGE_MODEL)
    seed: int = option(42, "seed of initialisation, data order and dropout", scripts=EVERYWHERE)
    seeds: list[str] | None = option(
        None,
        "train once per seed, e.g. `0..9` or `1 2 3`, and report mean and spread",
        scripts=EVALUATION,
    )
    eval_strategy: Literal["epoch", "steps"] = option(
        "epoch", "when to evaluate and to save a checkpoint", when=GRADIENT_STEPS, scripts=FINE_TUNING
    )
    eval_steps: int | None = option(
        None,
        "optimizer steps between evaluations",
        when={"eval_strategy": ("steps",)},
        scripts=FINE_TUNING,
    )
    metric_for_best_model: str | None = option(
        None,
        "validation score that chooses the checkpoint, e.g. accuracy or loss; by default that of the task",
        when=GRADIENT_STEPS,
        scripts=FINE_TUNING,
    )
    greater_is_better: bool | None = option(
        None,
        "its direction; known by the score's name, so it may be left out",
        when=GRADIENT_STEPS,
        scripts=FINE_TUNING,
    )
    logging_steps: float = option(
        10, "optimizer steps between logged training losses; below 1 a share of all", when=GRADIENT_STEPS
    )
    early_stopping_patience: int | None = option(
        None, "evaluations without a better score before stopping", when=GRADIENT_STEPS, scripts=FINE_TUNING
    )
    save_total_limit: int = option(2, "checkpoints kept, the best always among them", when=GRADIENT_STEPS)
    activation_checkpointing: bool = option(
        False, "recompute activations in the backward pass to save memory", when=GRADIENT_STEPS
    )
    max_nonfinite_steps: int = option(
        0,
        "steps whose loss or gradient is nan or infinite that are skipped; one more stops training",
        when=GRADIENT_STEPS,
        scripts=FINE_TUNING,
    )
    dataloader_num_workers: int = option(0, "processes that prepare batches", when=LANGUAGE_MODEL)
    use_cpu: bool = option(False, "stay on the CPU even where a GPU is", scripts=RUNS)
    resume_from_checkpoint: bool = option(
        True, "continue a run whose folder holds checkpoints but no metrics.json", when=GRADIENT_STEPS
    )
    overwrite: bool = option(False, "delete a finished run of the same name and train again", scripts=RUNS)
    extra: dict[str, Any] = option({}, "other fields of TrainingArguments that are honoured", when=GRADIENT_STEPS)

    def member_name(self, seed: int) -> str:
        """The name of the run of one of several ``seeds``."""
        return f"{self.run_name}-seed{seed}"

    def seed_list(self) -> list[int]:
        """The seeds that ``seeds`` names, ranges written out; ``seed`` alone where it names none.

        Raises:
            ValueError: not a whole number, an empty range, or a seed named twice.
        """
        if self.seeds is None:
            return [self.seed]
        seeds: list[int] = []
        for entry in self.seeds:
            first, dots, last = entry.partition("..")
            seeds += list(range(int(first), int(last) + 1)) if dots else [int(entry)]
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError
        return seeds


@dataclass
class TrackingConfig:
    """Where a run is logged."""

    scripts: ClassVar[tuple[Script, ...]] = EVALUATION

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
