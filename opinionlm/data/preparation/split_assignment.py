"""Which split every row is in: those it came with, those that are cut from train, and none that is empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from opinionlm.data.preparation.ledger import EXPLANATIONS, Ledger
from opinionlm.data.preparation.sources import given_splits
from opinionlm.data.preparation.splits import (
    group_split,
    share_warnings,
    stratified_group_split,
    stratified_split,
    tie_problem,
    time_split,
)
from opinionlm.data.spec import SPLITS, BalanceSpec
from opinionlm.errors import UserError

SHOWN_REASONS = 3


def assign_splits(ledger: Ledger, given: np.ndarray, strata: tuple[np.ndarray, Sequence[str]]) -> np.ndarray:
    """(rows,) split numbers; missing given splits are taken out of train by their share.

    Args:
        ledger: knows which rows are kept.
        given: (rows,) the split each row comes with.
        strata: see `RowKind.strata`.

    Raises:
        UserError: rows cannot be split by time.
    """
    splits = given.copy()
    pool = np.flatnonzero(ledger.kept & (given == 0))
    missing = [split for split in SPLITS if split not in (given_splits(ledger.sources) or ("train",))]
    if missing and len(pool):
        taken = [getattr(ledger.spec.split, split) for split in missing]
        chosen, warnings = _draw(ledger, pool, strata, ["train", *missing], [1 - sum(taken), *taken])
        splits[pool] = np.array([0, *(SPLITS.index(split) for split in missing)], dtype=np.int8)[chosen]
        ledger.warnings += warnings
    return splits


def _draw(
    ledger: Ledger,
    pool: np.ndarray,
    strata: tuple[np.ndarray, Sequence[str]],
    names: list[str],
    shares: list[float],
) -> tuple[np.ndarray, list[str]]:
    """Share the rows of the pool out: (pool,) indices into the names of the splits, and warnings."""
    spec, split = ledger.spec, ledger.spec.split
    if split.by == "time":
        assert ledger.table.time is not None
        times = ledger.table.time[pool]
        if problem := tie_problem(times, len(shares)):
            raise UserError(
                f"{spec.source}: split.by: time: {problem}; map `time` to a column with finer times, set "
                "split.by: random, or give files a split"
            )
        chosen = time_split(times, shares)
        return chosen, share_warnings(chosen, names, shares, "rows of one time stay together")
    if split.group_by is not None:
        _, numbers = np.unique(ledger.table.group[pool], return_inverse=True)
        chosen, warnings = group_split(numbers, shares, split.seed)
        return chosen, warnings + share_warnings(chosen, names, shares, "rows of one group stay together")
    labels, platforms = strata[0][pool], ledger.table.platform[pool]
    by_label = spec.labels is not None and "label" in split.stratify_by
    by_platform = "platform" in split.stratify_by
    if split.near_copies == "together":
        _, numbers, sizes = np.unique(ledger.table.group[pool], return_inverse=True, return_counts=True)
        chosen = stratified_group_split(numbers, labels * by_label, platforms * by_platform, shares, split.seed)
        several = sizes[sizes > 1]
        found = f"{several.sum():,} rows are near-copies of others, in {len(several):,} groups; each is in one split"
        warnings = share_warnings(chosen, names, shares, "near-copies stay together")
        return chosen, [f"split.near_copies: {found}", *warnings]
    return stratified_split(
        labels, platforms, shares, split.seed, strata[1], by_label=by_label, by_platform=by_platform
    )


def require_split_rows(ledger: Ledger, splits: np.ndarray, given: np.ndarray) -> None:
    """Refuse data of which a split has no rows; ``splits`` and those that rows come with are numbers ``(rows,)``.

    Raises:
        UserError: a split is empty.
    """
    empty = [name for number, name in enumerate(SPLITS) if not (ledger.kept & (splits == number)).any()]
    if not empty:
        return
    name = empty[0]
    own = name in given_splits(ledger.sources)
    sources = [source for source in ledger.sources if not own or source.split == name]
    records = sum(source.records for source in sources)
    gone = sum((source.rejected for source in sources), Counter())
    gone += ledger.removed(given == SPLITS.index(name) if own else np.ones(len(given), dtype=bool))
    reasons = "; ".join(
        f"{count:,} {reason} ({EXPLANATIONS[reason]})" for reason, count in gone.most_common(SHOWN_REASONS)
    )
    more = sum(count for _, count in gone.most_common()[SHOWN_REASONS:])
    went = f" went: {reasons}" + (f"; {more:,} for other reasons" if more else "") if gone else ""
    if own:
        files = ", ".join(dict.fromkeys(source.name for source in sources))
        why = f"all {records:,} records of {files}{went}"
        remedy = "give it rows of its own, or leave its file out to have it cut from train"
    else:
        kept = int(ledger.kept.sum())
        why = f"{kept:,} of {records:,} records are left for all splits" + (
            f", {records - kept:,}{went}" if went else ""
        )
        hints = [warning for warning in ledger.warnings if "too few" in warning]
        why += f"; {hints[0]}" if hints else ""
        remedy = "give more rows, files with a split of their own, or other options of `split` and `cleaning`"
    raise UserError(f"{ledger.spec.source}: the {name} split would be empty: {why}; {remedy}")


def drop_surplus(ledger: Ledger, splits: np.ndarray, balance: BalanceSpec) -> None:
    """Keep equally many rows of every label in every split; ``splits`` are numbers ``(rows,)``.

    The rows of a label in a split are put into an order that depends on the seed alone, and the first ones are kept:
    a larger subset holds the smaller ones, so that curves over the number of rows compare like with like.

    Raises:
        UserError: a label has too few rows.
    """
    assert ledger.spec.labels is not None
    leaves = ledger.spec.labels.leaves
    totals = {"train": balance.train, "validation": balance.validation, "test": balance.test}
    chosen = np.zeros(len(splits), dtype=bool)
    missing = []
    for number, split in enumerate(SPLITS):
        wanted = totals[split] // len(leaves)
        for label, name in enumerate(leaves):
            rows = np.flatnonzero(ledger.kept & (splits == number) & (ledger.label == label))
            if len(rows) < wanted:
                missing.append(f"{split} has {len(rows)} rows of {name!r} and {wanted} are asked for")
            # Named by the label's text: its number depends on which other labels take part.
            order = np.random.default_rng([balance.seed, number, *name.encode()]).permutation(rows)
            chosen[order[:wanted]] = True
    if missing:
        raise UserError(f"{ledger.spec.source}: balance: {'; '.join(missing)}; lower the totals, or use fewer labels")
    ledger.drop("balanced subset", [(~chosen, "not_drawn", None)])
