"""A whole run of TF-IDF and logistic regression, with the run folder of any other: the floor of every table."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from opinionlm.config.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.spec import SPLITS
from opinionlm.evaluation.decisions import fit_answers
from opinionlm.evaluation.metrics import weighted_log_loss
from opinionlm.models.linear.tfidf import TfidfClassifier, require_shared_words, word_texts
from opinionlm.reporting.tracking.open import open_tracking
from opinionlm.runs.folder import create_run, environment
from opinionlm.runs.results import finish_run
from opinionlm.tasks.evaluation import chosen_score, intervals_of
from opinionlm.tasks.label_evaluation import Fitted, SplitResult, decision_facts, judge_classes, trust_scores
from opinionlm.training.spending import Preparation, cost_facts
from opinionlm.training.splits import split_texts


def train_floor(config: Config, prepared: PreparedDataset) -> dict[str, Any]:
    """Fit, evaluate and write a run under ``engine: tfidf``; no model is loaded, and none is saved.

    Raises:
        UserError: fewer than two classes among the training texts, or no word that two of them share.
    """
    data = config.data
    texts = {name: split_texts(prepared, name, config) for name in SPLITS}
    labels = {name: np.asarray(split["label"]) for name, split in texts.items()}
    read = {name: word_texts(split, data.platform_prefix) for name, split in texts.items()}
    require_shared_words(read["train"], f"{config.source}: engine: tfidf")
    leaves = prepared.taxonomy.leaves
    started = time.perf_counter()
    balanced = config.method.class_weights == "inverse_frequency"
    model = TfidfClassifier(balanced, chosen_score(prepared)).fit(
        (read["train"], labels["train"]), (read["validation"], labels["validation"]), len(leaves)
    )
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    facts = environment(config, prepared.fingerprint)
    create_run(config, facts, prepared.taxonomy)
    logits = {name: model.logits(read[name]) for name in ("validation", "test")}
    found = np.bincount(labels["train"], minlength=len(leaves)).tolist()
    counts = config.method.class_counts or found
    rule = fit_answers(labels["validation"], logits["validation"], counts, prepared.taxonomy, config.decision)
    results = {}
    for name, rows in logits.items():
        # Plain log loss: class weights are scikit-learn's business here.
        result = judge_classes(
            texts[name], rows, prepared.taxonomy, rule, weighted_log_loss(labels[name], rows, np.ones(len(leaves)))
        )
        trust = trust_scores(texts[name], result.predictions, rows, rule, prepared.taxonomy, config)
        scores = result.scores | intervals_of(result.predictions) | trust
        results[name] = SplitResult(result.predictions, scores)
    evaluation_seconds = time.perf_counter() - started
    fit = model.regression
    print(f"TF-IDF: {fit.weight.shape[1]:,} words, symbols and pairs of them; C {fit.c:g}, chosen on validation")
    metrics = {
        "train": {"C": fit.c, "steps": 0},
        **{name: result.scores for name, result in results.items()},
        "decision": decision_facts(Fitted(rule), config.decision),
        "model": {"total_parameters": model.parameters, "trainable_parameters": model.parameters},
        # Neither tokens nor operations are counted here, so there is no number of them.
        "cost": cost_facts(Preparation(), seconds, evaluation_seconds, tokens=0, train_flops=None),
    }
    history = [{"C": c, "score": score} for c, score in fit.scores.items()]
    with open_tracking(config, config.run_folder, facts) as tracker:
        return finish_run(config, metrics, texts, results, prepared, tracker, history)
