"""The end of a run: the best model, predictions, figures, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.methods import count_parameters
from opinionlm.config.config import Config
from opinionlm.data.contamination import plain_texts, save_seen_texts
from opinionlm.data.encoding.augmentation import copies_per_label
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.data.loading import describe_platforms
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.prediction_tables import Predictions, score_table, split_table, tag_table
from opinionlm.evaluation.similarity import ScorePredictions
from opinionlm.evaluation.tagging import TagPredictions
from opinionlm.inference.input_forms import save_input_forms
from opinionlm.inference.saved_decision import keep_rule
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules
from opinionlm.reporting.figures import learning_curves, save_drift, save_figure
from opinionlm.reporting.model_card import model_card
from opinionlm.reporting.split_figures import figures_of
from opinionlm.reporting.tracking.base import Tracker
from opinionlm.runs.adapt_results import adapt_parameters, tokens_per_text
from opinionlm.tasks.base import Headline, choice_of, headline_of
from opinionlm.tasks.label_evaluation import Fitted, SplitResult, decision_facts
from opinionlm.training.adapt_selection import Choice
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.cost import train_flops
from opinionlm.training.engines import Engine
from opinionlm.training.spending import Preparation, cost_facts, describe_cost
from opinionlm.training.splits import Split
from opinionlm.training.training_facts import training_facts
from opinionlm.utils.files import partial_folder, publish, write_csv, write_json, write_text


def save_best(
    model: OpinionClassifier,
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    prepared: PreparedDataset,
    results: dict[str, SplitResult],
    fitted: Fitted,
    numbers: dict[str, Any],
) -> None:
    """Write ``best/``, all at once: weights, words, configuration with labels and rule, tokenizer and model card."""
    blend = fitted.blend
    model.config.cleaning = prepared.cleaning
    if prepared.task == "sequence":
        keep_rule(model.config, fitted.rule)
        model.config.word_share = 0.0 if blend is None else blend.share
    scores = {name: result.scores for name, result in results.items()}
    card = model_card(config, prepared, numbers, scores["validation"], scores["test"], fitted)
    best = config.run_folder / "best"
    with partial_folder(best) as folder:
        model.save_pretrained(folder)
        if blend is not None and blend.share > 0:
            blend.words.save(folder)
        texts = plain_texts(prepared.dataset["train"], prepared.task)
        save_seen_texts(folder, config.model.model_name_or_path, texts)
        save_tokenizer(tokenizer, folder, config.data.max_length)
        is_sequence = prepared.task == "sequence"
        pairs = is_sequence and model.config.text_pairs or prepared.task == "similarity"
        save_input_forms(folder, prepared, pairs, is_sequence and bool(model.config.platforms))
        write_text(folder / "README.md", card)
        publish(folder, best, is_current=lambda: False)


def run_numbers(
    config: Config,
    engine: Engine,
    train_output: TrainOutput,
    seconds: tuple[float, float],
    preparation: Preparation,
    splits: dict[str, Split],
    readers: dict[str, EncodedTexts],
    prepared: PreparedDataset,
    fitted: Fitted,
    choice: Choice,
) -> dict[str, Any]:
    """What a trained model is and what it took: the sections ``train``, ``model`` and ``cost`` of ``metrics.json``.

    Args:
        config: the run's options.
        engine: holds the best model, its frozen blocks in place.
        train_output: what the engine returned.
        seconds: of training, and of evaluation behind it.
        preparation: what was spent before training.
        splits: as they were encoded.
        readers: as training read them.
        prepared: the data set.
        fitted: on validation.
        choice: of AdaPT.
    """
    state, model = engine.state, engine.model
    train = training_facts(config, state, engine.plan, train_output)
    copies = copies_of(splits["train"], prepared)
    flops = train_flops(
        model,
        config.method,
        tokens=state.num_input_tokens_seen,
        cached=readers["train"].states is not None,
        cached_tokens=preparation.cache_train_tokens,
        recomputed=config.training.activation_checkpointing,
        # R-Drop computes every token twice.
        passes=2 if config.robust.rdrop_alpha > 0 else 1,
    )
    cost = cost_facts(preparation, *seconds, tokens=state.num_input_tokens_seen, train_flops=flops)
    if train.get("epochs"):
        cost["train_tflops_per_epoch"] = flops / train["epochs"] / 1e12
    return {
        "train": train | ({"copies": copies} if copies else {}),
        "model": {
            **count_parameters(model),
            **({} if fitted.blend is None else {"word_parameters": fitted.blend.words.parameters}),
            "quantized_modules": len(quantized_modules(model)),
            **adapt_parameters(model, choice),
        },
        "cost": cost | tokens_per_text(model, splits["test"]),
    }


def write_results(
    config: Config,
    numbers: dict[str, Any],
    splits: dict[str, Split],
    results: dict[str, SplitResult],
    fitted: Fitted,
    prepared: PreparedDataset,
    tracker: Tracker,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Put scores beside `run_numbers` and finish the run with them; see `finish_run`."""
    metrics = {
        "train": numbers["train"],
        **({} if config.training.engine == "sklearn" else {"chosen_by": asdict(choice_of(prepared, config))}),
        **{name: result.scores for name, result in results.items()},
        **({"decision": decision_facts(fitted, config.decision)} if prepared.task == "sequence" else {}),
        "model": numbers["model"],
        "cost": numbers["cost"],
    }
    texts = {name: split.texts for name, split in splits.items()}
    return finish_run(config, metrics, texts, results, prepared, tracker, history)


