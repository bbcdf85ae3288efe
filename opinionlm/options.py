"""The options of every script, in flat dataclasses, one per subject; `opinionlm.config` puts them together.

Names follow Hugging Face where a name exists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def option(default: Any, help: str) -> Any:
    """A dataclass field with a help text; mutable defaults are copied for every instance."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


Adaptation = Literal[
    "full",
    "layerwise_lr",
    "top_blocks",
    "bottom_frozen",
    "head_only",
    "lisa",
    "bitfit",
    "layernorm",
    "lora",
    "qlora",
    "dora",
    "adalora",
    "ia3",
    "houlsby",
    "pfeiffer",
    "prefix",
    "p_tuning_v2",
    "prompt",
    "p_tuning",
    "adapt",
]

Loss = Literal["cross_entropy", "logit_adjusted", "focal", "ldam", "tree_conditional", "tree_marginal", "tree_soft"]
ClassWeights = Literal["auto", "none", "inverse_frequency", "effective_number"]
DecisionKind = Literal["argmax", "logit_adjusted", "thresholds", "expected_cost"]
SetScore = Literal["lac", "aps"]


@dataclass
class DataConfig:
    """Which texts, and how they become batches."""

    task: Literal["auto", "sequence", "token", "similarity"] = option(
        "auto", "what is predicted: one label per text, a tag per word, or a score per pair; auto: what the data hold"
    )
    dataset: str = option("configs/datasets/sample.yaml", "dataset YAML, or a folder written by preprocess.py")
    data_dir: str = option("data", "folder that the files of the dataset YAML are relative to")
    prepared_dir: str = option("outputs/data", "where raw files are prepared, once per content")
    train_platforms: list[str] | None = option(
        None, "train and choose (validation) on posts of these platforms only, e.g. [reddit, twitter]"
    )
    eval_platforms: list[str] | None = option(None, "test on posts of these platforms only, e.g. [youtube]")
    max_length: int = option(512, "longer texts are truncated to this many tokens")
    label_all_subwords: bool = option(False, "tagging: every piece of a word carries its tag, not only the first")
    pad_to_max: bool = option(False, "pad every batch to max_length, as the opinion paper does (slow)")
    shuffle: Literal["every_epoch", "once"] = option("every_epoch", "`once` keeps one order, as the opinion paper")
    group_by_length: bool = option(False, "put texts of similar length into the same batch")
    max_tokens_per_batch: int | None = option(
        None, "batches of similar length under this budget of padded tokens, instead of a fixed number of texts"
    )
    platform_prefix: bool = option(
        False, "labels of texts: the model reads the platform's name in front of the text, as in `reddit: …`"
    )
    max_train_samples: int | None = option(None, "use only so many training texts (drawn with the seed)")
    max_eval_samples: int | None = option(None, "use only so many validation and test texts, the same for every seed")


# Draws the texts of max_eval_samples; the default of seed, so that runs with it keep the texts they always had.
EVALUATION_SEED = 42


@dataclass
class ModelConfig:
    """Which backbone, how it is loaded, and the head on top."""

    model_name_or_path: str = option(
        "models/gemma3-mini", "local directory or hub name; best/ of a run of train_classifier.py gives its backbone"
    )
    tokenizer_name_or_path: str | None = option(None, "tokenizer, when it is not in the model's directory")
    model_revision: str = option("main", "branch, tag or commit on the hub")
    trust_remote_code: bool = option(False, "run Python code that a hub repository carries (read it first)")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("float32", "data type of the parameters")
    attn_implementation: str | None = option(None, "eager, sdpa or flash_attention_2; the model's best by default")
    load_in_4bit: bool = option(False, "frozen blocks in 4 bits; trained blocks keep dtype")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = option("nf4", "4-bit data type")
    bnb_4bit_use_double_quant: bool = option(True, "quantise the quantisation constants too")
    random_weights: bool = option(False, "same architecture without its weights: the baseline for pretraining")
    head_hidden_sizes: list[int] = option([], "hidden layers of the head; [1024, 512] is the opinion paper's")
    head_bias: bool = option(True, "bias of the head's last layer; false as in the decoders' own heads")
    pooling: Literal["auto", "first", "last", "mean", "pooler"] = option(
        "auto", "auto: last token if causal, else mean; pooler: BERT's own dense layer over the first token"
    )
    classifier_dropout: float = option(0.1, "dropout before every linear layer of the head")


