"""Several trained models as one: a run folder of its own, scored as theirs are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.config.config import Config
from opinionlm.data.encoding.texts import evaluation_texts
from opinionlm.data.loading import load_rows
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.ensembles import mean_offsets
from opinionlm.inference.ensemble import why_apart
from opinionlm.inference.saved_decision import keep_members
from opinionlm.reporting.tracking.base import Trackers
from opinionlm.runs.folder import create_run, environment
from opinionlm.runs.results import finish_run
from opinionlm.runs.seed_families import model_name
from opinionlm.tasks import task_for
from opinionlm.tasks.base import Decision
from opinionlm.tasks.labels import LabelTask
from opinionlm.training.spending import members_cost
from opinionlm.utils.files import read_csv

SPLITS = ("validation", "test")


def ensemble_seeds(config: Config, runs: Sequence[Config], metrics: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Average finished runs of several seeds as ``<run_name>-ensemble`` beside them, where there is what to average.

    Args:
        config: the config that named the seeds.
        runs: config of each seed.
        metrics: their ``metrics.json``.

    Returns:
        As `average_runs`; None too for a single run, and where texts have no labels.
    """
    prepared = load_rows(config.data)
    if prepared.taxonomy is None or len(runs) < 2:
        return None
    ensemble_config = copy.deepcopy(config)
    ensemble_config.training.run_name = f"{config.training.run_name}-ensemble"
    return average_runs(ensemble_config, prepared, [run.run_folder for run in runs], metrics, runs)


def average_runs(
    config: Config,
    prepared: PreparedDataset,
    runs: Sequence[Path],
    metrics: Sequence[dict[str, Any]],
    members: Sequence[Config],
) -> dict[str, Any] | None:
    """Average the probabilities of finished runs and score them as a run of their own.

    The folder is that of a run: ``metrics.json``, ``predictions/``, ``figures/``, and ``best/``, which `predict.py`
    takes like any other and which names the members' folders. The decision, the temperature of the average and the
    label sets are fitted on validation before test is scored. Nothing is computed by a model: the runs' prediction
    files have all that is needed.

    Args:
        config: data, decision and run folder of the average.
        prepared: rows with labels, which all runs were evaluated on.
        runs: their folders.
        metrics: their ``metrics.json``.
        members: their configs.

    Returns:
        The content of ``metrics.json``; None, with a line that says why, where runs were evaluated on other texts.
    """
    task, taxonomy = task_for(prepared, config), prepared.taxonomy
    assert isinstance(task, LabelTask) and taxonomy is not None
    texts = {name: evaluation_texts(prepared.dataset[name], config.data.max_eval_samples) for name in SPLITS}
    labels = {name: task.gold(split) for name, split in texts.items()}
    logits = {}
    for name in SPLITS:
        tables = [read_probabilities(run / "predictions" / f"{name}.csv", taxonomy) for run in runs]
        if any(ids != list(texts[name]["id"]) for ids, _ in tables):
            print("no ensemble: the runs were not all evaluated on these texts; train them anew with overwrite: true")
            return None
        logits[name] = task.pooled([probabilities for _, probabilities in tables])
    train_labels = trained_labels(task, members)
    # Runs of before calibration had biases have none.
    offsets = mean_offsets([run["decision"].get("calibration_biases", ()) for run in metrics])
    rule = task.fit_rule(labels["validation"], logits["validation"], train_labels, offsets)
    results = {}
    for name, rows in logits.items():
        # Plain log loss of the average: it has no loss of its own that was trained.
        loss = task.plain_loss(labels[name], rows)
        results[name] = task.evaluate_logits(texts[name], rows, rule, loss)
    create_run(config, environment(config, prepared.fingerprint), taxonomy)
    if why_apart([run / "best" for run in runs]) is None:
        keep_members(config.run_folder / "best", [run / "best" for run in runs], rule)
    print(f"\nThe {len(runs)} models as one, their probabilities averaged")
    content = {
        "train": {
            "members": len(runs),
            "member_models": [model_name(member.flat()) for member in members],
            "steps": sum(run["train"]["steps"] for run in metrics),
        },
        **{name: result.scores for name, result in results.items()},
        "decision": task.decision_facts(Decision(rule)),
        "model": summed([run["model"] for run in metrics], ("total_parameters", "trainable_parameters")),
        "cost": members_cost([run["cost"] for run in metrics]),
    }
    return finish_run(task, content, texts, results, Trackers({}), history=[])


def has_priors(config: Config) -> bool:
    """Whether the decision of an ensemble takes its priors from the texts that its members were trained on."""
    return config.decision.decision == "logit_adjusted" and config.method.class_counts is None


def trained_labels(task: LabelTask[Any], members: Sequence[Config]) -> np.ndarray:
    """The labels of the texts that members were trained on, copies included; those of each behind the last one's.

    Where no priors follow from them those of the whole training split stand for them, and no member's data are read.

    Args:
        task: of the ensemble.
        members: the configs of the runs.

    Raises:
        UserError: a member's data are gone.
    """
    if not has_priors(task.config):
        return task.gold(task.prepared.dataset["train"])
    labels = []
    for member in members:
        prepared = task.prepared if member.data == task.config.data else load_rows(member.data)
        own = task_for(prepared, member)
        labels.append(task.gold(own.training_texts()))
    return np.concatenate(labels)


def summed(parts: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Sums over the members of some numbers."""
    return {name: sum(part[name] for part in parts) for name in names}


def read_probabilities(table: Path, taxonomy: Taxonomy) -> tuple[list[str], np.ndarray]:
    """Ids and calibrated probabilities ``(rows, leaves)`` of a run's prediction file, in the file's order."""
    rows = read_csv(table)
    names = [f"probability_{leaf}" for leaf in taxonomy.leaves]
    return [row["id"] for row in rows], np.array([[float(row[name]) for name in names] for row in rows])
