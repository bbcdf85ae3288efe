"""Faults in one of two processes: the job ends promptly and says why, or both processes do the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.classifier_runs import command_line

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"adaptation": "full", "cache_frozen": "off", "per_device_train_batch_size": 8}


Ended = tuple[subprocess.CompletedProcess[str], float]


def launch(program: list[str], setting: dict[str, str], **options: object) -> Ended:
    """Start two processes; returns how they ended, and after how many seconds."""
    command = [str(Path(sys.executable).parent / "accelerate"), "launch"]
    command += ["--config_file", "configs/accelerate/two_cpu_processes.yaml", "--main_process_port", "0"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, *program, *command_line(setting, **(OPTIONS | options))],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done, time.monotonic() - started


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory) -> tuple[Path, float]:
    """An undisturbed run of two processes, and its seconds: what the faulty ones are measured against."""
    folder = tmp_path_factory.mktemp("whole")
    done, seconds = launch(["train_classifier.py"], setting, output_dir=folder, run_name="r")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, seconds


@pytest.mark.parametrize(
    ("fault", "sign"), [("dies", "another process of this run is gone"), ("raises", "a bug in one process")]
)
def test_a_dead_process_ends_the_job(fault, sign, whole, setting, tmp_path) -> None:
    done, seconds = launch(["tests/faults/dying_rank.py", fault], setting, output_dir=tmp_path, run_name="r")
    assert done.returncode != 0 and not (tmp_path / "r" / "metrics.json").exists()
    assert sign in done.stderr, done.stderr[-3000:]
    # It fails in its fourth step: no hang, so it takes no longer than a whole run and the launcher's patience.
    assert seconds < whole[1] + 40


def test_a_loss_that_is_no_number_in_one_process_stops_both(whole, setting, tmp_path) -> None:
    done, _ = launch(["tests/faults/dying_rank.py", "nan"], setting, output_dir=tmp_path, run_name="r")
    assert done.returncode != 0
    assert done.stderr.count("error: step 4: loss nan") == 1, done.stderr[-3000:]
    facts = json.loads((tmp_path / "r" / "nonfinite_step_4.json").read_text())
    assert facts["loss"] == "nan" and [len(batch) for batch in facts["ids"]] == [16]


def test_a_signal_to_one_process_stops_both_after_a_checkpoint(whole, setting, tmp_path) -> None:
    done, _ = launch(["tests/faults/dying_rank.py", "terminated"], setting, output_dir=tmp_path, run_name="r")
    assert done.returncode != 0 and done.stderr.count("stopped by SIGTERM; step 4 of 12 is saved") == 1
    done, _ = launch(["train_classifier.py"], setting, output_dir=tmp_path, run_name="r")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Continuing from" in done.stdout and "checkpoint-4" in done.stdout
    metrics = [json.loads((folder / "r" / "metrics.json").read_text()) for folder in (tmp_path, whole[0])]
    for one in metrics:
        one.pop("cost")
    assert metrics[0] == metrics[1]
    weights = [(folder / "r" / "best" / "model.safetensors").read_bytes() for folder in (tmp_path, whole[0])]
    assert weights[0] == weights[1]


def test_another_number_of_processes_is_refused(setting, tmp_path) -> None:
    import train_classifier
    from opinionlm.errors import UserError

    done, _ = launch(["tests/faults/dying_rank.py", "terminated"], setting, output_dir=tmp_path, run_name="r")
    assert done.returncode != 0
    options = OPTIONS | {"output_dir": tmp_path, "run_name": "r"}
    with pytest.raises(UserError, match="trained with processes 2, and this is 1"):
        train_classifier.main(command_line(setting, **options))
