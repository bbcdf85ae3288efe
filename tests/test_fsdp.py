"""FSDP2 on two CPU processes: weights that are split give the run, the files and the model of one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.classifier_runs import command_line, train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


def train_split(setting: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
    """train_classifier.py in two processes of 8 texts each, its weights split over them."""
    command = [str(Path(sys.executable).parent / "accelerate"), "launch"]
    command += ["--config_file", "configs/accelerate/two_cpu_processes.yaml", "--main_process_port", "0"]
    command += ["tests/fsdp_on_cpu.py", *command_line(setting, **(options | {"per_device_train_batch_size": 8}))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


# The second: another rate for the head, whose groups the optimizer has from before the weights are split.
@pytest.mark.parametrize(("adaptation", "head_lr_factor"), [("full", 1), ("full", 10), ("top_blocks", 1), ("lora", 1)])
def test_two_halves_equal_the_whole(adaptation, head_lr_factor, setting, tmp_path) -> None:
    options = {
        "output_dir": tmp_path,
        "adaptation": adaptation,
        "head_lr_factor": head_lr_factor,
        "classifier_dropout": 0,
        "cache_dir": tmp_path / "c",
    }
    one = train(setting, run_name="one", **options)
    done = train_split(setting, run_name="two", **options)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert two["model"] == one["model"] and two["train"]["steps"] == one["train"]["steps"]
    for split in ("validation", "test"):
        for name in ("loss", "macro_f1", "accuracy", "ece"):
            assert two[split][name] == pytest.approx(one[split][name], abs=2e-4), (split, name)
    ours, theirs = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("two", "one"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-4, rtol=1e-3, msg=name)
    config = [json.loads((tmp_path / run / "best" / "config.json").read_text()) for run in ("one", "two")]
    assert config[0]["architectures"] == config[1]["architectures"]


def test_an_interrupted_run_goes_on_exactly(setting, tmp_path) -> None:
    options = {"output_dir": tmp_path, "run_name": "r", "adaptation": "full", "cache_frozen": "off"}
    assert train_split(setting, **options).returncode == 0
    run = tmp_path / "r"
    newest = run / "checkpoints" / "checkpoint-12" / "trained.safetensors"
    weights, metrics = newest.read_bytes(), json.loads((run / "metrics.json").read_text())
    # As after a kill behind the first epoch.
    (run / "metrics.json").unlink()
    shutil.rmtree(newest.parent)
    shutil.rmtree(run / "best")
    done = train_split(setting, **options)
    assert "Continuing from" in done.stdout and done.returncode == 0, done.stderr[-3000:]
    assert newest.read_bytes() == weights
    again = json.loads((run / "metrics.json").read_text())
    assert {name: again[name] for name in ("validation", "test", "train")} == {
        name: metrics[name] for name in ("validation", "test", "train")
    }


def test_what_needs_whole_weights_is_refused(setting, tmp_path) -> None:
    done = train_split(setting, output_dir=tmp_path, run_name="loop", engine="loop")
    assert done.returncode != 0 and "fsdp needs engine: trainer" in done.stderr, done.stderr[-2000:]
