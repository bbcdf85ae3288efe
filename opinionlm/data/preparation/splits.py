"""Stratified, deterministic splits (section 9.2, step 2.2), with a rule for classes too small to stratify.

A stratum is a label on a platform. Strata with fewer than `SMALL` rows are put together over the platforms of their
label. A label with fewer rows than there are splits fills train first, then validation, then test; any other label
has at least one row in each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opinionlm.data.readers.timestamps import iso_times

# With 70/20/10, ten rows are the fewest that give every split one.
SMALL = 10


def stratified_split(
    labels: np.ndarray,
    platforms: np.ndarray,
    shares: Sequence[float],
    seed: int,
    label_names: Sequence[str],
    by_label: bool = True,
    by_platform: bool = True,
) -> tuple[np.ndarray, list[str]]:
    """Assign every row to a split.

    Args:
        labels: (rows,) class ids.
        platforms: (rows,) platform numbers.
        shares: one per split, in the order of importance; they sum to 1.
        seed: equal seeds and rows give equal splits.
        label_names: for the warnings.
        by_label: keep the shares within every label.
        by_platform: keep the shares within every platform.

    Returns:
        (rows,) split numbers, and warnings about labels that miss a split.
    """
    splits = np.zeros(len(labels), dtype=np.int8)
    warnings: list[str] = []
    label_of = labels if by_label else np.zeros_like(labels)
    platform_of = platforms if by_platform else np.zeros_like(platforms)
    for label in np.unique(label_of):
        rows = np.flatnonzero(label_of == label)
        carry = np.zeros(len(shares))
        for number, stratum in enumerate(_strata(rows, platform_of[rows])):
            rng = np.random.default_rng([seed, int(label), number])
            counts, carry = _allocate(len(stratum), np.asarray(shares, dtype=float), carry)
            splits[rng.permutation(stratum)] = np.repeat(np.arange(len(shares)), counts)
        _fill_empty_splits(splits, rows, len(shares))
        if by_label and len(rows) < len(shares):
            warnings.append(
                f"the label {label_names[label]!r} has {len(rows)} row{'s' * (len(rows) > 1)}, too few for "
                f"{len(shares)} splits: train is filled first, then validation, then test"
            )
    return splits, warnings


def stratified_group_split(
    groups: np.ndarray, labels: np.ndarray, platforms: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """Assign whole groups to splits, so that every stratum comes close to the shares.

    Largest groups first, equal ones in random order, each goes where most rows of its strata are missing, as in the
    iterative stratification of Sechidis et al. 2011; rows by themselves, which most are, then fill what is missing.

    Args:
        groups: (rows,) group numbers 0 to n - 1.
        labels: (rows,) class ids.
        platforms: (rows,) platform numbers.
        shares: one per split, in the order of importance; they sum to 1.
        seed: equal seeds and rows give equal splits.

    Returns:
        (rows,) split numbers.
    """
    strata = np.zeros(len(labels), dtype=np.int64)
    for number, rows in enumerate(
        stratum
        for label in np.unique(labels)
        for own in [np.flatnonzero(labels == label)]
        for stratum in _strata(own, platforms[own])
    ):
        strata[rows] = number
    missing = np.outer(shares, np.bincount(strata))
    sizes = np.bincount(groups)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    splits = np.zeros(len(labels), dtype=np.int8)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        rows = members[group]
        own = strata[rows]
        splits[rows] = chosen = int(np.argmax(missing[:, own].sum(axis=1)))
        np.subtract.at(missing[chosen], own, 1)
    return splits


def group_split(groups: np.ndarray, shares: Sequence[float], seed: int) -> tuple[np.ndarray, list[str]]:
    """Assign whole groups to splits, so that the rows come close to the shares.

    In random order every group goes where most rows are missing; a split that is left without one gets the smallest
    group of the largest split.

    Args:
        groups: (rows,) group numbers 0 to n - 1.
        shares: one per split, in the order of importance; they sum to 1.
        seed: equal seeds and groups give equal splits.

    Returns:
        (rows,) split numbers, and a warning where there are fewer groups than splits.
    """
    sizes = np.bincount(groups)
    missing = np.asarray(shares, dtype=float) * len(groups)
    split_of = np.zeros(len(sizes), dtype=np.int8)
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        split_of[group] = np.argmax(missing)
        missing[split_of[group]] -= sizes[group]
    for split in range(min(len(shares), len(sizes))):
        if not (split_of == split).any():
            giver = np.argmax(np.bincount(split_of, minlength=len(shares)))
            candidates = np.flatnonzero(split_of == giver)
            split_of[candidates[np.argmin(sizes[candidates])]] = split
    warnings = []
    if len(sizes) < len(shares):
        warnings.append(f"{len(sizes)} groups are too few for {len(shares)} splits: some splits are empty")
    return split_of[groups], warnings


def time_split(times: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Assign the earliest rows to the first split, the latest to the last one.

    A border never falls between two rows of the same time: all of them are on the side that brings the shares nearest
    to what was asked for (in the later split where both are equally near). No split is empty as long as there are as
    many different times as splits; with fewer the last ones are.

    Args:
        times: (rows,) seconds.
        shares: one per split, in the order of time; they sum to 1.

    Returns:
        (rows,) split numbers.
    """
    moments, counts = np.unique(times, return_counts=True)
    # Rows before each moment: where a split may begin. The first one begins with the first moment.
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    parts, first_moments, first = min(len(shares), len(moments)), [], 0
    for number, wanted in enumerate(np.cumsum(shares[: parts - 1]) * len(times), start=1):
        # Every later split needs a moment of its own, as every earlier one had.
        choices = before[first + 1 : len(moments) - (parts - 1 - number)]
        first += 1 + int(np.argmin(np.abs(choices - np.floor(wanted + 1e-9))))
        first_moments.append(moments[first])
    return np.searchsorted(np.array(first_moments, dtype=times.dtype), times, side="right").astype(np.int8)


