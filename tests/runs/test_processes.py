"""Commands in processes of their own, forked from one that has the libraries."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opinionlm.runs.processes import ConsoleProcess
from opinionlm.utils.shipped import script_environment
from tests.classifier_runs import command_line

ROOT = Path(__file__).resolve().parents[2]


def finished(arguments: list[str], log: Path, **environment: str) -> int | None:
    """Exit code of a command whose output goes into a file."""
    # Output goes through buffers, as it does for users.
    inherited = {name: value for name, value in script_environment().items() if name != "PYTHONUNBUFFERED"}
    with open(log, "wb") as file:
        return ConsoleProcess(arguments, inherited | environment, file.fileno()).wait()


def test_a_process_has_its_own_output_environment_and_exit_code(tmp_path) -> None:
    before = dict(os.environ)
    assert finished(["--version"], tmp_path / "version") == 0
    assert (tmp_path / "version").read_text().startswith("opinionlm ")
    assert finished(["trian_classifier"], tmp_path / "wrong") == 2
    assert (tmp_path / "wrong").read_text().splitlines()[-1].startswith("error: trian_classifier: no such command")
    # argparse reads the width of the terminal from the environment.
    for columns in ("60", "110"):
        assert finished(["compare", "--help"], tmp_path / columns, COLUMNS=columns) == 0
    narrow, wide = ((tmp_path / name).read_text().splitlines() for name in ("60", "110"))
    assert len(narrow) > len(wide) and narrow != wide
    assert dict(os.environ) == before


def test_a_process_holds_what_it_is_given_until_it_is_killed(tmp_path) -> None:
    reading, writing = os.pipe()
    arguments = ["preprocess", "--config", "configs/datasets/sample.yaml", "--output_dir", str(tmp_path / "data")]
    with open(tmp_path / "log", "wb") as log:
        process = ConsoleProcess(arguments, script_environment(), log.fileno(), (writing,))
    os.close(writing)
    os.kill(process.process.pid, signal.SIGSTOP)
    assert process.wait(0.01) is None and select.select([reading], [], [], 0.0)[0] == []
    os.kill(process.process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and process.wait() == -signal.SIGKILL
    assert os.read(reading, 1) == b""
    os.close(reading)
    process.terminate()  # nothing to end


def test_sigterm_ends_a_process_in_one_line(tmp_path) -> None:
    arguments = ["preprocess", "--config", "configs/datasets/sample.yaml", "--output_dir", str(tmp_path / "data")]
    with open(tmp_path / "log", "wb") as log:
        process = ConsoleProcess(arguments, script_environment(), log.fileno())
    # The whole line: a signal between its text and its end would be told on the same one.
    while process.wait(0.01) is None and "files in data" not in (tmp_path / "log").read_text().rpartition("\n")[0]:
        pass
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert (tmp_path / "log").read_text().splitlines()[-1] == "terminated" and not (tmp_path / "data").exists()


def test_what_the_server_tidies_stays_for_the_next_process() -> None:
    code = """
import atexit, os, sys, tempfile
from pathlib import Path
from opinionlm.runs.processes import forget_exit_functions
shared, kept = tempfile.TemporaryDirectory(), tempfile.TemporaryDirectory()
atexit.register(shared.cleanup)
if (child := os.fork()) == 0:
    forget_exit_functions()
    own = tempfile.TemporaryDirectory()
    print(own.name, flush=True)
    atexit.register(print, "tidied", flush=True)
    atexit._run_exitfuncs()
    os._exit(0)
os.waitpid(child, 0)
assert Path(shared.name).is_dir() and Path(kept.name).is_dir()
print(shared.name, kept.name)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    own, tidied, *servers = told.split()
    assert tidied == "tidied" and not any(Path(folder).exists() for folder in (own, *servers))


@pytest.mark.slow
def test_every_run_of_a_server_is_tracked(setting, tmp_path) -> None:
    for name in ("first", "second"):
        options = command_line(setting, output_dir=tmp_path, run_name=name, report_to="wandb", max_steps=2)
        assert finished(["train_classifier", *options], tmp_path / "log", WANDB_MODE="offline") == 0
        assert "tracking stops" not in (tmp_path / "log").read_text()
        assert list((tmp_path / name / "wandb").glob("offline-run-*/files/media/table/*"))


@pytest.mark.slow
def test_a_forked_run_is_the_run_of_a_fresh_interpreter(setting, tmp_path) -> None:
    options = [command_line(setting, output_dir=tmp_path / name, run_name="r") for name in ("forked", "fresh")]
    assert finished(["train_classifier", *options[0]], tmp_path / "log") == 0, (tmp_path / "log").read_text()
    fresh = [sys.executable, "-m", "opinionlm", "train_classifier", *options[1]]
    subprocess.run(fresh, env=script_environment(), cwd=ROOT, check=True, capture_output=True)
    folders = [tmp_path / name / "r" for name in ("forked", "fresh")]
    forked, fresh_one = ({**json.loads((folder / "metrics.json").read_text()), "cost": None} for folder in folders)
    assert forked == fresh_one
    for file in ("predictions/test.csv", "predictions/validation.csv", "labels.json"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
    commands = [json.loads((folder / "environment.json").read_text())["command"][0] for folder in folders]
    assert commands == ["python -m opinionlm train_classifier"] * 2


def test_libraries_that_ask_a_gpu_are_loaded_after_the_fork() -> None:
    code = """
import sys
import torch
asked = []
for module in (torch.cuda, torch.accelerator):
    for name in ("is_available", "device_count", "_lazy_init"):
        setattr(module, name, lambda *_, **__: asked.append(name))
import accelerate.utils
accelerate.utils.is_cuda_available = lambda: True
import opinionlm.runs.preloaded
assert asked == [] and not {"peft", "bitsandbytes"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
