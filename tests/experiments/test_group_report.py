"""The report of a group: rows by hand, unfinished and damaged folders, W&B's part without its package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from opinionlm.errors import UserError
from opinionlm.experiments import group_report


def add_run(folder: Path, group: str, score: float | None, **options) -> None:
    folder.mkdir(parents=True)
    values = {"wandb_group": group, "run_name": folder.name, "seed": 0, "adaptation": "full", "max_length": 64}
    (folder / "config.yaml").write_text(yaml.safe_dump(values | options))
    if score is not None:
        metrics = {"validation": {"macro_f1": score}, "test": {"macro_f1": score - 0.1}, "cost": {"train_seconds": 9}}
        (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    add_run(tmp_path / "a" / "one", "mine", 0.6)
    add_run(tmp_path / "a" / "two", "mine", 0.7, seed=1)
    add_run(tmp_path / "b" / "three", "mine", 0.9, adaptation="lora")
    add_run(tmp_path / "b" / "four", "mine", None)
    add_run(tmp_path / "b" / "five", "other", 0.99, max_length=8)
    return tmp_path


def test_report_by_hand(outputs, capsys) -> None:
    group_report.main(["mine", str(outputs), "--output", str(outputs / "deep" / "report.md")])
    text = (outputs / "deep" / "report.md").read_text()
    assert capsys.readouterr().out == text
    assert "| adaptation | runs | macro_f1 | seconds |" in text
    assert "| full | 2 | 0.550 ± 0.071 | 9.000 |" in text and "| lora | 1 | 0.800 | 9.000 |" in text
    assert f"Best by validation macro_f1: {outputs / 'b' / 'three'}" in text
    assert f"Not finished: {outputs / 'b' / 'four'}" in text and "five" not in text


def test_what_is_wrong_is_named(outputs) -> None:
    with pytest.raises(UserError, match="no finished run of 'mien'.*groups there: mine, other"):
        group_report.main(["mien", str(outputs)])
    with pytest.raises(UserError, match="no such folder"):
        group_report.main(["mine", str(outputs / "none")])
    with pytest.raises(UserError, match="must be ENTITY/PROJECT"):
        group_report.main(["mine", str(outputs), "--wandb", "project"])
    (outputs / "a" / "one" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="one: damaged run folder"):
        group_report.main(["mine", str(outputs)])


def test_publishing_needs_a_package(outputs, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match="needs the package wandb-workspaces"):
        group_report.main(["mine", str(outputs), "--wandb", "team/project"])
