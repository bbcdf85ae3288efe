"""The options of a method: what trains, against which loss, how labels are decided, what makes training steadier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opinionlm.config.conditions import ANY_LABELS, GIVEN, GRADIENT_STEPS, LABELS_OF_TEXTS, LANGUAGE_MODEL, option

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

Loss = Literal[
    "cross_entropy", "logit_adjusted", "focal", "ldam", "tree_conditional", "tree_marginal", "tree_soft", "asymmetric"
]
ClassWeights = Literal["auto", "none", "inverse_frequency", "effective_number"]
Thresholds = Literal["per_label", "global"]
DecisionKind = Literal["argmax", "logit_adjusted", "thresholds", "expected_cost"]
SetScore = Literal["lac", "aps"]

LABEL_SCORES = {"task": ("sequence",), "decode": ("score",)}
LOW_RANK = ("lora", "qlora", "dora", "adalora")
# What leaves the lowest blocks as they are, so that their output can be kept, if nothing below them trains.
FREEZING = ("top_blocks", "bottom_frozen", "head_only", "adapt")
# The losses that read how often each class occurs, beside those that are given class weights.
COUNTING_LOSSES = ("logit_adjusted", "ldam", "tree_conditional")
# The losses of texts with any number of labels.
MULTI_LABEL_LOSSES = ("cross_entropy", "asymmetric", "tree_marginal")
# The losses that read the label tree.
TREE_LOSSES = ("tree_conditional", "tree_marginal", "tree_soft")
TASK_TOKENS = ({"task_tokens": ("on",)}, {"script": ("mining",)})


@dataclass
class AdaptationConfig:
    """Which parameters train, or are added."""

    adaptation: Adaptation = option(
        "full", "which parameters train, or are added; see docs/methods.md", when=LANGUAGE_MODEL
    )
    trainable_blocks: int = option(
        1, "number of top blocks that train", when={"adaptation": ("top_blocks",)}, at_least=1
    )
    frozen_blocks: int = option(
        1,
        "number of lowest blocks that stay as they are, embedding included",
        when={"adaptation": ("bottom_frozen",)},
        at_least=1,
    )
    layerwise_lr_decay: float = option(
        0.95,
        "learning rate of a block over that of the block above it",
        when={"adaptation": ("layerwise_lr",)},
        above=0,
        at_most=1,
    )
    lisa_blocks: int = option(2, "blocks that train at a time", when={"adaptation": ("lisa",)}, at_least=1)
    lisa_interval: int = option(
        20, "optimizer steps until other blocks are drawn", when={"adaptation": ("lisa",)}, at_least=1
    )
    lisa_embedding: bool = option(
        True,
        "the embedding trains all the time, as LISA has it; false leaves it alone",
        when={"adaptation": ("lisa",)},
    )
    target_modules: list[str] | None = option(
        None, "adapted layers by name; by default the family's preset", when={"adaptation": (*LOW_RANK, "ia3")}
    )
    lora_r: int = option(8, "rank of the updates", when={"adaptation": ("lora", "qlora", "dora")}, at_least=1)
    lora_alpha: float = option(16, "updates are scaled by alpha / rank", when={"adaptation": LOW_RANK}, above=0)
    lora_dropout: float = option(
        0.0, "dropout before the low-rank update", when={"adaptation": LOW_RANK}, at_least=0, below=1
    )
    adalora_init_r: int = option(12, "rank of every update at the start", when={"adaptation": ("adalora",)})
    adalora_target_r: int = option(
        8, "average rank that the budget ends at", when={"adaptation": ("adalora",)}, at_least=1
    )
    adapter_size: int = option(64, "width of the bottleneck", when={"adaptation": ("houlsby", "pfeiffer")}, at_least=1)
    num_virtual_tokens: int = option(
        20,
        "length of the learned prefix",
        when={"adaptation": ("prefix", "p_tuning_v2", "prompt", "p_tuning")},
        at_least=1,
    )
    prefix_projection: bool = option(
        False, "learn the prefix through a two-layer network (Li and Liang)", when={"adaptation": ("prefix",)}
    )


@dataclass
class ClassWeightsConfig:
    """How much each class counts."""

    class_weights: ClassWeights = option(
        "auto",
        "inverse_frequency: 1/count normalised to sum to the number of classes (opinion paper, Algorithm 4); "
        "effective_number: Cui et al. 2019; auto: inverse_frequency for sequence, none for token (where O would count "
        "for next to nothing), multi_label (whose thresholds are fitted), losses that adjust logits, and the engines "
        "sklearn and tfidf; of multi_label they weigh a label's presence against its absence",
        when=({"task": ("sequence", "token")}, {"task": ("multi_label",), "script": ("train_classifier",)}),
    )
    effective_number_beta: float = option(
        0.999, "towards 1, inverse frequency", when={"class_weights": ("effective_number",)}, at_least=0, below=1
    )
    class_counts: list[int] | None = option(
        None,
        "counts in the label tree's order, instead of the training split's",
        when=(
            {"class_weights": ("inverse_frequency", "effective_number")} | GRADIENT_STEPS,
            {"loss": COUNTING_LOSSES},
            {"decision": ("logit_adjusted",)},
        ),
        at_least=1,
    )


@dataclass
class LossConfig:
    """What a classifier's training minimises."""

    loss: Loss = option(
        "cross_entropy",
        "what training minimises; see docs/trust.md. For task multi_label cross_entropy is the binary one of every "
        "label, and asymmetric (Ridnik et al. 2021) looks away from easy absent labels",
        when=ANY_LABELS | GRADIENT_STEPS,
    )
    label_smoothing: float = option(
        0.0,
        "share of the target that is spread over all classes, each with its class weight",
        when=LABELS_OF_TEXTS | {"loss": ("cross_entropy",)},
        at_least=0,
        below=1,
    )
    logit_adjustment_tau: float = option(
        1.0,
        "log priors are added times this; 1 is the balanced softmax",
        when={"loss": ("logit_adjusted", "tree_conditional")},
        at_least=0,
    )
    focal_gamma: float = option(
        2.0, "the larger, the less an easy example counts", when={"loss": ("focal",)}, at_least=0
    )
    ldam_margin: float = option(0.5, "margin of the rarest class, in logits", when={"loss": ("ldam",)}, at_least=0)
    ldam_scale: float = option(
        1.0,
        "multiplies logits and margins in the loss; 30 is the paper's, whose logits are cosines",
        when={"loss": ("ldam",)},
        above=0,
    )
    ldam_reweight_from: float = option(
        0.8,
        "share of training after which class weights count (deferred re-weighting); 1 for never",
        when={"loss": ("ldam",)},
        at_least=0,
        at_most=1,
    )
    asymmetric_gamma_positive: float = option(
        0.0, "the larger, the less an easy label that is there counts", when={"loss": ("asymmetric",)}, at_least=0
    )
    asymmetric_gamma_negative: float = option(
        4.0, "the larger, the less an easy label that is absent counts", when={"loss": ("asymmetric",)}, at_least=0
    )
    asymmetric_margin: float = option(
        0.05,
        "absent labels with a probability below this count for nothing",
        when={"loss": ("asymmetric",)},
        at_least=0,
        below=1,
    )
    tree_beta: float = option(
        4.0, "how steeply soft labels fall with the distance in the label tree", when={"loss": ("tree_soft",)}, above=0
    )


