"""Scores of a part of the rows, by what they are predictions of."""

import numpy as np
import pytest

from opinionlm.evaluation.written_predictions import WrittenLists
from opinionlm.runs.results import near_copy_line


def test_an_unreadable_list_is_never_right() -> None:
    gold = np.array([[1, 0], [0, 0], [0, 0], [0, 1]])
    predicted = np.array([[1, 0], [0, 0], [0, 0], [1, 0]], dtype=bool)
    written = WrittenLists(["a", "b"], gold, predicted, np.array([True, True, False, True]), ["a", "none", "?", "a"])
    found = written.scores_of(np.array([True, True, True, False]))
    assert found["subset_accuracy"] == pytest.approx(2 / 3) and found["subset_accuracy_ci95"][1] <= 1
    # b is neither gold nor predicted there.
    assert (found["macro_f1"], found["micro_f1"], found["ci95_rows"]) == (0.5, 1.0, 3)
    (line,) = near_copy_line({"without_near_copies": {"near_copies": 1, "rows": 3} | found})
    assert line.endswith("in test: 1 (25.0%); without them macro_f1 0.500, subset_accuracy 0.667")
