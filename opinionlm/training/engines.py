"""The ways of fitting a model that the IMDB report compares: Trainer, a loop of our own, logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from transformers import EvalPrediction, TrainerCallback, TrainingArguments
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.callbacks import auxiliary_loss
from opinionlm.adaptation.parameter_groups import parameter_groups
from opinionlm.config.checks import other_task_problems
from opinionlm.config.config import Config
from opinionlm.config.unread import refuse_unread
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.errors import UserError
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.training.batching import EncodedTexts, batch_plan
from opinionlm.training.ema import WeightAverage
from opinionlm.training.linear_probe import fit_head
from opinionlm.training.loop import TrainingLoop
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.rdrop import require_dropout
from opinionlm.training.trainer import OpinionTrainer

Engine = OpinionTrainer | TrainingLoop


def check_task(config: Config, task: str) -> None:
    """Logistic regression gives one label per text, and some options are for some tasks only.

    Raises:
        UserError: one of them is asked for on another task; or the data are of another task than the config says.
    """
    asked = config.data.task
    if asked not in ("auto", task):
        raise UserError(
            f"{config.source}: task: {asked!r}, but {config.data.dataset} holds data of task {task!r}; leave task "
            "out, or give another dataset"
        )
    if task not in ("sequence", "token", "similarity"):
        raise UserError(
            f"{config.data.dataset}: task {task!r} is text to text, which train_instruct.py trains; "
            "train_classifier.py takes sequence, token and similarity"
        )
    if problems := other_task_problems(config, task):
        raise UserError(f"{config.source}: {problems[0]}")
    refuse_unread(config, task=task)
    if config.training.engine in ("sklearn", "tfidf") and task != "sequence":
        raise UserError(
            f"{config.source}: engine: {config.training.engine!r} gives one label per text, and {config.data.dataset} "
            f"holds data of task {task!r}; use engine: trainer or loop"
        )


def new_engine(
    config: Config,
    model: OpinionClassifier,
    arguments: TrainingArguments,
    loss: ExampleLoss,
    readers: dict[str, EncodedTexts],
    collator: PadCollator,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]],
    kept_outputs: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None,
    callbacks: list[TrainerCallback],
) -> Engine:
    """The engine that the config asks for, over a model whose adaptation is applied.

    Logistic regression is fitted beside the trainer, which then only predicts with it.

    Args:
        config: the run's options.
        model: classifier, tagger or scorer of pairs.
        arguments: of the trainer.
        loss: of one item.
        readers: the splits.
        collator: makes batches.
        compute_metrics: scores of the validation split.
        kept_outputs: what is kept of a batch's logits; None for all.
        callbacks: told about every step.

    Raises:
        UserError: R-Drop is asked for where nothing has dropout.
    """
    if config.robust.rdrop_alpha > 0:
        require_dropout(model, collator([readers["train"][0]]), config.source)
    engine = TrainingLoop if config.training.engine == "loop" else OpinionTrainer
    decay = config.robust.ema_decay
    return engine(
        model=model,
        args=arguments,
        loss=loss,
        plan=batch_plan(readers["train"], config, arguments),
        train_dataset=readers["train"],
        eval_dataset=readers["validation"],
        data_collator=collator,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=kept_outputs,
        callbacks=callbacks,
        parameter_groups=parameter_groups(model, config.method, config.training),
        auxiliary_loss=partial(auxiliary_loss, model),
        rdrop_alpha=config.robust.rdrop_alpha,
        average=None if decay is None else WeightAverage(model, decay),
        max_nonfinite_steps=config.training.max_nonfinite_steps,
    )


def fit(
    engine: Engine,
    config: Config,
    readers: dict[str, EncodedTexts],
    checkpoint: str | None,
    score: Callable[[np.ndarray, np.ndarray], float],
) -> TrainOutput:
    """Fit the engine's model; afterwards it is the best one by validation.

    Args:
        engine: from `new_engine`.
        config: the run's options.
        readers: the splits, with the pooled states of the frozen backbone under ``engine: sklearn``.
        checkpoint: where an interrupted run continues.
        score: of gold ids and logits; what logistic regression chooses C by, on validation.
    """
    if config.training.engine != "sklearn":
        return engine.train(resume_from_checkpoint=checkpoint)
    chosen = fit_head(engine.model, readers, config.method.class_weights == "inverse_frequency", score)
    print(f"logistic regression: C {chosen.c:g}, chosen on validation among {len(chosen.scores)}")
    engine.state.log_history += [{"C": c, "score": value} for c, value in chosen.scores.items()]
    engine.state.epoch, engine.state.best_global_step = 1.0, 0
    return TrainOutput(0, 0.0, {"C": chosen.c})