@dataclass
class CacheConfig:
    """What frozen blocks compute, kept (docs/caching.md)."""

    cache_frozen: Literal["auto", "on", "off"] = option(
        "auto", "keep what frozen blocks compute, see docs/caching.md", when=LANGUAGE_MODEL
    )
    cache_dir: str = option("outputs/cache", "where it is kept; runs share it", when={"cache_frozen": ("auto", "on")})
    cache_limit_gb: float = option(
        20.0,
        "size of the cache; what was used longest ago goes first",
        when={"cache_frozen": ("auto", "on"), "adaptation": FREEZING},
        above=0,
    )


@dataclass
class MethodConfig(AdaptationConfig, ClassWeightsConfig, LossConfig, CacheConfig):
    """What trains, and against which loss."""


@dataclass
class DecisionConfig:
    """How labels follow from logits; whatever is fitted for it is fitted on validation."""

    decision: DecisionKind = option(
        "argmax",
        "argmax: the likeliest leaf; logit_adjusted: log priors are taken off; thresholds: one offset per leaf; "
        "expected_cost: the leaf with the least expected distance in the label tree",
        when=LABEL_SCORES,
    )
    label_thresholds: Thresholds = option(
        "per_label",
        "task multi_label: a threshold for every label, as far as the F1 that it gains on validation pays for it, or "
        "one for all",
        when={"task": ("multi_label",), "decode": ("score",)},
    )
    label_set_score: SetScore = option(
        "lac",
        "label sets: lac gives the smallest ones (empty: every label is unlikely), aps larger ones for hard texts",
        when=LABEL_SCORES,
    )
    label_set_coverage: float = option(
        0.9,
        "coverage of the label sets that metrics.json reports on; of task multi_label one minus the share of a text's "
        "labels that they may miss",
        when=(LABEL_SCORES, {"task": ("multi_label",), "decode": ("score",)}),
        at_least=0.5,
        at_most=0.99,
    )


