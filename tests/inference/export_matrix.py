"""Tries every form of export on every family and task and writes what works.

python -m tests.inference.export_matrix              # docs/export_matrix.md, the whole of it
python -m tests.inference.export_matrix camembert    # a new column of it; the others stay
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from opinionlm.errors import UserError
from opinionlm.inference.export.onnx_graph import write_onnx
from opinionlm.inference.export.source import load_source
from tests.inference.export_models import check_here, exported, save_model, write_validation
from tests.matrix_page import matrix_page, write_page
from tests.tiny import FAMILIES

TASKS = ("sequence", "multi_label", "token", "similarity")
# Format, and the head that is exported.
FORMS = {
    "transformers, head: native": ("transformers", {"head": "native"}),
    "transformers, head: standard": ("transformers", {}),
    "remote_code": ("remote_code", {"head_hidden_sizes": [16]}),
    "onnx": ("onnx", {"head_hidden_sizes": [16]}),
    "onnx_int8": ("onnx_int8", {"head_hidden_sizes": [16]}),
}
# A graph takes 20 s of computing: of most families, and of other tasks over the same backbone, none is made here.
GRAPHS = ("onnx", "onnx_int8")
GRAPH_FAMILIES = ("bert", "roberta", "distilbert")


def is_tried(task: str, form: str, family: str) -> bool:
    """Whether a cell is filled."""
    match form:
        case "onnx":
            return family == "bert" or (task == "sequence" and family in GRAPH_FAMILIES)
        case "onnx_int8":
            return family == "bert"
        case _:
            return True


def run_cell(form: str, family: str, task: str) -> str:
    """Save a model, export it, load the export, compare; ``works``, or why it is refused."""
    kind, head = FORMS[form]
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = save_model(Path(folder) / "best", family, task, **head)
            if kind not in GRAPHS:
                check_here(exported(model, Path(folder) / "export", kind))
            else:
                write_validation(Path(folder))
                compare_graph(model, Path(folder), kind == "onnx_int8")
        except UserError as refusal:
            return str(refusal)
    return "works"


def compare_graph(model: Path, folder: Path, int8: bool) -> None:
    """A graph in float32 answers as its model; what int8 costs a model with random weights says nothing."""
    comparison = write_onnx(load_source(model), folder, int8, max_f1_loss=2.0)
    if not int8:
        assert comparison.agreement in (None, 1.0) and comparison.loss == pytest.approx(0.0, abs=1e-5)
        assert comparison.largest_difference is None or comparison.largest_difference < 1e-4


HEAD = (
    "# What can be exported, and how",
    "",
    "Written by `python -m tests.inference.export_matrix`: every cell is a tiny model saved, exported, loaded by",
    "the Auto classes and compared, logit by logit, on texts of one word up to beyond `max_length`, padded",
    "together; or a graph loaded by ONNX Runtime whose answers are compared, of which int8 only has to answer: what",
    "it loses is compared for every model that is exported. A test keeps this page true. ✓ works; a number is the",
    "reason of a refusal; · was not tried here. [export.md](export.md) has the commands.",
)


def whole_matrix(families: Iterable[str] = FAMILIES, known: Mapping[tuple, str] = MappingProxyType({})) -> str:
    """Try everything on these families; what is known of others is taken over."""
    cells = [cell for cell in itertools.product(TASKS, FORMS, families) if is_tried(*cell)]
    results = {**known} | {(task, form, family): run_cell(form, family, task) for task, form, family in cells}
    return matrix_page(HEAD, "form", TASKS, FORMS, results)


if __name__ == "__main__":
    write_page("export_matrix.md", whole_matrix)
