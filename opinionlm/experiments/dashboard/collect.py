"""Read every run folder below a folder; what cannot be read is named with its reason and never stops the rest."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from opinionlm.data.prepared import MANIFEST
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError, one_line
from opinionlm.experiments.dashboard.data_reports import DataReport, find_report, prepared_by_fingerprint
from opinionlm.experiments.dashboard.predictions import PredictionSummary, read_predictions
from opinionlm.runs.seed_families import family_of, members_of, models_of, options_shown
from opinionlm.utils.command_line import command
from opinionlm.utils.files import NO_RESULTS

SPLITS = ("test", "validation")
# Scores that say something only of a label tree.
OF_TREE = re.compile(r"(^|\.)(level\d+_|hierarchical_|mistake_severity)")
# Any of these makes a folder a run folder, even where the others are gone.
RUN_FILES = ("config.yaml", "environment.json", "metrics.json")
# W&B keeps a config.yaml of its own in every run of its folder.
NO_RUNS = {"wandb", "checkpoints", "best"}
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: its folder, relative to the folder that was searched.
        folder: the folder itself.
        config: its options.
        shown: those that tell of it, see `options_shown`.
        environment: versions, hardware, data fingerprint.
        metrics: every number of metrics.json as ``<section>.<name>``.
        intervals: 95 % intervals by the name of their metric.
        history: what was logged while training, in order.
        predictions: by split.
        labels: leaf names in order, empty where the task has none.
        parents: names above each leaf, from the top; empty for a flat label set.
        finished: when, UTC.
        warnings: what could not be read.
        family: what it has in common with the other samples of its way of training, see `family_of`.
        models: the trained models that its answers come from, see `models_of`.
        members: of an ensemble, how many runs it is made of; None of a run that was trained.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    shown: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    history: list[dict[str, Any]]
    predictions: dict[str, PredictionSummary]
    labels: tuple[str, ...]
    finished: str
    warnings: list[str]
    family: tuple[Any, ...]
    models: frozenset[str]
    members: int | None = None
    parents: tuple[tuple[str, ...], ...] = ()

    @property
    def data_fingerprint(self) -> str:
        """Of the prepared data, blank where the run does not tell."""
        return str(self.environment.get("data_fingerprint") or "")


@dataclass(frozen=True)
class Unusable:
    """A run folder without results to show."""

    name: str
    state: Literal["unfinished", "damaged"]
    reason: str


@dataclass(frozen=True)
class Collection:
    """Everything found below a folder.

    Attributes:
        root: the folder.
        runs: finished runs, by name.
        unusable: the other run folders, by name.
        reports: of the data the runs were trained on, by data fingerprint.
    """

    root: Path
    runs: list[Run]
    unusable: list[Unusable]
    reports: dict[str, DataReport]


def collect(root: Path) -> Collection:
    """Read all runs below a folder, or the one run that the folder is.

    Raises:
        UserError: no such folder, or no run folder in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the output_dir of your runs")
    found, prepared = find_folders(root)
    if not found:
        raise UserError(
            f"{root}: holds no run folder (none with {', '.join(RUN_FILES)}); give the output_dir of your runs, or "
            f"train one first: {command('train_classifier')} --config configs/quickstart.yaml"
        )
    runs, unusable = [], []
    for folder in found:
        name = folder.name if folder == root else folder.relative_to(root).as_posix()
        entry = read_run(folder, name)
        if isinstance(entry, Run):
            runs.append(entry)
        else:
            unusable.append(entry)
    known, reports = prepared_by_fingerprint(prepared), {}
    for run in runs:
        if run.data_fingerprint not in reports:
            report = find_report(run.data_fingerprint, run.config, known)
            if report is not None:
                reports[run.data_fingerprint] = report
    return Collection(root, runs, unusable, reports)


def find_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """Run folders and prepared data sets below a folder, sorted; nothing inside either is looked at."""
    runs, prepared = [], []
    for place, folders, files in os.walk(root):
        if NO_RESULTS in files:
            # Trials were scored on validation.
            folders.clear()
        elif set(RUN_FILES) & set(files):
            runs.append(Path(place))
            folders.clear()
        elif MANIFEST in files:
            prepared.append(Path(place))
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if name not in NO_RUNS and not name.startswith("."))
    return sorted(runs), sorted(prepared)


