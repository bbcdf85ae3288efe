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
    assert "| adaptation | runs | macro_f1 | of training |" in text
    assert "| full | 2 | 0.550 ± 0.071 | 9.000 |" in text and "| lora | 1 | 0.800 | 9.000 |" in text
    assert f"Best by validation macro_f1: {outputs / 'b' / 'three'}" in text
    assert f"Not finished: {outputs / 'b' / 'four'}" in text and "five" not in text


def rewrite(folder: Path, **sections) -> None:
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sections))


def test_a_run_without_a_validation_score_is_not_the_best(tmp_path, capsys) -> None:
    for name, score in (("one", 0.6), ("two", 0.7)):
        add_run(tmp_path / name, "mine", 0.5)
        rewrite(tmp_path / name, validation={"loss": score}, test={"loss": score})
    add_run(tmp_path / "three", "mine", 0.5, adaptation="lora")
    rewrite(tmp_path / "three", validation={}, test={"loss": 0.9})
    group_report.main(["mine", str(tmp_path)])
    # Of a loss the smallest is the best, and a missing one is none.
    assert f"Best by validation loss: {tmp_path / 'one'}" in capsys.readouterr().out
    for name in ("one", "two"):
        rewrite(tmp_path / name, validation={})
    group_report.main(["mine", str(tmp_path)])
    assert "Best by validation loss: no run has that score" in capsys.readouterr().out


def test_an_ensemble_is_no_seed(tmp_path, capsys) -> None:
    for seed, score in ((0, 0.6), (1, 0.7)):
        add_run(tmp_path / f"many-seed{seed}", "mine", score, seed=seed)
        rewrite(tmp_path / f"many-seed{seed}", cost={"train_seconds": 5.0, "total_seconds": 9.0})
    add_run(tmp_path / "many-ensemble", "mine", 0.9, seed=42)
    rewrite(tmp_path / "many-ensemble", train={"members": 2}, cost={"train_seconds": 10.0, "total_seconds": 18.0})
    # Seed 1 once more, elsewhere: no third sample.
    add_run(tmp_path / "zagain", "mine", 0.1, seed=1)
    group_report.main(["mine", str(tmp_path)])
    text = capsys.readouterr().out
    assert "3 finished runs and 1 ensemble of them" in text
    assert "| runs | macro_f1 | seconds in all | of training |" in text
    assert "| 2 | 0.550 ± 0.071 | 9.000 | 5.000 |" in text and "| ensemble of 2 | 0.800 | 18 | 10 |" in text
    assert f"Left out, since a run above is of the same trained model: {tmp_path / 'zagain'}" in text


def test_a_mean_says_over_how_many_runs(tmp_path, capsys) -> None:
    for seed in range(3):
        add_run(tmp_path / str(seed), "mine", 0.5 + seed / 10, seed=seed)
    rewrite(tmp_path / "0", cost={"train_seconds": 5.0, "total_seconds": 9.0})
    group_report.main(["mine", str(tmp_path)])
    # Two runs are from before totals were kept: theirs is not 0.
    assert "| 3 | 0.500 ± 0.100 | 9.000 (1 runs) |" in capsys.readouterr().out


def test_other_data_are_another_row(tmp_path, capsys) -> None:
    for seed, data in ((0, "a" * 64), (1, "b" * 64)):
        add_run(tmp_path / str(seed), "mine", 0.5, seed=seed)
        (tmp_path / str(seed) / "environment.json").write_text(json.dumps({"data_fingerprint": data}))
    group_report.main(["mine", str(tmp_path)])
    text = capsys.readouterr().out
    assert "| data | runs |" in text and "| aaaaaaaa | 1 |" in text and "| bbbbbbbb | 1 |" in text


def test_what_is_wrong_is_named(outputs) -> None:
    with pytest.raises(UserError, match="no finished run of 'mien'.*groups there: mine, other"):
        group_report.main(["mien", str(outputs)])
    with pytest.raises(UserError, match="no such folder"):
        group_report.main(["mine", str(outputs / "none")])
    with pytest.raises(UserError, match="must be ENTITY/PROJECT"):
        group_report.main(["mine", str(outputs), "--wandb", "project"])
    (outputs / "a" / "one" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="one/metrics.json: damaged"):
        group_report.main(["mine", str(outputs)])


def test_publishing_needs_a_package(outputs, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match="needs the package wandb-workspaces"):
        group_report.main(["mine", str(outputs), "--wandb", "team/project"])
