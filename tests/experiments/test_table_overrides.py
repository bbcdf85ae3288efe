"""Options of the command line beside those of a table."""

from __future__ import annotations

import pytest

import reproduce
from opinionlm.errors import UserError
from opinionlm.experiments.grid import load_table
from tests.classifier_runs import drawn_posts, write_posts
from tests.experiments.test_grid import SPEC, save


def test_an_option_of_the_table_that_the_command_line_leaves_idle_is_dropped(tmp_path) -> None:
    """Refused, it sent the user to leave out what the shipped YAML has."""
    options = {name: value for name, value in SPEC["options"].items() if name != "max_steps"}
    path = save(tmp_path, options=options, scales={"smoke": {"options": {"num_train_epochs": 2}}})
    cells = load_table(path, "smoke", {"max_steps": 3}).cells
    assert all("num_train_epochs" not in cell.options and cell.options["max_steps"] == 3 for cell in cells)
    message = r"num_train_epochs: no cell reads it \(max_steps: 3\); leave it out"
    with pytest.raises(UserError, match=message):
        load_table(path, "smoke", {"max_steps": 3, "num_train_epochs": 1})
    # Beside steps of the YAML itself its epochs are a mistake of the YAML.
    with pytest.raises(UserError, match=message):
        load_table(save(tmp_path, options=options | {"max_steps": 3, "num_train_epochs": 2}), "smoke", {})


def test_smoke_reads_data_of_ones_own_where_they_are_named(tmp_path, capsys, monkeypatch, repository) -> None:
    """It dropped the folder, and the runs then asked for it."""
    monkeypatch.chdir(repository)
    (tmp_path / "posts").mkdir()
    write_posts(tmp_path / "posts", drawn_posts(160))
    options = {"dataset": "configs/datasets/sample.yaml", "engine": "tfidf", "report_to": "none"}
    path = save(
        tmp_path, options=options, axes={"Weights": SPEC["axes"]["Weights"]}, published=[], scales={"smoke": {}}
    )
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out"), "--dry_run"]
    named = ["--dataset", str(tmp_path / "posts" / "posts.yaml")]
    assert reproduce.main([*command, *named, "--data_dir", str(tmp_path / "posts")]) == 0
    printed = capsys.readouterr().out
    assert "--data_dir is not used" not in printed and f"1 file in {tmp_path / 'posts'}" in printed
    assert reproduce.main([*command, "--data_dir", str(tmp_path / "posts")]) == 0
    assert "smoke runs on the bundled samples: --data_dir is not used" in capsys.readouterr().out
