"""Labels and answers without training: everything is checked first, then the model is loaded once for all seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from opinionlm.adaptation.compatibility import check_length, check_vocabulary
from opinionlm.adaptation.methods import count_parameters
from opinionlm.config.config import Config
from opinionlm.config.options import ModelConfig
from opinionlm.config.unread import refuse_unread
from opinionlm.data.contamination import refuse_seen_texts
from opinionlm.data.encoding.columns import subset
from opinionlm.data.encoding.data_templates import (
    AUTO,
    require_place_for_pairs,
    template_for,
    template_warning,
    unread_features,
)
from opinionlm.data.encoding.templates import PromptTemplate, label_words, load_template
from opinionlm.data.encoding.texts import evaluation_texts
from opinionlm.data.encoding.tokenizers import entries_of_texts, load_tokenizer
from opinionlm.data.loading import describe_platforms, load_data
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.entailment import entailment_id, entailment_scores
from opinionlm.evaluation.metrics import all_scores
from opinionlm.evaluation.predictions import Predictions
from opinionlm.evaluation.prompt_calibration import CONTENT_FREE_TEXTS, calibrated
from opinionlm.evaluation.written_predictions import FreeAnswers, WrittenLabels, WrittenLists
from opinionlm.models.backbones import read_model_config
from opinionlm.models.generative import generative_class, load_generative
from opinionlm.models.precision import torch_dtype
from opinionlm.reporting.tracking.base import Tracker
from opinionlm.reporting.tracking.open import open_tracking
from opinionlm.runs.few_shot import Demonstrations, demonstrate, draw_rows
from opinionlm.runs.folder import create_run, environment
from opinionlm.runs.results import score_lines, write_metrics, write_result
from opinionlm.tasks.answers import generation_task, prompt_encoder
from opinionlm.tasks.base import Decision, SplitResult
from opinionlm.tasks.generation import TOKEN_BUDGET, GenerationTask
from opinionlm.tasks.label_lists import LabelListTask
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.training.cost import peak_memory_mb, reset_peak_memory
from opinionlm.utils.names import short
from opinionlm.utils.shipped import find_model, model_identity

EVALUATED = ("validation", "test")
ASKED = ("sequence", "multi_label", "question_answering", "summarization")


@dataclass(frozen=True)
class PromptSetting:
    """What every run of a config has in common.

    Attributes:
        prepared: the data.
        model_config: of the model.
        tokenizer: of the model.
        template: how prompts are written; entailment takes only the labels' words from it.
        words: the labels' words; empty for free answers.
    """

    prepared: PreparedDataset
    model_config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    words: tuple[str, ...]


@dataclass(frozen=True)
class PromptRun:
    """One execution: its texts and, for a language model, how it is asked.

    Attributes:
        config: with the seed of this run.
        texts: the evaluated rows by split.
        demonstrations: what prompts show.
        task: reads the language model's answers, or shows the labels that an entailment model chooses.
    """

    config: Config
    texts: dict[str, Dataset]
    demonstrations: Demonstrations
    task: GenerationTask | SequenceTask


def open_task(config: Config) -> PromptSetting:
    """Read data, tokenizer and template, but no weights.

    Raises:
        UserError: they cannot be read or do not fit together, or the model was trained on evaluated texts.
    """
    model_config = read_model_config(config.model)
    if config.instruct.prompt_template not in (None, AUTO):
        # A template that cannot be read is told before data are prepared.
        load_template(config.instruct.prompt_template)
    check_model(config, model_config)
    prepared = load_data(config.data)
    refuse_seen_texts(config.model, prepared)
    template = template_for(config.instruct.prompt_template, prepared)
    check_data(config, template, prepared)
    # None of free answers.
    words = () if prepared.taxonomy is None else tuple(label_words(template, prepared.taxonomy))
    tokenizer = load_tokenizer(config.model)
    check_vocabulary(config.model, model_config, entries_of_texts(tokenizer))
    return PromptSetting(prepared, model_config, tokenizer, template, words)


def check_model(config: Config, model_config: PreTrainedConfig) -> None:
    """Whether a model can be asked, before data are read.

    Raises:
        UserError: it has no output layer of the kind that answers, or too few positions.
    """
    if config.prompt.method == "entailment":
        entailment_id(model_config)
    else:
        generative_class(model_config)
    check_length(config.method, model_config, config.data.max_length)


def check_data(config: Config, template: PromptTemplate, prepared: PreparedDataset) -> None:
    """Whether data can be asked about with a template; only their kind and their columns count.

    Raises:
        UserError: a task without answers in words, or pairs that the template does not show.
    """
    refuse_unread(config, task=prepared.task)
    if prepared.task not in ASKED:
        raise UserError(f"dataset: prompt.py takes the tasks {', '.join(ASKED)}, not {prepared.task}")
    if prepared.task == "multi_label" and config.prompt.method == "entailment":
        raise UserError(
            "method: entailment chooses one label of a text, and task multi_label has any number; use method: "
            "language_model"
        )
    if prepared.taxonomy is None and config.prompt.method == "entailment":
        raise UserError(f"method: entailment chooses among labels, and task {prepared.task} has none")
    two_parts = {"context", "text_pair"} & set(prepared.dataset["test"].column_names)
    if two_parts and config.prompt.method == "entailment":
        raise UserError("method: entailment reads single texts, and these are pairs; use method: language_model")
    require_place_for_pairs(template, prepared)


def open_run(config: Config, setting: PromptSetting) -> PromptRun:
    """Choose the texts and the demonstrations of one seed.

    Raises:
        UserError: too few examples in train, or prompts that do not fit.
    """
    data, seed, dataset = config.data, config.training.seed, setting.prepared.dataset
    texts = {name: evaluation_texts(dataset[name], data.max_eval_samples) for name in EVALUATED}
    if config.prompt.method == "entailment":
        return PromptRun(config, texts, Demonstrations(), SequenceTask(setting.prepared, config))
    encoder = prompt_encoder(setting.prepared, config, setting.template, setting.tokenizer, setting.model_config)
    train = subset(dataset["train"], data.max_train_samples, seed)
    # Not only this run's share of a split: what another run evaluates is no demonstration either.
    rows = draw_rows(
        train, [dataset[name] for name in EVALUATED], setting.prepared.taxonomy, config.prompt.shots, seed
    )
    shown = demonstrate(train, rows, setting.words, encoder)
    budget = data.max_tokens_per_batch or TOKEN_BUDGET
    task = generation_task(setting.prepared, config, encoder, shown.examples, budget)
    return PromptRun(config, texts, shown, task)


def load_model(config: Config, setting: PromptSetting) -> PreTrainedModel:
    """The language model, or the entailment model, in evaluation mode on its device.

    Raises:
        UserError: no weights, or weights that lack the layer that answers.
    """
    if config.prompt.method == "entailment":
        model = load_entailment(config.model, setting.model_config)
    else:
        model = load_generative(config.model, 0, setting.model_config)
        model.generation_config.pad_token_id = setting.tokenizer.pad_token_id
    use_gpu = torch.cuda.is_available() and not config.training.use_cpu
    # Weights in 4 bits are where they were loaded to.
    placed = model if config.model.load_in_4bit else model.to("cuda" if use_gpu else "cpu")
    return placed.eval()


def load_entailment(options: ModelConfig, model_config: PreTrainedConfig) -> PreTrainedModel:
    """A pretrained sequence classifier with its trained head.

    Raises:
        UserError: no weights, or a head that was never trained: its answers would be chance.
    """
    if options.attn_implementation is not None:
        model_config._attn_implementation = options.attn_implementation
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            str(find_model(options.model_name_or_path)),
            config=model_config,
            revision=options.model_revision,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=True,
            dtype=torch_dtype(options.dtype),
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model_name_or_path: '{options.model_name_or_path}' cannot be loaded as a classifier ({reason}); method: "
            "entailment needs a model trained on natural language inference"
        ) from error
    if report["missing_keys"]:
        raise UserError(
            f"model_name_or_path: '{options.model_name_or_path}' has no trained classifier (it lacks "
            f"{min(report['missing_keys'])}), so that its answers would be chance; give a model trained on natural "
            "language inference"
        )
    return model


def run_prompting(run: PromptRun, setting: PromptSetting, model: PreTrainedModel) -> dict[str, Any]:
    """Answer, score and write the run folder; ``metrics.json`` last.

    Returns:
        The content of ``metrics.json``.
    """
    config = run.config
    facts = environment(config, setting.prepared.fingerprint)
    facts["prompt_template_fingerprint"] = setting.template.fingerprint
    facts["model_fingerprint"] = model_identity(config.model.model_name_or_path, config.model.model_revision)
    create_run(config, facts, setting.prepared.taxonomy)
    print(describe(run, setting))
    with open_tracking(config, config.run_folder, facts) as tracker:
        metrics = answer_splits(run, setting, model, tracker)
        write_metrics(run.task, metrics, tracker)
    print(summary(run, metrics))
    return metrics


def answer_splits(run: PromptRun, setting: PromptSetting, model: PreTrainedModel, tracker: Tracker) -> dict[str, Any]:
    """Answer and score validation and test, and write their predictions; returns what ``metrics.json`` will hold."""
    reset_peak_memory()
    metrics: dict[str, Any] = {
        "train": {
            "shots": len(run.demonstrations.ids),
            "examples": list(run.demonstrations.ids),
            "shortened_examples": run.demonstrations.shortened,
        }
    }
    seconds, decision = 0.0, Decision()
    for name, texts in run.texts.items():
        started = time.perf_counter()
        result, decision = answer_split(run, setting, model, name, decision)
        seconds += time.perf_counter() - started
        write_result(run.task, name, texts, result, tracker)
        metrics[name] = result.scores
    if isinstance(run.task, LabelListTask) and run.task.scores_labels:
        metrics["decision"] = run.task.decision_facts(decision)
    rows = sum(len(texts) for texts in run.texts.values())
    metrics["model"] = count_parameters(model) | {"trainable_parameters": 0}
    metrics["cost"] = {
        "train_seconds": 0.0,
        "predict_seconds": seconds,
        "total_seconds": seconds,
        "posts_per_second": rows / seconds,
        "peak_memory_mb": peak_memory_mb(),
    }
    return metrics


def answer_split(
    run: PromptRun, setting: PromptSetting, model: PreTrainedModel, name: str, decision: Decision
) -> tuple[SplitResult[Any], Decision]:
    """Answers to a split, their scores, and what they were decided by.

    Only with thresholds do the log-odds of several labels say which a text has. They are fitted on validation, which
    is answered first; nothing else is fitted.
    """
    task, texts = run.task, run.texts[name]
    if isinstance(task, SequenceTask):
        chosen = entailment_predictions(task, setting, model, texts)
        return SplitResult(chosen, scores_of(task, texts, chosen)), decision
    prompts = write_prompts(task, texts)
    answers = task.answer(model, task.prompts([ids for ids, _ in prompts]))
    shortened = {"shortened_texts": sum(cut for _, cut in prompts)}
    if isinstance(task, LabelListTask) and task.scores_labels:
        decision = task.fitted(texts, answers) if name == "validation" else decision
        result = task.decided(texts, answers, decision)
        return SplitResult(result.predictions, result.scores | shortened), decision
    predictions = task.predictions(texts, answers)
    return SplitResult(predictions, scores_of(task, texts, predictions) | shortened), decision


def write_prompts(task: GenerationTask, texts: Dataset) -> list[tuple[list[int], bool]]:
    """Token ids of every row's prompt, and whether its text or context had to be cut."""
    prompts = []
    contexts = [name for name in ("context", "text_pair") if name in texts.column_names]
    for row in texts:
        context = (row[contexts[0]] or "") if contexts else ""
        written = task.encoder.written_prompt(row["text"], context, task.examples)
        is_shortened = task.encoder.is_shortened(written, row["text"], context, task.examples)
        prompts.append((task.encoder.text_ids(written), is_shortened))
    return prompts


