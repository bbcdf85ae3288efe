"""Task similarity: two texts and how similar people found them.

Similarity has no direction, so a pair and the same pair turned around are copies of each other.
"""

from __future__ import annotations

import re

from opinionlm.data.cleaning import Step, clean_text
from opinionlm.data.rows import is_blank
from opinionlm.data.sources import Record, Reject
from opinionlm.data.task_rows import TaskRow

# What `float` takes besides (underscores, digits of other scripts, nan, infinity) is no score.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def parse_pair(record: Record, score_range: tuple[float, float], steps: list[Step]) -> TaskRow | Reject:
    """Two cleaned texts and a score.

    Args:
        record: with the fields text, text_pair and score.
        score_range: lowest and highest score allowed.
        steps: of `opinionlm.data.cleaning.text_steps`.
    """
    (text, changed), (pair, pair_changed) = (clean_text(record.fields[n], steps) for n in ("text", "text_pair"))
    for name, value in (("text", text), ("text_pair", pair)):
        if is_blank(value):
            return Reject(record.line, record.number, "empty_text", f"there is no {name}", record.raw)
    written = record.fields["score"].strip()
    if not _NUMBER.fullmatch(written):
        return Reject(record.line, record.number, "bad_score", f"score: {written[:80]!r} is no number", record.raw)
    score, (low, high) = float(written), score_range
    if not low <= score <= high:
        detail = f"score: {written[:80]} is not between {low:g} and {high:g}"
        return Reject(record.line, record.number, "score_out_of_range", detail, record.raw)
    return TaskRow(
        values={"text": text, "text_pair": pair, "score": score},
        identity=tuple(sorted((text, pair))),
        prompt=(text, pair),
        outcome=repr(score),
        changed=frozenset(changed) | frozenset(pair_changed),
    )
