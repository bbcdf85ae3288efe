"""The data that the page embeds: runs that can be compared together, cut to a size that a browser likes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from opinionlm.config.chosen_metric import direction
from opinionlm.experiments.dashboard.collect import SPLITS, Collection, Run
from opinionlm.experiments.dashboard.data_reports import DataReport
from opinionlm.experiments.dashboard.methods import methods_of, rounded, shown_option
from opinionlm.experiments.dashboard.predictions import MISTAKES, SAMPLE, SHOWN_CHARACTERS, PredictedRow
from opinionlm.runs.seed_families import option_key, option_of

# Over all runs and splits; with more runs every run gets fewer rows.
MOST_PREDICTIONS = 12_000
MOST_POINTS = 200
# Answers of all runs of a group to all its test texts, which tell what flipped between any two.
MOST_ANSWERS = 400_000

# The first of these that the runs have is shown first; without any, the first metric that is better when higher.
MAIN = ("entity_f1", "macro_f1", "f1", "rougeL", "rouge_l", "pearson", "spearman", "exact_match", "accuracy")
# Metrics that only one task has; runs on prepared data that are no longer there say by them what they predict.
TELLING = {
    "subset_accuracy": "multi_label",
    "entity_f1": "token",
    "pearson": "similarity",
    "exact_match": "qa",
    "rougeL": "summarization",
}
# The trainer's own bookkeeping in the history.
NOT_CURVES = re.compile(r"runtime|per_second|num_input_tokens|^f1_|_ci95$|preparation_time")


def build_payload(collection: Collection) -> dict[str, Any]:
    """Everything the page shows, as plain values; equal folders give equal payloads."""
    runs = sorted(collection.runs, key=lambda run: (_group_key(run, collection.reports), run.name))
    grouped = [list(members) for _, members in groupby(runs, key=lambda run: _group_key(run, collection.reports))]
    # The largest first: it is what most people come for.
    grouped.sort(key=lambda members: -len(members))
    files = sum(len(run.predictions) for run in runs)
    per_file = min(MISTAKES + SAMPLE, max(8, MOST_PREDICTIONS // max(files, 1)))
    names = {metric.split(".", 1)[-1] for run in runs for metric in run.metrics}
    return {
        "root": collection.root.resolve().name,
        "limits": {
            "mistakes": per_file * MISTAKES // (MISTAKES + SAMPLE),
            "sample": per_file * SAMPLE // (MISTAKES + SAMPLE),
            "characters": SHOWN_CHARACTERS,
        },
        "directions": {name: direction(name) for name in sorted(names)},
        "groups": [_group(members, collection.reports, per_file) for members in grouped],
        "unusable": [asdict(entry) for entry in collection.unusable],
    }


def dataset_name(run: Run, report: DataReport | None) -> str:
    """The data set of a run as people call it."""
    if report is not None:
        return report.name
    name = str(run.config.get("dataset", "")).rstrip("/").rpartition("/")[2]
    return name.removesuffix(".yaml").removesuffix(".yml") or "unknown data"


def task_name(run: Run, report: DataReport | None) -> str:
    """What a run predicts."""
    task = str(run.config.get("task", "auto"))
    if task != "auto":
        return task
    if report is not None:
        return report.task
    metrics = {name.rpartition(".")[2] for name in run.metrics}
    known = next((task for metric, task in TELLING.items() if metric in metrics), "")
    return known or ("sequence" if run.labels else "text to text")


def _group_key(run: Run, reports: dict[str, DataReport]) -> tuple[str, str, str]:
    """Runs may be compared that solve the same task on the same texts of the same data set.

    The texts are known from the test predictions; a run without any is compared with runs on equal prepared data.
    """
    report = reports.get(run.data_fingerprint)
    summary = run.predictions.get("test")
    texts = run.data_fingerprint[:16] if summary is None else summary.fingerprint
    return dataset_name(run, report), task_name(run, report), texts


def _group(runs: Sequence[Run], reports: dict[str, DataReport], per_file: int) -> dict[str, Any]:
    """One group of comparable runs."""
    first = runs[0]
    report = reports.get(first.data_fingerprint)
    common, varying = _split_options(runs)
    rows: dict[str, list[dict[str, Any]]] = {}
    shown: dict[tuple[str, str], dict[str, Any]] = {}
    for split in SPLITS:
        rows[split] = _shared_rows(runs, split, per_file, shown)
    test = first.predictions.get("test")
    labels = next((run.labels for run in runs if run.labels), ())
    main = _main_metric(runs)
    with_answers = test is not None and test.support is None and test.rows * len(runs) <= MOST_ANSWERS
    fingerprints = sorted({run.data_fingerprint for run in runs} - {""})
    return {
        "dataset": dataset_name(first, report),
        "task": task_name(first, report),
        "labels": list(labels),
        "parents": [list(names) for names in next((run.parents for run in runs if run.labels), ())],
        "testRows": None if test is None else test.rows,
        "fingerprints": fingerprints,
        "main": main,
        "common": {name: shown_option(value) for name, value in common.items()},
        "varying": varying,
        "rows": rows,
        "runs": [_run(run, labels, varying, shown, with_answers) for run in runs],
        "methods": methods_of(runs, main),
        "gold": list(test.gold) if test is not None and with_answers else None,
        "reports": [asdict(reports[fingerprint]) for fingerprint in fingerprints if fingerprint in reports],
    }


def _run(
    run: Run,
    labels: tuple[str, ...],
    varying: Sequence[str],
    shown: dict[tuple[str, str], dict[str, Any]],
    with_answers: bool,
) -> dict[str, Any]:
    """One run without what it shares with its group; with all its test answers if asked for."""
    splits = {}
    for split, summary in run.predictions.items():
        splits[split] = {
            "rows": summary.rows,
            "wrong": len(summary.wrong),
            "kind": summary.kind,
            "confusion": summary.confusion if summary.labels == labels else None,
            "support": summary.support,
            **shown[run.name, split],
        }
    if with_answers and "test" in splits and run.predictions["test"].labels == labels:
        splits["test"]["answers"] = list(run.predictions["test"].predicted)
    return {
        "name": run.name,
        "finished": run.finished,
        "warnings": run.warnings,
        "members": run.members,
        "options": {name: shown_option(option_of(run.shown, name) if run.shown else None) for name in varying},
        "environment": {
            name: run.environment[name]
            for name in ("device", "processor", "processes", "git_commit", "data_fingerprint")
            if isinstance(run.environment.get(name), str | int)
        },
        "metrics": {name: rounded(value) for name, value in run.metrics.items()},
        "intervals": {name: [rounded(low), rounded(high)] for name, (low, high) in run.intervals.items()},
        "curves": curves(run.history),
        "splits": splits,
    }


def _split_options(runs: Sequence[Run]) -> tuple[dict[str, Any], list[str]]:
    """Options that all runs share, and the names of those in which they differ, in the order of the config."""
    told = [run.shown for run in runs if run.shown]
    names = list(dict.fromkeys(name for shown in told for name in shown))
    different = [name for name in names if len({option_key(shown, name) for shown in told}) > 1]
    common = {name: option_of(told[0], name) for name in names if name not in different}
    return common, [name for name in different if name not in {"run_name", "output_dir"}]


def _main_metric(runs: Sequence[Run]) -> str:
    """The metric by which the runs of a group are shown first: what all their checkpoints were chosen by, if told."""
    names = {name.split(".", 1)[-1] for run in runs for name in run.metrics if name.split(".", 1)[0] in SPLITS}
    asked = {str(run.config.get("metric_for_best_model") or "").removeprefix("eval_") for run in runs}
    if len(asked) == 1 and asked <= names:
        return asked.pop()
    better_when_higher = sorted(name for name in names if direction(name) == "higher")
    return next((name for name in (*MAIN, *better_when_higher, *sorted(names)) if name in names), "")


def curves(history: Sequence[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Learning curves as ``[step, value]`` points by name: ``loss`` of training, ``eval_…`` of validation."""
    points: dict[str, dict[int, float]] = {}
    for entry in history:
        step = entry.get("step")
        if not isinstance(step, int):
            continue
        for name, value in entry.items():
            wanted = name == "loss" or (name.startswith("eval_") and not NOT_CURVES.search(name[5:]))
            if wanted and isinstance(value, int | float) and math.isfinite(value):
                # A step that was logged twice after a resume counts once.
                points.setdefault(name, {})[step] = rounded(value)
    return {name: thinned([[step, value] for step, value in sorted(found.items())]) for name, found in points.items()}


