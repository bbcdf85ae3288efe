"""Every method on every family and task; the page in docs/ says what really works."""

from __future__ import annotations

import pytest

from tests.adaptation.matrix import METHODS, TASKS, run_cell, whole_matrix
from tests.matrix_page import committed_outcome
from tests.tiny import FAMILIES

# An encoder with segments, the family without outside keys and values, transposed weights, sliding windows.
FAST_FAMILIES = ("bert", "distilbert", "gpt2", "gemma3_text")


@pytest.mark.parametrize("family", FAST_FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_page_is_true_of_a_part(method: str, family: str, repository) -> None:
    page = (repository / "docs" / "methods_matrix.md").read_text()
    # Tasks take turns over the cells, so that each is met with each family and many methods.
    task = TASKS[(METHODS.index(method) + FAST_FAMILIES.index(family)) % len(TASKS)]
    assert run_cell(method, family, task) == committed_outcome(page, task, method, family)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in FAST_FAMILIES])
def test_page_is_true_of_lora(family: str, repository) -> None:
    page = (repository / "docs" / "methods_matrix.md").read_text()
    assert run_cell("lora", family, "sequence") == committed_outcome(page, "sequence", "lora", family)


@pytest.mark.slow
def test_page_is_true_of_everything(repository) -> None:
    assert whole_matrix() == (repository / "docs" / "methods_matrix.md").read_text()
