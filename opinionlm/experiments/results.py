"""The end of a run: scores of every split, the best model, predictions, figures, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.methods import count_parameters
from opinionlm.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.metrics import all_scores, bootstrap_intervals, softmax
from opinionlm.evaluation.predictions import split_table
from opinionlm.evaluation.reports import SplitPredictions
from opinionlm.experiments.figures import (
    confusion_figure,
    learning_curves,
    per_class_figure,
    reliability_figure,
    save_figure,
)
from opinionlm.experiments.model_card import model_card
from opinionlm.experiments.tracking import Tracker
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.cost import peak_memory_mb, train_flops_per_token
from opinionlm.training.runs import write_csv, write_json, write_text
from opinionlm.training.splits import Split
from opinionlm.training.trainer import OpinionTrainer


@dataclass(frozen=True)
class SplitResult:
    """Predictions of one split, rows in the order of its texts, and their scores.

    Attributes:
        predictions: gold labels and probabilities.
        scores: plain floats, and intervals as ``[low, high]``.
    """

    predictions: SplitPredictions
    scores: dict[str, Any]


def evaluate_splits(
    trainer: OpinionTrainer,
    splits: dict[str, Split],
    readers: dict[str, EncodedTexts],
    taxonomy: Taxonomy,
    weights: torch.Tensor,
) -> dict[str, SplitResult]:
    """Predict validation and test with the trainer's model (every process takes part) and score them."""
    results = {}
    for name in ("validation", "test"):
        split = splits[name]
        logits = split.in_text_order(trainer.predict(readers[name]).predictions)
        gold = np.asarray(split.texts["label"])
        scores: dict[str, Any] = all_scores(gold, logits, taxonomy, weights.numpy())
        scores |= bootstrap_intervals(gold, logits.argmax(axis=1), len(taxonomy.leaves))
        predictions = SplitPredictions(taxonomy.leaves, split.texts["text"], gold, softmax(logits))
        results[name] = SplitResult(predictions, scores)
    return results


def save_best(
    model: OpinionClassifier,
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    prepared: PreparedDataset,
    results: dict[str, SplitResult],
) -> None:
    """Write ``best/``: weights, configuration, label tree, tokenizer and model card."""
    folder = config.run_folder / "best"
    model.save_pretrained(folder)
    # Whoever truncates with this tokenizer, a pipeline for one, cuts where training did.
    tokenizer.model_max_length = config.data.max_length
    tokenizer.save_pretrained(folder)
    card = model_card(config, prepared, count_parameters(model), results["validation"].scores, results["test"].scores)
    write_text(folder / "README.md", card)


def write_results(
    config: Config,
    trainer: OpinionTrainer,
    train_output: TrainOutput,
    train_seconds: float,
    splits: dict[str, Split],
    results: dict[str, SplitResult],
    taxonomy: Taxonomy,
    tracker: Tracker,
) -> dict[str, Any]:
    """Write predictions, figures, history and, last of all, ``metrics.json``; print the summary.

    Returns:
        The content of ``metrics.json``.
    """
    folder, model = config.run_folder, trainer.model
    tokens = trainer.state.num_input_tokens_seen
    metrics = {
        "train": {
            "loss": train_output.training_loss,
            "epochs": trainer.state.epoch,
            "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step,
        },
        **{name: result.scores for name, result in results.items()},
        "model": count_parameters(model) | {"quantized_modules": len(quantized_modules(model))},
        "cost": {
            "train_seconds": train_seconds,
            "tokens_per_second": tokens / train_seconds,
            "peak_memory_mb": peak_memory_mb(),
            "train_flops": train_flops_per_token(model) * tokens,
        },
    }
    for name, result in results.items():
        texts, predictions = splits[name].texts, result.predictions
        header, rows = split_table(
            texts["id"], texts["platform"], predictions.texts, predictions.gold, predictions.probabilities, taxonomy
        )
        write_csv(folder / "predictions" / f"{name}.csv", header, rows)
        confusion, figures = predictions.confusion, folder / "figures"
        save_figure(confusion_figure(confusion, taxonomy.leaves), figures / f"confusion_{name}.png")
        save_figure(per_class_figure(confusion, taxonomy.leaves), figures / f"per_class_{name}.png")
        reliability = reliability_figure(predictions.gold, predictions.probabilities)
        save_figure(reliability, figures / f"reliability_{name}.png")
        tracker.log_predictions(name, predictions)
    write_json(folder / "history.json", trainer.state.log_history)
    save_figure(learning_curves(trainer.state.log_history), folder / "figures" / "learning_curves.png")
    tracker.summarise(metrics)
    write_json(folder / "metrics.json", metrics)
    print(summary(config, metrics, taxonomy))
    return metrics


def describe_run(config: Config, prepared: PreparedDataset, splits: dict[str, Split], model: OpinionClassifier) -> str:
    """The lines printed before training: what is trained on what."""
    counts = count_parameters(model)
    sizes = ", ".join(f"{name} {len(split.texts):,}" for name, split in splits.items())
    share = counts["trainable_parameters"] / counts["total_parameters"]
    return (
        f"run     {config.run_folder}\n"
        f"data    {prepared.name}: {sizes} texts, {len(prepared.taxonomy.leaves)} labels\n"
        f"model   {config.model.model_name_or_path}: {counts['total_parameters']:,} parameters, "
        f"{counts['trainable_parameters']:,} train ({share:.1%}, {config.method.adaptation})"
    )


def summary(config: Config, metrics: dict[str, Any], taxonomy: Taxonomy) -> str:
    """A short table of the scores, and where everything is."""
    names = ["macro_f1", "accuracy", *[f"level{level}_macro_f1" for level in range(1, taxonomy.depth + 1)]]
    names += ["hierarchical_f1", "ece"]
    lines = [f"{'':<20}{'validation':>12}{'test':>8}   95 % interval (test)"]
    for name in names:
        interval = metrics["test"].get(f"{name}_ci95")
        shown = "" if interval is None else f"   {interval[0]:.3f} to {interval[1]:.3f}"
        lines.append(f"{name:<20}{metrics['validation'][name]:>12.3f}{metrics['test'][name]:>8.3f}{shown}")
    cost = metrics["cost"]
    lines.append(
        f"{cost['train_seconds']:.0f} s of training, {cost['tokens_per_second']:,.0f} tokens/s, "
        f"peak memory {cost['peak_memory_mb']:,.0f} MB"
    )
    lines.append(f"Results are in {config.run_folder}; label new posts with")
    lines.append(f"  python predict.py --model {config.run_folder / 'best'} --input posts.csv --output labels.csv")
    return "\n".join(lines)
