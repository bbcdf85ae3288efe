"""Train a classifier, a tagger or a scorer of pairs: from a config to metrics."""

from __future__ import annotations

from typing import Any

from opinionlm.adaptation.adapt.vocabulary import build_tokenizer
from opinionlm.config.config import Config
from opinionlm.data.encoding.tokenizers import entries_of_texts
from opinionlm.runs.adapt_results import save_preparation
from opinionlm.runs.classifier_results import Training, run_numbers, save_best
from opinionlm.runs.results import describe_run, finish_run, run_metrics
from opinionlm.runs.run import Run
from opinionlm.runs.tfidf_baseline import train_tfidf
from opinionlm.tasks import task_for
from opinionlm.tasks.engines import build_engine, evaluate
from opinionlm.tasks.labels import LabelTask
from opinionlm.training.adapt_selection import choose_sublayers
from opinionlm.training.engines import fit
from opinionlm.training.prefix_cache_building import frozen_prefix
from opinionlm.training.spending import Spent


def train(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to metrics.

    Returns:
        The content of ``metrics.json``; None where the run is finished already, and in the processes that only help.
    """
    run = Run(config)
    if run.is_finished():
        return None
    config = run.pinned()

    # Data
    prepared = run.load_data()
    task = task_for(prepared, config)
    if config.training.engine == "tfidf":
        # The only tasks that `task_for` lets through here.
        assert isinstance(task, LabelTask)
        return train_tfidf(task) if run.is_main else None
    run.choose_by(task.chosen_metric())
    with run.main_first("token ids"):
        tokenizer, vocabulary = build_tokenizer(prepared, config)
        splits = task.encode(tokenizer)
    loss, train_texts = task.checked_loss(splits), splits["train"].reader(None)

    # Model: seeded before the head's weights are drawn.
    run.seed()
    total_steps = run.total_steps(train_texts)
    model = task.build_model(entries_of_texts(tokenizer), total_steps, len(vocabulary.sequences))
    model.set_output_bias(task.first_bias(splits["train"]))
    choice = choose_sublayers(model, loss, train_texts, tokenizer.pad_token_id, prepared, config, run.arguments)
    run.create(prepared)
    if run.is_main:
        save_preparation(run.folder, vocabulary, choice, tokenizer)
        print(describe_run(task, splits, model, total_steps, run.arguments))

    with run.tracker() as tracker:
        # What frozen blocks compute never changes: compute it once, then run only what lies above them.
        with frozen_prefix(model, splits, config.method, run.arguments, tokenizer.pad_token_id) as prefix:
            preparation = run.total_preparation(prefix.preparation(vocabulary.seconds, choice.seconds))
            callbacks = run.callbacks(tracker, model, total_steps, task.shown_metrics[:2])
            engine = build_engine(task, model, loss, prefix, tokenizer, run.arguments, callbacks)
            kind, balanced = config.training.engine, config.method.class_weights == "inverse_frequency"
            output = fit(engine, kind, balanced, prefix.readers, run.latest_checkpoint(), task.primary_score)
            seconds = run.clock.seconds
            # The engine now holds the best model by the validation score.
            decision, results = evaluate(task, engine, prefix, loss)
            evaluation_seconds = run.clock.seconds - seconds
        if not run.is_main:
            return None
        spent = Spent(preparation, seconds, evaluation_seconds)
        training = Training(output, spent, prefix.states is not None, choice)
        numbers = run_numbers(task, engine, training, splits, decision)
        precision = save_best(model, tokenizer, task, decision, results, numbers, splits["validation"].texts)
        numbers["cost"]["predict"] = precision.facts
        print(precision.describe())
        metrics = run_metrics(task, numbers, results, decision)
        texts = {name: split.texts for name, split in splits.items()}
        return finish_run(task, metrics, texts, results, tracker, engine.state.log_history)
