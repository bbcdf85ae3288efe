"""Load a saved model for prediction, and refuse with a clear word what is none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.data.encoding.special_tokens import read_as_text
from opinionlm.data.encoding.tokenizers import separate_pairs
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.conformal import COVERAGES
from opinionlm.evaluation.multi_label_rules import MultiLabelRule, Rule
from opinionlm.inference.generative import is_generative, load_answerer
from opinionlm.inference.predictors import (
    ClassPredictor,
    LabelAnswers,
    MultiLabelAnswers,
    Predictor,
    ScorePredictor,
    TagPredictor,
)
from opinionlm.inference.saved_decision import saved_rule
from opinionlm.inference.saved_generative import read_settings
from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig
from opinionlm.models.linear.interpolation import load_word_blend
from opinionlm.models.precision import computes_in_bfloat16, torch_dtype
from opinionlm.models.tagger import OpinionTagger, OpinionTaggerConfig

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["torch", "onnx"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class TrustOptions:
    """What a user asks for beside labels.

    Attributes:
        coverage: sets of labels that hold the right one so often; None for no sets.
        abstain_below: no label where its probability is lower; None always gives one.

    Raises:
        UserError: a value that makes no sense.
    """

    coverage: float | None = None
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        if self.coverage is not None and not COVERAGES[0] <= self.coverage <= COVERAGES[-1]:
            raise UserError(
                f"--label_sets: {self.coverage:g} is no coverage between {COVERAGES[0]:g} and {COVERAGES[-1]:g}"
            )
        if self.abstain_below is not None and not 0 < self.abstain_below <= 1:
            raise UserError(f"--abstain_below: {self.abstain_below:g} is no probability above 0")

    @property
    def given(self) -> str:
        """The options that were given, empty without any."""
        named = {"--label_sets": self.coverage, "--abstain_below": self.abstain_below}
        return " ".join(f"{name} {value:g}" for name, value in named.items() if value is not None)


def load_predictor(
    folder: Path,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: int = 64,
    max_tokens_per_batch: int = 4096,
    trust: TrustOptions = TrustOptions(),
) -> Predictor:
    """Load a model that `train_classifier.py` or `train_instruct.py` saved.

    Args:
        folder: ``outputs/<run>/best``.
        device: ``auto`` takes a GPU where there is one.
        precision: to compute in; ``auto`` is what training chose, or that of the weights.
        batch_size: see `Predictor`.
        max_tokens_per_batch: see `Predictor`.
        trust: what is asked for beside labels.

    Raises:
        UserError: not such a folder, parts of it missing or damaged, or no GPU where one was asked for.
    """
    if is_generative(folder):
        return generative_predictor(folder, device, precision, batch_size, max_tokens_per_batch, trust)
    check_model_folder(folder)
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"--model: {folder} holds an ONNX graph and no weights; add --backend onnx")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda was asked for, but torch sees no GPU; use --device cpu or auto")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model_class = OpinionTagger if isinstance(config, OpinionTaggerConfig) else OpinionClassifier
        model, loading = model_class.from_pretrained(
            folder, dtype=parameter_dtype(config.precision, precision), output_loading_info=True, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"--model: {folder} cannot be loaded ({reason}); train again, or copy the folder anew"
        ) from error
    if broken := [*loading["missing_keys"], *loading["mismatched_keys"]]:
        raise UserError(f"--model: the weights in {folder} are incomplete (no {broken[0]!s}); copy the folder anew")
    if tokenizer.pad_token_id is None:
        raise UserError(f"--model: the tokenizer in {folder} has no padding token; save one with the model")
    known = len(tokenizer.task_tokens.sequences) if isinstance(tokenizer, TaskTokenTokenizer) else 0
    if known != model.config.task_tokens:
        raise UserError(
            f"--model: the model in {folder} has {model.config.task_tokens:,} task tokens and its tokenizer "
            f"knows {known:,}; copy the whole folder anew"
        )
    use_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    model = model.to("cuda" if use_gpu else "cpu").eval()
    return predictor_of(model, tokenizer, folder, batch_size, max_tokens_per_batch, trust)


def parameter_dtype(chosen: str | None, precision: Precision) -> torch.dtype | str:
    """The data type that parameters are loaded in.

    Args:
        chosen: the precision that training chose and saved with the model; None where it chose none.
        precision: as asked for. With ``auto``, a model whose precision was chosen on another machine computes in
            float32 where this one has no instructions for bfloat16.
    """
    if precision == "auto" and chosen is not None:
        return torch_dtype("float32" if not computes_in_bfloat16() else chosen)
    return torch_dtype(precision)


def predictor_of(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    batch_size: int = 64,
    max_tokens_per_batch: int = 4096,
    trust: TrustOptions = TrustOptions(),
) -> Predictor:
    """What answers with a model, by its configuration.

    Args:
        model: a classifier, tagger or scorer on its device, in evaluation mode, or
            `opinionlm.inference.onnx_model.OnnxModel` in its place.
        tokenizer: of the model; made ready.
        folder: of the model.
        batch_size: see `Predictor`.
        max_tokens_per_batch: see `Predictor`.
        trust: what is asked for beside labels.

    Raises:
        UserError: the model cannot give what is asked for.
    """
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    separate_pairs(tokenizer)
    read_as_text(tokenizer)
    config = model.config
    # 512 tokens is the default of training too; models saved by train_classifier.py always say their length.
    limits = (config.max_length or 512, batch_size, max_tokens_per_batch)
    if isinstance(config, OpinionTaggerConfig):
        refuse_trust(trust)
        return TagPredictor(model, tokenizer, *limits)
    if config.problem_type == "regression":
        refuse_trust(trust)
        return ScorePredictor(model, tokenizer, *limits)
    labels = label_answers(folder, saved_taxonomy(config), saved_rule(config), trust)
    words = load_word_blend(folder, config.word_share)
    return ClassPredictor(model, tokenizer, *limits, labels=labels, words=words)


def generative_predictor(
    folder: Path, device: Device, precision: Precision, batch_size: int, max_tokens_per_batch: int, trust: TrustOptions
) -> Predictor:
    """Load a language model; only one that scores labels has calibrated probabilities and label sets.

    Raises:
        UserError: as for `load_answerer`, or the model cannot give what is asked for.
    """
    settings, labels = read_settings(folder), None
    if settings.taxonomy is not None and settings.decode == "score":
        labels = label_answers(folder, settings.taxonomy, settings.rule, trust)
    else:
        refuse_trust(trust)
    return load_answerer(folder, labels, device, precision, batch_size, max_tokens_per_batch)


def label_answers(
    folder: Path, taxonomy: Taxonomy, rule: Rule, trust: TrustOptions
) -> LabelAnswers | MultiLabelAnswers:
    """How a model's probabilities become answers.

    Raises:
        UserError: label sets are asked for, and the model has none; or it shall abstain, and may give no label anyway.
    """
    if trust.coverage is not None and rule.label_sets is None:
        raise UserError(f"--label_sets: {folder} holds no thresholds for them; train the model again")
    if isinstance(rule, MultiLabelRule):
        if trust.abstain_below is not None:
            raise UserError(
                f"--abstain_below: {folder} gives no label where none reaches its threshold; leave the option out"
            )
        return MultiLabelAnswers(taxonomy, rule, trust.coverage)
    return LabelAnswers(taxonomy, rule, trust.coverage, trust.abstain_below)


def refuse_trust(trust: TrustOptions) -> None:
    """Only models that label texts have calibrated probabilities and label sets.

    Raises:
        UserError: one of them is asked for.
    """
    if trust.given:
        raise UserError(
            f"{trust.given}: is for models that label texts: of train_classifier.py, or of train_instruct.py with "
            "decode: score; leave it out"
        )


def check_model_folder(folder: Path) -> None:
    """Refuse what is no saved classifier before anything is loaded.

    Raises:
        UserError: with what was looked for.
    """
    remedy = "give the folder best/ of a finished run, such as outputs/<run>/best"
    if not folder.is_dir():
        raise UserError(f"--model: no such folder: {folder}; {remedy}")
    if is_generative(folder):
        read_settings(folder)
        return
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--model: {folder} has no config.json; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--model: {folder / 'config.json'} cannot be read ({error}); {remedy}") from None
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in (OpinionClassifierConfig.model_type, OpinionTaggerConfig.model_type):
        raise UserError(
            f"--model: {folder} holds a model of type {found!r}, not one that train_classifier.py saved; {remedy}"
        )
    if not list(folder.glob("*.safetensors")) and not list(folder.glob("*.onnx")):
        raise UserError(f"--model: {folder} has no weights (looked for *.safetensors); {remedy}")
    if not (folder / "tokenizer_config.json").is_file():
        raise UserError(f"--model: {folder} has no tokenizer (looked for tokenizer_config.json); {remedy}")


def saved_taxonomy(config: OpinionClassifierConfig) -> Taxonomy:
    """The label tree of a saved model, its leaves in the order of the ids.

    ``config.json`` is written with sorted keys, so the order of a tree of mappings is lost there; ``id2label`` has it.

    Raises:
        UserError: tree and ``id2label`` name different labels.
    """
    labels = [config.id2label[index] for index in range(config.num_labels)]
    tree = Taxonomy.from_tree(config.label_tree or labels)
    if sorted(tree.leaves) != sorted(labels):
        raise UserError("--model: label_tree and id2label in config.json name different labels; train again")
    return Taxonomy(tuple(path for _, path in sorted(zip(map(labels.index, tree.leaves), tree.paths, strict=True))))


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over configuration, tokenizer and weights: all that decides a prediction."""
    digest = hashlib.sha256()
    patterns = ("*.json", "*.safetensors", "*.model", "*.onnx*")
    for path in sorted(found for pattern in patterns for found in folder.glob(pattern)):
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
