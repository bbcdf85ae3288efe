"""Sweep files: what `wandb sweep` reads of them, and that every run they start has a valid config."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from opinionlm.config.parser import parse_config
from opinionlm.reporting.tracking.wandb import wandb_run_id

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
# The keys of W&B's sweep schema; its own validator is in the package `sweeps`, which is not among the requirements.
KEYS = {"program", "method", "metric", "parameters", "command", "early_terminate", "name", "description", "run_cap"}


def extremes(parameter: dict[str, Any]) -> list[Any]:
    """Values that a parameter may take, those at its ends at least."""
    match parameter:
        case {"value": value}:
            return [value]
        case {"values": [_, *_] as values}:
            return values
        case {"distribution": "uniform" | "log_uniform_values", "min": low, "max": high}:
            assert 0 <= low < high
            return [low, high]
    raise AssertionError(f"not a parameter of a sweep: {parameter}")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_file(path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    # As W&B's own `load_sweep_config` does, whose module imports its whole launcher.
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert sweep.keys() <= KEYS and {"program", "method", "metric", "parameters"} <= sweep.keys()
    assert sweep["method"] in ("grid", "random", "bayes") and sweep["metric"]["goal"] in ("maximize", "minimize")
    # Chosen by validation, never by test, and under the name that the tracker logs.
    assert sweep["metric"]["name"].startswith("validation/")
    assert sweep["command"][:3] == ["${env}", "${interpreter}", "${program}"] and sweep["command"][-1] == "${args}"
    assert (ROOT / sweep["program"]).is_file()
    options = {name: extremes(parameter) for name, parameter in sweep["parameters"].items()}
    assert sweep["method"] != "grid" or all("min" not in item for item in sweep["parameters"].values())
    fixed, script = sweep["command"][3:-1], Path(sweep["program"]).stem
    # The first and the last value of every option together, as `${args}` writes them.
    for values in itertools.islice(zip(*([each[0], each[-1]] for each in options.values()), strict=True), 2):
        arguments = [f"--{name}={value}" for name, value in zip(options, values, strict=True)]
        config = parse_config([*fixed, *arguments], description="", script=script)
        assert config.flat()["learning_rate"] in (options["learning_rate"][0], options["learning_rate"][-1])


def test_runs_of_an_agent_have_their_own_folders_and_ids(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    assert parse_config([], description="").training.run_name == "run-seed42"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    assert parse_config([], description="").training.run_name == "run-abc123"
    assert wandb_run_id(tmp_path) == "abc123"