def tie_problem(times: np.ndarray, splits: int) -> str:
    """Why rows cannot be split by time, naming the times that they share; blank where they can."""
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) >= splits:
        return ""
    ties = " and ".join(f"{n:,} rows have the time {t}" for n, t in zip(counts, iso_times(moments), strict=True))
    many = "one time" if len(moments) == 1 else f"{len(moments)} times"
    return f"{ties}; rows of one time stay together, so that {many} cannot fill {splits} splits"


def share_warnings(assigned: np.ndarray, names: Sequence[str], shares: Sequence[float], why: str) -> list[str]:
    """Warnings about splits that are less than half or more than twice as large as asked for.

    Args:
        assigned: (rows,) split numbers.
        names: of the splits.
        shares: one per split, as asked for.
        why: the rule that made them so.
    """
    found = np.bincount(assigned, minlength=len(shares)) / max(len(assigned), 1)
    return [
        f"{name} has {part:.0%} of the rows instead of {share:.0%}: {why}"
        for name, part, share in zip(names, found, shares, strict=True)
        if 0 < part < share / 2 or part > share * 2
    ]


def _strata(rows: np.ndarray, platforms: np.ndarray) -> list[np.ndarray]:
    """One label's rows by platform, the small platforms together."""
    groups = [rows[platforms == platform] for platform in np.unique(platforms)]
    small = [group for group in groups if len(group) < SMALL]
    return [group for group in groups if len(group) >= SMALL] + ([np.sort(np.concatenate(small))] if small else [])


def _allocate(rows: int, shares: np.ndarray, carry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of `rows` each split gets: largest remainder, and what rounding took is given back by the next call.

    Carries lie between -1 and 1 and sum to 0. So of up to three splits those whose part is negative lack less than one
    row together, and whole parts never sum to more than `rows`; what is left over is less than one row per split.
    """
    exact = rows * shares + carry
    counts = np.maximum(np.floor(exact + 1e-9), 0).astype(int)
    # A stable sort breaks ties in favour of the earlier split.
    order = np.argsort(-np.round(exact - counts, 9), kind="stable")
    counts[order[: rows - counts.sum()]] += 1
    return counts, exact - counts


def _fill_empty_splits(splits: np.ndarray, rows: np.ndarray, number: int) -> None:
    """Give a label a row in each split, or in the first ones where it has fewer rows than there are splits."""
    for split in range(min(number, len(rows))):
        counts = np.bincount(splits[rows], minlength=number)
        if counts[split] == 0:
            # The largest split gives; where all have one row or none, the least important one does.
            giver = number - 1 - int(np.argmax(counts[::-1])) if counts.max() == 1 else int(np.argmax(counts))
            splits[rows[np.flatnonzero(splits[rows] == giver)[-1]]] = split