def read_run(folder: Path, name: str) -> Run | Unusable:
    """Read one run folder."""
    metrics_file = folder / "metrics.json"
    if not metrics_file.is_file():
        return Unusable(name, "unfinished", _progress(folder))
    try:
        config = _mapping(folder / "config.yaml")
        environment = _mapping(folder / "environment.json") if (folder / "environment.json").is_file() else {}
        content = _mapping(metrics_file)
    except UserError as error:
        return Unusable(name, "damaged", str(error))
    numbers = dict(plain_numbers(content))
    finite = {key: value for key, value in numbers.items() if math.isfinite(value)}
    if not finite:
        return Unusable(name, "damaged", "metrics.json holds no numbers")
    warnings = [f"{key} is {numbers[key]} in metrics.json" for key in numbers if key not in finite]
    taxonomy = _or_warning(lambda: read_labels(folder / "labels.json"), None, warnings)
    labels = () if taxonomy is None else taxonomy.leaves
    found = dict(intervals(content))
    if taxonomy is not None and taxonomy.depth == 1:
        # Of a flat label set they are macro-F1 and accuracy under other names.
        finite = {key: value for key, value in finite.items() if not OF_TREE.search(key)}
        found = {key: value for key, value in found.items() if not OF_TREE.search(key)}
    predictions = _read_splits(folder / "predictions", labels, warnings)
    history: list[dict[str, Any]] = _or_warning(lambda: read_history(folder / "history.json"), [], warnings)
    named = next((summary.labels for summary in predictions.values() if summary.labels), labels)
    finished = datetime.fromtimestamp(metrics_file.stat().st_mtime, UTC)
    return Run(
        name=name,
        folder=folder,
        config=config,
        shown=options_shown(config, content),
        environment=environment,
        metrics=finite,
        intervals=found,
        history=history,
        predictions=predictions,
        labels=named,
        finished=finished.strftime("%Y-%m-%d %H:%M"),
        warnings=warnings,
        members=members_of(content),
        family=family_of(config, content, name),
        models=models_of(config, content),
        parents=() if taxonomy is None or named != labels else taxonomy.parents,
    )


def _or_warning(read: Callable[[], T], otherwise: T, warnings: list[str]) -> T:
    """What is read; where it cannot be, the reason joins the warnings."""
    try:
        return read()
    except UserError as error:
        warnings.append(str(error))
        return otherwise


def _read_splits(folder: Path, labels: tuple[str, ...], warnings: list[str]) -> dict[str, PredictionSummary]:
    """The predictions of every split that has some; what cannot be read joins the warnings."""
    predictions = {}
    for split in SPLITS:
        if (file := folder / f"{split}.csv").is_file():
            try:
                predictions[split] = read_predictions(file, labels)
            except UserError as error:
                warnings.append(f"predictions/{split}.csv {error}")
    return predictions


def _progress(folder: Path) -> str:
    """How far a run came that has no metrics."""
    steps = [path.name.removeprefix("checkpoint-") for path in (folder / "checkpoints").glob("checkpoint-*")]
    reached = max((int(step) for step in steps if step.isdigit()), default=None)
    where = "no checkpoint yet" if reached is None else f"its last checkpoint is at step {reached:,}"
    return f"metrics.json is missing: still running, or stopped; {where}"


def _mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML or JSON file that holds one mapping.

    Raises:
        UserError: missing, not readable, or something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} cannot be read ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name} holds no mapping of names to values")
    return {str(name): value for name, value in content.items()}


def plain_numbers(content: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested mappings as ``<section>.<name>``; truth values are no numbers."""
    for name, value in content.items():
        key = f"{section}.{name}" if section else str(name)
        if isinstance(value, dict):
            yield from plain_numbers(value, key)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # A whole number that no float holds is no measurement.
            yield key, value if abs(value) < 1e300 else math.inf


def intervals(content: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, tuple[float, float]]]:
    """Every ``<name>_ci95: [low, high]`` of nested mappings, by the name of its metric."""
    for name, value in content.items():
        key = f"{section}.{name}" if section else str(name)
        if isinstance(value, dict):
            yield from intervals(value, key)
        elif key.endswith("_ci95") and isinstance(value, list) and len(value) == 2:
            low, high = value
            if all(isinstance(bound, int | float) and math.isfinite(bound) for bound in (low, high)):
                yield key.removesuffix("_ci95"), (low, high)


def read_labels(path: Path) -> Taxonomy | None:
    """The label tree of ``labels.json``; None where the file is not there.

    Raises:
        UserError: the file holds no label tree.
    """
    if not path.is_file():
        return None
    try:
        return Taxonomy.from_tree(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"labels.json cannot be read ({one_line(error)})") from None


def read_history(path: Path) -> list[dict[str, Any]]:
    """Entries of ``history.json``; none for a run without training.

    Raises:
        UserError: the file holds no list of entries.
    """
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"history.json cannot be read ({one_line(error)})") from None
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise UserError("history.json holds no list of entries")
    return content
