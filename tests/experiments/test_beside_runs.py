"""What lies in and beside run folders and is no run: locks, event files, W&B's folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from opinionlm.experiments import group_report
from opinionlm.experiments.answers import read_run
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.experiments.dashboard.payload import build_payload
from opinionlm.runs.lock import locked
from tests.experiments.run_folders import write_run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for seed in (1, 2):
        write_run(tmp_path / f"r-seed{seed}", seed=seed, wandb_group="mine")
    return tmp_path


def add_what_is_no_run(outputs: Path) -> None:
    for folder in outputs.glob("r-*"):
        (folder / "wandb_run_id").write_text("abc\n")
        (folder / "tensorboard").mkdir()
        (folder / "tensorboard" / "events.out.tfevents.1.host.1.0").write_bytes(b"\0")
        files = folder / "wandb" / "run-20260101_000000-abc" / "files"
        files.mkdir(parents=True)
        (files / "config.yaml").write_text(yaml.safe_dump({"wandb_group": {"value": "mine"}, "seed": {"value": 1}}))
        (folder / "wandb" / "broken" / "files").mkdir(parents=True)
        (folder / "wandb" / "broken" / "files" / "config.yaml").write_text("{")
    (outputs / ".r-seed1.lock.1a2b3c4d").write_text("{")


def test_they_change_nothing(outputs, capsys) -> None:
    def seen() -> tuple[str, str]:
        group_report.main(["mine", str(outputs)])
        return json.dumps(build_payload(collect(outputs)), default=str), capsys.readouterr().out

    before, test = seen(), read_run(outputs / "r-seed1", "test")
    add_what_is_no_run(outputs)
    with locked(outputs / "r-seed1"), locked(outputs / "r-seeds"):
        assert seen() == before
        assert read_run(outputs / "r-seed1", "test").ids == test.ids


def test_a_run_under_way_is_unfinished(outputs) -> None:
    (outputs / "r-seed2" / "metrics.json").unlink()
    with locked(outputs / "r-seed2"):
        collection = collect(outputs)
    assert [run.name for run in collection.runs] == ["r-seed1"]
    assert [run.name for run in collection.unusable] == ["r-seed2"]
