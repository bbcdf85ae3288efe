"""preprocess.py, predict.py and reproduce.py are killed by SIGKILL; no row is lost or doubled."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.children import Job, events, picked, run
from tests.faults.runs import training

slow = pytest.mark.slow


def prepared(folder: Path) -> dict[str, Any]:
    """Every row and every report of a prepared data set."""
    from opinionlm.data.prepared import load_prepared

    data = load_prepared(folder)
    texts = {name: (folder / name).read_bytes() for name in ("rejects.csv", "report.json", "dataset.json")}
    return texts | {split: rows.to_list() for split, rows in data.dataset.items()}


@pytest.mark.parametrize(
    ("part", "seed"),
    [
        ("arrow", 1),
        pytest.param("", 1, marks=slow),
        pytest.param("", 2, marks=slow),
        pytest.param("rename", 1, marks=slow),
    ],
)
def test_preprocessing(part, seed, setting, tmp_path) -> None:
    def job(name: str) -> Job:
        arguments = ["--config", setting["dataset"], "--data_dir", setting["data_dir"]]
        arguments += ["--output_dir", str(tmp_path / name / "data")]
        return Job("preprocess", arguments, tmp_path / name, tmp_path / f"{name}.log")

    (moment,) = picked(events(job("whole")), part, 1, seed)
    assert run(job("killed"), kill_at=moment) == -signal.SIGKILL
    assert run(job("killed")) == 0, job("killed").log.read_text()
    assert prepared(tmp_path / "killed" / "data") == prepared(tmp_path / "whole" / "data")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["data"]


@pytest.fixture(scope="module")
def model(setting, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("model") / "root"
    job = training("loop", setting, root, num_train_epochs=1)
    assert run(job) == 0, job.log.read_text()
    return root / "out" / "r" / "best"


@pytest.mark.parametrize(
    ("part", "seed"),
    [("part", 1), *(pytest.param(part, seed, marks=slow) for part in ("part", "rename") for seed in (2, 3))],
)
def test_prediction(part, seed, model, tmp_path) -> None:
    with open(tmp_path / "posts.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text"], *([f"the price fell again {row}"] for row in range(300))])
        file.write('too,many,fields\n"open quote\nx,fine\n')

    def job(name: str) -> Job:
        arguments = ["--model", str(model), "--input", str(tmp_path / "posts.csv"), "--window", "32"]
        arguments += ["--output", str(tmp_path / name / "labels.csv"), "--device", "cpu"]
        return Job("predict", arguments, tmp_path / name, tmp_path / f"{name}.log")

    (moment,) = picked(events(job("whole")), part, 1, seed)
    assert run(job("killed"), kill_at=moment) == -signal.SIGKILL
    assert run(job("killed")) == 0, job("killed").log.read_text()
    outputs = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed")]
    assert outputs[0] == outputs[1] and outputs[0].keys() == {"labels.csv", "labels.csv.rejects.csv"}


@slow
def test_a_grid(setting, tmp_path) -> None:
    """Killed as a whole, with its runs, at three moments by the clock and at the writing of its tables."""
    shared = {name: setting[name] for name in ("dataset", "data_dir", "model_name_or_path")}
    options = {"max_length": 32, "max_steps": 6, "eval_strategy": "steps", "eval_steps": 2, "report_to": "none"}
    table = {
        "title": "Two rates",
        "source": "A paper, Table 1",
        "measures": {"Accuracy": "test.accuracy"},
        "options": shared | options | {"use_cpu": True},
        "axes": {"Rate": {"slow": {"learning_rate": 1e-4}, "fast": {"learning_rate": 1e-3}}},
        "scales": {"smoke": {"seeds": 1}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(table, sort_keys=False))

    def job(name: str) -> Job:
        root = tmp_path / name
        arguments = [str(tmp_path / "mine.yaml"), "--scale", "smoke", "--output_dir", str(root / "tables")]
        arguments += ["--prepared_dir", str(root / "prepared"), "--cache_dir", str(root / "cache")]
        return Job("reproduce", arguments, root, tmp_path / f"{name}.log")

    def outcome(name: str) -> dict[str, Any]:
        folder = tmp_path / name / "tables" / "mine" / "smoke"
        runs = sorted((folder / "runs").iterdir())
        found: dict[str, Any] = {"runs": [run.name for run in runs]}
        for each in runs:
            metrics = json.loads((each / "metrics.json").read_text())
            metrics.pop("cost")
            found[each.name] = metrics, (each / "best" / "model.safetensors").read_bytes()
            found[f"{each.name} predictions"] = (each / "predictions" / "test.csv").read_bytes()
        lines = (folder / "table.csv").read_text().splitlines()
        return found | {"table": [line for line in lines if "econds" not in line]}

    happened = events(job("whole"))
    for seconds in (6.0, 12.0, 20.0):
        run(job("killed"), kill_after=seconds)
    (moment,) = picked(happened[-6:], "", 1, 1)
    run(job("killed"), kill_at=len(happened) - 6 + moment)
    assert run(job("killed")) == 0, job("killed").log.read_text()
    assert outcome("killed") == outcome("whole")


@slow
def test_workers_do_not_outlive_a_killed_parent(tmp_path) -> None:
    """A pool's processes hold both ends of their pipe: without care they would wait for tasks for ever."""
    program = (
        "import os, signal, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import multiprocessing\n"
        "from opinionlm.data.preparation.clean_rows import obey_parent\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(1, context, initializer=obey_parent)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "program.py").write_text(program)
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    worker, deadline = int(done.stdout), time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
