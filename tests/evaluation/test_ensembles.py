"""Averaged probabilities by hand; whole ensembles are in tests/runs/test_ensembles.py."""

from __future__ import annotations

import numpy as np
import pytest

from opinionlm.evaluation.ensembles import averaged_logits, mean_offsets
from opinionlm.evaluation.metrics import softmax


def test_the_mean_of_the_probabilities_and_not_of_the_logits() -> None:
    one, other = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.1, 0.9]])
    np.testing.assert_allclose(softmax(averaged_logits([one, other])), [[0.7, 0.3], [0.3, 0.7]])
    logits = averaged_logits([np.array([[1.0, 0.0]])] * 3)
    assert logits[0, 0] == 0 and np.isfinite(logits[0, 1]) and logits[0, 1] < np.log(1e-6)


def test_mean_offsets_by_hand() -> None:
    assert mean_offsets([(0.5, -0.5), (1.5, -1.5)]) == pytest.approx((-1.0, 1.0))
    # A member without biases counts as zeros, in any place.
    assert mean_offsets([(), (1.0, -1.0)]) == mean_offsets([(1.0, -1.0), ()]) == pytest.approx((-0.5, 0.5))
    assert mean_offsets([(), ()]) == ()
