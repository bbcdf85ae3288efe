"""Tries every form of export on every family and task and writes what works.

python -m tests.inference.export_matrix > docs/export_matrix.md
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from opinionlm.errors import UserError
from tests.inference.export_models import check_here, exported, save_model
from tests.matrix_page import matrix_page
from tests.tiny import FAMILIES

TASKS = ("sequence", "token", "similarity")
# Format, and the head that is exported.
FORMS = {
    "transformers, head: native": ("transformers", {"head": "native"}),
    "transformers, head: standard": ("transformers", {}),
    "remote_code": ("remote_code", {"head_hidden_sizes": [16]}),
}


def run_cell(form: str, family: str, task: str) -> str:
    """Save a model, export it, load the export by the Auto classes, compare; ``works``, or why it is refused."""
    kind, head = FORMS[form]
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = save_model(Path(folder) / "best", family, task, **head)
            check_here(exported(model, Path(folder) / "export", kind))
        except UserError as refusal:
            return str(refusal)
    return "works"


HEAD = (
    "# What can be exported, and how",
    "",
    "Written by `python -m tests.inference.export_matrix`: every cell is a tiny model saved, exported, loaded by",
    "the Auto classes and compared, logit by logit, on texts of one word up to beyond `max_length`, padded",
    "together. A test keeps this page true. ✓ works; a number is the reason of a refusal. [export.md](export.md)",
    "has the commands.",
)


def whole_matrix() -> str:
    """Try everything."""
    cells = itertools.product(TASKS, FORMS, FAMILIES)
    results = {(task, form, family): run_cell(form, family, task) for task, form, family in cells}
    return matrix_page(HEAD, "form", TASKS, FORMS, results)


if __name__ == "__main__":
    print(whole_matrix(), end="")
