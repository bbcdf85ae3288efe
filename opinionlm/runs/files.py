"""What every run writes at its end: predictions and figures of its splits, its history, its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opinionlm.config.chosen_metric import ChosenMetric
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.charts import Chart
from opinionlm.reporting.tracking.base import Tracker
from opinionlm.utils.files import write_csv, write_json


def write_split(
    folder: Path,
    name: str,
    table: tuple[list[str], Iterable[Sequence[str]]],
    charts: Mapping[str, Chart],
    scores: Mapping[str, Any],
    title: tuple[str, str],
) -> dict[str, Path]:
    """Write ``predictions/<split>.csv`` and the split's figures.

    Args:
        folder: of the run.
        name: of the split.
        table: header and rows.
        charts: what the figures show, by name.
        scores: of the split; with ``periods`` among them, scores over time are drawn.
        title: of the figures: the run, and data, split and number of texts.

    Returns:
        The figures' files, by name.
    """
    # Imported here, at the end: the start of a run does not wait for matplotlib.
    from opinionlm.reporting.charts import draw
    from opinionlm.reporting.figures import drift_figure, headed, save_figure

    write_csv(folder / "predictions" / f"{name}.csv", *table)
    figures = {kind: draw(chart) for kind, chart in charts.items()}
    if scores.get("periods"):
        figures["drift"] = drift_figure(scores["periods"])
    files = {kind: folder / "figures" / f"{kind}_{name}.png" for kind in figures}
    for kind, figure in figures.items():
        save_figure(headed(figure, *title), files[kind])
    return files


def write_history(
    folder: Path, history: Sequence[dict[str, Any]], chosen: ChosenMetric, title: tuple[str, str]
) -> None:
    """Write ``history.json`` and the learning curves.

    Args:
        folder: of the run.
        history: what was logged on the way; without an evaluation there is no curve.
        chosen: the score that chose the checkpoint.
        title: of the figure: the run, and its data.
    """
    from opinionlm.reporting.figures import headed, learning_curves, save_figure

    write_json(folder / "history.json", history)
    if any("eval_loss" in entry for entry in history):
        curves = learning_curves(history, chosen.name, chosen.greater_is_better)
        save_figure(headed(curves, *title), folder / "figures" / "learning_curves.png")


def write_metrics(folder: Path, metrics: Mapping[str, Any], prepared: PreparedDataset, tracker: Tracker) -> None:
    """Tell the tracker how the run ended, and write ``metrics.json``, with which the run is finished.

    Args:
        folder: of the run.
        metrics: what the file holds.
        prepared: the data set.
        tracker: of the run.
    """
    tracker.summarise(metrics)
    tracker.log_artifacts(prepared, folder / "best")
    write_json(folder / "metrics.json", metrics)
