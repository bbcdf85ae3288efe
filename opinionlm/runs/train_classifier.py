"""Train a classifier, a tagger or a scorer of pairs: from a config to metrics."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import TrainerCallback

from opinionlm.adaptation.adapt.vocabulary import with_task_tokens
from opinionlm.adaptation.callbacks import auxiliary_loss
from opinionlm.adaptation.parameter_groups import parameter_groups
from opinionlm.config.config import Config
from opinionlm.data.contamination import refuse_seen_texts
from opinionlm.data.encoding.collators import PadCollator, collator_for
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.loading import load_data
from opinionlm.models.backbones import read_model_config
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.runs.adapt_results import save_preparation
from opinionlm.runs.results import Training, describe_run, finish_run, run_metrics, run_numbers, save_best
from opinionlm.runs.run import Run
from opinionlm.runs.tfidf_baseline import train_tfidf
from opinionlm.tasks import task_for
from opinionlm.tasks.base import Task
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.training.adapt_selection import choose_sublayers
from opinionlm.training.batching import batch_plan
from opinionlm.training.cost import reset_peak_memory
from opinionlm.training.ema import WeightAverage
from opinionlm.training.engines import Engine, fit
from opinionlm.training.fsdp import gather_weights
from opinionlm.training.loop import TrainingLoop
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.deferred_weighting import loss_callbacks
from opinionlm.training.losses.rdrop import require_dropout
from opinionlm.training.prefix_cache_building import FrozenPrefix, frozen_prefix
from opinionlm.training.spending import add_preparation, preparation_of
from opinionlm.training.trainer import OpinionTrainer


def train(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to metrics.

    Returns:
        The content of ``metrics.json``; None where the run is finished already, and in the processes that only help.
    """
    run = Run(config)
    if run.is_finished():
        return None

    # Data: raw files are prepared once; every process reads the same prepared folder.
    with run.main_first("data"):
        prepared = load_data(config.data)
    task = task_for(prepared, config)
    if config.training.engine == "tfidf":
        return train_tfidf(SequenceTask(prepared, config)) if run.is_main else None
    refuse_seen_texts(config.model.model_name_or_path, prepared)
    run.choose_by(task.chosen_metric())
    model_config = read_model_config(config.model)
    with run.main_first("token ids"):
        tokenizer, vocabulary = with_task_tokens(load_tokenizer(config.model), model_config, prepared, config)
        splits = task.encode(tokenizer)
    loss, train_texts = task.loss(splits["train"]), splits["train"].reader(None)

    # Model: seeded before the head's weights are drawn.
    run.seed()
    total_steps = run.total_steps(train_texts)
    model = task.build_model(model_config, len(tokenizer), total_steps, len(vocabulary.sequences))
    choice = choose_sublayers(model, loss, train_texts, tokenizer.pad_token_id, prepared, config, run.arguments)
    run.create(prepared)
    if run.is_main:
        save_preparation(run.folder, vocabulary, choice, tokenizer)
        print(describe_run(task, splits, model, total_steps))

    with run.tracker() as tracker:
        # What frozen blocks compute never changes: compute it once, then run only what lies above them.
        with frozen_prefix(model, splits, config, run.arguments, tokenizer.pad_token_id) as prefix:
            spent = preparation_of(vocabulary.seconds, choice.seconds, prefix.states, int(train_texts.lengths.sum()))
            if run.is_main:
                spent = add_preparation(config, prepared.fingerprint, spent)
            callbacks = run.callbacks(tracker, model, total_steps, task.shown_metrics[:2])
            callbacks += loss_callbacks(loss, config)
            engine = build_engine(run, task, model, loss, prefix, collator_for(config.data, tokenizer), callbacks)
            checkpoint = run.latest_checkpoint()
            reset_peak_memory()
            output = fit(engine, config, prefix.readers, checkpoint, task.primary_score)
            seconds = run.clock.seconds

            # The engine now holds the best model by the validation score; test is read here, once.
            outputs = engine.outputs(prefix.readers["validation"])
            decision = task.fit_decision(splits, outputs)
            validation = task.evaluate(splits["validation"], outputs, loss, decision)
            test = task.evaluate(splits["test"], engine.outputs(prefix.readers["test"]), loss, decision)
            evaluation_seconds = run.clock.seconds - seconds
            gather_weights(model)
        if not run.is_main:
            return None
        scored = {"validation": validation, "test": test}
        training = Training(output, spent, seconds, evaluation_seconds, prefix.states is not None, choice)
        numbers = run_numbers(task, engine, training, splits, decision)
        save_best(model, tokenizer, task, decision, scored, numbers)
        metrics = run_metrics(task, numbers, scored, decision)
        texts = {name: split.texts for name, split in splits.items()}
        return finish_run(task, metrics, texts, scored, tracker, engine.state.log_history)


def build_engine(
    run: Run,
    task: Task[Any],
    model: OpinionClassifier,
    loss: ExampleLoss,
    prefix: FrozenPrefix,
    collator: PadCollator,
    callbacks: list[TrainerCallback],
) -> Engine:
    """The engine that the config asks for, over a model whose adaptation is applied.

    Logistic regression is fitted beside the trainer, which then only predicts with it.

    Args:
        run: its options and arguments.
        task: gives the scores of the validation split.
        model: classifier, tagger or scorer of pairs.
        loss: of one item.
        prefix: the splits as they are read.
        collator: makes batches.
        callbacks: told about every step.

    Raises:
        UserError: R-Drop is asked for where nothing has dropout.
    """
    config, train, validation = run.config, prefix.readers["train"], prefix.readers["validation"]
    if config.robust.rdrop_alpha > 0:
        require_dropout(model, collator([train[0]]), config.source)
    engine = TrainingLoop if config.training.engine == "loop" else OpinionTrainer
    decay = config.robust.ema_decay
    return engine(
        model=model,
        args=run.arguments,
        loss=loss,
        plan=batch_plan(train, config, run.arguments),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        compute_metrics=task.validation_scores(prefix.splits["validation"], loss),
        preprocess_logits_for_metrics=task.summarise_outputs,
        callbacks=callbacks,
        parameter_groups=parameter_groups(model, config.method, config.training),
        auxiliary_loss=partial(auxiliary_loss, model),
        rdrop_alpha=config.robust.rdrop_alpha,
        average=None if decay is None else WeightAverage(model, decay),
        max_nonfinite_steps=config.training.max_nonfinite_steps,
    )