def scores_of(task: GenerationTask | SequenceTask, texts: Dataset, predictions: Predictions) -> dict[str, Any]:
    """Scores of one split as plain floats, and intervals as ``[low, high]``."""
    scores: dict[str, Any]
    match predictions:
        case SplitPredictions():
            likelihoods = np.log(np.maximum(predictions.probabilities, np.finfo(float).tiny))
            scores = all_scores(predictions.gold, likelihoods, task.taxonomy, np.ones(len(predictions.labels)))
        case WrittenLabels() | WrittenLists() | FreeAnswers() if isinstance(task, GenerationTask):
            scores = task.text_scores(texts, predictions.answers)
        case _:
            raise TypeError(f"{type(task).__name__} gave {type(predictions).__name__}")
    return scores | predictions.intervals()


def entailment_predictions(
    task: SequenceTask, setting: PromptSetting, model: PreTrainedModel, texts: Dataset
) -> SplitPredictions:
    """Labels of an entailment model, their probabilities calibrated."""
    data, config = task.config.data, task.config
    hypotheses = [config.prompt.hypothesis_template.format(label=word) for word in setting.words]
    budget = data.max_tokens_per_batch or TOKEN_BUDGET

    def scores(premises: Sequence[str]) -> np.ndarray:
        return entailment_scores(model, setting.tokenizer, premises, hypotheses, data.max_length, budget)

    found = calibrated(scores(texts["text"]), config.instruct.calibration, lambda: scores(CONTENT_FREE_TEXTS))
    gold = np.asarray(texts["label"])
    taxonomy = task.taxonomy
    return SplitPredictions(taxonomy.leaves, texts["text"], gold, found, parents=taxonomy.parents)


