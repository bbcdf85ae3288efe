"""What a run reads, and how a language model is asked: options in flat dataclasses, one per subject.

`opinionlm.config.config.SCRIPTS` names the classes of every script. Names follow Hugging Face where a name exists.
Beside an option stands what has to be chosen for it to be read, and what a number may be. A class over several
subjects, such as `ModelConfig`, is what code takes that reads more than one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opinionlm.config.conditions import (
    ANY_LABELS,
    FIXED_BATCHES,
    GIVEN,
    GRADIENT_STEPS,
    LANGUAGE_MODEL,
    Conditions,
    option,
)

# Draws the texts of max_eval_samples; the default of seed, so that runs with it keep the texts they always had.
EVALUATION_SEED = 42


@dataclass
class DatasetConfig:
    """Which data set."""

    dataset: str = option("configs/datasets/sample.yaml", "dataset YAML, or a folder written by preprocess.py")
    data_dir: str = option("data", "folder that the files of the dataset YAML are relative to")
    data_source: Literal["auto", "hub", "files"] = option(
        "auto", "which of the sources of the dataset YAML is read; auto: its files if they are there, else the hub"
    )
    prepared_dir: str = option("outputs/data", "where raw files are prepared, once per content")
    max_train_samples: int | None = option(
        None,
        "use only so many training texts (drawn with the seed)",
        when=({"shots": GIVEN}, {"script": ("train_classifier", "train_instruct", "pretrain", "mining")}),
        at_least=1,
    )


@dataclass
class TrainPlatformsConfig:
    """Which of its posts are trained on."""

    train_platforms: list[str] | None = option(
        None, "train and choose (validation) on posts of these platforms only, e.g. [reddit, twitter]"
    )


@dataclass
class EvaluationTextsConfig:
    """Which of its texts are evaluated on."""

    eval_platforms: list[str] | None = option(None, "test on posts of these platforms only, e.g. [youtube]")
    max_eval_samples: int | None = option(
        None, "use only so many validation and test texts, the same for every seed", at_least=1
    )


@dataclass
class TaskConfig:
    """What is predicted."""

    task: Literal["auto", "sequence", "multi_label", "token", "similarity"] = option(
        "auto",
        "what is predicted: one label per text, any number of labels, a tag per word, or a score per pair; auto: what "
        "the data hold",
    )
    label_all_subwords: bool = option(
        False, "every piece of a word carries its tag, not only the first", when={"task": ("token",)}
    )
    platform_prefix: bool = option(
        False, "the model reads the platform's name in front of the text, as in `reddit: …`", when=ANY_LABELS
    )


@dataclass
class LengthConfig:
    """How much a model reads at once."""

    max_length: int = option(
        512, "longer texts are truncated to this many tokens (see long_texts)", when=LANGUAGE_MODEL, at_least=2
    )
    max_tokens_per_batch: int | None = option(
        None,
        "batches of similar length under this budget of padded tokens, instead of a fixed number of texts",
        when=GRADIENT_STEPS,
        at_least=1,
    )


@dataclass
class LongTextsConfig:
    """What becomes of texts longer than max_length."""

    long_texts: Literal["truncate", "chunk", "ends"] = option(
        "truncate",
        "cut what is beyond max_length; read all in overlapping chunks of max_length (single texts); or read the "
        "first and the last half of max_length tokens (pairs are cut)",
        when=LANGUAGE_MODEL | ANY_LABELS,
    )
    chunk_overlap: int = option(
        32, "tokens that neighbouring chunks share, below max_length", when={"long_texts": ("chunk",)}, at_least=0
    )
    chunk_pooling: Literal["mean", "max"] = option(
        "mean", "how the vectors of a text's chunks become one, before the head", when={"long_texts": ("chunk",)}
    )


@dataclass
class OrderConfig:
    """In which order the training texts come."""

    shuffle: Literal["every_epoch", "once"] = option(
        "every_epoch", "`once` keeps one order, as the opinion paper", when=GRADIENT_STEPS
    )
    group_by_length: bool = option(False, "put texts of similar length into the same batch", when=FIXED_BATCHES)


@dataclass
class PaddingConfig:
    """How batches of training texts are filled up."""

    pad_to_max: bool = option(
        False, "pad every batch to max_length, as the opinion paper does (slow)", when=FIXED_BATCHES
    )


@dataclass
class DataConfig(
    DatasetConfig,
    TrainPlatformsConfig,
    EvaluationTextsConfig,
    TaskConfig,
    LengthConfig,
    LongTextsConfig,
    OrderConfig,
    PaddingConfig,
):
    """Which texts, and how they become batches."""


@dataclass
class BackboneConfig:
    """Which backbone."""

    model_name_or_path: str = option(
        "models/gemma3-mini",
        "local directory, GGUF file or hub name; best/ of a run of train_classifier.py gives its backbone",
        when=LANGUAGE_MODEL,
    )
    tokenizer_name_or_path: str | None = option(
        None, "tokenizer, when it is not in the model's directory", when=LANGUAGE_MODEL
    )


@dataclass
class LoadingConfig:
    """How the backbone is loaded."""

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


@dataclass
class WeightsConfig:
    """Which weights the backbone gets."""

    load_in_4bit: bool = option(
        False,
        "frozen blocks in 4 bits; trained blocks keep dtype",
        when=LANGUAGE_MODEL | {"method": ("language_model",)},
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = option("nf4", "4-bit data type", when={"load_in_4bit": (True,)})
    bnb_4bit_use_double_quant: bool = option(
        True, "quantise the quantisation constants too", when={"load_in_4bit": (True,)}
    )
    random_weights: bool = option(
        False,
        "same architecture without its weights: the baseline for pretraining",
        when=LANGUAGE_MODEL | {"method": ("language_model",)},
    )


# A head of our own; a task that reads one vector per text.
STANDARD_HEAD: Conditions = GRADIENT_STEPS | {"head": ("standard",)}
POOLED: Conditions = {"task": ("sequence", "multi_label", "similarity")}


# From so many labels on `HeadConfig.many_labels_lr_factor` counts.
MANY_LABELS = 16


@dataclass
class HeadConfig:
    """The head on top of a classifier."""

    head: Literal["standard", "native"] = option(
        "standard",
        "native: that of the family's own class in transformers, pooling included; standard: as the next three say",
        when=GRADIENT_STEPS,
    )
    head_hidden_sizes: list[int] = option(
        [], "hidden layers of the head; [1024, 512] is the opinion paper's", when=STANDARD_HEAD, at_least=1
    )
    head_bias: bool = option(
        True, "bias of the head's last layer; false as in the decoders' own heads", when=STANDARD_HEAD
    )
    pooling: Literal["auto", "first", "last", "mean", "pooler"] = option(
        "auto",
        "auto: last token if causal, else mean; pooler: BERT's own dense layer over the first token",
        when=(STANDARD_HEAD | POOLED, {"engine": ("sklearn",)} | POOLED),
    )
    classifier_dropout: float = option(
        0.1, "dropout before every linear layer of the head", when=GRADIENT_STEPS, at_least=0, below=1
    )
    head_lr_factor: float = option(
        1.0,
        "learning rate of the head over learning_rate; a new head learns late at a rate for pretrained weights",
        when=GRADIENT_STEPS,
        above=0,
    )
    many_labels_lr_factor: float = option(
        1.0,
        f"where there are {MANY_LABELS} labels or more all rates are multiplied by this: telling many labels apart "
        "changes more",
        when=GRADIENT_STEPS | {"task": ("sequence", "multi_label", "token")},
        above=0,
    )


@dataclass
class ModelConfig(BackboneConfig, LoadingConfig, WeightsConfig, HeadConfig):
    """Which backbone, how it is loaded, and the head on top."""


@dataclass
class InstructConfig:
    """How a language model is asked, and how its answers are read."""

    prompt_template: str | None = option(
        None,
        "how prompts and answers are written; auto: by the description and the labels of the data; without it "
        "configs/prompts/classify.yaml for one label of a text, else auto",
    )
    decode: Literal["score", "generate"] = option(
        "score",
        "score: the likeliest of the labels, of task multi_label yes or no to each; generate: what the model writes, "
        "for answers of any kind",
        when={"method": ("language_model",)},
    )
    score_normalisation: Literal["sum", "mean"] = option(
        "sum", "of a label's token log-probabilities; mean does not favour short labels", when={"decode": ("score",)}
    )
    calibration: Literal["none", "contextual", "batch"] = option(
        "none",
        "take out what the model prefers for texts that say nothing, or over all evaluated texts",
        when=({"decode": ("score",), "task": ("sequence",)}, {"method": ("entailment",)}),
    )
    max_answer_length: int = option(
        64, "longest answer in tokens; prompts of free answers leave so much room", when={"decode": ("generate",)}
    )
    num_beams: int = option(
        4,
        "width of the beam search; 1 takes the likeliest token each time",
        when={"decode": ("generate",)},
        at_least=1,
    )


@dataclass
class PretrainConfig:
    """Pretraining on the training texts (pretrain.py)."""

    mlm_probability: float = option(
        0.15,
        "share of the tokens that are masked or replaced",
        when={"objective": ("masked words",)},
        above=0,
        below=1,
    )
    held_out_share: float = option(
        0.05, "share of the training texts that only measures the perplexity", above=0, at_most=0.5
    )


@dataclass
class PromptConfig:
    """Labels without training (prompt.py)."""

    method: Literal["language_model", "entailment"] = option(
        "language_model", "ask a language model, or ask an entailment (NLI) model which hypothesis a text supports"
    )
    shots: int = option(
        0,
        "solved examples in every prompt, drawn from train with the seed, balanced over classes",
        when={"method": ("language_model",)},
        at_least=0,
    )
    hypothesis_template: str = option(
        "This text is {label}.", "{label} takes the label's words", when={"method": ("entailment",)}
    )
