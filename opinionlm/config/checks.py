"""Rules across options, checked before a model or data are loaded; what one number may be stands beside its option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from opinionlm.config.bounds import LARGEST_SEED, Bounds
from opinionlm.config.conditions import ANY_LABELS
from opinionlm.config.config import Config, declared
from opinionlm.config.method_options import FREEZING, MULTI_LABEL_LOSSES, MethodConfig, RobustConfig, SensitivityConfig
from opinionlm.config.options import DataConfig, InstructConfig, ModelConfig, WeightsConfig
from opinionlm.config.trainer_arguments import HONOURED
from opinionlm.config.trainer_checks import trainer_problems
from opinionlm.config.training_options import TrainingConfig
from opinionlm.config.unread import UNKNOWN, choice, refusals, unread_options
from opinionlm.errors import UserError
from opinionlm.utils.command_line import command
from opinionlm.utils.names import HUB_NAME, is_folder_name


def validate(config: Config, places: Mapping[str, str] | None = None) -> None:
    """Check everything that can be known before a model or data are loaded; ``places`` are named in messages.

    Raises:
        UserError: every problem found, in one line: field, value, reason and remedy.
    """
    problems = other_task_problems(config, choice(config, "task", {}))
    unread = unread_options(config)
    if problems:
        # The task is the cause; that it reads no options of AdaPT either says nothing more.
        unread = [one for one in unread if one.name in config.training.extra or declared()[one.name][0] != "adapt"]
    data, model, method, training = config.data, config.model, config.method, config.training
    problems += list_problems(data, training, config.tracking.report_to) + refusals(unread)
    # Without training there is no adaptation that could be wrong.
    if config.script != "prompt":
        problems += method_problems(method, model, training.activation_checkpointing)
        problems += engine_problems(training.engine, method) + loss_problems(method)
        problems += robust_problems(config.robust, method) + adapt_problems(config) + trainer_problems(config)
    problems += model_problems(model) + instruct_problems(config.instruct, data.max_length)
    if config.prompt.hypothesis_template.count("{label}") != 1:
        problems.append(
            f"hypothesis_template: {config.prompt.hypothesis_template!r} must hold {{label}} once, where the label's "
            "words go"
        )
    places = places or {}
    found, others = bound_problems(config, places), list[str]()
    for problem in problems:
        # Most begin with the option that is wrong.
        name, _, behind = problem.partition(":")
        if name in places:
            found.append(f"{places[name]}:{behind}")
        else:
            others.append(problem)
    if others:
        found.append(f"{config.source}: {'; '.join(others)}")
    if found:
        raise UserError("; ".join(found))


def bound_problems(config: Config, places: Mapping[str, str]) -> list[str]:
    """Numbers outside the range of their option or field of TrainingArguments, each with its place."""
    found: list[str] = []
    for name, value in config.flat().items():
        bounds = declared()[name][1].metadata["bounds"] if name in declared() else Bounds()
        bounds = HONOURED[name].bounds if name in HONOURED else bounds
        found += bounds.problem(places.get(name, f"{config.source}: {name}"), value)
    return found


def broken(*rules: tuple[bool, str]) -> list[str]:
    """What is said of the rules that do not hold.

    Args:
        rules: each whether it holds, and the option, its value, the reason and the remedy.
    """
    return [text for holds, text in rules if not holds]


def list_problems(data: DataConfig, training: TrainingConfig, trackers: Sequence[str]) -> list[str]:
    """Lists of names, and names that become folders."""
    problems = []
    try:
        training.seed_list()
    except ValueError:
        problems.append(
            f"seeds: {training.seeds!r} must name different whole numbers from 0 to {LARGEST_SEED:,}, as in `0..9` or "
            "`1 2 3`"
        )
    for name, names in (("train_platforms", data.train_platforms), ("eval_platforms", data.eval_platforms)):
        if names is not None and not 0 < len(names) == len(set(names)):
            problems.append(f"{name}: {names!r} must name different platforms, or be left out")
    return problems + broken(
        (
            data.long_texts != "chunk" or data.chunk_overlap < data.max_length,
            f"chunk_overlap: {data.chunk_overlap} must be below max_length ({data.max_length}), which chunks are long",
        ),
        (
            0 < len(trackers) == len(set(trackers)) and ("none" not in trackers or len(trackers) == 1),
            f"report_to: {trackers!r} must be none, or name wandb and tensorboard at most once each",
        ),
        (
            "tensorboard" not in trackers or find_spec("tensorboard") is not None,
            f"report_to: {trackers!r} needs the package tensorboard; `pip install -r requirements.txt`, or leave it "
            "out",
        ),
        (
            training.push_to_hub is None or HUB_NAME.fullmatch(training.push_to_hub) is not None,
            f"push_to_hub: {training.push_to_hub!r} names no repository; give owner and name, such as user/model",
        ),
        (
            training.push_to_hub is None or training.seeds is None,
            f"push_to_hub: {training.push_to_hub!r} is the name of one model, and seeds trains several; leave it out, "
            f"and upload the one you choose: {command('push')} outputs/<run>-seed<k> user/model",
        ),
        (
            is_folder_name(training.run_name),
            f"run_name: {training.run_name!r} must be a plain folder name: no separators, no control characters, not "
            "only dots, at most 200 bytes",
        ),
    )


def model_problems(model: ModelConfig) -> list[str]:
    """What cannot be loaded."""
    return broken(
        (
            not (model.load_in_4bit and model.random_weights),
            "random_weights: True leaves nothing to quantise; set load_in_4bit: false",
        ),
        (
            model.dtype != "float16",
            "dtype: 'float16' overflows in Gemma 3 and gives nan losses (transformers #39972); use bfloat16 or "
            "float32",
        ),
    )


def instruct_problems(instruct: InstructConfig, max_length: int) -> list[str]:
    """What a language model cannot be asked."""
    return broken(
        (
            instruct.decode == "score" or 1 < instruct.max_answer_length < max_length,
            f"max_answer_length: {instruct.max_answer_length} must be at least 2 tokens and leave room for a prompt "
            f"in max_length ({max_length})",
        ),
    )


def method_problems(method: MethodConfig, model: WeightsConfig, activation_checkpointing: bool) -> list[str]:
    """What is wrong with the options of the adaptation, as far as no model has to be known for it."""
    name = method.adaptation
    return broken(
        (
            name != "adalora" or method.adalora_target_r < method.adalora_init_r,
            f"adalora_target_r: {method.adalora_target_r} must be below adalora_init_r ({method.adalora_init_r}), or "
            "no rank ever falls; lower it, or use adaptation: lora",
        ),
        (
            method.target_modules != [],
            "target_modules: [] leave nothing to adapt; name layers, or leave the option out for the family's preset",
        ),
        (
            not (model.load_in_4bit and name in ("full", "layerwise_lr", "lisa", "adapt")),
            f"adaptation: {name!r} cannot train 4-bit weights; use qlora, top_blocks or head_only, or set "
            "load_in_4bit: false",
        ),
        (
            model.load_in_4bit or name != "qlora",
            "load_in_4bit: False contradicts adaptation: qlora; leave it out, or use adaptation: lora",
        ),
        (
            not (activation_checkpointing and name in ("prefix", "p_tuning_v2")),
            "activation_checkpointing: True recomputes blocks without the keys and values of adaptation: "
            f"{name}; set it to false, or use prompt or lora",
        ),
        (
            method.cache_frozen != "on" or name in FREEZING,
            f"cache_frozen: 'on' needs blocks that stay as they are, and adaptation: {name} changes what the lowest "
            "computes; use auto",
        ),
    )


def engine_problems(engine: str, method: MethodConfig) -> list[str]:
    """What the engines cannot do: logistic regression trains nothing but a linear head on a frozen backbone."""
    return broken(
        (
            engine != "sklearn" or method.adaptation == "head_only",
            f"adaptation: {method.adaptation!r} trains more than logistic regression can; set adaptation: head_only, "
            "or engine: trainer",
        ),
        (
            engine != "sklearn" or method.cache_frozen != "off",
            "cache_frozen: 'off' leaves engine: sklearn without features; set it to auto",
        ),
        (
            engine not in ("sklearn", "tfidf") or method.class_weights != "effective_number",
            f"class_weights: 'effective_number' is nothing that engine: {engine} knows; use inverse_frequency",
        ),
    )


def loss_problems(method: MethodConfig) -> list[str]:
    """What is wrong with the options of the loss, as far as no data have to be known for it."""
    start, weights = method.ldam_reweight_from, method.class_weights
    if method.loss != "ldam":
        return []
    return broken(
        (
            start == 1 or weights != "none",
            "class_weights: 'none' leaves nothing to count by from ldam_reweight_from on; set that to 1, or give "
            "class_weights",
        ),
        (
            start < 1 or weights not in ("inverse_frequency", "effective_number"),
            f"class_weights: {weights!r} never count with ldam_reweight_from: 1; set class_weights: none, or an "
            "earlier start",
        ),
    )


def robust_problems(robust: RobustConfig, method: MethodConfig) -> list[str]:
    """What is wrong with what makes training steadier, as far as no data have to be known for it."""
    soft = robust.soft_labels
    return broken(
        (
            robust.ema_decay is None or method.adaptation != "adalora",
            f"ema_decay: {robust.ema_decay} would bring back the ranks that adaptation: adalora prunes; leave it "
            "out, or use lora",
        ),
        (
            soft is None or (method.loss == "cross_entropy" and method.label_smoothing == 0),
            f"soft_labels: {soft!r} are targets of plain cross entropy; leave out loss and label_smoothing",
        ),
        (
            soft is None or robust.augment_rare <= 0,
            f"augment_rare: {robust.augment_rare} makes copies that soft_labels say nothing of; leave one of the two "
            "out",
        ),
    )


def uses_task_tokens(adapt: SensitivityConfig, adaptation: str) -> bool:
    """Whether sequences of the training texts become tokens: by default with ``adaptation: adapt`` alone."""
    return adapt.task_tokens == "on" or (adapt.task_tokens == "auto" and adaptation == "adapt")


def other_task_problems(config: Config, task: Any) -> list[str]:
    """A loss, AdaPT, or task tokens with another adaptation, for a task that they are not made for.

    Args:
        config: the options.
        task: what the config or the data say, `opinionlm.config.unread.UNKNOWN` where neither can.
    """
    problems = loss_task_problems(config.method, task) if config.script == "train_classifier" else []
    asks = config.method.adaptation == "adapt" or config.adapt.task_tokens == "on"
    if config.script != "train_classifier" or not asks or task in (*ANY_LABELS["task"], UNKNOWN):
        return problems
    return [*problems, single_text_problem(config.method.adaptation, f"data of task {task!r}")]


def loss_task_problems(method: MethodConfig, task: Any) -> list[str]:
    """A loss over one label of a text where there are several, or the other way round."""
    if task == "multi_label":
        return broken(
            (
                method.loss in MULTI_LABEL_LOSSES,
                f"loss: {method.loss!r} is for texts with one label each; task multi_label takes "
                f"{', '.join(MULTI_LABEL_LOSSES)}",
            )
        )
    return broken(
        (
            method.loss != "asymmetric" or task is UNKNOWN,
            "loss: 'asymmetric' is for task multi_label; use focal, or leave it out",
        )
    )


def single_text_problem(adaptation: str, found: str) -> str:
    """AdaPT reads one text and labels it; why it cannot read what was found."""
    asked = "adaptation: adapt" if adaptation == "adapt" else "task_tokens: on"
    return (
        f"{asked} is for single texts with labels, not for {found}; a task token has no tag and no place "
        "between two texts: use another adaptation, task_tokens: off"
    )


def adapt_problems(config: Config) -> list[str]:
    """What is wrong with the options of AdaPT, as far as neither model nor data have to be known for it."""
    adapt, method, engine = config.adapt, config.method, config.training.engine
    chosen = method.adaptation == "adapt"
    return broken(
        (
            adapt.sequence_max_length >= adapt.sequence_min_length,
            f"sequence_max_length: {adapt.sequence_max_length} must not be below sequence_min_length",
        ),
        (
            not chosen or config.script != "train_instruct",
            "adaptation: 'adapt' measures a classifier through its head, which a model that writes has not; use "
            "top_blocks or lora",
        ),
        (
            not chosen or engine not in ("sklearn", "tfidf"),
            f"engine: {engine!r} trains no sub-layers; use trainer or loop with adaptation: adapt",
        ),
        (
            not uses_task_tokens(adapt, method.adaptation)
            or method.cache_frozen != "on"
            or method.adaptation not in FREEZING,
            "cache_frozen: 'on' needs blocks whose input stays as it is, and the rows of task tokens train below all "
            "of them; set task_tokens: off, or cache_frozen: auto",
        ),
    )