def thinned(points: list[list[float]]) -> list[list[float]]:
    """At most `MOST_POINTS` points spread evenly, first and last among them."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[round(index * (len(points) - 1) / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]


def _shared_rows(
    runs: Sequence[Run], split: str, per_file: int, shown: dict[tuple[str, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Texts that any run shows, each once, with the number of runs that are wrong on it.

    Args:
        runs: of one group.
        split: whose predictions.
        per_file: how many rows a run shows.
        shown: filled with, per run and split, ``[text, predicted, confidence]`` of its mistakes and its sample.
    """
    having = [run for run in runs if split in run.predictions]
    evaluated = Counter(run.predictions[split].fingerprint for run in having)
    wrong = Counter(
        (run.predictions[split].fingerprint, key) for run in having for key in run.predictions[split].wrong
    )
    order = {
        summary.fingerprint: {key: at for at, key in enumerate(summary.keys)}
        for summary in (run.predictions[split] for run in having)
    }
    places: dict[tuple[str, str], int] = {}
    rows: list[dict[str, Any]] = []

    def placed(chosen: Iterable[PredictedRow], fingerprint: str) -> list[list[Any]]:
        entries = []
        for row in chosen:
            place = places.setdefault((fingerprint, row.key), len(rows))
            if place == len(rows):
                count = [wrong[fingerprint, row.key], evaluated[fingerprint]]
                fields = {"id": row.key, "at": order[fingerprint][row.key]}
                fields |= {"platform": row.platform, "text": row.text, "gold": row.gold}
                rows.append(fields | {"wrongRuns": count})
            confidence = None if row.confidence is None or not math.isfinite(row.confidence) else row.confidence
            entries.append(
                [place, row.predicted[:SHOWN_CHARACTERS], None if confidence is None else round(confidence, 4)]
            )
        return entries

    for run in having:
        summary = run.predictions[split]
        mistakes = summary.mistakes[: per_file * MISTAKES // (MISTAKES + SAMPLE)]
        count = min(len(summary.sample), per_file * SAMPLE // (MISTAKES + SAMPLE))
        sample = [summary.sample[index * len(summary.sample) // count] for index in range(count)]
        shown[run.name, split] = {
            "mistakes": placed(mistakes, summary.fingerprint),
            "sample": placed(sample, summary.fingerprint),
        }
    return rows
