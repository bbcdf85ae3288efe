"""Evaluation texts that are nearly training texts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opinionlm.data import near_copies as module
from opinionlm.data.near_copies import largest_cosines, near_copies, texts_of
from opinionlm.data.prepared import load_prepared
from tests.task_data import write_prepared


def plain_cosine(one: str, other: str) -> float:
    def runs(text: str) -> Counter:
        # As scikit-learn: small letters, one blank for several.
        text = " ".join(text.lower().split()) if text.strip() else text.lower()
        return Counter(text[at : at + size] for size in (3, 4, 5) for at in range(len(text) - size + 1))

    first, second = runs(one), runs(other)
    product = sum(first[run] * second[run] for run in first)
    norms = sum(n * n for n in first.values()) * sum(n * n for n in second.values())
    return product / norms**0.5 if norms else 0.0


WORDS = st.lists(st.sampled_from(["moon", "btc", "sell", "now", "hold", "xrp", "why"]), min_size=1, max_size=8)


@settings(max_examples=25)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=4), st.lists(WORDS.map(" ".join), min_size=1, max_size=4))
def test_the_largest_cosine_is_that_of_counts_written_out(texts: list[str], references: list[str]) -> None:
    expected = [max(plain_cosine(text, other) for other in references) for text in texts]
    assert largest_cosines(texts, references) == pytest.approx(np.array(expected), abs=1e-6)


def test_copies_are_found_once_and_kept(tmp_path: Path, monkeypatch) -> None:
    write_prepared(tmp_path / "data", "sequence")
    prepared = load_prepared(tmp_path / "data")
    monkeypatch.setattr(module, "MOST_PAIRS", 10)
    assert near_copies(prepared) is None and not (tmp_path / "data" / "near_copies.json").exists()
    monkeypatch.undo()
    found = near_copies(prepared)
    assert "text_pair" in prepared.dataset["train"].column_names
    train = texts_of(prepared.dataset["train"].to_dict())
    assert "\n" in train[0]
    for split in ("validation", "test"):
        rows = prepared.dataset[split]
        cosines = [largest_cosines([text], train)[0] for text in texts_of(rows.to_dict())]
        assert found[split] == {row for row, cosine in zip(rows["id"], cosines, strict=True) if cosine >= 0.7}
    assert found["validation"] | found["test"], "or nothing was tested"
    # Kept: not looked for again.
    (tmp_path / "data" / "near_copies.json").write_text(json.dumps({"validation": [], "test": ["x"]}))
    assert near_copies(prepared) == {"validation": frozenset(), "test": frozenset({"x"})}
