"""Rules across the fields of TrainingArguments, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opinionlm.config.chosen_metric import metric_problems
from opinionlm.config.method_options import FREEZING
from opinionlm.config.optimization import NEEDED, OPTIMIZERS, OTHER_OPTIMIZERS, OTHER_SCHEDULES, SCHEDULES, SET_BY_US
from opinionlm.config.trainer_arguments import HONOURED, SAVING, joined_arguments
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError
from opinionlm.utils.names import nearest
from opinionlm.utils.typed_values import CommandLineText, convert

if TYPE_CHECKING:
    from opinionlm.config.config import Config

# What stands before the embeddings of a text, or in their place.
LEARNED_INPUTS = ("prefix", "p_tuning_v2", "prompt", "p_tuning")


def trainer_problems(config: Config) -> list[str]:
    """What is wrong with the fields that a run sets, as far as no data have to be known for it."""
    training, extra = config.training, config.training.extra
    problems = optimizer_problems(training) + schedule_problems(training) + saving_problems(training)
    problems += step_problems(training)
    problems += metric_problems(training, config.script, config.data.task)
    if extra.get("logging_strategy", "steps") != "steps" and training.logging_steps != TrainingConfig().logging_steps:
        problems.append(
            f"logging_steps: {training.logging_steps:g} is read with logging_strategy: steps; leave one of the two out"
        )
    for name in ("torch_compile_backend", "torch_compile_mode"):
        if name in extra and not extra.get("torch_compile", False):
            problems.append(f"{name}: {extra[name]!r} belongs to torch_compile: true; set that, or leave it out")
    if training.lr_scheduler_type == "reduce_lr_on_plateau" and config.script == "pretrain":
        problems.append(
            "lr_scheduler_type: 'reduce_lr_on_plateau' follows a validation score, and pretraining has none; use "
            "cosine"
        )
    adaptation = config.method.adaptation
    if "neftune_noise_alpha" in extra and adaptation in (*FREEZING, *LEARNED_INPUTS):
        problems.append(
            f"neftune_noise_alpha: {extra['neftune_noise_alpha']!r} is noise on the embeddings, which adaptation: "
            f"{adaptation} computes once or replaces; use adaptation: full or lora"
        )
    return problems


def optimizer_problems(training: TrainingConfig) -> list[str]:
    """An optimizer that does not exist or is not used here, and settings that it does not read."""
    name, extra = training.optim, training.extra
    if name in OTHER_OPTIMIZERS:
        return [f"optim: {name!r} {OTHER_OPTIMIZERS[name]}; use one of {', '.join(OPTIMIZERS)}"]
    if name not in OPTIMIZERS:
        return [f"optim: {name!r} is no optimizer{nearest(name, OPTIMIZERS)}"]
    facts, problems = OPTIMIZERS[name], []
    for field in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if field in extra and field not in facts.adam:
            problems.append(
                f"{field}: {extra[field]!r} is not read by optim: {name}; leave it out, or use adamw_torch"
            )
    types = dict(facts.arguments)
    # As transformers cuts the text.
    for pair in filter(None, (extra.get("optim_args") or "").replace(" ", "").split(",")):
        argument, equals, text = pair.partition("=")
        if argument == "weight_decay" or f"adam_{argument}" in HONOURED or argument in ("lr", "learning_rate"):
            own = {"weight_decay": "weight_decay", "lr": "learning_rate", "learning_rate": "learning_rate"}
            problems.append(f"optim_args: {pair!r}: set {own.get(argument, f'adam_{argument}')} instead")
        elif not equals or argument not in types:
            known = f"takes {', '.join(types)}, as in {next(iter(types))}=0.9" if types else "takes none; leave it out"
            problems.append(f"optim_args: {pair!r} is no argument of optim: {name}, which {known}")
        else:
            problems += conversion_problems(CommandLineText(text), types[argument], f"optim_args: {argument}")
    return problems


def schedule_problems(training: TrainingConfig) -> list[str]:
    """A schedule that does not exist, arguments that it does not take or lacks, a warm-up that it has not."""
    name, given = training.lr_scheduler_type, training.extra.get("lr_scheduler_kwargs") or {}
    if name in OTHER_SCHEDULES:
        return [f"lr_scheduler_type: {name!r} {OTHER_SCHEDULES[name]}; use reduce_lr_on_plateau"]
    if name not in SCHEDULES:
        return [f"lr_scheduler_type: {name!r} is no schedule{nearest(name, SCHEDULES)}"]
    types, problems = SCHEDULES[name], []
    for argument, value in given.items():
        if argument not in types:
            why = SET_BY_US.get(argument)
            known = f"takes {', '.join(types)}" if types else "takes no arguments"
            problems.append(
                f"lr_scheduler_kwargs: {argument!r} is no argument of {name}, which {known}"
                + (f"; it {why}" if why else "")
            )
        elif found := conversion_problems(value, types[argument], f"lr_scheduler_kwargs: {argument}"):
            problems += found
        elif types[argument] in (int, float) and float(value) < 0:
            problems.append(f"lr_scheduler_kwargs: {argument}: {value!r} must not be negative")
    if name in NEEDED and not set(NEEDED[name]) & given.keys():
        needed = " or ".join(NEEDED[name])
        problems.append(f"lr_scheduler_type: {name!r} needs lr_scheduler_kwargs with {needed}")
    return problems


def typed_arguments(training: TrainingConfig) -> dict[str, Any]:
    """``lr_scheduler_kwargs`` and ``optim_args`` as TrainingArguments takes them, once nothing is wrong with them."""
    typed: dict[str, Any] = {}
    if given := training.extra.get("lr_scheduler_kwargs"):
        types = SCHEDULES[training.lr_scheduler_type]
        typed["lr_scheduler_kwargs"] = {
            name: convert(value, types[name], "lr_scheduler_kwargs") for name, value in given.items()
        }
    if text := training.extra.get("optim_args"):
        pairs = (pair.partition("=")[::2] for pair in text.replace(" ", "").split(",") if pair)
        types = dict(OPTIMIZERS[training.optim].arguments)
        values = {name: convert(CommandLineText(value), types[name], "optim_args") for name, value in pairs}
        typed["optim_args"] = joined_arguments(values)
    return typed


def step_problems(training: TrainingConfig) -> list[str]:
    """No steps at all, or steps and a part of one: of 1.5 of warm-up Trainer makes one, while config and card say 1.5.

    With ``max_steps: 0`` Trainer would make none, and the run would end with a head as it was drawn.
    """
    limit = training.max_steps
    none = [f"max_steps: {limit} must be at least 1; leave it out, and num_train_epochs decides"]
    return none * (limit < 1 and limit != TrainingConfig().max_steps) + [
        f"{name}: {value:g} must be a whole number of steps, or below 1 a share of all"
        for name, value in (("warmup_steps", training.warmup_steps), ("logging_steps", training.logging_steps))
        if value > 1 and value != int(value)
    ]


def saving_problems(training: TrainingConfig) -> list[str]:
    """No rhythm of the evaluation, or another one of saving: the best step might never have been saved."""
    reason = "a checkpoint is saved at every evaluation, or the best one could be missing"
    strategy, steps = (training.extra.get(name) for name in SAVING)
    problems = []
    if training.eval_strategy == "steps" and training.eval_steps is None:
        problems.append("eval_steps: None must be at least 1 with eval_strategy: steps")
    if strategy is not None and strategy != training.eval_strategy:
        problems.append(f"save_strategy: {strategy!r} cannot be set: {reason}; leave it out, or set eval_strategy")
    if steps is not None and (training.eval_strategy != "steps" or steps != training.eval_steps):
        problems.append(f"save_steps: {steps:g} cannot be set: {reason}; leave it out, or set eval_steps to it")
    return problems


def conversion_problems(value: Any, annotation: Any, place: str) -> list[str]:
    """Why a value does not fit a type; empty when it does."""
    try:
        convert(value, annotation, place)
    except UserError as error:
        return [str(error)]
    return []