def finish_run(
    config: Config,
    metrics: dict[str, Any],
    texts: dict[str, Dataset],
    results: dict[str, SplitResult],
    prepared: PreparedDataset,
    tracker: Tracker,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Write predictions, figures, history and, last of all, ``metrics.json``; print the summary.

    Args:
        config: the run's options.
        metrics: what ``metrics.json`` will hold.
        texts: the prepared rows of each split.
        results: predictions and scores of validation and test.
        prepared: the data set.
        tracker: told about predictions and metrics.
        history: what was logged on the way.

    Returns:
        The content of ``metrics.json``.
    """
    folder, headline = config.run_folder, headline_of(prepared)
    for name, result in results.items():
        header, rows = prediction_table(texts[name], result.predictions, prepared)
        write_csv(folder / "predictions" / f"{name}.csv", header, rows)
        for kind, figure in figures_of(result.predictions).items():
            save_figure(figure, folder / "figures" / f"{kind}_{name}.png")
        save_drift(result.scores, folder / "figures" / f"drift_{name}.png")
        tracker.log_predictions(name, result.predictions)
    write_json(folder / "history.json", history)
    if any("eval_loss" in entry for entry in history):
        chosen = choice_of(prepared, config)
        curves = learning_curves(history, chosen.name, chosen.greater_is_better)
        save_figure(curves, folder / "figures" / "learning_curves.png")
    tracker.summarise(metrics)
    tracker.log_artifacts(prepared, folder / "best")
    write_json(folder / "metrics.json", metrics)
    print(summary(config, metrics, headline))
    return metrics


def prediction_table(
    texts: Dataset, predictions: Predictions, prepared: PreparedDataset
) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows of ``predictions/<split>.csv``."""
    ids, platforms = texts["id"], texts["platform"]
    match predictions:
        case SplitPredictions():
            return split_table(ids, platforms, predictions, prepared.taxonomy)
        case TagPredictions():
            return tag_table(ids, platforms, predictions)
        case ScorePredictions():
            return score_table(ids, platforms, predictions)


def describe_run(config: Config, prepared: PreparedDataset, splits: dict[str, Split], model: OpinionClassifier) -> str:
    """The lines printed before training: what is trained on what."""
    counts = count_parameters(model)
    sizes = ", ".join(f"{name} {len(split.texts):,}" for name, split in splits.items())
    share = counts["trainable_parameters"] / counts["total_parameters"]
    return (
        f"run     {config.run_folder}\n"
        f"data    {prepared.name}: {sizes} {describe_labels(prepared, splits, config)}"
        f"{describe_platforms(config.data)}\n"
        f"model   {config.model.model_name_or_path}: {counts['total_parameters']:,} parameters, "
        f"{counts['trainable_parameters']:,} train ({share:.1%}, {config.method.adaptation})"
    )


def copies_of(train: Split, prepared: PreparedDataset) -> dict[str, int]:
    """Perturbed copies among the training texts, by label; empty without ``augment_rare``."""
    if prepared.task != "sequence":
        return {}
    counts = copies_per_label(train.texts["id"], train.texts["label"])
    return {prepared.taxonomy.leaves[label]: count for label, count in sorted(counts.items())}


def describe_labels(prepared: PreparedDataset, splits: dict[str, Split], config: Config) -> str:
    """What is predicted; of sentences also how many words max_length keeps from the model."""
    match prepared.task:
        case "token":
            positions = [
                place for split in splits.values() for row in split.encoded["word_positions"] for place in row
            ]
            unread = sum(place < 0 for place in positions)
            cut = f"; {unread:,} of {len(positions):,} words lie beyond max_length: {config.data.max_length}"
            return f"sentences, {len(prepared.tags) // 2} entity types{cut if unread else ''}"
        case "similarity":
            low, high = prepared.score_range
            return f"pairs, scores from {low:g} to {high:g}"
        case _:
            pairs = "text_pair" in splits["train"].texts.column_names
            copies = copies_of(splits["train"], prepared)
            made = f"; {sum(copies.values()):,} of train are copies, of {', '.join(copies)}" if copies else ""
            if config.robust.augment_rare > 0 and not copies:
                made = "; no label is rare enough for augment_rare to copy"
            return f"{'pairs' if pairs else 'texts'}, {len(prepared.taxonomy.leaves)} labels{made}"


def summary(config: Config, metrics: dict[str, Any], headline: Headline) -> str:
    """A short table of the scores, and where everything is."""
    lines = [f"{'':<20}{'validation':>12}{'test':>8}   95 % interval (test)"]
    for name in headline.shown:
        interval = metrics["test"].get(f"{name}_ci95")
        shown = "" if interval is None else f"   {interval[0]:.3f} to {interval[1]:.3f}"
        lines.append(f"{name:<20}{metrics['validation'][name]:>12.3f}{metrics['test'][name]:>8.3f}{shown}")
    lines.append(describe_cost(metrics["cost"]))
    model = config.run_folder / "best"
    lines.append(f"Results are in {config.run_folder}" + ("; label new posts with" if model.is_dir() else ""))
    if model.is_dir():
        lines.append(f"  python predict.py --model {model} --input posts.csv --output labels.csv")
    return "\n".join(lines)