@dataclass
class RobustConfig:
    """What makes training steadier (docs/trust.md, "Robustness")."""

    ema_decay: float | None = option(
        None,
        "evaluate and save an exponential moving average of the trained weights with this decay, e.g. 0.999; after "
        "step t it is at most (1 + t) / (10 + t), which only runs of some 9,000 steps bring to 0.999",
        when=GRADIENT_STEPS,
        above=0,
        below=1,
    )
    rdrop_alpha: float = option(
        0.0,
        "R-Drop: read every batch twice, and add this times the divergence of the two predictions; 0 for none",
        when={"task": ("sequence", "token")} | GRADIENT_STEPS,
        at_least=0,
    )
    augment_rare: float = option(
        0.0,
        "perturbed copies bring labels below the median count up to this times the median, e.g. 1; 0 for none",
        when=LABELS_OF_TEXTS | LANGUAGE_MODEL,
        at_least=0,
        at_most=1,
    )
    oversample_to: int | None = option(
        None,
        "training texts of labels with fewer than this many are read again, in turn, until the label has so many",
        when=LABELS_OF_TEXTS | GRADIENT_STEPS,
        at_least=1,
    )
    soft_labels: str | None = option(
        None,
        "CSV with id and probability_<leaf> of every training text; targets become part label, part these",
        when=LABELS_OF_TEXTS | GRADIENT_STEPS,
    )
    soft_label_share: float = option(
        0.5, "their share of the target; the label has the rest", when={"soft_labels": GIVEN}, above=0, at_most=1
    )
    blend_words: bool = option(
        False,
        "mix in TF-IDF and logistic regression on the training texts, by the share that validation likes best, unless "
        "its gain may be chance",
        when=LABELS_OF_TEXTS | LANGUAGE_MODEL,
    )


@dataclass
class SequencesConfig:
    """Which token sequences of the training texts AdaPT makes tokens of."""

    sequence_min_length: int = option(
        3, "tokens of the shortest sequence; the paper's tables also show 1 and 2", when=TASK_TOKENS, at_least=1
    )
    sequence_max_length: int = option(20, "tokens of the longest sequence", when=TASK_TOKENS)
    sequence_min_frequency: int = option(
        5, "training texts that a sequence occurs in at least", when=TASK_TOKENS, at_least=1
    )
    sequence_max_gap: int | None = option(
        3, "most tokens skipped between neighbours; 0: contiguous, null: any number", when=TASK_TOKENS, at_least=0
    )
    sequence_memory_mb: int = option(
        1024, "the search for sequences is refused when its tables outgrow this", when=TASK_TOKENS, at_least=1
    )
    sequence_smoothing: float = option(
        1.0, "weight of a token's own frequency in its probability after another", when=TASK_TOKENS, at_least=0
    )
    sequence_perplexity: Literal["plain", "unigram_normalised"] = option(
        "plain",
        "perplexity of a sequence as the paper computes it, or divided by that of its single tokens",
        when=TASK_TOKENS,
    )
    sequence_keep: Literal["cohesive", "as_printed"] = option(
        "cohesive",
        "keep the lowest perplexities, as the paper's case study shows, or the highest, as it prints",
        when=TASK_TOKENS,
    )
    sequence_perplexity_cutoff: float | None = option(
        None, "highest (as_printed: lowest) perplexity that is kept", when=TASK_TOKENS
    )
    sequence_top_k: int | None = option(None, "most sequences kept", when=TASK_TOKENS, at_least=0)
    sequence_vocabulary_share: float = option(
        0.1, "and never more than this share of the tokenizer's vocabulary", when=TASK_TOKENS, at_least=0, at_most=1
    )


@dataclass
class SensitivityConfig:
    """AdaPT's choice of the sub-layers that train, and whether it makes tokens."""

    task_tokens: Literal["auto", "on", "off"] = option(
        "auto",
        "tokens for sequences of the training texts; auto: with adaptation: adapt; on: with any other too",
        when=ANY_LABELS | GRADIENT_STEPS,
    )
    sensitivity_budget: float = option(
        0.2,
        "share of the backbone's parameters that sub-layers may train",
        when={"adaptation": ("adapt",)},
        above=0,
        at_most=1,
    )
    sensitivity_beta: float = option(
        1.0, "weight of the gradient norm beside the index of dispersion", when={"adaptation": ("adapt",)}, at_least=0
    )
    sensitivity_standardise: bool = option(
        True, "both measures get mean 0 and variance 1 before the sum", when={"adaptation": ("adapt",)}
    )
    sensitivity_samples: int | None = option(
        512,
        "training texts that sensitivity is measured on, drawn with the seed; null: all",
        when={"adaptation": ("adapt",)},
        at_least=2,
    )
    sensitivity_warmup_steps: int = option(
        100, "steps of the head alone before sensitivity is measured", when={"adaptation": ("adapt",)}, at_least=0
    )
    sensitivity_warmup_learning_rate: float = option(
        1e-3,
        "learning rate of these steps",
        when={"adaptation": ("adapt",), "sensitivity_warmup_steps": GIVEN},
        above=0,
    )


@dataclass
class AdaptConfig(SequencesConfig, SensitivityConfig):
    """AdaPT: which token sequences of the training texts become tokens of their own, and which sub-layers train."""
