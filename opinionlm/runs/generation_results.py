"""The end of a generative run: scores of every split, the best model, predictions, figures, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.methods import count_parameters
from opinionlm.config.chosen_metric import score_title
from opinionlm.config.config import Config
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.loading import describe_platforms
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.charts import ClassF1Chart, ConfusionChart
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.generation import INVALID, answer_confusion
from opinionlm.evaluation.metrics import bootstrap_intervals
from opinionlm.evaluation.prediction_tables import split_table
from opinionlm.inference.input_forms import save_input_forms
from opinionlm.inference.saved_generative import SETTINGS, GenerativeSettings, save_generative
from opinionlm.models.backbones import anatomy_of
from opinionlm.models.generative import plain_model
from opinionlm.models.quantization import quantized_modules
from opinionlm.reporting.model_card import cleaning_note, trust_section
from opinionlm.reporting.tracking.base import Tracker
from opinionlm.runs.files import write_history, write_metrics, write_split
from opinionlm.runs.results import score_lines
from opinionlm.tasks.base import Decision
from opinionlm.tasks.generation import GenerationTask, answer_metric
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.training.cost import block_flops
from opinionlm.training.instruct_data import AnswerSplit, supervised_tokens
from opinionlm.training.instruct_trainer import InstructSplit, InstructTrainer
from opinionlm.training.spending import Preparation, cost_facts, describe_cost
from opinionlm.training.training_facts import training_facts, training_rows
from opinionlm.utils.files import partial_folder, publish, write_text

# Longer texts are cut in the file of predictions, ids tell which they are.
SHOWN_CHARACTERS = 2_000


@dataclass(frozen=True)
class AnswerResult:
    """Answers of one split and their scores.

    Attributes:
        answers: label scores, or texts, as `GenerationTask.answer` returns them.
        scores: plain floats, intervals as ``[low, high]``; of label scores also those of platforms and periods.
        labels: gold labels and calibrated predictions; None where the model writes its answers.
    """

    answers: Sequence[Any]
    scores: dict[str, Any]
    labels: SplitPredictions | None = None


@dataclass(frozen=True)
class AnswerResults:
    """What a trained model answers.

    Attributes:
        splits: validation and test.
        rule: for label scores, fitted on validation before test was read.
    """

    splits: dict[str, AnswerResult]
    rule: AnswerRule

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """The scores of each split."""
        return {name: result.scores for name, result in self.splits.items()}


def evaluate_splits(
    trainer: InstructTrainer,
    task: GenerationTask,
    splits: dict[str, AnswerSplit],
    readers: dict[str, InstructSplit],
    config: Config,
) -> AnswerResults:
    """Answers and scores of validation and test by the trainer's model; every process takes part."""
    rule, results = AnswerRule(), {}
    for name in ("validation", "test"):
        texts = splits[name].texts
        outcome = trainer.judge(readers[name], task.answer)
        if task.scores_labels:
            labels, likelihoods = SequenceTask(task.prepared, config), task.likelihoods(outcome.predictions)
            if name == "validation":
                train_labels = np.asarray(splits["train"].texts["label"])
                rule = labels.fit_rule(np.asarray(texts["label"]), likelihoods, train_labels)
            result = labels.evaluate_logits(texts, likelihoods, rule, outcome.loss)
            results[name] = AnswerResult(outcome.predictions, result.scores, result.predictions)
            continue
        scores = task.scores(texts, outcome)
        if task.encoder.words:
            gold, predicted = np.asarray(texts["label"]), task.labels(outcome.predictions)
            scores |= bootstrap_intervals(gold, predicted, len(task.encoder.words))
        results[name] = AnswerResult(outcome.predictions, scores)
    return AnswerResults(results, rule)


def save_best_answers(
    config: Config,
    trainer: InstructTrainer,
    task: GenerationTask,
    results: AnswerResults,
    numbers: dict[str, Any],
) -> None:
    """Write ``best/``, all at once: the model or its adapter, tokenizer, prompts, labels, answer rule and card."""
    best, model, options = config.run_folder / "best", trainer.model, config.instruct
    encoder, prepared = task.encoder, task.prepared
    placement = config.method.adaptation
    bottleneck = (placement, config.method.adapter_size) if placement in ("houlsby", "pfeiffer") else None
    is_whole = bottleneck is None and plain_model(model) is model
    settings = GenerativeSettings(
        task=prepared.task,
        template=encoder.template,
        taxonomy=prepared.taxonomy,
        max_length=config.data.max_length,
        max_answer_length=options.max_answer_length,
        decode=options.decode,
        score_normalisation=options.score_normalisation,
        calibration=options.calibration,
        num_beams=options.num_beams,
        base_model=None if is_whole else config.model.model_name_or_path,
        bottleneck=bottleneck,
        rule=results.rule,
        cleaning=prepared.cleaning,
    )
    card = answer_card(config, task, results, numbers)
    with partial_folder(best) as folder:
        save_generative(folder, model, encoder.tokenizer, settings)
        save_input_forms(folder, prepared, encoder.template.shows_context, platforms=False)
        write_text(folder / "README.md", card)
        publish(folder, best, is_current=lambda: False)


