"""What every run of a training script prints and writes at its end: predictions, figures, history, metrics."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, TrainingArguments

from opinionlm.adaptation.methods import count_parameters
from opinionlm.data.loading import describe_platforms
from opinionlm.data.near_copies import near_copies
from opinionlm.data.prepared import PreparedDataset, read_manifest
from opinionlm.evaluation.metrics import under_covers
from opinionlm.models.precision import describe_device
from opinionlm.reporting.tracking.base import Tracker
from opinionlm.tasks.base import Decision, SplitResult, Task
from opinionlm.training.ema import describe_average
from opinionlm.training.spending import describe_cost
from opinionlm.utils.command_line import command
from opinionlm.utils.files import write_csv, write_json


def describe_run(
    task: Task[Any],
    splits: Mapping[str, Any],
    model: PreTrainedModel | PeftModel,
    total_steps: int,
    arguments: TrainingArguments,
) -> str:
    """The lines printed before training: what is trained on what."""
    config, counts = task.config, count_parameters(model)
    decay = config.robust.ema_decay
    sizes = ", ".join(f"{name} {len(split.texts):,}" for name, split in splits.items())
    share = counts["trainable_parameters"] / counts["total_parameters"]
    device = describe_device(arguments.device, arguments.world_size, config.model.dtype, arguments.bf16)
    lines = [
        f"run     {config.run_folder}: {total_steps:,} steps",
        f"device  {device}",
        f"data    {task.prepared.name}: {sizes} {task.describe(splits)}{describe_platforms(config.data)}",
        *task.notes(splits),
        f"model   {config.model.model_name_or_path}: {counts['total_parameters']:,} parameters, "
        f"{counts['trainable_parameters']:,} train ({share:.1%}, {config.method.adaptation})",
        *describe_rounding(model),
        *([] if decay is None else [describe_average(decay, total_steps)]),
    ]
    return "\n".join(lines)


def describe_rounding(model: PreTrainedModel | PeftModel) -> list[str]:
    """A warning where the parameters that train hold too few digits for their steps."""
    coarse = {p.dtype for p in model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
    return [
        f"warning: the parameters that train are {str(dtype).removeprefix('torch.')}, which loses steps much smaller "
        "than a weight; dtype: float32 with bf16: true keeps them"
        for dtype in coarse
    ]


def run_metrics(
    task: Task[Any], numbers: dict[str, Any], results: dict[str, SplitResult[Any]], decision: Decision
) -> dict[str, Any]:
    """What ``metrics.json`` holds; ``numbers`` are its sections ``train``, ``model`` and ``cost``."""
    is_chosen = task.config.training.engine in ("trainer", "loop")
    fitted = task.decision_facts(decision)
    return {
        "train": numbers["train"],
        **({"chosen_by": asdict(task.chosen_metric())} if is_chosen else {}),
        **{name: result.scores for name, result in results.items()},
        **({"decision": fitted} if fitted else {}),
        "model": numbers["model"],
        "cost": numbers["cost"],
    }


def finish_run(
    task: Task[Any],
    metrics: dict[str, Any],
    texts: Mapping[str, Dataset],
    results: dict[str, SplitResult[Any]],
    tracker: Tracker,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Write predictions, figures, history and, last of all, ``metrics.json``; print the summary.

    Returns:
        The content of ``metrics.json``.
    """
    for name, found in scores_without_near_copies(task.prepared, texts, results).items():
        metrics[name]["without_near_copies"] = found
    for name, result in results.items():
        write_result(task, name, texts[name], result, tracker)
    write_history(task, history)
    write_metrics(task, metrics, tracker)
    print(summary(task, metrics, results["test"].predictions.remarks()))
    return metrics


def scores_without_near_copies(
    prepared: PreparedDataset, texts: Mapping[str, Dataset], results: Mapping[str, SplitResult[Any]]
) -> dict[str, dict[str, Any]]:
    """Split → scores of the rows that are no near-copies of a training text, and how many are.

    Returns:
        ``near_copies``, ``rows`` without them, and `Predictions.scores_of` these; nothing for predictions of other
        than labels, for folds, whose test rows are no test, and where there are too many texts to compare.
    """
    found = {name: result.predictions for name, result in results.items() if result.predictions.of_texts}
    if not found or prepared.is_fold or (near := near_copies(prepared)) is None:
        return {}
    scores = {}
    for name, predictions in found.items():
        own = ~np.isin(np.asarray(texts[name]["id"]), list(near[name]))
        if not own.any():
            continue
        sizes = {"near_copies": int((~own).sum()), "rows": int(own.sum())}
        scores[name] = sizes | predictions.scores_of(own)
    return scores


