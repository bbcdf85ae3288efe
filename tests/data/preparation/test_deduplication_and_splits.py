import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.preparation.deduplication import CONFLICT, DUPLICATE, KEPT, leaked_rows, resolve_copies
from opinionlm.data.preparation.splits import stratified_split


def digests(text: str) -> np.ndarray:
    return np.array([char.encode() for char in text], dtype="S16")


@pytest.mark.parametrize(
    ("duplicates", "conflicts", "expected"),
    [
        # rows:                a a b b b c d d d   labels: 1 1 1 2 2 0 1 2 3
        ("tokens", "drop", [KEPT, DUPLICATE, CONFLICT, CONFLICT, CONFLICT, KEPT, CONFLICT, CONFLICT, CONFLICT]),
        ("tokens", "keep_first", [KEPT, DUPLICATE, KEPT, CONFLICT, CONFLICT, KEPT, KEPT, CONFLICT, CONFLICT]),
        ("tokens", "majority", [KEPT, DUPLICATE, CONFLICT, KEPT, DUPLICATE, KEPT, CONFLICT, CONFLICT, CONFLICT]),
        ("keep", "majority", [KEPT, KEPT, CONFLICT, KEPT, KEPT, KEPT, CONFLICT, CONFLICT, CONFLICT]),
        ("keep", "keep", [KEPT] * 9),
    ],
)
def test_copies(duplicates, conflicts, expected):
    labels = np.array([1, 1, 1, 2, 2, 0, 1, 2, 3])
    verdicts, partners = resolve_copies(digests("aabbbcddd"), labels, labels >= 0, duplicates, conflicts)
    assert verdicts.tolist() == expected
    assert ((partners >= 0) == (verdicts != KEPT)).all()
    for row in np.flatnonzero(verdicts == CONFLICT):
        assert labels[partners[row]] != labels[row]


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 2)), max_size=40),
    st.sampled_from(["drop", "keep_first", "majority"]),
)
def test_after_resolving_every_post_is_there_once(rows, conflicts):
    keys, labels = digests("".join(key for key, _ in rows)), np.array([label for _, label in rows], dtype=int)
    verdicts, _ = resolve_copies(keys, labels, labels >= 0, "tokens", conflicts)
    stay = keys[verdicts == KEPT].tolist()
    assert len(set(stay)) == len(stay)
    # A post whose copies agree is never lost.
    for key in set(keys.tolist()):
        if len(set(labels[keys == key].tolist())) == 1:
            assert key in stay


def test_rows_that_are_gone_bear_witness_but_are_no_copies():
    labels, present = np.array([0, 1, 0, 0]), np.array([False, False, True, True])
    assert resolve_copies(digests("aaab"), labels, present, "tokens", "drop")[0][2:].tolist() == [CONFLICT, KEPT]
    assert resolve_copies(digests("aaab"), labels, present, "tokens", "majority")[0][2:].tolist() == [KEPT, KEPT]


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 2)), max_size=40))
def test_leaks_always_leave_the_evaluation_rows(rows):
    keys, splits = digests("".join(key for key, _ in rows)), np.array([split for _, split in rows], dtype=np.int8)
    leaked, partners = leaked_rows(keys, splits)
    for row, (key, split) in enumerate(rows):
        assert leaked[row] == any(other == key and where > split for other, where in rows)
        if leaked[row]:
            assert rows[partners[row]][0] == key
            assert rows[partners[row]][1] > split
    kept = {(key, split) for (key, split), gone in zip(rows, leaked, strict=True) if not gone}
    assert len({key for key, _ in kept}) == len(kept)


def split(labels, platforms, seed=1):
    names = [f"label{i}" for i in range(20)]
    return stratified_split(np.array(labels), np.array(platforms), [0.7, 0.2, 0.1], seed, names)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=300), st.integers(0, 5))
def test_splits_are_stratified_deterministic_and_fill_train_first(rows, seed):
    labels, platforms = (np.array(column) for column in zip(*rows, strict=True))
    splits, warnings = split(labels, platforms, seed)
    again, _ = split(labels, platforms, seed)
    assert (splits == again).all()
    for label in np.unique(labels):
        counts = np.bincount(splits[labels == label], minlength=3)
        if counts.sum() >= 3:
            assert counts.min() >= 1
            assert abs(counts - counts.sum() * np.array([0.7, 0.2, 0.1])).max() < 2
        else:
            assert counts.tolist() == [[1, 0, 0], [1, 1, 0]][counts.sum() - 1]
            assert any(f"label{label}" in warning for warning in warnings)
        for platform in np.unique(platforms[labels == label]):
            stratum = np.bincount(splits[(labels == label) & (platforms == platform)], minlength=3)
            if stratum.sum() >= 30:
                assert abs(stratum - stratum.sum() * np.array([0.7, 0.2, 0.1])).max() < 2.5


def test_seeds_differ():
    labels, platforms = [0, 1] * 100, [0] * 200
    assert (split(labels, platforms, 1)[0] != split(labels, platforms, 2)[0]).any()
