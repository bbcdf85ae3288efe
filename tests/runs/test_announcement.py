"""What a run says first, and where its model is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opinionlm.inference.arguments import parse_arguments
from opinionlm.models.precision import describe_device

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train_classifier.py", "--config", "configs/quickstart.yaml"], "start   configs/quickstart.yaml → "),
        (["prompt.py", "--config", "configs/gemma3_mini_prompt.yaml"], "start   configs/gemma3_mini_prompt.yaml → "),
        (["preprocess.py", "--config", "configs/datasets/sample.yaml"], "configs/datasets/sample.yaml, files in data"),
    ],
)
def test_the_first_line_comes_before_the_libraries(command, said, tmp_path):
    process = subprocess.Popen(
        [sys.executable, *command, "--output_dir", str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(said)
        # User and system ticks of the process so far: other work on the machine does not lengthen them.
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        assert sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") < 1.0
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("script", ["train_classifier.py", "train_instruct.py", "prompt.py", "pretrain.py"])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--dataset", "configs/datasets/nowhere.yaml", "error: configs/datasets/nowhere.yaml: cannot be read"),
        (
            "--model_name_or_path",
            "./nowhere/model",
            "error: model_name_or_path: there is no folder ./nowhere/model; ",
        ),
    ],
)
def test_what_is_not_there_is_told_before_the_libraries(script, option, value, said, tmp_path):
    given = {"--dataset": "configs/datasets/sample.yaml", "--output_dir": str(tmp_path), option: value}
    before = os.times()
    process = subprocess.run(
        [sys.executable, script, *(part for pair in given.items() for part in pair)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    after = os.times()
    assert process.returncode == 2 and process.stderr.startswith(said) and process.stderr.count("\n") == 1
    assert not process.stdout and not list(tmp_path.iterdir())
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 1.0


@pytest.mark.parametrize("has_instructions", [True, False])
def test_the_header_names_the_device_and_what_it_emulates(has_instructions, monkeypatch):
    monkeypatch.setattr("opinionlm.models.precision.computes_in_bfloat16", lambda: has_instructions)
    remedy = ", which this machine emulates: --bf16 false --dtype fastest takes a fraction of the time"
    slow, fastest = ("", "bfloat16") if has_instructions else (remedy, "float32")
    threads = torch.get_num_threads()
    shown = f"CPU, {threads} thread{'s' * (threads != 1)}"
    assert describe_device(torch.device("cpu"), 1, "float32", False) == f"{shown}; float32"
    assert describe_device(torch.device("cpu"), 1, "float32", True) == f"{shown}; float32 with bfloat16 autocast{slow}"
    assert describe_device(torch.device("cpu"), 2, "bfloat16", True) == (
        f"{shown}, 2 processes; bfloat16 with bfloat16 autocast{slow}"
    )
    assert describe_device(torch.device("cpu"), 1, "fastest", False).endswith(f"({fastest})")


def test_a_run_stands_for_its_model(tmp_path):
    (tmp_path / "run/best").mkdir(parents=True)
    (tmp_path / "model/best").mkdir(parents=True)
    (tmp_path / "model/config.json").write_text("{}")
    models = [tmp_path / "run", tmp_path / "run/best", tmp_path / "model", tmp_path / "none"]
    arguments = parse_arguments(["--model", *map(str, models), "--input", "a.csv", "--output", "b.csv"], "")
    assert arguments.model == [tmp_path / "run/best", tmp_path / "run/best", tmp_path / "model", tmp_path / "none"]