def answer_numbers(
    config: Config,
    trainer: InstructTrainer,
    train_output: TrainOutput,
    seconds: tuple[float, float],
    splits: dict[str, AnswerSplit],
) -> dict[str, Any]:
    """What a trained model is and what it took: the sections ``train``, ``model`` and ``cost`` of ``metrics.json``.

    Args:
        config: the run's options.
        trainer: holds the best model.
        train_output: what it returned.
        seconds: of training, and of evaluation behind it.
        splits: as they were encoded.
    """
    model, state, supervised = trainer.model, trainer.state, supervised_tokens(splits)["train"]
    tokens = state.num_input_tokens_seen
    flops = train_flops(trainer, tokens, supervised)
    return {
        "train": {
            **training_facts(config, state, trainer.plan, train_output),
            "supervised_tokens": supervised,
            "rejected": {name: len(split.texts) - split.encoded["reason"].count("") for name, split in splits.items()},
        },
        "model": count_parameters(model) | {"quantized_modules": len(quantized_modules(model))},
        "cost": cost_facts(Preparation(), *seconds, tokens=tokens, train_flops=flops),
    }


def write_answer_results(
    config: Config,
    trainer: InstructTrainer,
    task: GenerationTask,
    splits: dict[str, AnswerSplit],
    results: AnswerResults,
    numbers: dict[str, Any],
    tracker: Tracker,
) -> dict[str, Any]:
    """Write ``best/``, predictions, figures, history and, last of all, ``metrics.json``; print the summary.

    Returns:
        The content of ``metrics.json``.
    """
    save_best_answers(config, trainer, task, results, numbers)
    folder, state, taxonomy = config.run_folder, trainer.state, task.prepared.taxonomy
    chosen = answer_metric(task.prepared, config)
    fitted = SequenceTask(task.prepared, config).decision_facts(Decision(results.rule))
    metrics = {
        "train": numbers["train"],
        "chosen_by": asdict(chosen),
        **results.scores,
        **({"decision": fitted} if task.scores_labels else {}),
        "model": numbers["model"],
        "cost": numbers["cost"],
    }
    for name, result in results.splits.items():
        if result.labels is None:
            write_answers(folder, name, task, splits[name].texts, result.answers, tracker)
        else:
            write_label_scores(folder, name, splits[name].texts, result.labels, taxonomy, tracker, result.scores)
    write_history(folder, state.log_history, chosen)
    write_metrics(folder, metrics, task.prepared, tracker)
    print(answer_summary(config, metrics, task))
    return metrics


def write_answers(
    folder: Path, name: str, task: GenerationTask, texts: Dataset, predictions: Sequence[Any], tracker: Tracker
) -> None:
    """Write ``predictions/<split>.csv`` and the figures that a closed label set has.

    Args:
        folder: of the run.
        name: of the split.
        task: made the predictions.
        texts: the split's prepared rows.
        predictions: one per row, as `GenerationTask.answer` returns them.
        tracker: gets label scores too.
    """
    taxonomy = task.prepared.taxonomy
    if taxonomy is None:
        header = ["id", "platform", "text", "context", "gold", "answer"]
        write_split(folder, name, (header, answer_rows(texts, predictions)), charts={})
        return
    gold = np.asarray(texts["label"])
    if task.scores_labels:
        pairs = texts["text_pair"] if "text_pair" in texts.column_names else None
        labels = SplitPredictions(taxonomy.leaves, texts["text"], gold, task.probabilities(predictions), pairs)
        write_label_scores(folder, name, texts, labels, taxonomy, tracker)
        return
    levels = [f"level{level}" for level in range(1, taxonomy.depth + 1)]
    predicted = task.labels(predictions)
    header = ["id", "platform", "text", "gold", "predicted", *levels, "answer"]
    confusion = answer_confusion(gold, predicted, len(taxonomy.leaves))
    charts = {
        "confusion": ConfusionChart(confusion, taxonomy.leaves),
        "per_class": ClassF1Chart(confusion, taxonomy.leaves),
    }
    write_split(folder, name, (header, written_labels(taxonomy, texts, predicted, predictions)), charts)


def write_label_scores(
    folder: Path,
    name: str,
    texts: Dataset,
    labels: SplitPredictions,
    taxonomy: Taxonomy,
    tracker: Tracker,
    scores: Mapping[str, Any] | None = None,
) -> None:
    """Write and log predictions that have a probability per label.

    Args:
        folder: of the run.
        name: of the split.
        texts: the split's prepared rows.
        labels: gold and predicted ones.
        taxonomy: the label tree.
        tracker: of the run.
        scores: of the split, with those over time where there are some.
    """
    table = split_table(texts["id"], texts["platform"], labels, taxonomy)
    write_split(folder, name, table, labels.charts(), scores)
    tracker.log_predictions(name, labels)


