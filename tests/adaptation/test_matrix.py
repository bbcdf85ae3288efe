"""Every method on every family and task; the page in docs/ says what really works."""

from __future__ import annotations

import pytest

from tests.adaptation.matrix import METHODS, TASKS, run_cell, whole_matrix
from tests.matrix_page import committed_outcome
from tests.tiny import FAMILIES

# An encoder with segments, the family without outside keys and values, transposed weights, sliding windows.
FAST_FAMILIES = ("bert", "distilbert", "gpt2", "gemma3_text")


@pytest.mark.parametrize("method", METHODS)
def test_page_is_true_of_a_part(method: str, repository) -> None:
    page = (repository / "docs" / "methods_matrix.md").read_text()
    # Families and tasks take turns over the methods: each method meets two of both, each family every task.
    first = METHODS.index(method)
    for number in (first, first + 2):
        family = FAST_FAMILIES[number % len(FAST_FAMILIES)]
        task = TASKS[(number + number // len(FAST_FAMILIES)) % len(TASKS)]
        assert run_cell(method, family, task) == committed_outcome(page, task, method, family), (family, task)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in FAST_FAMILIES])
def test_page_is_true_of_lora(family: str, repository) -> None:
    page = (repository / "docs" / "methods_matrix.md").read_text()
    assert run_cell("lora", family, "sequence") == committed_outcome(page, "sequence", "lora", family)


@pytest.mark.slow
def test_page_is_true_of_everything(repository) -> None:
    assert whole_matrix() == (repository / "docs" / "methods_matrix.md").read_text()
