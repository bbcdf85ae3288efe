"""SIGTERM and Ctrl-C: a checkpoint, one line, an exit code that says so; the same command goes on exactly."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.faults.children import Job, events, picked, run
from tests.faults.runs import assert_same, results, training

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("case", "number", "code", "seed"),
    [
        ("trainer", signal.SIGTERM, 143, 1),
        pytest.param("trainer", signal.SIGINT, 130, 2, marks=slow),
        pytest.param("loop", signal.SIGINT, 130, 1, marks=slow),
        pytest.param("loop", signal.SIGTERM, 143, 3, marks=slow),
    ],
)
def test_training_saves_and_goes_on(case, number, code, seed, setting, tmp_path) -> None:
    whole = training(case, setting, tmp_path / "whole")
    (moment,) = picked(events(whole)[:-1], "step", 1, seed)
    job = training(case, setting, tmp_path / "stopped")
    assert run(job, signal_at=moment, number=number) == code, job.log.read_text()
    last = job.log.read_text().splitlines()[-1]
    assert f"stopped by {number.name}; step " in last and "is saved, the same command goes on there" in last
    assert "Traceback" not in job.log.read_text()
    assert run(job) == 0, job.log.read_text()
    assert "Continuing from" in job.log.read_text() and "warning" not in job.log.read_text()
    assert_same(results(job.folder), results(whole.folder))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_preprocessing_leaves_nothing_behind(number, setting, tmp_path) -> None:
    arguments = ["--config", setting["dataset"], "--data_dir", setting["data_dir"]]
    arguments += ["--output_dir", str(tmp_path / "out" / "data")]
    job = Job("preprocess", arguments, tmp_path / "out", tmp_path / "log")
    assert run(job, signal_at=8, number=number) == 128 + number
    assert job.log.read_text().splitlines()[-1] == ("interrupted" if number == signal.SIGINT else "terminated")
    assert "Traceback" not in job.log.read_text() and not list((tmp_path / "out").iterdir())


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_prediction_goes_on(number, setting, tmp_path) -> None:
    model = tmp_path / "train"
    assert run(training("loop", setting, model, num_train_epochs=1)) == 0
    with open(tmp_path / "posts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["text"], *([f"the price fell again {row}"] for row in range(200))])

    def job(name: str) -> Job:
        options = {
            "model": model / "out" / "r" / "best",
            "input": tmp_path / "posts.csv",
            "window": 16,
            "device": "cpu",
        }
        options |= {"output": tmp_path / name / "labels.csv", "device": "cpu"}
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return Job("predict", arguments, tmp_path / name, tmp_path / f"{name}.log")

    happened = events(job("whole"))
    stopped = job("stopped")
    assert run(stopped, signal_at=len(happened) // 2, number=number) == 128 + number
    (line,) = stopped.log.read_text().strip().splitlines()[-1:]
    assert line == f"stopped by {number.name}; the same command goes on where it stopped"
    assert "Traceback" not in stopped.log.read_text()
    assert run(stopped) == 0 and "before an interruption" in stopped.log.read_text()
    outputs = [Path(tmp_path / name / "labels.csv").read_bytes() for name in ("whole", "stopped")]
    assert outputs[0] == outputs[1] and outputs[0].count(b"\n") == 201
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["labels.csv"]


@slow
@pytest.mark.parametrize("tuned", [False, True])
def test_a_grid_passes_the_signal_on(tuned, setting, tmp_path) -> None:
    shared = {name: setting[name] for name in ("dataset", "data_dir", "model_name_or_path", "prepared_dir")}
    options = {"max_length": 32, "max_steps": 3000, "eval_strategy": "steps", "eval_steps": 20, "report_to": "none"}
    table = {
        "title": "One rate",
        "source": "A paper, Table 1",
        "measures": {"Accuracy": "test.accuracy"},
        "options": shared | options | {"use_cpu": True, "cache_frozen": "off"},
        "axes": {"Rate": {"slow": {"learning_rate": 1e-4}}},
        "scales": {"smoke": {"seeds": 1} | ({"tune": {"trials": 2}} if tuned else {})},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    command = [sys.executable, "reproduce.py", str(tmp_path / "mine.yaml"), "--scale", "smoke"]
    command += ["--output_dir", str(tmp_path / "out")]
    with open(tmp_path / "log", "w") as log:
        grid = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2], stdout=log, stderr=log)
        folder = tmp_path / "out" / "mine" / "smoke"
        deadline = time.monotonic() + 300
        run, output = ("tuning/slow/trial00",) * 2 if tuned else ("runs/slow-seed1", "logs/slow-seed1")
        while not list(folder.glob(f"{run}/checkpoints/*/manifest.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        grid.send_signal(signal.SIGTERM)
        assert grid.wait(120) == 143, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert (folder / f"{output}.log").read_text().splitlines()[-1].startswith("stopped by SIGTERM; step ")
