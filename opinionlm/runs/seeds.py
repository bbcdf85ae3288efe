"""One config under several seeds: mean, spread and interval of every score."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.config.chosen_metric import range_of
from opinionlm.config.config import Config
from opinionlm.config.training_options import TrainingConfig
from opinionlm.utils.files import read_object, write_json
from opinionlm.utils.names import counted

OF_TREE = ("level1_macro_f1", "level2_macro_f1", "level3_macro_f1", "hierarchical_f1")
SHOWN = (
    *("entity_f1", "entity_precision", "entity_recall", "macro_f1", "accuracy", *OF_TREE, "ece"),
    *("micro_f1", "samples_f1", "subset_accuracy", "label_ranking_average_precision"),
    *("pearson", "spearman", "mse", "mae"),
)


def seed_configs(config: Config) -> list[Config]:
    """One config per seed, each with a run folder of its own: ``<run_name>-seed<k>``."""
    configs = []
    for seed in config.training.seed_list():
        one = copy.deepcopy(config)
        one.training.seeds = None
        one.training.seed = seed
        one.training.run_name = config.training.member_name(seed)
        configs.append(one)
    return configs


def train_seeds(config: Config, train: Callable[[Config], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Train once, or once per seed of ``seeds``; classifiers of several seeds are also scored as one ensemble.

    Returns:
        What ``train`` returned, or the summary over seeds; None in the processes that only help.
    """
    if config.training.seeds is None:
        return train(config)
    # Only where there are several seeds: a single run does without the scores and figures of an ensemble.
    from opinionlm.runs.ensembles import ensemble_seeds
    from opinionlm.utils.distributed import is_main_process

    runs = seed_configs(config)
    for run in runs:
        train(run)
    if not is_main_process():
        return None
    metrics = [stored_metrics(run.run_folder) for run in runs]
    seeds = [run.training.seed for run in runs]
    summary = summarise_seeds(config.training, dict(zip(seeds, metrics, strict=True)))
    if config.script == "train_classifier":
        ensemble_seeds(config, runs, metrics)
    return summary


def mean_and_interval(values: Sequence[float], metric: str) -> dict[str, Any]:
    """Mean, sample standard deviation and 95 % t interval of the mean over runs.

    Args:
        values: one per run.
        metric: of which they are, see `range_of`; the interval ends where it does. Few seeds would often pass that.
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return {"mean": mean, "std": None, "ci95": None}
    if min(values) == max(values):
        # Rounding of a sum must not make equal values differ.
        return {"mean": values[0], "std": 0.0, "ci95": [values[0], values[0]]}
    from scipy import stats  # a second to import, for one number

    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, count - 1)) * std / math.sqrt(count)
    least, largest = range_of(metric) or (-math.inf, math.inf)
    return {"mean": mean, "std": std, "ci95": [max(mean - half, least), min(mean + half, largest)]}


def summarise_seeds(training: TrainingConfig, runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Write ``<run_name>-seeds.json`` beside the run folders and print its main lines.

    Returns:
        What the file holds.
    """
    summary: dict[str, Any] = {"seeds": list(runs)}
    for split in ("validation", "test"):
        names = [name for name, value in next(iter(runs.values()))[split].items() if isinstance(value, float)]
        summary[split] = {name: mean_and_interval([run[split][name] for run in runs.values()], name) for name in names}
    summary["cost"] = costs_of([run["cost"] for run in runs.values()])
    path = training.run_folder.with_name(f"{training.run_name}-seeds.json")
    write_json(path, summary)
    print(f"{counted(len(runs), 'seed'):<20}{'validation':>16}{'test':>16}   95 % interval of the mean (test)")
    # Levels are told apart where there are two; of a flat label set the first is macro-F1 again.
    is_flat = "level1_macro_f1" in summary["test"] and "level2_macro_f1" not in summary["test"]
    for name in SHOWN:
        if name in summary["test"] and not (is_flat and name in OF_TREE):
            cells = "".join(f"{shown(summary[split][name]):>16}" for split in ("validation", "test"))
            bounds = summary["test"][name]["ci95"]
            interval = "" if bounds is None else f"   {bounds[0]:.3f} to {bounds[1]:.3f}"
            print(f"{name:<20}{cells}{interval}")
    if "total_seconds" in summary["cost"]:
        print(f"{'seconds in all':<20}{shown(summary['cost']['total_seconds'], 1):>32}")
    print(f"The summary of all seeds is in {path}")
    return summary


def costs_of(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, spread and interval of every cost that all runs have; older runs lack some, which then have none."""
    numbers = [name for name, value in costs[0].items() if isinstance(value, int | float)]
    names = [name for name in numbers if all(name in cost for cost in costs)]
    return {name: mean_and_interval([cost[name] for cost in costs], name) for name in names}


def shown(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Mean ± standard deviation."""
    mean = f"{entry['mean']:.{digits}f}"
    return mean if entry["std"] is None else f"{mean} ± {entry['std']:.{digits}f}"


def stored_metrics(run_folder: Path) -> dict[str, Any]:
    """``metrics.json`` of a finished run.

    Raises:
        UserError: the file is damaged.
    """
    return read_object(run_folder / "metrics.json")
