"""Hierarchical precision, recall and F1 on random trees and labels against hiclass, an independent library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.hierarchical import hierarchical_scores

hiclass = pytest.importorskip("hiclass.metrics")


@st.composite
def trees(draw: st.DrawFn) -> Taxonomy:
    """A tree of 2 to 15 leaves at uneven depths up to four; every node has a name of its own, as hiclass needs it."""
    count = iter(range(1000))

    def grow(depth: int) -> dict[str, object] | None:
        children = draw(st.integers(2 if depth == 0 else 0, 3)) if depth < 4 else 0
        return {f"node{next(count)}": grow(depth + 1) for _ in range(children)} or None

    return Taxonomy.from_tree(grow(0))


@settings(max_examples=80, deadline=None)
@given(taxonomy=trees(), seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
def test_equal_to_hiclass(taxonomy: Taxonomy, seed: int, rows: int) -> None:
    gold, predicted = np.random.default_rng(seed).integers(0, len(taxonomy.leaves), (2, rows))
    # One row of names per text from the root down, blank below the leaf.
    padded = np.array([[*path, *[""] * (taxonomy.depth - len(path))] for path in taxonomy.paths])
    ours = hierarchical_scores(gold, predicted, taxonomy)
    assert ours["hierarchical_precision"] == pytest.approx(hiclass.precision(padded[gold], padded[predicted]))
    assert ours["hierarchical_recall"] == pytest.approx(hiclass.recall(padded[gold], padded[predicted]))
    # Without a single shared node hiclass divides by zero; F1 is 0 then.
    shared = ours["hierarchical_precision"] > 0
    expected = hiclass.f1(padded[gold], padded[predicted]) if shared else 0.0
    assert ours["hierarchical_f1"] == pytest.approx(expected)
