"""Batches: every text once, within the budget, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.columns import IGNORED, flat_lists, numbers_of
from opinionlm.errors import UserError
from opinionlm.training import batching
from opinionlm.training.batching import POOL_BATCHES, BatchPlan, EncodedTexts, workers_watched


@settings(max_examples=120, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=150),
    batch_size=st.integers(1, 9),
    max_tokens=st.none() | st.integers(1, 200),
    by_length=st.booleans(),
    shuffle=st.sampled_from(["every_epoch", "once"]),
    seed=st.integers(0, 5),
    processes=st.integers(1, 4),
)
def test_every_text_once_over_all_processes(
    lengths, batch_size, max_tokens, by_length, shuffle, seed, processes
) -> None:
    lengths = np.array(lengths)
    for epoch in range(3):
        seen, sizes = [], set()
        for rank in range(processes):
            data = DataConfig(max_tokens_per_batch=max_tokens, group_by_length=by_length, shuffle=shuffle)
            plan = BatchPlan(lengths, batch_size, data, seed, 3, rank, processes)
            plan.set_epoch(epoch)
            batches = list(plan)
            sizes.add((len(batches), len(plan)))
            for batch in batches:
                assert batch
                real = [position for position in batch if position >= 0]
                seen += real
                if max_tokens:
                    assert len(real) <= 1 or lengths[real].max() * len(real) <= max_tokens
                else:
                    assert len(batch) <= batch_size
        assert sorted(seen) == list(range(len(lengths)))
        assert len(sizes) == 1
        (pair,) = sizes
        assert pair[0] == pair[1]


def plan_of(*, max_tokens=None, by_length=False, shuffle="every_epoch", **options) -> BatchPlan:
    data = DataConfig(max_tokens_per_batch=max_tokens, group_by_length=by_length, shuffle=shuffle)
    values = {"lengths": np.arange(1, 41), "batch_size": 4, "data": data, "seed": 0, "epochs": 3}
    return BatchPlan(**(values | options))


def epoch(plan: BatchPlan, number: int) -> list[list[int]]:
    plan.set_epoch(number)
    return list(plan)


def test_orders() -> None:
    assert epoch(plan_of(), 0) != epoch(plan_of(), 1)
    assert epoch(plan_of(shuffle="once"), 0) == epoch(plan_of(shuffle="once"), 2)
    # Trainer's own sampler gives seed 0's second epoch and seed 1's first the same order.
    assert epoch(plan_of(seed=0), 1) != epoch(plan_of(seed=1), 0)
    # Pinned: the same on every machine.
    assert epoch(plan_of(), 0)[0] == [11, 27, 4, 24]


def test_grouping_saves_padding() -> None:
    lengths = np.random.default_rng(0).integers(5, 300, 600)

    def padded(plan: BatchPlan) -> int:
        return sum(lengths[batch].max() * len(batch) for batch in plan)

    random = padded(plan_of(lengths=lengths, batch_size=16))
    grouped = padded(plan_of(lengths=lengths, batch_size=16, by_length=True))
    budget = padded(plan_of(lengths=lengths, max_tokens=2048))
    assert lengths.sum() <= grouped < 1.1 * lengths.sum() < random
    assert budget < 1.1 * lengths.sum()


@pytest.mark.parametrize("fixed", [None, 9])
def test_collator_by_hand(fixed: int | None) -> None:
    encoded = Dataset.from_list(
        [{"input_ids": [2, 5, 6], "labels": 1, "length": 3}, {"input_ids": [2], "labels": 3, "length": 1}]
    )
    rows = EncodedTexts(encoded, np.array([1, 0]))
    assert rows.lengths.tolist() == [1, 3]
    batch = PadCollator(pad_token_id=0, fixed_length=fixed)(rows.__getitems__([0, 1, ~1]))
    width = fixed or 3
    assert batch["input_ids"].shape == (3, width)
    assert batch["input_ids"][:, :3].tolist() == [[2, 0, 0], [2, 5, 6], [2, 5, 6]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [1, 3, 3]
    assert batch["labels"].tolist() == [3, 1, IGNORED]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


def test_ids_are_read_through_selections_and_pieces() -> None:
    rows = [{"input_ids": list(range(index, 2 * index + 1)), "length": index + 1} for index in range(6)]
    pieces = concatenate_datasets([Dataset.from_list(rows[:4]), Dataset.from_list(rows[4:])])
    for encoded, expected in ((pieces, rows), (pieces.select([4, 0, 2]), [rows[4], rows[0], rows[2]])):
        ids, offsets = flat_lists(encoded)
        assert [ids[offsets[i] : offsets[i + 1]].tolist() for i in range(len(encoded))] == [
            row["input_ids"] for row in expected
        ]
        assert numbers_of(encoded, "length").tolist() == [row["length"] for row in expected]


def test_pools_and_budgets_by_hand() -> None:
    lengths = np.array([10, 6, 5, 1])
    # 12 // 10 = 1 text, then 12 // 6 = 2 texts, then the rest; of two processes each has a share of that size.
    for processes, expected in ((1, [[0], [1, 2], [3]]), (2, [[0, 1], [2, 3]])):
        plan = plan_of(lengths=lengths, max_tokens=12, processes=processes, epochs=1)
        assert [batch.tolist() for batch in plan.cut_by_tokens(np.arange(4), 12)] == expected
    # A text that exceeds the budget stands alone.
    assert [batch.tolist() for batch in plan_of(lengths=lengths).cut_by_tokens(np.arange(2), 9)] == [[0], [1]]
    assert POOL_BATCHES == 50 and plan_of(by_length=True).pool_size(8) == 400
    # Mean length 5.5, so two texts per batch of 12 tokens; a mean below one counts as one.
    assert plan_of(lengths=lengths, max_tokens=12, processes=3).pool_size(8) == 50 * 2 * 3
    assert plan_of(lengths=np.array([0, 0, 1]), max_tokens=7).pool_size(8) == 50 * 7
    assert plan_of(lengths=lengths, max_tokens=3).pool_size(8) == 50


def test_batches_of_similar_length_come_from_pools(monkeypatch) -> None:
    monkeypatch.setattr(batching, "POOL_BATCHES", 2)
    plan = plan_of(lengths=np.arange(1, 42), by_length=True)
    cuts = plan.cut(0)
    assert sorted(len(batch) for batch in cuts) == [1] + [4] * 10
    spans = sorted(np.ptp(plan.lengths[batch]) for batch in cuts)
    # Within a pool of eight texts the long half and the short half are batches: no neighbours as in one large pool.
    assert spans[-1] > 3
    assert all((np.diff(plan.lengths[batch]) <= 0).all() for batch in cuts)


def test_short_epochs_are_split_up_to_the_longest() -> None:
    plan = plan_of(lengths=np.arange(1, 11), batch_size=5)
    plan.size = 5
    sizes = [len(batch) for batch in plan.batches(0)]
    assert len(sizes) == 5 and sorted(sizes) == [1, 2, 2, 2, 3]
    # Ten texts in a single batch, in two: halves.
    whole = plan_of(lengths=np.arange(1, 11), batch_size=10)
    whole.size = 2
    assert [len(batch) for batch in whole.batches(0)] == [5, 5]
    single = plan_of(lengths=np.array([7]), epochs=1)
    single.size = 3
    assert list(single) == [[0], [~0], [~0]]


def test_budgets_plan_every_epoch_and_others_one() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 400)
    plan = plan_of(lengths=lengths, max_tokens=60, epochs=12)
    sizes = [len(plan.cut(number)) for number in range(12)]
    assert len(plan) == max(sizes) > min(sizes)
    assert plan_of(epochs=4).epoch == 0 and (plan_of().rank, plan_of().processes) == (0, 1)


def test_texts_of_steps_by_hand() -> None:
    # Ten texts, four at a time, two batches a step: an epoch has a step of eight texts and one of two.
    plan = plan_of(lengths=np.arange(1, 11), shuffle="once")
    assert [plan.texts_read(steps, 2) for steps in range(6)] == [0, 8, 10, 18, 20, 28]
    assert [plan.texts_read(steps, 1) for steps in range(5)] == [0, 4, 8, 10, 14]


def test_rows_with_everything_that_can_stand_in_them() -> None:
    encoded = Dataset.from_dict(
        {
            "input_ids": [[5, 6, 7], [8, 9]],
            "labels": [[0, 1, 2], [3, IGNORED]],
            "token_type_ids": [[0, 0, 1], [0, 1]],
            "length": [3, 2],
        }
    )
    states = [torch.zeros(3, 4), torch.ones(2, 4)]
    rows = EncodedTexts(encoded, np.array([1, 0]), states, ["one", "two"])
    assert len(rows) == 2 and rows.lengths.tolist() == [2, 3]
    assert rows.name_of(0) == "two" and EncodedTexts(encoded, np.array([1, 0])).name_of(0) == "1"
    first, filler = rows[0], rows[~1]
    assert first["input_ids"].tolist() == [8, 9] and first["labels"].tolist() == [3, IGNORED]
    assert first["token_type_ids"].tolist() == [0, 1] and torch.equal(first["prefix_states"], states[1])
    assert filler["input_ids"].tolist() == [5, 6, 7] and filler["labels"].tolist() == [IGNORED] * 3
    targets = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    soft = EncodedTexts(encoded, np.array([1, 0]), targets=targets)
    assert soft[1]["labels"].tolist() == [0.25, 0.75] and np.isnan(soft[~1]["labels"]).all()


def test_only_the_death_of_a_worker_is_told_as_one() -> None:
    said = r"prepares batches died \(DataLoader worker \(pid 3\) is killed"
    with pytest.raises(UserError, match=said), workers_watched():
        raise RuntimeError("DataLoader worker (pid 3)\n is killed by signal")
    with pytest.raises(RuntimeError, match="shapes do not fit"), workers_watched():
        raise RuntimeError("shapes do not fit")