@dataclass
class MethodConfig:
    """What trains, and against which loss."""

    adaptation: Adaptation = option("full", "which parameters train, or are added; see docs/methods.md")
    trainable_blocks: int = option(1, "top_blocks: number of top blocks that train")
    frozen_blocks: int = option(1, "bottom_frozen: number of lowest blocks that stay as they are, embedding included")
    layerwise_lr_decay: float = option(0.95, "layerwise_lr: learning rate of a block over that of the block above it")
    lisa_blocks: int = option(2, "lisa: blocks that train at a time")
    lisa_interval: int = option(20, "lisa: optimizer steps until other blocks are drawn")
    target_modules: list[str] | None = option(None, "adapted layers by name; by default the family's preset")
    lora_r: int = option(8, "lora, qlora, dora: rank")
    lora_alpha: float = option(16, "lora, qlora, dora, adalora: updates are scaled by alpha / rank")
    lora_dropout: float = option(0.0, "lora, qlora, dora, adalora: dropout before the low-rank update")
    adalora_init_r: int = option(12, "adalora: rank of every update at the start")
    adalora_target_r: int = option(8, "adalora: average rank that the budget ends at")
    adapter_size: int = option(64, "houlsby, pfeiffer: width of the bottleneck")
    num_virtual_tokens: int = option(20, "prefix, p_tuning_v2, prompt, p_tuning: length of the learned prefix")
    prefix_projection: bool = option(False, "prefix: learn the prefix through a two-layer network (Li and Liang)")
    loss: Loss = option("cross_entropy", "what training minimises; see docs/trust.md")
    class_weights: ClassWeights = option(
        "auto",
        "inverse_frequency: 1/count normalised to sum to the number of classes (opinion paper, Algorithm 4); "
        "effective_number: Cui et al. 2019; auto: inverse_frequency for sequence, none for token (where O would count "
        "for next to nothing), similarity, and losses that adjust logits",
    )
    effective_number_beta: float = option(0.999, "class_weights: effective_number: towards 1, inverse frequency")
    label_smoothing: float = option(
        0.0, "cross_entropy: share of the target that is spread over all classes, each with its class weight"
    )
    logit_adjustment_tau: float = option(
        1.0, "logit_adjusted, tree_conditional: log priors are added times this; 1 is the balanced softmax"
    )
    focal_gamma: float = option(2.0, "focal: the larger, the less an easy example counts")
    ldam_margin: float = option(0.5, "ldam: margin of the rarest class, in logits")
    ldam_scale: float = option(
        1.0, "ldam: multiplies logits and margins in the loss; 30 is the paper's, whose logits are cosines"
    )
    ldam_reweight_from: float = option(
        0.8, "ldam: share of training after which class weights count (deferred re-weighting); 1 for never"
    )
    tree_beta: float = option(4.0, "tree_soft: how steeply soft labels fall with the distance in the label tree")
    class_counts: list[int] | None = option(None, "counts in the label tree's order, instead of the training split's")
    cache_frozen: Literal["auto", "on", "off"] = option("auto", "keep what frozen blocks compute, see docs/caching.md")
    cache_dir: str = option("outputs/cache", "where it is kept; runs share it")
    cache_limit_gb: float = option(20.0, "size of the cache; what was used longest ago goes first")


@dataclass
class DecisionConfig:
    """How labels follow from logits; whatever is fitted for it is fitted on validation."""

    decision: DecisionKind = option(
        "argmax",
        "argmax: the likeliest leaf; logit_adjusted: log priors are taken off; thresholds: one offset per leaf; "
        "expected_cost: the leaf with the least expected distance in the label tree",
    )
    label_set_score: SetScore = option(
        "lac",
        "label sets: lac gives the smallest ones (empty: every label is unlikely), aps larger ones for hard texts",
    )
    label_set_coverage: float = option(0.9, "coverage of the label sets that metrics.json reports on")


