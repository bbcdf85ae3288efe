"""What is said of the answers of a split beside their scores."""

from __future__ import annotations

import numpy as np
import pytest

from opinionlm.evaluation.class_predictions import SplitPredictions


@pytest.mark.parametrize(
    ("gold", "answers", "said"),
    [
        ([0] * 40 + [1] * 60, [1] * 96 + [0] * 4, ["'b' is the answer to 96 of 100 texts, but the label of 60: har"]),
        ([0] * 40 + [1] * 60, [1] * 94 + [0] * 6, []),
        # Nearly all texts have the label: nearly all answers are right.
        ([0] * 10 + [1] * 90, [1] * 100, []),
        ([0] * 40 + [1] * 60, [0] * 40 + [1] * 60, []),
    ],
    ids=["one answer", "two answers", "one label", "right"],
)
def test_one_answer_to_nearly_everything_is_told(gold, answers, said) -> None:
    probabilities = np.eye(2)[answers]
    remarks = SplitPredictions(["a", "b"], ["text"] * 100, np.array(gold), probabilities).remarks()
    assert [remark[: len(start)] for remark, start in zip(remarks, said, strict=True)] == said


def test_what_was_decided_is_the_answer() -> None:
    gold, likeliest = np.repeat([0, 1], 50), np.eye(2)[np.zeros(100, dtype=int)]
    split = SplitPredictions(["a", "b"], ["text"] * 100, gold, likeliest, decided=gold)
    assert split.remarks() == []
