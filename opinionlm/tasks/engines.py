"""What trains the model of a task, and what it is asked once it is trained."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from opinionlm.adaptation.callbacks import auxiliary_loss
from opinionlm.adaptation.parameter_groups import parameter_groups
from opinionlm.data.encoding.collators import collator_for
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.tasks.base import Decision, Results
from opinionlm.tasks.head import HeadTask
from opinionlm.training.batching import batch_plan
from opinionlm.training.ema import WeightAverage
from opinionlm.training.engines import Engine
from opinionlm.training.fsdp import gather_weights
from opinionlm.training.loop import TrainingLoop
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.imbalance import loss_callbacks
from opinionlm.training.losses.rdrop import require_dropout
from opinionlm.training.prefix_cache_building import FrozenPrefix
from opinionlm.training.trainer import OpinionTrainer


def build_engine(
    task: HeadTask[Any],
    model: OpinionClassifier,
    loss: ExampleLoss,
    prefix: FrozenPrefix,
    tokenizer: PreTrainedTokenizerBase,
    arguments: TrainingArguments,
    callbacks: list[TrainerCallback],
) -> Engine:
    """The engine that the config asks for, over a model whose adaptation is applied.

    Logistic regression is fitted beside the trainer, which then only predicts with it.

    Raises:
        UserError: R-Drop is asked for where nothing has dropout.
    """
    config, train, validation = task.config, prefix.readers["train"], prefix.readers["validation"]
    collator = collator_for(config.data, tokenizer)
    if task.rdrop_alpha > 0:
        require_dropout(model, collator([train[0]]), config.source)
    engine = TrainingLoop if config.training.engine == "loop" else OpinionTrainer
    if config.training.engine == "sklearn":
        # Features may come from autocast; the head is fitted in float64, and rounded it would be another.
        arguments = copy.copy(arguments)
        arguments.bf16, arguments.mixed_precision = False, "no"
    decay = config.robust.ema_decay
    return engine(
        model=model,
        args=arguments,
        loss=loss,
        plan=batch_plan(train, config.data, config.training, arguments),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        compute_metrics=task.validation_scores(prefix.splits["validation"], loss),
        preprocess_logits_for_metrics=task.summarise_outputs,
        callbacks=[*callbacks, *loss_callbacks(loss, config.method)],
        parameter_groups=parameter_groups(model, config.method, config.training, config.model),
        auxiliary_loss=partial(auxiliary_loss, model),
        rdrop_alpha=task.rdrop_alpha,
        average=None if decay is None else WeightAverage(model, decay),
        max_nonfinite_steps=config.training.max_nonfinite_steps,
    )


def evaluate(task: HeadTask[Any], engine: Engine, prefix: FrozenPrefix, loss: ExampleLoss) -> tuple[Decision, Results]:
    """Fit on validation how answers follow, then read test, once; every process takes part.

    Afterwards the main process has the model's weights whole.
    """
    outputs = engine.outputs(prefix.readers["validation"])
    decision = task.fit_decision(prefix.splits, outputs)
    results = {"validation": task.evaluate(prefix.splits["validation"], outputs, loss, decision)}
    outputs = engine.outputs(prefix.readers["test"])
    results["test"] = task.evaluate(prefix.splits["test"], outputs, loss, decision)
    gather_weights(engine.model)
    return decision, results