@dataclass
class RobustConfig:
    """What makes training steadier (docs/trust.md, "Robustness")."""

    ema_decay: float | None = option(
        None,
        "judge and save an exponential moving average of the trained weights with this decay, e.g. 0.999; after step "
        "t it is at most (1 + t) / (10 + t), which only runs of some 9,000 steps bring to 0.999",
    )
    rdrop_alpha: float = option(
        0.0, "R-Drop: read every batch twice, and add this times the divergence of the two predictions; 0 for none"
    )
    augment_rare: float = option(
        0.0, "perturbed copies bring labels below the median count up to this times the median, e.g. 1; 0 for none"
    )
    soft_labels: str | None = option(
        None, "CSV with id and probability_<leaf> of every training text; targets become part label, part these"
    )
    soft_label_share: float = option(0.5, "soft_labels: their share of the target; the label has the rest")
    blend_words: bool = option(
        False, "mix in TF-IDF and logistic regression on the training texts, by the share that validation likes best"
    )


@dataclass
class AdaptConfig:
    """AdaPT: which token sequences of the training texts become tokens of their own, and which sub-layers train."""

    task_tokens: Literal["auto", "on", "off"] = option(
        "auto", "tokens for sequences of the training texts; auto: with adaptation: adapt; on: with any other too"
    )
    sequence_min_length: int = option(3, "tokens of the shortest sequence; the paper's tables also show 1 and 2")
    sequence_max_length: int = option(20, "tokens of the longest sequence")
    sequence_min_frequency: int = option(5, "training texts that a sequence occurs in at least")
    sequence_max_gap: int | None = option(3, "most tokens skipped between neighbours; 0: contiguous, null: any number")
    sequence_memory_mb: int = option(1024, "the search for sequences is refused when its tables outgrow this")
    sequence_smoothing: float = option(1.0, "weight of a token's own frequency in its probability after another")
    sequence_perplexity: Literal["plain", "unigram_normalised"] = option(
        "plain", "perplexity of a sequence as the paper computes it, or divided by that of its single tokens"
    )
    sequence_keep: Literal["cohesive", "as_printed"] = option(
        "cohesive", "keep the lowest perplexities, as the paper's case study shows, or the highest, as it prints"
    )
    sequence_perplexity_cutoff: float | None = option(None, "highest (as_printed: lowest) perplexity that is kept")
    sequence_top_k: int | None = option(None, "most sequences kept")
    sequence_vocabulary_share: float = option(0.1, "and never more than this share of the tokenizer's vocabulary")
    sensitivity_budget: float = option(0.2, "adapt: share of the backbone's parameters that sub-layers may train")
    sensitivity_beta: float = option(1.0, "adapt: weight of the gradient norm beside the index of dispersion")
    sensitivity_standardise: bool = option(True, "adapt: both measures get mean 0 and variance 1 before the sum")
    sensitivity_samples: int | None = option(
        512, "adapt: training texts that sensitivity is measured on, drawn with the seed; null: all"
    )
    sensitivity_warmup_steps: int = option(100, "adapt: steps of the head alone before sensitivity is measured")
    sensitivity_warmup_learning_rate: float = option(1e-3, "adapt: learning rate of these steps")


@dataclass
class InstructConfig:
    """How a language model is asked, and how its answers are read (train_instruct.py)."""

    prompt_template: str = option("configs/prompts/classify.yaml", "how prompts and answers are written")
    decode: Literal["score", "generate"] = option(
        "score", "score: the likeliest of the labels; generate: what the model writes, for answers of any kind"
    )
    score_normalisation: Literal["sum", "mean"] = option(
        "sum", "of a label's token log-probabilities; mean does not favour short labels"
    )
    calibration: Literal["none", "contextual", "batch"] = option(
        "none", "score: take out what the model prefers for texts that say nothing, or over all evaluated texts"
    )
    max_answer_length: int = option(64, "longest answer in tokens; prompts of free answers leave so much room")
    num_beams: int = option(4, "generate: width of the beam search; 1 takes the likeliest token each time")


