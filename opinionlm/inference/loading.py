"""Load a saved model for prediction; what is no saved model is refused with what was looked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.adaptation.merging import expanded_on_cpu
from opinionlm.data.encoding.special_tokens import read_as_text
from opinionlm.data.encoding.tokenizers import separate_pairs
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.conformal import COVERAGES
from opinionlm.evaluation.multi_label_rules import MultiLabelRule, Rule
from opinionlm.inference.generative import is_generative, load_answerer
from opinionlm.inference.options import Precision, PredictionOptions, TrustOptions, check_precision
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
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.gguf import require_converted
from opinionlm.models.linear.interpolation import load_interpolation
from opinionlm.models.precision import cast_parameters, computes_in_bfloat16, torch_dtype
from opinionlm.models.quantization import quantized_modules
from opinionlm.models.saved import saved_config, saved_tokenizer, saved_weights
from opinionlm.models.tagger import OpinionTaggerConfig
from opinionlm.utils.shipped import model_digest, model_identity


def load_predictor(folder: Path, options: PredictionOptions) -> Predictor:
    """Load a model that `train_classifier.py` or `train_instruct.py` saved.

    Args:
        folder: ``outputs/<run>/best``.
        options: how it computes, and what is asked for beside labels.

    Raises:
        UserError: not such a folder, parts of it missing or damaged, or no GPU where one was asked for.
    """
    if is_generative(folder):
        return generative_predictor(folder, options)
    check_model_folder(folder)
    require_weights(folder, "add --backend onnx")
    device = options.torch_device()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = saved_config(folder)
    dtype = parameter_dtype(config.precision, options.precision)
    in_4bit = "quantization_config" in config.to_dict()
    model = saved_weights(folder, config, "auto" if in_4bit else dtype)
    tokenizer = saved_tokenizer(folder)
    model = expanded_on_cpu(model.to(device))
    if quantized_modules(model):
        check_precision(folder, config, options.precision)
    elif in_4bit and dtype != "auto":
        cast_parameters(model, dtype)
    return predictor_of(model.eval(), tokenizer, folder, options)


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, config: OpinionClassifierConfig) -> None:
    """Refuse a tokenizer that is not the one that the model was saved with.

    Raises:
        UserError: it cannot pad, or knows more or fewer task tokens than the model.
    """
    if tokenizer.pad_token_id is None:
        raise UserError(f"--model: the tokenizer in {folder} has no padding token; save one with the model")
    known = len(tokenizer.task_tokens.sequences) if isinstance(tokenizer, TaskTokenTokenizer) else 0
    if known != config.task_tokens:
        raise UserError(
            f"--model: the model in {folder} has {config.task_tokens:,} task tokens and its tokenizer "
            f"knows {known:,}; copy the whole folder anew"
        )


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
    options: PredictionOptions,
) -> Predictor:
    """What answers with a model, by its configuration.

    Args:
        model: a classifier, tagger or scorer on its device, in evaluation mode, or
            `opinionlm.inference.onnx_model.OnnxModel` in its place.
        tokenizer: of the model; made ready.
        folder: of the model.
        options: the sizes of batches, and what is asked for beside labels.

    Raises:
        UserError: the tokenizer is that of another model, or the model cannot give what is asked for.
    """
    check_tokenizer(folder, tokenizer, model.config)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    separate_pairs(tokenizer)
    read_as_text(tokenizer)
    config = model.config
    # 512 tokens is the default of training too; models saved by train_classifier.py always say their length.
    limits = (config.max_length or 512, options.batch_size, options.max_tokens_per_batch)
    if isinstance(config, OpinionTaggerConfig):
        refuse_trust(options.trust)
        return TagPredictor(model, tokenizer, *limits)
    if config.problem_type == "regression":
        refuse_trust(options.trust)
        return ScorePredictor(model, tokenizer, *limits)
    labels = label_answers(folder, saved_taxonomy(config), saved_rule(config), options.trust)
    words = load_interpolation(folder, config.word_share)
    return ClassPredictor(model, tokenizer, *limits, labels=labels, words=words)


def generative_predictor(folder: Path, options: PredictionOptions) -> Predictor:
    """Load a language model; only one that scores labels has calibrated probabilities and label sets.

    Raises:
        UserError: as for `load_answerer`, or the model cannot give what is asked for.
    """
    settings, labels = read_settings(folder), None
    if settings.taxonomy is not None and settings.decode == "score":
        labels = label_answers(folder, settings.taxonomy, settings.rule, options.trust)
    else:
        refuse_trust(options.trust)
    return load_answerer(folder, labels, options)


def label_answers(
    folder: Path, taxonomy: Taxonomy, rule: Rule, trust: TrustOptions
) -> LabelAnswers | MultiLabelAnswers:
    """How a model's probabilities become answers.

    Raises:
        UserError: the rule is damaged; label sets are asked for, and the model has none; or it shall abstain, and may
            give no label anyway.
    """
    check_rule(folder, taxonomy, rule)
    if trust.coverage is not None and rule.label_sets is None:
        raise UserError(f"--label_sets: {folder} holds no thresholds for them; train the model again")
    if isinstance(rule, MultiLabelRule):
        if trust.abstain_below is not None:
            raise UserError(
                f"--abstain_below: {folder} gives no label where none reaches its threshold; leave the option out"
            )
        return MultiLabelAnswers(taxonomy, rule, trust.coverage)
    return LabelAnswers(taxonomy, rule, trust.coverage, trust.abstain_below)


def check_rule(folder: Path, taxonomy: Taxonomy, rule: Rule) -> None:
    """Whether a rule has a number for every label; numpy would spread a single one over all of them.

    Raises:
        UserError: it has more or fewer, as of label sets for their coverages, or a temperature that divides nothing.
    """
    parts = {"calibration_biases": rule.biases}
    if isinstance(rule, MultiLabelRule):
        parts["label_thresholds"] = rule.thresholds
    else:
        parts["decision_offsets"] = rule.offsets
    labels = len(taxonomy.leaves)
    if wrong := [f"{len(part)} {name}" for name, part in parts.items() if len(part) not in (0, labels)]:
        raise UserError(f"--model: {folder} has {wrong[0]} for {labels} labels; copy the whole folder anew")
    if rule.label_sets is not None and len(rule.label_sets.thresholds) != len(COVERAGES):
        raise UserError(
            f"--model: {folder} has {len(rule.label_sets.thresholds)} label_set_thresholds for {len(COVERAGES)} "
            "coverages; copy the whole folder anew"
        )
    if not rule.temperature > 0:
        raise UserError(
            f"--model: {folder} has a temperature of {rule.temperature}, not above 0; copy the whole folder anew"
        )


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
    else:
        check_model_type(folder, remedy)
    if not list(folder.glob("*.safetensors")) and not list(folder.glob("*.onnx")):
        raise UserError(f"--model: {folder} has no weights (looked for *.safetensors); {remedy}")
    if not (folder / "tokenizer_config.json").is_file():
        raise UserError(f"--model: {folder} has no tokenizer (looked for tokenizer_config.json); {remedy}")


def require_weights(folder: Path, remedy: str) -> None:
    """Refuse a folder that `check_model_folder` has passed and whose model only ONNX Runtime can compute.

    Args:
        folder: of the model.
        remedy: of whoever needs weights.

    Raises:
        UserError: it holds none.
    """
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"--model: {folder} holds an ONNX graph and no weights; {remedy}")


def check_model_type(folder: Path, remedy: str) -> None:
    """Refuse a folder whose configuration is not that of a model of this package.

    Raises:
        UserError: with what was looked for.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        saves_none = " is of a run that saves no model, as those of engine: tfidf and of prompt.py are"
        found = saves_none if (folder / "metrics.json").is_file() else " has no config.json"
        raise UserError(f"--model: {folder}{found}; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--model: {folder / 'config.json'} cannot be read ({error}); {remedy}") from None
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in (OpinionClassifierConfig.model_type, OpinionTaggerConfig.model_type):
        raise UserError(
            f"--model: {folder} holds a model of type {model_type!r}, not one that train_classifier.py saved; {remedy}"
        )


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
    """SHA-256 over all that decides a prediction: the model's files, and of an adapter those of its base too.

    A base model of the hub counts by its commit.
    """
    own = model_digest(folder)
    if not is_generative(folder) or (settings := read_settings(folder)).base_model is None:
        return own
    base = settings.model_options(folder, "auto")
    require_converted(base.model_name_or_path)
    found = model_identity(base.model_name_or_path, base.model_revision, model_digest)
    return hashlib.sha256(f"{own} {found}".encode()).hexdigest()
