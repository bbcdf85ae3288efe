"""Calibration takes a model's liking of labels away and leaves everything else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opinionlm.evaluation.metrics import softmax
from opinionlm.evaluation.prompt_calibration import calibrated, label_prior

SCORES = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(4)), elements=st.floats(-50, 0))


@given(SCORES)
def test_without_a_prior_it_is_softmax(scores: np.ndarray) -> None:
    assert np.allclose(calibrated(scores, "none", lambda: scores), softmax(scores))


@given(SCORES, arrays(np.float64, 4, elements=st.floats(-5, 0)))
def test_a_constant_liking_disappears(scores: np.ndarray, liking: np.ndarray) -> None:
    # A model whose scores are moved by the same amount for every text, the empty one included.
    expected = calibrated(scores, "contextual", lambda: scores[:1])
    moved = calibrated(scores + liking, "contextual", lambda: scores[:1] + liking)
    assert np.allclose(moved, expected, atol=1e-9)
    assert np.allclose(expected.sum(axis=1), 1)


def test_by_hand() -> None:
    # Zhao et al. 2021: the content-free text gets 0.7 and 0.3, so a text with 0.6 and 0.4 leans to the second label.
    content_free = np.log([[0.8, 0.2], [0.6, 0.4]])
    assert np.allclose(np.exp(label_prior(content_free)), [0.7, 0.3])
    found = calibrated(np.log([[0.6, 0.4]]), "contextual", lambda: content_free)
    first, second = 0.6 / 0.7, 0.4 / 0.3
    assert np.allclose(found, [[first / (first + second), second / (first + second)]])


def test_single_texts_are_held_against_others() -> None:
    others = np.log([[0.6, 0.2, 0.2], [0.4, 0.4, 0.2]])
    prior, one = label_prior(others), np.log([[0.5, 0.2, 0.3]])
    assert np.allclose(calibrated(one, "batch", lambda: one), 1 / 3)
    expected = np.array([0.5, 0.2, 0.3]) / [0.5, 0.3, 0.2]
    assert np.allclose(calibrated(one, "batch", lambda: one, prior), expected / expected.sum())
    assert np.allclose(calibrated(others, "batch", lambda: one, prior), calibrated(others, "batch", lambda: one))


@given(SCORES)
def test_batch_calibration_of_equal_texts_leaves_no_preference(scores: np.ndarray) -> None:
    same = np.repeat(scores[:1], 3, axis=0)
    assert np.allclose(calibrated(same, "batch", lambda: same), 0.25, atol=1e-6)