def near_copy_line(test: Mapping[str, Any]) -> list[str]:
    """How many test texts are nearly training texts, and the scores without them; nothing where none is."""
    found = test.get("without_near_copies")
    if not found or not found["near_copies"]:
        return []
    share = found["near_copies"] / (found["near_copies"] + found["rows"])
    second = "accuracy" if "accuracy" in found else "subset_accuracy"
    return [
        f"near-copies of training texts in test: {found['near_copies']:,} ({share:.1%}); without them macro_f1 "
        f"{found['macro_f1']:.3f}, {second} {found[second]:.3f}"
    ]


def write_result(task: Task[Any], name: str, texts: Dataset, result: SplitResult[Any], tracker: Tracker) -> None:
    """Write ``predictions/<split>.csv`` and the figures of a split, those over time where it has periods; log them."""
    # Imported here, at the end: the start of a run does not wait for matplotlib.
    from opinionlm.reporting.charts import draw
    from opinionlm.reporting.figures import drift_figure, headed, save_figure

    folder, predictions = task.config.run_folder, result.predictions
    write_csv(folder / "predictions" / f"{name}.csv", *task.prediction_table(texts, predictions))
    figures = {kind: draw(chart) for kind, chart in predictions.charts().items()}
    if result.scores.get("periods"):
        figures["drift"] = drift_figure(result.scores["periods"])
    files = {kind: folder / "figures" / f"{kind}_{name}.png" for kind in figures}
    details = f"data {task.prepared.name}, {name} split, n = {len(texts):,}"
    for kind, figure in figures.items():
        save_figure(headed(figure, task.config.training.run_name, details), files[kind])
    tracker.log_predictions(name, predictions, files)


def write_history(task: Task[Any], history: Sequence[dict[str, Any]]) -> None:
    """Write ``history.json`` and, where validation was evaluated on the way, the learning curves."""
    from opinionlm.reporting.figures import headed, learning_curves, save_figure

    folder, chosen = task.config.run_folder, task.chosen_metric()
    write_json(folder / "history.json", history)
    if any("eval_loss" in entry for entry in history):
        curves = learning_curves(history, chosen.name, chosen.greater_is_better)
        curves = headed(curves, task.config.training.run_name, f"data {task.prepared.name}")
        save_figure(curves, folder / "figures" / "learning_curves.png")


def write_metrics(task: Task[Any], metrics: Mapping[str, Any], tracker: Tracker) -> None:
    """Tell the tracker how the run ended, and write ``metrics.json``, with which the run is finished."""
    folder = task.config.run_folder
    tracker.summarise(metrics)
    tracker.log_artifacts(task.prepared, folder / "best")
    write_json(folder / "metrics.json", metrics)


def summary(task: Task[Any], metrics: dict[str, Any], remarks: Sequence[str]) -> str:
    """A short table of the scores, what to know of the test answers, and where everything is."""
    folder = task.config.run_folder
    names = [*task.shown_metrics, *(["invalid_rate"] if "invalid_rate" in metrics["test"] else [])]
    lines = [*score_lines(metrics, names), *near_copy_line(metrics["test"])]
    lines += [*(f"warning: test: {remark}" for remark in remarks), describe_cost(metrics["cost"])]
    has_model = (folder / "best").is_dir()
    lines.append(f"Results are in {folder}" + ("; label new posts with" if has_model else ""))
    if has_model:
        source = ending_of_texts(task.prepared)
        output = source if source in ("jsonl", "conll") else "csv"
        model = shlex.quote(str(folder))
        lines.append(f"  {command('predict')} --model {model} --input new.{source} --output {task.answers}.{output}")
    return "\n".join(lines)


def ending_of_texts(prepared: PreparedDataset) -> str:
    """How the names of the training files end."""
    files = ((read_manifest(prepared.path) or {}).get("spec") or {}).get("files") or [{"path": ".csv"}]
    return files[0]["path"].removesuffix(".gz").rpartition(".")[2]


def score_lines(metrics: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Lines of a table of validation and test scores, with the interval of the test score where there is one."""
    width = max(20, *(len(name) for name in names))
    lines = [f"{'':<{width}}{'validation':>12}{'test':>8}   95 % interval (test)"]
    for name in names:
        interval = metrics["test"].get(f"{name}_ci95")
        bounds = "" if interval is None else f"   {interval[0]:.3f} to {interval[1]:.3f}"
        if name == "macro_f1" and interval is not None and (reason := under_covers(metrics["test"])):
            bounds += f" ({reason})"
        cells = "".join(
            f"{score_text(metrics[split][name]):>{room}}" for split, room in (("validation", 12), ("test", 8))
        )
        lines.append(f"{name:<{width}}{cells}{bounds}")
    return lines


def score_text(value: float) -> str:
    """A score to read; a whole number is a count."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
