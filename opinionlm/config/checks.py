"""Rules across options, checked before a model or data are loaded; what one number may be stands beside its option."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from opinionlm.config.config import Config, declared, options_of
from opinionlm.config.method_options import FREEZING
from opinionlm.config.trainer_checks import trainer_problems
from opinionlm.config.unread import UNKNOWN, choice, refusals, unread_options
from opinionlm.errors import UserError
from opinionlm.utils.names import is_folder_name


def method_problems(config: Config) -> list[str]:
    """What is wrong with the options of the adaptation, as far as no model has to be known for it."""
    model, method, training = config.model, config.method, config.training
    name = method.adaptation
    problems: list[str] = []

    def require(holds: bool, option_name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{option_name}: {value!r} {reason}")

    if name == "adalora":
        require(
            method.adalora_target_r < method.adalora_init_r,
            "adalora_target_r",
            method.adalora_target_r,
            f"must be below adalora_init_r ({method.adalora_init_r}), or no rank ever falls; lower it, or use "
            "adaptation: lora",
        )
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


def loss_problems(config: Config) -> list[str]:
    """What is wrong with the options of the loss, as far as no data have to be known for it."""
    method, engine = config.method, config.training.engine
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    start = method.ldam_reweight_from
    if method.loss == "ldam":
        weighted = method.class_weights in ("inverse_frequency", "effective_number")
        require(
            start == 1 or method.class_weights != "none",
            "class_weights",
            "none",
            "leaves nothing to count by from ldam_reweight_from on; set that to 1, or give class_weights",
        )
        require(
            start < 1 or not weighted,
            "class_weights",
            method.class_weights,
            "never count with ldam_reweight_from: 1; set class_weights: none, or an earlier start",
        )
    if engine in ("sklearn", "tfidf"):
        require(
            method.class_weights != "effective_number",
            "class_weights",
            method.class_weights,
            f"is nothing that engine: {engine} knows; use inverse_frequency",
        )
    return problems


def robust_problems(config: Config) -> list[str]:
    """What is wrong with these options, as far as no data have to be known for it."""
    robust = config.robust
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    if robust.ema_decay is not None:
        require(
            config.method.adaptation != "adalora",
            "ema_decay",
            robust.ema_decay,
            "would bring back the ranks that adaptation: adalora prunes; leave it out, or use lora",
        )
    if robust.soft_labels is not None:
        method = config.method
        require(
            method.loss == "cross_entropy" and method.label_smoothing == 0,
            "soft_labels",
            robust.soft_labels,
            "are targets of plain cross entropy; leave out loss and label_smoothing",
        )
        require(
            robust.augment_rare <= 0,
            "augment_rare",
            robust.augment_rare,
            "makes copies that soft_labels say nothing of; leave one of the two out",
        )
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
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    longest, shortest = adapt.sequence_max_length, adapt.sequence_min_length
    require(longest >= shortest, "sequence_max_length", longest, "must not be below sequence_min_length")
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


def bound_problems(config: Config, places: Mapping[str, str]) -> list[str]:
    """Numbers that are outside of what their options may hold."""
    return [
        problem
        for name in options_of(config.script)
        for problem in declared()[name][1]
        .metadata["bounds"]
        .problem(places.get(name, f"{config.source}: {name}"), config.value(name))
    ]


def validate(config: Config, places: Mapping[str, str] | None = None) -> None:
    """Check everything that can be known before a model or data are loaded.

    Args:
        config: the options.
        places: where the options stand that are stated, for messages; the names last.

    Raises:
        UserError: every problem found, in one line: field, value, reason and remedy.
    """
    problems = other_task_problems(config, choice(config, "task", {}))
    unread = unread_options(config)
    outside = bound_problems(config, places or {})
    if problems:
        # The task is the cause; that it reads no options of AdaPT either says nothing more.
        unread = [one for one in unread if declared()[one.name][0] != "adapt"]
    problems += list_problems(config)
    problems += refusals(unread)
    # Without training there is no adaptation that could be wrong.
    if config.script != "prompt":
        problems += method_problems(config) + engine_problems(config) + loss_problems(config)
        problems += robust_problems(config) + adapt_problems(config) + trainer_problems(config, places or {})
    problems += model_problems(config) + instruct_problems(config)
    rules = [f"{config.source}: {'; '.join(problems)}"] if problems else []
    if outside or rules:
        raise UserError("; ".join([*outside, *rules]))


def list_problems(config: Config) -> list[str]:
    """Lists of names, and names that become folders."""
    data, training, trackers = config.data, config.training, config.tracking.report_to
    problems = []
    try:
        training.seed_list()
    except ValueError:
        problems.append(f"seeds: {training.seeds!r} must name different whole numbers, as in `0..9` or `1 2 3`")
    for name, names in (("train_platforms", data.train_platforms), ("eval_platforms", data.eval_platforms)):
        if names is not None and not 0 < len(names) == len(set(names)):
            problems.append(f"{name}: {names!r} must name different platforms, or be left out")
    if not 0 < len(trackers) == len(set(trackers)) or ("none" in trackers and len(trackers) > 1):
        problems.append(f"report_to: {trackers!r} must be none, or name wandb and tensorboard at most once each")
    if "tensorboard" in trackers and find_spec("tensorboard") is None:
        problems.append(
            f"report_to: {trackers!r} needs the package tensorboard; `pip install -r requirements.txt`, or leave it "
            "out"
        )
    if not is_folder_name(training.run_name):
        problems.append(
            f"run_name: {training.run_name!r} must be a plain folder name: no separators, no control characters, not "
            "only dots, at most 200 bytes"
        )
    return problems


def model_problems(config: Config) -> list[str]:
    """What cannot be loaded."""
    model = config.model
    problems = []
    if model.load_in_4bit and model.random_weights:
        problems.append("random_weights: True leaves nothing to quantise; set load_in_4bit: false")
    if model.dtype == "float16":
        problems.append(
            "dtype: 'float16' overflows in Gemma 3 and gives nan losses (transformers #39972); use bfloat16 or float32"
        )
    return problems


def instruct_problems(config: Config) -> list[str]:
    """What a language model cannot be asked."""
    instruct, longest, template = config.instruct, config.data.max_length, config.prompt.hypothesis_template
    problems = []
    if instruct.decode == "generate" and not 1 < instruct.max_answer_length < longest:
        problems.append(
            f"max_answer_length: {instruct.max_answer_length} must be at least 2 tokens and leave room for a prompt "
            f"in max_length ({longest})"
        )
    if template.count("{label}") != 1:
        problems.append(f"hypothesis_template: {template!r} must hold {{label}} once, where the label's words go")
    return problems
