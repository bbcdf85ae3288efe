"""Which row goes to which split, by hand: small labels and platforms, whole groups, time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.preparation.splits import (
    SMALL,
    _allocate,
    group_split,
    share_warnings,
    stratified_group_split,
    stratified_split,
    tie_problem,
    time_split,
)

SHARES = [0.7, 0.2, 0.1]


def counts(splits: np.ndarray, number: int = 3) -> list[int]:
    return np.bincount(splits, minlength=number).tolist()


def stratified(labels: list[int], platforms: list[int], **options) -> tuple[np.ndarray, list[str]]:
    names = ["rare", "common", "other"]
    return stratified_split(np.array(labels), np.array(platforms), SHARES, 1, names, **options)


@pytest.mark.parametrize(
    ("rows", "expected"),
    # Ten rows are the fewest that 70/20/10 shares out exactly. Largest remainder: of 13 rows 9.1, 2.6 and 1.3.
    [
        (1, [1, 0, 0]),
        (2, [1, 1, 0]),
        (3, [1, 1, 1]),
        (4, [2, 1, 1]),
        (10, [7, 2, 1]),
        (13, [9, 3, 1]),
        (20, [14, 4, 2]),
    ],
)
def test_one_label_by_hand(rows: int, expected: list[int]) -> None:
    splits, warnings = stratified([0] * rows, [0] * rows)
    assert counts(splits) == expected
    assert len(warnings) == (rows < 3)
    if rows < 3:
        plural = "" if rows == 1 else "s"
        assert warnings[0].startswith(f"the label 'rare' has {rows} row{plural}, too few for 3 splits")


@given(st.lists(st.integers(1, 99), min_size=1, max_size=3), st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_strata_are_shared_out_whole_and_rounding_is_given_back(weights: list[int], strata: list[int]) -> None:
    shares, carry = np.array(weights) / sum(weights), np.zeros(len(weights))
    given_out = np.zeros(len(weights), dtype=int)
    for rows in strata:
        numbers, carry = _allocate(rows, shares, carry)
        given_out += numbers
        assert numbers.sum() == rows and numbers.min() >= 0
    assert (abs(given_out - shares * sum(strata)) < 1).all()


def test_platforms_from_ten_rows_on_are_shared_out_by_themselves() -> None:
    assert SMALL == 10
    labels, platforms = [1] * 40, [0] * 20 + [1] * 10 + [2] * 5 + [3] * 5
    splits, _ = stratified(labels, platforms)
    assert counts(splits[:20]) == [14, 4, 2] and counts(splits[20:30]) == [7, 2, 1]
    # The two small ones together are ten rows.
    assert counts(splits[30:]) == [7, 2, 1]


def test_what_rounding_took_is_given_back_by_the_next_platform() -> None:
    # Three platforms of 11: exact shares 7.7, 2.2, 1.1 each; together 23.1, 6.6, 3.3.
    splits, _ = stratified([1] * 33, [0] * 11 + [1] * 11 + [2] * 11)
    assert counts(splits) == [23, 7, 3]


def test_strata_can_be_turned_off() -> None:
    labels, platforms = [0] * 2 + [1] * 98, [0] * 50 + [1] * 50
    splits, warnings = stratified(labels, platforms, by_label=False)
    assert counts(splits) == [70, 20, 10] and warnings == []
    assert counts(splits[:50]) == counts(splits[50:]) == [35, 10, 5]
    # Thirty and seventy rows: by platform 21 of the thirty are in train, whatever the seed.
    platforms = [0] * 30 + [1] * 70
    together = [
        stratified_split(np.ones(100, dtype=int), np.array(platforms), SHARES, seed, ["a", "b"], by_platform=False)[0]
        for seed in range(5)
    ]
    assert all(counts(splits) == [70, 20, 10] for splits in together)
    assert any(counts(splits[:30]) != [21, 6, 3] for splits in together)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(0, 9))
def test_groups_stay_whole_and_no_split_is_left_without_one(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    splits, warnings = group_split(groups, SHARES, seed)
    assert all(len(set(splits[groups == group].tolist())) == 1 for group in range(len(sizes)))
    assert len(set(splits.tolist())) == min(3, len(sizes))
    assert len(warnings) == (len(sizes) < 3)
    if len(sizes) < 3:
        assert warnings == [f"{len(sizes)} groups are too few for 3 splits: some splits are empty"]
    assert (group_split(groups, SHARES, seed)[0] == splits).all()


def test_groups_come_close_to_the_shares() -> None:
    groups = np.repeat(np.arange(100), 10)
    for seed in range(3):
        assert counts(group_split(groups, SHARES, seed)[0]) == [700, 200, 100]
    assert (group_split(groups, SHARES, 0)[0] != group_split(groups, SHARES, 1)[0]).any()


def test_an_empty_split_gets_the_smallest_group_of_the_largest() -> None:
    # A group of 100 rows leaves train full; 6, 5 and 4 rows go where most is missing: validation (23), its rest 17, …
    groups = np.repeat(np.arange(4), [100, 6, 5, 4])
    for seed in range(6):
        splits, _ = group_split(groups, [0.9, 0.05, 0.05], seed)
        assert set(splits.tolist()) == {0, 1, 2}
        # Whichever order was drawn: what went to fill a split is never the group of 100.
        assert splits[0] == 0


def test_time_by_hand() -> None:
    assert time_split(np.array([5, 1, 4, 2, 3]), [0.6, 0.2, 0.2]).tolist() == [2, 0, 1, 0, 0]
    # The border after five rows falls among the threes: after seven rows is nearer than after two.
    assert time_split(np.array([1, 2, 3, 3, 3, 3, 3, 8, 9, 9]), [0.5, 0.3, 0.2]).tolist() == [0] * 7 + [1, 2, 2]
    # After four rows, three as far before as after: all of them are in the later split.
    assert time_split(np.array([1, 2, 3, 3, 3, 3, 8, 8, 9, 9]), [0.4, 0.4, 0.2]).tolist() == [0, 0] + [1] * 6 + [2, 2]
    # Shares too small for a row: no split stays empty where there are as many times as splits.
    assert time_split(np.array([1, 2, 3]), [0.98, 0.01, 0.01]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "warned"),
    # Of 40 rows 16, 16 and 8 are asked for. From half of that to twice of that is as asked for.
    [
        ([16, 16, 8], []),
        ([8, 16, 16], []),
        ([7, 17, 16], ["train has 18% of the rows instead of 40%: why"]),
        ([15, 8, 17], ["test has 42% of the rows instead of 20%: why"]),
        ([32, 4, 4], ["validation has 10% of the rows instead of 40%: why"]),
        (
            [33, 3, 4],
            ["train has 82% of the rows instead of 40%: why", "validation has 8% of the rows instead of 40%: why"],
        ),
        # An empty split is told elsewhere.
        ([20, 20, 0], []),
        ([40, 0, 0], ["train has 100% of the rows instead of 40%: why"]),
    ],
)
def test_splits_that_are_far_from_their_shares(rows: list[int], warned: list[str]) -> None:
    assigned = np.repeat(np.arange(3), rows)
    assert share_warnings(assigned, ["train", "validation", "test"], [0.4, 0.4, 0.2], "why") == warned


def test_no_rows_are_far_from_nothing() -> None:
    assert share_warnings(np.array([], dtype=int), ["train", "test"], [0.9, 0.1], "why") == []


def test_times_that_are_too_few() -> None:
    day = 86_400
    assert tie_problem(np.array([0, day, 2 * day]), 3) == tie_problem(np.array([0, 0, day]), 2) == ""
    assert tie_problem(np.array([0, 0, 0]), 2) == (
        "3 rows have the time 1970-01-01T00:00:00Z; rows of one time stay together, "
        "so that one time cannot fill 2 splits"
    )
    assert tie_problem(np.array([day, 0, 0]), 3) == (
        "2 rows have the time 1970-01-01T00:00:00Z and 1 rows have the time 1970-01-02T00:00:00Z; "
        "rows of one time stay together, so that 2 times cannot fill 3 splits"
    )


@pytest.mark.parametrize("shares", [[0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
def test_the_first_splits_are_filled_first_whatever_the_shares(shares: list[float]) -> None:
    for rows, expected in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])):
        labels = np.zeros(rows, dtype=int)
        for seed in range(3):
            assert counts(stratified_split(labels, labels, shares, seed, ["rare"])[0]) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 1)), min_size=30, max_size=80))
def test_groups_stay_whole_while_strata_keep_their_shares(rows: list[tuple[int, int, int]]) -> None:
    # Ten groups at most, and as many rows again by themselves.
    groups, labels, platforms = (np.array(column) for column in zip(*rows, strict=True))
    alone = np.arange(len(groups)) + 10
    labels, platforms = np.tile(labels, 2), np.tile(platforms, 2)
    _, numbers = np.unique(np.concatenate([groups, alone]), return_inverse=True)
    splits = stratified_group_split(numbers, labels, platforms, SHARES, seed=1)
    assert all(len(set(splits[numbers == number])) == 1 for number in range(numbers.max() + 1))
    assert (splits == stratified_group_split(numbers, labels, platforms, SHARES, seed=1)).all()


def test_rows_by_themselves_are_shared_out_within_strata() -> None:
    labels = np.repeat([0, 1], [100, 20])
    splits = stratified_group_split(np.arange(120), labels, np.zeros(120, dtype=int), SHARES, seed=1)
    assert counts(splits[labels == 0]) == [70, 20, 10] and counts(splits[labels == 1]) == [14, 4, 2]
    # A large group goes where most is missing, and the others fill the rest.
    groups = np.concatenate([np.zeros(30, dtype=int), np.arange(1, 71)])
    splits = stratified_group_split(groups, np.zeros(100, dtype=int), np.zeros(100, dtype=int), SHARES, seed=1)
    assert counts(splits) == [70, 20, 10] and (splits[:30] == 0).all()
