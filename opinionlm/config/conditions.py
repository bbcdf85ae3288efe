"""What has to be chosen for an option to be read, declared beside the option.

`opinionlm.config.unread` makes use of it.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Any, Literal

from opinionlm.config.bounds import Bounds

Script = Literal["train_classifier", "train_instruct", "prompt", "mining", "pretrain"]


class Presence(Enum):
    """What a condition asks of an option whose value does not matter."""

    GIVEN = "with"
    ABSENT = "without"


GIVEN, ABSENT = Presence.GIVEN, Presence.ABSENT

# The name of a choice, and a tuple of its values that read the option, or a `Presence`. All conditions have to hold.
Conditions = dict[str, Any]

# Conditions of many options.
GRADIENT_ENGINES = ("trainer", "loop")
GRADIENT_STEPS: Conditions = {"engine": GRADIENT_ENGINES}
LANGUAGE_MODEL: Conditions = {"engine": ("trainer", "loop", "sklearn")}
FIXED_BATCHES: Conditions = GRADIENT_STEPS | {"max_tokens_per_batch": ABSENT}
LABELS_OF_TEXTS: Conditions = {"task": ("sequence",)}
ANY_LABELS: Conditions = {"task": ("sequence", "multi_label")}


# Option → the one that decides in its place, as transformers' does: where both are stated, whatever the place, the
# first is set back to its default and a line says so. Everything else that is not read and stated there is refused.
DECIDED_BY = {"num_train_epochs": "max_steps", "seed": "seeds"}


def option(
    default: Any,
    help: str,
    when: Conditions | tuple[Conditions, ...] = (),
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A dataclass field with a help text; mutable defaults are copied for every instance.

    Args:
        default: its value where none is given.
        help: what it is.
        when: the choices under which it is read; of several sets of conditions one has to hold. By default always.
            Choices are options of any group, and those of `opinionlm.config.unread.FACTS`.
        above: a number, or every number of a list, is larger.
        at_least: it is not smaller.
        below: it is smaller.
        at_most: it is not larger.
    """
    bounds = Bounds(above, at_least, below, at_most)
    metadata = {"help": help, "when": when if isinstance(when, tuple) else (when,), "bounds": bounds}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
