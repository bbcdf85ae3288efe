"""Balanced subsets: equally many rows of every label (the GoEmotions grid's 12 data sets)."""

from __future__ import annotations

import numpy as np

from opinionlm.data.preparation.ledger import Ledger
from opinionlm.data.spec import SPLITS, BalanceSpec
from opinionlm.errors import UserError


def drop_surplus(ledger: Ledger, splits: np.ndarray, balance: BalanceSpec) -> None:
    """Keep equally many rows of every label in every split.

    The rows of a label in a split are put into an order that depends on the seed alone, and the first ones are kept:
    a larger subset holds the smaller ones, so that curves over the number of rows compare like with like.

    Args:
        ledger: told which rows go.
        splits: split numbers ``(rows,)``.
        balance: how many rows each split keeps.

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
