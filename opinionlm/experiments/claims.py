"""Which ways of training are better than others, over seeds and posts, corrected for how many are compared."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from opinionlm.evaluation.significance import Difference, holm, score_difference
from opinionlm.experiments.ways import Way
from opinionlm.utils.names import counted

LEVEL = 0.05
# From so many seeds on the spread of a way of training is known well enough to call one the best.
SEEDS = 5


@dataclass(frozen=True)
class Pair:
    """Two ways compared.

    Attributes:
        first: the one.
        second: the other.
        difference: second minus first.
        corrected: p-value by Holm over all pairs that were compared.
    """

    first: Way
    second: Way
    difference: Difference
    corrected: float

    @property
    def differs(self) -> bool:
        """Whether the two are told apart."""
        return self.corrected < LEVEL


def compare_ways(groups: Sequence[Sequence[Way]]) -> list[list[Pair]]:
    """Compare every two ways of each group, corrected over the pairs of all groups.

    Args:
        groups: each of ways on the same posts, such as those of one data set of a table.
    """
    pairs = [list(itertools.combinations(ways, 2)) for ways in groups]
    found = [[score_difference(one.rows, one.scored, other.scored) for one, other in group] for group in pairs]
    corrected = iter(holm([difference.p_value for group in found for difference in group]))
    return [
        [Pair(*two, difference, next(corrected)) for two, difference in zip(group, differences, strict=True)]
        for group, differences in zip(pairs, found, strict=True)
    ]


def best_of(ways: Sequence[Way]) -> Way:
    """The way with the largest mean score; the first of equals."""
    return max(ways, key=lambda way: way.scores.mean())


def best_line(ways: Sequence[Way], pairs: Sequence[Pair], compared: int) -> str:
    """The best way, and which others cannot be told apart from it.

    Args:
        ways: of one group; not empty.
        pairs: every two of them.
        compared: pairs that the correction counted.
    """
    best = best_of(ways)
    alike = [
        (pair.second if pair.first is best else pair.first).name
        for pair in pairs
        if best in (pair.first, pair.second) and not pair.differs
    ]
    others = f"cannot be told apart from it: {', '.join(alike)}" if alike else "all others are worse"
    correction = f"Holm over {counted(compared, 'pair')}"
    return f"Best by {best.metric}: {best.name} ({spread_text(best.scores)}); {others} ({correction})."


def seeds_line(ways: Sequence[Way]) -> str:
    """What fewer seeds than five leave open; empty where there are five of each."""
    fewest = min(len(way.scores) for way in ways)
    if fewest >= SEEDS:
        return ""
    what = "these very runs" if fewest == 1 else f"so few seeds ({fewest})"
    return f"Fewer than {SEEDS} seeds: what is said of differences is about {what}, and no winner is claimed."


def difference_text(pair: Pair) -> str:
    """The difference of two ways to read."""
    difference = pair.difference
    effect = "" if difference.effect is None else f", d {difference.effect:+.2f} over seeds"
    return (
        f"{pair.first.metric} {difference.value:+.3f} (95 % interval {difference.low:+.3f} to {difference.high:+.3f}, "
        f"paired bootstrap p {shown_p(difference.p_value)}, corrected {shown_p(pair.corrected)}{effect})"
    )


def shown_p(value: float) -> str:
    """A p-value to read."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def spread_text(scores: np.ndarray) -> str:
    """Mean ± standard deviation over seeds."""
    return f"{scores.mean():.3f}" + (f" ± {scores.std(ddof=1):.3f}" if len(scores) > 1 else "")


def claim_lines(groups: Mapping[str, Sequence[Way]]) -> list[str]:
    """The section about differences below a table, as Markdown; empty where nothing is to be compared.

    All pairs count for the correction; those with the best are shown.

    Args:
        groups: what the ways of a group have in common → the ways.
    """
    groups = {name: ways for name, ways in groups.items() if len(ways) > 1}
    if not groups:
        return []
    compared = compare_ways(list(groups.values()))
    total = sum(map(len, compared))
    lines = ["### Differences", ""]
    metrics = " and ".join(dict.fromkeys(way.metric for ways in groups.values() for way in ways))
    correction = f"Holm's correction over all {counted(total, 'pair')} of the table"
    lines.append(f"{metrics[0].upper()}{metrics[1:]} over test rows and seeds; {correction}.")
    if few := seeds_line([way for ways in groups.values() for way in ways]):
        lines += ["", few]
    lines.append("")
    for (name, ways), pairs in zip(groups.items(), compared, strict=True):
        lines.append(f"- {name + ': ' if name else ''}{best_line(ways, pairs, total)}")
        best = best_of(ways)
        lines += [
            f"  - {pair.second.name} minus {pair.first.name}: {difference_text(pair)}"
            for pair in pairs
            if best in (pair.first, pair.second)
        ]
    return lines
