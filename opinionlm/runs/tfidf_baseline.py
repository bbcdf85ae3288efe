"""A whole run of TF-IDF and logistic regression, with the run folder of any other: the baseline of every table."""

from __future__ import annotations

import time
from typing import Any

from opinionlm.data.spec import SPLITS
from opinionlm.models.linear.tfidf import TfidfClassifier, require_shared_words, word_texts
from opinionlm.reporting.tracking.open import open_tracking
from opinionlm.runs.folder import create_run, environment
from opinionlm.runs.results import finish_run, run_metrics
from opinionlm.tasks.base import Decision
from opinionlm.tasks.labels import LabelTask
from opinionlm.training.spending import Preparation, cost_facts
from opinionlm.training.splits import split_texts


def train_tfidf(task: LabelTask[Any]) -> dict[str, Any]:
    """Fit, evaluate and write a run under ``engine: tfidf``; no model is loaded, and none is saved.

    Raises:
        UserError: fewer than two classes among the training texts, or no word that two of them share.
    """
    prepared, config = task.prepared, task.config
    texts = {name: split_texts(prepared, name, config.data, config.training.seed) for name in SPLITS}
    labels = {name: task.gold(split) for name, split in texts.items()}
    words = {name: word_texts(split, task.features) for name, split in texts.items()}
    require_shared_words(words["train"], f"{config.source}: engine: tfidf")
    classes = len(task.taxonomy.leaves)
    started = time.perf_counter()
    balanced = config.method.class_weights == "inverse_frequency"
    model = TfidfClassifier(balanced, task.primary_score).fit(
        (words["train"], labels["train"]), (words["validation"], labels["validation"]), classes
    )
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    facts = environment(config, prepared.fingerprint)
    create_run(config, facts, prepared.taxonomy)
    logits = {name: model.logits(words[name]) for name in ("validation", "test")}
    rule = task.fit_rule(labels["validation"], logits["validation"], labels["train"])
    results = {}
    for name, rows in logits.items():
        # Plain log loss: class weights are scikit-learn's business here.
        loss = task.plain_loss(labels[name], rows)
        results[name] = task.evaluate_logits(texts[name], rows, rule, loss)
    evaluation_seconds = time.perf_counter() - started
    fit = model.regression
    print(f"TF-IDF: {fit.weight.shape[1]:,} words, symbols and pairs of them; C {fit.c:g}, chosen on validation")
    numbers = {
        "train": {"C": fit.c, "steps": 0},
        "model": {"total_parameters": model.parameters, "trainable_parameters": model.parameters},
        # Neither tokens nor operations are counted here, so there is no number of them.
        "cost": cost_facts(Preparation(), seconds, evaluation_seconds, tokens=0, train_flops=None),
    }
    metrics = run_metrics(task, numbers, results, Decision(rule))
    history = [{"C": c, "score": score} for c, score in fit.scores.items()]
    with open_tracking(config, config.run_folder, facts) as tracker:
        return finish_run(task, metrics, texts, results, tracker, history)