def describe(run: PromptRun, setting: PromptSetting) -> str:
    """The lines printed before the model answers."""
    sizes = ", ".join(f"{name} {len(texts):,}" for name, texts in run.texts.items())
    prepared, shown = setting.prepared, run.demonstrations
    cut = f", {shown.shortened} of them shortened to fit max_length" if shown.shortened else ""
    method = run.config.prompt.method
    lines = [
        f"run     {run.config.run_folder}",
        f"data    {prepared.name} ({prepared.task}): {sizes} texts{describe_platforms(run.config.data)}",
        *unread_features(prepared),
        f"prompts {method}, {len(shown.examples)} examples{cut}",
        *(template_warning(setting.template, prepared) if method == "language_model" else []),
        *(run.task.score_warning(run.texts["test"]) if isinstance(run.task, GenerationTask) else []),
        f"model   {run.config.model.model_name_or_path}, not trained",
    ]
    return "\n".join(lines)


def summary(run: PromptRun, metrics: dict[str, Any]) -> str:
    """A short table of the scores, and where everything is."""
    names = [*run.task.shown_metrics, "invalid_rate", "shortened_texts"]
    lines = score_lines(metrics, [name for name in names if name in metrics["test"]])
    cost = metrics["cost"]
    lines.append(f"{short(cost['posts_per_second'])} posts/s, peak memory {cost['peak_memory_mb']:,.0f} MB")
    lines.append(f"Results are in {run.config.run_folder}")
    return "\n".join(lines)
