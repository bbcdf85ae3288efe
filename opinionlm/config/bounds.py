"""What a number may be, declared beside the option that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What every library takes that draws numbers: NumPy's limit, which is the lowest.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Bounds:
    """The range of a number, or of every number of a list; no value at all is outside of none.

    Attributes:
        above: the value is larger.
        at_least: the value is not smaller.
        below: the value is smaller.
        at_most: the value is not larger.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def words(self) -> str:
        """The range as ``--help`` and the documents name it; empty where every number will do."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {number_text(self.at_least)} to {number_text(self.at_most)}"
        if self == Bounds(above=0):
            return "positive"
        limits = (("above", self.above), ("at least", self.at_least), ("below", self.below), ("at most", self.at_most))
        return " and ".join(f"{name} {number_text(limit)}" for name, limit in limits if limit is not None)

    def hold(self, value: Any) -> bool:
        """Whether a value, or every entry of a list, is in the range; so are None and what is no number."""
        if isinstance(value, list):
            return all(map(self.hold, value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def problem(self, name: str, value: Any) -> list[str]:
        """What is wrong with an option's value: one sentence, or none."""
        if self.hold(value):
            return []
        if isinstance(value, list):
            return [f"{name}: {value!r} must all be {self.words()}"]
        return [
            f"{name}: {value!r} must " + ("not be negative" if self == Bounds(at_least=0) else f"be {self.words()}")
        ]


def number_text(number: float) -> str:
    """A limit as people read it: a whole one in all its digits."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