@dataclass
class PretrainConfig:
    """Pretraining on the training texts (opinionlm/experiments/pretrain_domain.py)."""

    mlm_probability: float = option(0.15, "encoders: share of the tokens that are masked or replaced")
    held_out_share: float = option(0.05, "share of the training texts that only measures the perplexity")


@dataclass
class PromptConfig:
    """Labels without training (prompt.py)."""

    method: Literal["language_model", "entailment"] = option(
        "language_model", "ask a language model, or ask an entailment (NLI) model which hypothesis a text supports"
    )
    shots: int = option(0, "solved examples in every prompt, drawn from train with the seed, balanced over classes")
    hypothesis_template: str = option("This text is {label}.", "entailment: {label} takes the label's words")


@dataclass
class TrainingConfig:
    """The `transformers.TrainingArguments` that a run sets; docs/trainer_arguments.md says which others may be."""

    engine: Literal["trainer", "loop", "sklearn", "tfidf"] = option(
        "trainer", "Trainer, our own Accelerate loop, logistic regression on frozen features, or on TF-IDF"
    )
    output_dir: str = option("outputs", "the run folder is output_dir/run_name")
    run_name: str = option("", "name of the run; by default the config file's, another --dataset's, and the seed")
    learning_rate: float = option(5e-5, "peak learning rate of AdamW")
    weight_decay: float = option(0.01, "decoupled weight decay, not on biases and norms")
    num_train_epochs: float = option(3.0, "passes over the training split")
    max_steps: int = option(-1, "optimizer steps, overriding num_train_epochs when positive")
    per_device_train_batch_size: int = option(16, "texts per device and forward pass")
    per_device_eval_batch_size: int = option(64, "texts per device in evaluation")
    gradient_accumulation_steps: int = option(1, "forward passes per optimizer step")
    lr_scheduler_type: str = option("cosine", "cosine, linear, constant, …")
    warmup_steps: float = option(0.0, "steps of linear warm-up; below 1 it is a share of all steps")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm")
    optim: str = option("adamw_torch_fused", "adamw_torch_fused, adamw_torch, adamw_bnb_8bit, paged_adamw_8bit, …")
    bf16: bool = option(False, "bfloat16 autocast around float32 parameters")
    seed: int = option(42, "seed of initialisation, data order and dropout")
    seeds: list[str] | None = option(None, "train once per seed, e.g. `0..9` or `1 2 3`, and report mean and spread")
    eval_strategy: Literal["epoch", "steps"] = option("epoch", "when to evaluate and to save a checkpoint")
    eval_steps: int | None = option(None, "optimizer steps between evaluations under eval_strategy: steps")
    metric_for_best_model: str | None = option(
        None, "validation score that chooses the checkpoint, e.g. accuracy or loss; by default that of the task"
    )
    greater_is_better: bool | None = option(None, "its direction; known by the score's name, so it may be left out")
    logging_steps: float = option(10, "optimizer steps between logged training losses; below 1 a share of all")
    early_stopping_patience: int | None = option(None, "evaluations without a better score before stopping")
    save_total_limit: int = option(2, "checkpoints kept, the best always among them")
    activation_checkpointing: bool = option(False, "recompute activations in the backward pass to save memory")
    max_nonfinite_steps: int = option(
        0, "steps whose loss or gradient is nan or infinite that are skipped; one more stops training"
    )
    dataloader_num_workers: int = option(0, "processes that prepare batches")
    use_cpu: bool = option(False, "stay on the CPU even where a GPU is")
    resume_from_checkpoint: bool = option(True, "continue a run whose folder holds checkpoints but no metrics.json")
    overwrite: bool = option(False, "delete a finished run of the same name and train again")
    extra: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "other fields of TrainingArguments that are honoured"}
    )

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

    report_to: list[Literal["wandb", "tensorboard", "none"]] = option(
        ["wandb"], "wandb, tensorboard, both, or none; W&B needs no account: it then runs offline"
    )
    wandb_project: str = option("opinionlm", "W&B project")
    wandb_group: str | None = option(None, "runs of one comparison share a group")
    wandb_tags: list[str] = option([], "tags to find runs by")
    wandb_artifacts: Literal["references", "files", "none"] = option(
        "references", "W&B versions of prepared data and best model: where they lie with checksums, or uploaded whole"
    )
