"""Rules for the options of AdaPT, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opinionlm.method_options import FREEZING
from opinionlm.options import AdaptConfig
from opinionlm.unread import UNKNOWN, choice

if TYPE_CHECKING:
    from opinionlm.config import Config


def uses_task_tokens(config: Config) -> bool:
    """Whether sequences of the training texts become tokens: by default with ``adaptation: adapt`` alone."""
    return choice(config, "task_tokens", {}) == "on"


def other_task_problems(config: Config, task: Any) -> list[str]:
    """AdaPT, or task tokens with another adaptation, for a task that they are not made for.

    Args:
        config: the options.
        task: what the config or the data say, `opinionlm.unread.UNKNOWN` where neither can.
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
