"""A split without rows is refused, with what became of the rows that it might have had."""

from __future__ import annotations

from collections import Counter

import numpy as np

from opinionlm.data.preparation.ledger import EXPLANATIONS, Ledger
from opinionlm.data.preparation.rows import given_splits
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError

SHOWN_REASONS = 3


def require_split_rows(ledger: Ledger, splits: np.ndarray, given: np.ndarray) -> None:
    """Refuse data of which a split has no rows: nothing could be learned, chosen or measured on it.

    Args:
        ledger: knows which rows are kept and why the others went.
        splits: (rows,) split numbers of the kept rows.
        given: (rows,) the split each row comes with.

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
