"""Pages of what works: what is read from one is what it was written from."""

from __future__ import annotations

from tests.matrix_page import matrix_page, written_results
from tests.tiny import FAMILIES


def test_a_page_is_read_as_it_was_written() -> None:
    kinds = ("a, b: c", "d")
    cells = [(task, kind, family) for task in ("sequence", "token") for kind in kinds for family in FAMILIES]
    outcomes = ("works", "no biases; use 1. or 2.", "not tried", "a 'bert': none")
    results = {cell: outcomes[number % len(outcomes)] for number, cell in enumerate(cells)}
    page = matrix_page(["# Title", "", "What it is."], "form", ("sequence", "token"), kinds, results)
    assert written_results(page) == results


def test_the_columns_of_other_families_stay(repository) -> None:
    for name, kind in (("methods_matrix.md", "method"), ("export_matrix.md", "form")):
        page = (repository / "docs" / name).read_text(encoding="utf-8")
        known = written_results(page)
        tasks, kinds = (list(dict.fromkeys(cell[place] for cell in known)) for place in (0, 1))
        head = page.split("\n\n## ")[0].split("\n")
        assert matrix_page(head, kind, tasks, kinds, known) == page
