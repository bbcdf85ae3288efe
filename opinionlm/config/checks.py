"""Rules for the options of an adaptation, checked before a model or data are loaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from opinionlm.config.config import Config, declared
from opinionlm.config.method_options import FREEZING, LOW_RANK, AdaptConfig
from opinionlm.config.task_checks import loss_problems, robust_problems
from opinionlm.config.trainer_checks import trainer_problems
from opinionlm.config.unread import UNKNOWN, choice, refusals, unread_options
from opinionlm.errors import UserError
from opinionlm.utils.yaml import is_folder_name


def method_problems(config: Config) -> list[str]:
    """What is wrong with the options of the adaptation, as far as no model has to be known for it."""
    model, method, training = config.model, config.method, config.training
    name = method.adaptation
    problems: list[str] = []

    def require(holds: bool, option_name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{option_name}: {value!r} {reason}")

    match name:
        case "top_blocks":
            require(method.trainable_blocks >= 1, "trainable_blocks", method.trainable_blocks, "must be at least 1")
        case "bottom_frozen":
            require(
                method.frozen_blocks >= 1,
                "frozen_blocks",
                method.frozen_blocks,
                "must be at least 1; adaptation: full freezes none",
            )
        case "layerwise_lr":
            decay = method.layerwise_lr_decay
            require(0 < decay <= 1, "layerwise_lr_decay", decay, "must be above 0 and at most 1")
        case "lisa":
            require(method.lisa_blocks >= 1, "lisa_blocks", method.lisa_blocks, "must be at least 1")
            require(method.lisa_interval >= 1, "lisa_interval", method.lisa_interval, "must be at least 1 step")
        case "lora" | "qlora" | "dora":
            require(method.lora_r >= 1, "lora_r", method.lora_r, "must be at least 1")
        case "adalora":
            require(method.adalora_target_r >= 1, "adalora_target_r", method.adalora_target_r, "must be at least 1")
            require(
                method.adalora_target_r < method.adalora_init_r,
                "adalora_target_r",
                method.adalora_target_r,
                f"must be below adalora_init_r ({method.adalora_init_r}), or no rank ever falls; lower it, or use "
                "adaptation: lora",
            )
        case "houlsby" | "pfeiffer":
            require(method.adapter_size >= 1, "adapter_size", method.adapter_size, "must be at least 1")
        case "prefix" | "p_tuning_v2" | "prompt" | "p_tuning":
            tokens = method.num_virtual_tokens
            require(tokens >= 1, "num_virtual_tokens", tokens, "must be at least 1")
    if name in LOW_RANK:
        require(method.lora_alpha > 0, "lora_alpha", method.lora_alpha, "must be positive")
        require(0 <= method.lora_dropout < 1, "lora_dropout", method.lora_dropout, "must be in [0, 1)")
    require(
        method.target_modules != [],
        "target_modules",
        method.target_modules,
        "leave nothing to adapt; name layers, or leave the option out for the family's preset",
    )
    require(
        not (model.load_in_4bit and name in ("full", "layerwise_lr", "lisa", "adapt")),
        "adaptation",
        name,
        "cannot train 4-bit weights; use qlora, top_blocks or head_only, or set load_in_4bit: false",
    )
    require(
        model.load_in_4bit or name != "qlora",
        "load_in_4bit",
        model.load_in_4bit,
        "contradicts adaptation: qlora; leave it out, or use adaptation: lora",
    )
    require(
        not (training.activation_checkpointing and name in ("prefix", "p_tuning_v2")),
        "activation_checkpointing",
        training.activation_checkpointing,
        f"recomputes blocks without the keys and values of adaptation: {name}; set it to false, or use prompt or lora",
    )
    require(
        method.cache_frozen != "on" or name in FREEZING,
        "cache_frozen",
        method.cache_frozen,
        f"needs blocks that stay as they are, and adaptation: {name} changes what the lowest computes; use auto",
    )
    return problems


def engine_problems(config: Config) -> list[str]:
    """What the engines cannot do: logistic regression trains nothing but a linear head on a frozen backbone."""
    engine, method = config.training.engine, config.method
    problems = []
    if engine == "sklearn":
        if method.adaptation != "head_only":
            problems.append(
                f"adaptation: {method.adaptation!r} trains more than logistic regression can; set adaptation: "
                "head_only, or engine: trainer"
            )
        if method.cache_frozen == "off":
            problems.append("cache_frozen: 'off' leaves engine: sklearn without features; set it to auto")
    return problems


def uses_task_tokens(config: Config) -> bool:
    """Whether sequences of the training texts become tokens: by default with ``adaptation: adapt`` alone."""
    return choice(config, "task_tokens", {}) == "on"


def other_task_problems(config: Config, task: Any) -> list[str]:
    """AdaPT, or task tokens with another adaptation, for a task that they are not made for.

    Args:
        config: the options.
        task: what the config or the data say, `opinionlm.config.unread.UNKNOWN` where neither can.
    """
    asks = config.method.adaptation == "adapt" or config.adapt.task_tokens == "on"
    if config.script != "train_classifier" or not asks or task in ("sequence", UNKNOWN):
        return []
    return [single_text_problem(config, f"data of task {task!r}")]


def single_text_problem(config: Config, found: str) -> str:
    """AdaPT reads one text and gives it one label; why it cannot read what was found."""
    asked = "adaptation: adapt" if config.method.adaptation == "adapt" else "task_tokens: on"
    return (
        f"{asked} is for single texts with one label each, not for {found}; a task token has no tag and no place "
        "between two texts: use another adaptation, task_tokens: off"
    )


def adapt_problems(config: Config) -> list[str]:
    """What is wrong with the options of AdaPT, as far as neither model nor data have to be known for it."""
    adapt, method, training = config.adapt, config.method, config.training
    problems = sequence_problems(adapt)

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    budget, samples = adapt.sensitivity_budget, adapt.sensitivity_samples
    require(
        0 < budget <= 1,
        "sensitivity_budget",
        budget,
        "must be above 0 and at most 1; 0.2 trains 20 % of the parameters",
    )
    require(adapt.sensitivity_beta >= 0, "sensitivity_beta", adapt.sensitivity_beta, "must not be negative")
    require(
        samples is None or samples >= 2, "sensitivity_samples", samples, "must be at least 2 for a variance, or null"
    )
    steps, rate = adapt.sensitivity_warmup_steps, adapt.sensitivity_warmup_learning_rate
    require(steps >= 0, "sensitivity_warmup_steps", steps, "must not be negative; 0 leaves the head as it was drawn")
    require(rate > 0, "sensitivity_warmup_learning_rate", rate, "must be positive")
    if method.adaptation == "adapt":
        require(
            config.script != "train_instruct",
            "adaptation",
            "adapt",
            "measures a classifier through its head, which a model that writes has not; use top_blocks or lora",
        )
        require(
            training.engine not in ("sklearn", "tfidf"),
            "engine",
            training.engine,
            "trains no sub-layers; use trainer or loop with adaptation: adapt",
        )
    if uses_task_tokens(config):
        require(
            method.cache_frozen != "on" or method.adaptation not in FREEZING,
            "cache_frozen",
            method.cache_frozen,
            "needs blocks whose input stays as it is, and the rows of task tokens train below all of them; set "
            "task_tokens: off, or cache_frozen: auto",
        )
    return problems


def sequence_problems(adapt: AdaptConfig) -> list[str]:
    """What is wrong with the options of mining."""
    shortest, gap = adapt.sequence_min_length, adapt.sequence_max_gap
    rules = (
        (shortest >= 1, "sequence_min_length", "must be at least 1 token"),
        (adapt.sequence_max_length >= shortest, "sequence_max_length", "must not be below sequence_min_length"),
        (adapt.sequence_min_frequency >= 1, "sequence_min_frequency", "must be at least 1 text"),
        (gap is None or gap >= 0, "sequence_max_gap", "must not be negative; 0 means contiguous, null no limit"),
        (adapt.sequence_memory_mb >= 1, "sequence_memory_mb", "must be at least 1 MB"),
        (adapt.sequence_smoothing >= 0, "sequence_smoothing", "must not be negative; 0 means none"),
        (adapt.sequence_top_k is None or adapt.sequence_top_k >= 0, "sequence_top_k", "must not be negative"),
        (0 <= adapt.sequence_vocabulary_share <= 1, "sequence_vocabulary_share", "must be between 0 and 1"),
    )
    return [f"{name}: {vars(adapt)[name]!r} {reason}" for holds, name, reason in rules if not holds]


def validate(config: Config) -> None:
    """Check everything that can be known before a model or data are loaded.

    Raises:
        UserError: every problem found, in one line: field, value, reason and remedy.
    """
    data, model, method, training = config.data, config.model, config.method, config.training
    problems = other_task_problems(config, choice(config, "task", {}))
    unread = unread_options(config)
    if problems:
        # The task is the cause; that it reads no options of AdaPT either says nothing more.
        unread = [one for one in unread if declared()[one.name][0] != "adapt"]

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        require(getattr(training, name) >= 1, name, getattr(training, name), "must be at least 1")
    require(training.learning_rate > 0, "learning_rate", training.learning_rate, "must be positive")
    require(training.weight_decay >= 0, "weight_decay", training.weight_decay, "must not be negative")
    require(training.max_grad_norm > 0, "max_grad_norm", training.max_grad_norm, "must be positive")
    require(training.warmup_steps >= 0, "warmup_steps", training.warmup_steps, "must not be negative")
    if training.max_steps <= 0:
        require(
            training.num_train_epochs > 0,
            "num_train_epochs",
            training.num_train_epochs,
            "must be positive, or give max_steps",
        )
    try:
        training.seed_list()
    except ValueError:
        require(False, "seeds", training.seeds, "must name different whole numbers, as in `0..9` or `1 2 3`")
    require(data.max_length >= 2, "max_length", data.max_length, "must be at least 2 tokens")
    require(training.save_total_limit >= 1, "save_total_limit", training.save_total_limit, "must be at least 1")
    require(
        training.max_nonfinite_steps >= 0, "max_nonfinite_steps", training.max_nonfinite_steps, "must not be negative"
    )
    if training.eval_strategy == "steps":
        require(
            training.eval_steps is not None and training.eval_steps >= 1,
            "eval_steps",
            training.eval_steps,
            "must be at least 1 with eval_strategy: steps",
        )
    if training.early_stopping_patience is not None:
        patience = training.early_stopping_patience
        require(patience >= 1, "early_stopping_patience", patience, "must be at least 1, or left out")
    require(method.cache_limit_gb > 0, "cache_limit_gb", method.cache_limit_gb, "must be positive")
    for name in ("max_train_samples", "max_eval_samples", "max_tokens_per_batch"):
        value = getattr(data, name)
        require(value is None or value >= 1, name, value, "must be at least 1, or left out")
    for name in ("train_platforms", "eval_platforms"):
        names = getattr(data, name)
        distinct = names is None or 0 < len(names) == len(set(names))
        require(distinct, name, names, "must name different platforms, or be left out")
    require(0 <= model.classifier_dropout < 1, "classifier_dropout", model.classifier_dropout, "must be in [0, 1)")
    require(
        all(size >= 1 for size in model.head_hidden_sizes),
        "head_hidden_sizes",
        model.head_hidden_sizes,
        "must hold positive widths",
    )
    # Of other fields of TrainingArguments `trainer_problems` speaks.
    problems += refusals(one for one in unread if one.name not in training.extra)
    # Without training there is no adaptation that could be wrong.
    if config.script != "prompt":
        problems += method_problems(config) + engine_problems(config) + loss_problems(config)
        problems += robust_problems(config) + adapt_problems(config) + trainer_problems(config)
    require(
        not (model.load_in_4bit and model.random_weights),
        "random_weights",
        model.random_weights,
        "leaves nothing to quantise; set load_in_4bit: false",
    )
    require(
        model.dtype != "float16",
        "dtype",
        model.dtype,
        "overflows in Gemma 3 and gives nan losses (transformers #39972); use bfloat16 or float32",
    )
    if method.class_counts is not None:
        require(
            all(count >= 1 for count in method.class_counts),
            "class_counts",
            method.class_counts,
            "must be positive counts, one per label",
        )
    trackers = config.tracking.report_to
    require(
        0 < len(trackers) == len(set(trackers)) and ("none" not in trackers or len(trackers) == 1),
        "report_to",
        trackers,
        "must be none, or name wandb and tensorboard at most once each",
    )
    require(
        "tensorboard" not in trackers or find_spec("tensorboard") is not None,
        "report_to",
        trackers,
        "needs the package tensorboard; `pip install -r requirements.txt`, or leave it out",
    )
    require(
        is_folder_name(training.run_name),
        "run_name",
        training.run_name,
        "must be a plain folder name: no separators, no control characters, not only dots, at most 200 bytes",
    )
    instruct = config.instruct
    require(instruct.num_beams >= 1, "num_beams", instruct.num_beams, "must be at least 1")
    require(
        instruct.decode == "score" or 1 < instruct.max_answer_length < data.max_length,
        "max_answer_length",
        instruct.max_answer_length,
        f"must be at least 2 tokens and leave room for a prompt in max_length ({data.max_length})",
    )
    pretrain = config.pretrain
    require(0 < pretrain.mlm_probability < 1, "mlm_probability", pretrain.mlm_probability, "must be between 0 and 1")
    share = pretrain.held_out_share
    require(0 < share <= 0.5, "held_out_share", share, "must be above 0 and at most 0.5")
    prompt = config.prompt
    require(prompt.shots >= 0, "shots", prompt.shots, "must not be negative")
    require(
        prompt.hypothesis_template.count("{label}") == 1,
        "hypothesis_template",
        prompt.hypothesis_template,
        "must hold {label} once, where the label's words go",
    )
    if problems:
        raise UserError(f"{config.source}: " + "; ".join(problems))
