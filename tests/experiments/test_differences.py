"""The line that ends every table: what its numbers differ from the paper's in."""

from __future__ import annotations

import pytest

from opinionlm.config.parser import read_yaml
from opinionlm.experiments.differences import difference_line
from opinionlm.experiments.grid import load_table
from opinionlm.experiments.tables import collect, markdown
from tests.experiments.test_grid import TABLES, save, scales_of, shipped_table


def test_what_the_yaml_says_and_what_a_scale_changes(tmp_path) -> None:
    scales = {
        "paper": {"seeds": "0..2", "options": {"model_name_or_path": "hub/large", "max_length": 256}},
        "small": {"differs": ["a machine of its own"]},
    }
    # Two optimizer steps end the small runs, whatever their epochs.
    scales["paper"]["options"] |= {"max_steps": -1, "num_train_epochs": 7}
    path = save(tmp_path, scales=scales, differs=["another split"])
    assert load_table(path, "paper", {}).differences == ("another split",)
    table = load_table(path, "small", {})
    assert table.differences == (
        "another split",
        "a machine of its own",
        "model gemma3-mini instead of large",
        "tokens of a text 32 instead of 256",
        "optimizer steps 2 instead of all",
        "seeds 5 instead of 3",
    )
    last = markdown(table, collect(table, [])).rstrip().splitlines()[-1]
    assert last.startswith("Differs from the paper in: another split; a machine of its own; model gemma3-mini")
    matrix = load_table(save(tmp_path, scales=scales, layout="matrix"), "paper", {})
    assert markdown(matrix, collect(matrix, [])).endswith("|\n\nDiffers from the paper in: nothing known.\n")
    assert "nothing to differ from" in difference_line("Ours; the paper names it as future work", ())


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_table_of_a_paper_says_what_differs(path) -> None:
    raw = read_yaml(path)
    for scale in scales_of(path):
        table = shipped_table(path, scale)
        assert table.differences or raw["source"].startswith("Ours"), scale
