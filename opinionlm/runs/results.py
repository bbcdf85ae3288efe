"""The end of a run: the best model, predictions, figures, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.methods import count_parameters
from opinionlm.data.contamination import plain_texts, save_seen_texts
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.data.loading import describe_platforms
from opinionlm.inference.input_forms import save_input_forms
from opinionlm.inference.saved_decision import keep_rule
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules
from opinionlm.reporting.model_card import model_card
from opinionlm.reporting.tracking.base import Tracker
from opinionlm.runs.adapt_results import adapt_parameters, tokens_per_text
from opinionlm.runs.files import write_history, write_metrics, write_split
from opinionlm.tasks.base import Decision, SplitResult, Task
from opinionlm.training.adapt_selection import Choice
from opinionlm.training.cost import train_flops
from opinionlm.training.ema import describe_average
from opinionlm.training.engines import Engine
from opinionlm.training.spending import Preparation, cost_facts, describe_cost
from opinionlm.training.splits import Split
from opinionlm.training.training_facts import training_facts
from opinionlm.utils.files import partial_folder, publish, write_text


@dataclass(frozen=True)
class Training:
    """What training took and gave, beside the model itself.

    Attributes:
        output: what the engine returned.
        preparation: what was spent before training.
        seconds: of training.
        evaluation_seconds: of validation and test at the end.
        is_cached: whether training read stored states of frozen blocks.
        choice: of AdaPT.
    """

    output: TrainOutput
    preparation: Preparation
    seconds: float
    evaluation_seconds: float
    is_cached: bool
    choice: Choice


def describe_run(task: Task[Any], splits: dict[str, Split], model: OpinionClassifier, total_steps: int) -> str:
    """The lines printed before training: what is trained on what.

    Args:
        task: of the run.
        splits: encoded.
        model: with its adaptation applied.
        total_steps: optimizer steps of the run.
    """
    config, counts = task.config, count_parameters(model)
    decay = config.robust.ema_decay
    average = "" if decay is None else f"\n{describe_average(decay, total_steps)}"
    sizes = ", ".join(f"{name} {len(split.texts):,}" for name, split in splits.items())
    share = counts["trainable_parameters"] / counts["total_parameters"]
    return (
        f"run     {config.run_folder}\n"
        f"data    {task.prepared.name}: {sizes} {task.describe(splits)}{describe_platforms(config.data)}\n"
        f"model   {config.model.model_name_or_path}: {counts['total_parameters']:,} parameters, "
        f"{counts['trainable_parameters']:,} train ({share:.1%}, {config.method.adaptation}){average}"
    )


def run_numbers(
    task: Task[Any], engine: Engine, training: Training, splits: dict[str, Split], decision: Decision
) -> dict[str, Any]:
    """What a trained model is and what it took: the sections ``train``, ``model`` and ``cost`` of ``metrics.json``.

    Args:
        task: of the run.
        engine: holds the best model, its frozen blocks in place.
        training: what training took and gave.
        splits: as they were encoded.
        decision: fitted on validation.
    """
    config, state, model = task.config, engine.state, engine.model
    train = training_facts(config, state, engine.plan, training.output)
    copies = task.copies(splits["train"])
    flops = train_flops(
        model,
        config.method,
        tokens=state.num_input_tokens_seen,
        cached=training.is_cached,
        cached_tokens=training.preparation.cache_train_tokens,
        recomputed=config.training.activation_checkpointing,
        # R-Drop computes every token twice.
        passes=2 if config.robust.rdrop_alpha > 0 else 1,
    )
    cost = cost_facts(
        training.preparation,
        training.seconds,
        training.evaluation_seconds,
        tokens=state.num_input_tokens_seen,
        train_flops=flops,
    )
    if train.get("epochs"):
        cost["train_tflops_per_epoch"] = flops / train["epochs"] / 1e12
    return {
        "train": train | ({"copies": copies} if copies else {}),
        "model": {
            **count_parameters(model),
            **({} if decision.blend is None else {"word_parameters": decision.blend.words.parameters}),
            "quantized_modules": len(quantized_modules(model)),
            **adapt_parameters(model, training.choice),
        },
        "cost": cost | tokens_per_text(model, splits["test"]),
    }


def save_best(
    model: OpinionClassifier,
    tokenizer: PreTrainedTokenizerBase,
    task: Task[Any],
    decision: Decision,
    results: dict[str, SplitResult[Any]],
    numbers: dict[str, Any],
) -> None:
    """Write ``best/``, all at once: weights, TF-IDF beside them, configuration with rule, tokenizer and model card."""
    config, prepared, blend = task.config, task.prepared, decision.blend
    model.config.cleaning = prepared.cleaning
    if task.decision_facts(decision):
        keep_rule(model.config, decision.rule)
        model.config.word_share = 0.0 if blend is None else blend.share
    card = model_card(task, decision, numbers, {name: result.scores for name, result in results.items()})
    best = config.run_folder / "best"
    with partial_folder(best) as folder:
        model.save_pretrained(folder)
        if blend is not None and blend.share > 0:
            blend.words.save(folder)
        texts = plain_texts(prepared.dataset["train"], prepared.task)
        save_seen_texts(folder, config.model.model_name_or_path, texts)
        save_tokenizer(tokenizer, folder, config.data.max_length)
        save_input_forms(folder, prepared, task.reads_pairs, bool(task.platforms))
        write_text(folder / "README.md", card)
        publish(folder, best, is_current=lambda: False)


def run_metrics(
    task: Task[Any], numbers: dict[str, Any], results: dict[str, SplitResult[Any]], decision: Decision
) -> dict[str, Any]:
    """What ``metrics.json`` holds.

    Args:
        task: of the run.
        numbers: the sections ``train``, ``model`` and ``cost``.
        results: of validation and test.
        decision: fitted on validation.
    """
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
    texts: dict[str, Dataset],
    results: dict[str, SplitResult[Any]],
    tracker: Tracker,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Write predictions, figures, history and, last of all, ``metrics.json``; print the summary.

    Args:
        task: of the run.
        metrics: what ``metrics.json`` will hold.
        texts: the prepared rows of each split.
        results: predictions and scores of validation and test.
        tracker: told about predictions and metrics.
        history: what was logged on the way.

    Returns:
        The content of ``metrics.json``.
    """
    folder = task.config.run_folder
    for name, result in results.items():
        table = task.prediction_table(texts[name], result.predictions)
        write_split(folder, name, table, result.predictions.charts(), result.scores)
        tracker.log_predictions(name, result.predictions)
    write_history(folder, history, task.chosen_metric())
    write_metrics(folder, metrics, task.prepared, tracker)
    print(summary(task, metrics))
    return metrics


def summary(task: Task[Any], metrics: dict[str, Any]) -> str:
    """A short table of the scores, and where everything is."""
    folder = task.config.run_folder
    lines = [*score_lines(metrics, task.shown_metrics), describe_cost(metrics["cost"])]
    model = folder / "best"
    lines.append(f"Results are in {folder}" + ("; label new posts with" if model.is_dir() else ""))
    if model.is_dir():
        lines.append(f"  python predict.py --model {model} --input posts.csv --output labels.csv")
    return "\n".join(lines)


def score_lines(metrics: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Lines of a table of validation and test scores, with the interval of the test score where there is one."""
    lines = [f"{'':<20}{'validation':>12}{'test':>8}   95 % interval (test)"]
    for name in names:
        interval = metrics["test"].get(f"{name}_ci95")
        bounds = "" if interval is None else f"   {interval[0]:.3f} to {interval[1]:.3f}"
        lines.append(f"{name:<20}{metrics['validation'][name]:>12.3f}{metrics['test'][name]:>8.3f}{bounds}")
    return lines