def answer_rows(texts: Dataset, answers: Sequence[str]) -> Iterator[list[str]]:
    """One row per text with a free answer; several gold answers stand one per line."""
    for row, answer in zip(texts, answers, strict=True):
        text, context = row["text"][:SHOWN_CHARACTERS], (row["context"] or "")[:SHOWN_CHARACTERS]
        yield [row["id"], row["platform"], text, context, "\n".join(row["answers"]), answer]


def written_labels(
    taxonomy: Taxonomy, texts: Dataset, predicted: np.ndarray, answers: Sequence[str]
) -> Iterator[list[str]]:
    """One row per text whose label was written; without a valid one label and levels are blank."""
    for row, leaf, answer in zip(texts, predicted.tolist(), answers, strict=True):
        levels = range(1, taxonomy.depth + 1)
        names = [""] * (1 + taxonomy.depth)
        if leaf != INVALID:
            names = [taxonomy.leaves[leaf], *(taxonomy.label_at(leaf, level) for level in levels)]
        yield [row["id"], row["platform"], row["text"], taxonomy.leaves[row["label"]], *names, answer]


def train_flops(trainer: InstructTrainer, tokens: int, supervised: int) -> float:
    """Operations of the training run: the blocks for every token, the output layer for supervised ones.

    Of an encoder-decoder model both halves are counted for every token of the prompt, the long one: an upper bound.
    """
    base = plain_model(trainer.model)
    embedding, head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    per_supervised = (6 if head.requires_grad else 4) * head.numel()
    answers = supervised * (trainer.state.epoch or 0.0)
    recomputed = trainer.args.activation_checkpointing
    per_token = block_flops(anatomy_of(base).blocks, embedding.requires_grad, recomputed=recomputed)
    return per_token * tokens + per_supervised * answers


def describe_answers(
    config: Config, prepared: PreparedDataset, encoder: PromptEncoder, splits: dict[str, AnswerSplit], model: Any
) -> str:
    """The lines printed before training: what is trained on what."""
    counts, supervised = count_parameters(model), supervised_tokens(splits)
    sizes = ", ".join(f"{name} {len(split.texts):,}" for name, split in splits.items())
    left_out = sum(len(split.texts) - split.encoded["reason"].count("") for split in splits.values())
    share = counts["trainable_parameters"] / counts["total_parameters"]
    return (
        f"run     {config.run_folder}\n"
        f"data    {prepared.name} ({prepared.task}): {sizes} texts{describe_platforms(config.data)}\n"
        f"answers {supervised['train']:,} supervised tokens in training; {left_out} texts left out of the loss"
        f"{' (rejects.csv says why)' if left_out else ''}\n"
        f"model   {config.model.model_name_or_path}: {counts['total_parameters']:,} parameters, "
        f"{counts['trainable_parameters']:,} train ({share:.1%}, {config.method.adaptation})"
    )


def answer_summary(config: Config, metrics: dict[str, Any], task: GenerationTask) -> str:
    """A short table of the scores, and where everything is."""
    names = [*task.shown_metrics, *(["invalid_rate"] if "invalid_rate" in metrics["test"] else [])]
    lines = [*score_lines(metrics, names), describe_cost(metrics["cost"])]
    lines.append(f"Results are in {config.run_folder}; use the model with")
    lines.append(f"  python predict.py --model {config.run_folder / 'best'} --input posts.csv --output answers.csv")
    return "\n".join(lines)


def answer_card(config: Config, task: GenerationTask, results: AnswerResults, numbers: dict[str, Any]) -> str:
    """A Markdown card: what the model is, how it was made, how it is asked, how good it is."""
    prepared, training, parameters = task.prepared, config.training, numbers["model"]
    fit_rows = "\n".join(f"| {name} | {value} |" for name, value in training_rows(config, numbers["train"]))
    scores = results.scores
    trust = "" if results.splits["test"].labels is None else trust_section(config, results.rule, scores["test"])
    rows = [
        f"| {name} | {scores['validation'][name]:.4f} | {scores['test'][name]:.4f} |" for name in task.shown_metrics
    ]
    # A path on the machine that trained it means nothing to others.
    name = Path(config.model.model_name_or_path).name
    prompt = task.encoder.template.render("TEXT", "", (), task.encoder.words)
    metric = score_title(answer_metric(prepared, config).name)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- opinionlm
---

# {training.run_name}

`{name}` taught to answer prompts on `{prepared.name}` (task {prepared.task}, fingerprint
`{prepared.fingerprint[:16]}`) by instruction tuning with the loss on answer tokens only.
{parameters["trainable_parameters"]:,} of {parameters["total_parameters"]:,} parameters were trained
({config.method.adaptation}).

## Use

`python predict.py --model {config.run_folder / "best"} --input posts.csv --output answers.csv`
{cleaning_note(prepared)}
Prompts are written as in `{SETTINGS}`; for a text without examples:

```
{prompt}
```

## Scores

The checkpoint was chosen by validation {metric}; the test split was read once.

| metric | validation | test |
| --- | --- | --- |
{chr(10).join(rows)}

{trust}## Training

| option | value |
| --- | --- |
{fit_rows}
| max length | {config.data.max_length} tokens |
| seed | {training.seed} |
| cost | {describe_cost(numbers["cost"])} |
"""
