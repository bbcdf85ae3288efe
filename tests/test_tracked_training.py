"""What W&B and TensorBoard hold of real runs, read back by their own readers: as many points as there were to log.

The slow one trains configs/quickstart.yaml as it stands.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import prompt
import train_classifier
import train_instruct
from tests.classifier_runs import command_line, train
from tests.faults.children import run
from tests.faults.runs import training
from tests.wandb_records import records

Curves = dict[str, list[tuple[int, float]]]
ROOT = Path(__file__).resolve().parent.parent
BOTH = "[wandb, tensorboard]"
# What training logs beside the loss, at the same steps.
BESIDE_LOSS = ("learning_rate", "grad_norm", "epoch", "num_input_tokens_seen")


def wandb_parts(folder: Path) -> list[list[dict[str, Any]]]:
    """The records of every part of a run, oldest part first."""
    return [records(file) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def wandb_curves(folder: Path) -> tuple[Curves, dict[str, Any]]:
    """Curves over optimizer steps, of all parts one after the other, and the summary in the end."""
    found: Curves = {}
    summary: dict[str, Any] = {}
    for record in (record for part in wandb_parts(folder) for record in part):
        item = record.get("history", {}).get("item", {})
        if "step" in item:
            for name in item.keys() - {"step", "_step", "_runtime", "_timestamp"}:
                found.setdefault(name, []).append((item["step"], item[name]))
        summary |= record.get("summary", {}).get("update", {})
    return found, summary


def tensorboard_curves(folder: Path) -> Curves:
    """Every scalar over steps."""
    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def history_curves(folder: Path) -> Curves:
    """The same from ``history.json``."""
    found: Curves = {}
    for entry in json.loads((folder / "history.json").read_text()):
        if "train_loss" in entry:
            continue  # Trainer's closing words
        evaluated = any(name.startswith("eval_") for name in entry)
        for name, value in entry.items():
            if name in ("step", "loss_steps") or (evaluated and name in ("epoch", "num_input_tokens_seen")):
                continue
            path = f"validation/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
            found.setdefault(path, []).append((entry["step"], value))
    return found


def assert_curves(folder: Path, steps: int, logging_steps: int, evaluations: list[int], score: str) -> None:
    """Points of each curve as computed from the options, and equal values in all three places."""
    logged = [*range(logging_steps, steps + 1, logging_steps)]
    logged += [] if steps % logging_steps == 0 else [steps]
    wandb, summary = wandb_curves(folder)
    tensorboard, history = tensorboard_curves(folder), history_curves(folder)
    for found in (wandb, tensorboard, history):
        for name in ("loss", *BESIDE_LOSS):
            assert [step for step, _ in found[f"train/{name}"]] == logged, name
        for name in ("validation/loss", f"validation/{score}", "train/loss_since_evaluation"):
            assert [step for step, _ in found[name]] == evaluations, name
    for name, points in history.items():
        assert wandb[name] == [(step, pytest.approx(value)) for step, value in points], name
        assert tensorboard[name] == [(step, pytest.approx(value, rel=1e-6)) for step, value in points], name
    assert_final_scores(folder, summary, tensorboard, steps, score)


def assert_final_scores(folder: Path, summary: dict[str, Any], scalars: Curves, step: int, score: str) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    for split, name in (("validation", f"final/validation/{score}"), ("test", f"test/{score}")):
        assert summary[f"{split}/{score}"] == pytest.approx(metrics[split][score])
        assert scalars[name] == [(step, pytest.approx(metrics[split][score]))]
    assert summary["cost/train_seconds"] == pytest.approx(metrics["cost"]["train_seconds"])


@pytest.mark.parametrize("engine", ["trainer", "loop"])
def test_every_curve_is_there(engine, setting, tmp_path, capsys) -> None:
    """96 texts in batches of 16, accumulated by 2: 3 steps an epoch, 9 in all, logged at 4, 8 and 9."""
    options = {"logging_steps": 4, "num_train_epochs": 3, "gradient_accumulation_steps": 2}
    metrics = train(setting, output_dir=tmp_path, run_name="r", engine=engine, report_to=BOTH, **options)
    assert metrics["train"]["steps"] == 9
    assert_curves(tmp_path / "r", 9, 4, [3, 6, 9], "macro_f1")
    assert capsys.readouterr().err.count("wandb sync") == 1


# As above, whose evaluations lie between the logs too, with steps instead of epochs.
@pytest.mark.slow
def test_evaluations_between_the_logs(setting, tmp_path) -> None:
    options = {"logging_steps": 5, "eval_strategy": "steps", "eval_steps": 3}
    train(setting, output_dir=tmp_path, run_name="r", report_to=BOTH, **options)
    assert_curves(tmp_path / "r", 12, 5, [3, 6, 9, 12], "macro_f1")


@pytest.mark.parametrize("engine", ["tfidf", "sklearn"])
def test_without_steps_there_are_final_scores(engine, setting, tmp_path) -> None:
    options = {"adaptation": "head_only", "head_hidden_sizes": "[]"} if engine == "sklearn" else {}
    train(setting, output_dir=tmp_path, run_name="r", engine=engine, report_to=BOTH, **options)
    curves, summary = wandb_curves(tmp_path / "r")
    assert not any(name.startswith("train/") for name in curves)
    assert_final_scores(tmp_path / "r", summary, tensorboard_curves(tmp_path / "r"), 0, "macro_f1")


@pytest.fixture(scope="module")
def instruct_setting(tmp_path_factory) -> dict[str, str]:
    from tests.classifier_runs import write_setting
    from tests.tiny import save_generative_model

    folder = tmp_path_factory.mktemp("instruct")
    setting = write_setting(folder)
    save_generative_model(folder / "model")
    (folder / "prompt.yaml").write_text('prompt: "{text} :"\n')
    setting |= {"prompt_template": str(folder / "prompt.yaml"), "max_length": "64"}
    return {name: value for name, value in setting.items() if name != "head_hidden_sizes"}


def test_instruction_tuning(instruct_setting, tmp_path) -> None:
    options = {"output_dir": tmp_path, "run_name": "r", "report_to": BOTH, "logging_steps": 4, "max_eval_samples": 12}
    metrics = train_instruct.main(command_line(instruct_setting, **options))
    steps = metrics["train"]["steps"]
    assert_curves(tmp_path / "r", steps, 4, [steps // 2, steps], "macro_f1")


def test_prompting(instruct_setting, tmp_path) -> None:
    known = ("dataset", "data_dir", "prepared_dir", "model_name_or_path", "prompt_template", "max_length", "use_cpu")
    setting = {name: instruct_setting[name] for name in known}
    options = {"output_dir": tmp_path, "run_name": "r", "report_to": BOTH, "max_eval_samples": 8}
    metrics = prompt.main(command_line(setting, **options))
    _, summary = wandb_curves(tmp_path / "r")
    assert summary["test/macro_f1"] == pytest.approx(metrics["test"]["macro_f1"])
    scalars = tensorboard_curves(tmp_path / "r")
    assert scalars["final/validation/macro_f1"] == [(0, pytest.approx(metrics["validation"]["macro_f1"]))]


# Slow: on a busy machine W&B's own process is seconds behind the run that is killed here.
@pytest.mark.slow
@pytest.mark.parametrize("case", ["trainer", "loop"])
def test_a_killed_run_goes_on_as_one(case, setting, tmp_path) -> None:
    """Killed after six steps, of which the checkpoint has four: those made again are there once, and none is lost."""
    options = {"report_to": BOTH, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 4}
    options |= {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 16, "num_train_epochs": 2}
    job = training(case, setting, tmp_path / "root", **options)
    assert run(replace(job, patches=["killed_in_the_seventh_step"])) == -signal.SIGKILL, job.log.read_text()
    assert run(job) == 0, job.log.read_text()
    folder = job.folder / "out" / "r"
    parts = wandb_parts(folder)
    runs = [record["run"] for part in parts for record in part if "run" in record]
    assert len(parts) == 2 and len({one["run_id"] for one in runs}) == 1
    assert all(one["resume"] for one in runs)
    assert_curves(folder, 12, 1, [4, 8, 12], "macro_f1")
    (line,) = [line for line in job.log.read_text().splitlines() if "wandb sync" in line]
    command = [sys.executable, "-m", *shlex.split(line.partition("with: ")[2]), "--dry-run"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "Would sync 2 run(s)" in said.stdout + said.stderr


# Slow: two processes with W&B's own; tests/runs/test_folder.py shows what makes the second run begin anew.
@pytest.mark.slow
def test_a_folder_of_another_run_begins_anew(setting, tmp_path) -> None:
    """What a run without a checkpoint left behind is no earlier part of one with other options."""
    job = training("trainer", setting, tmp_path / "a", report_to=BOTH, logging_steps=1)
    assert run(replace(job, patches=["killed_in_the_second_step"])) == -signal.SIGKILL
    folder = job.folder / "out" / "r"
    before = (folder / "wandb_run_id").read_text()
    other = training("trainer", setting, tmp_path / "a", report_to=BOTH, logging_steps=1, learning_rate="2e-3")
    assert run(other) == 0, other.log.read_text()
    after = (folder / "wandb_run_id").read_text()
    assert after != before
    (line,) = [line for line in other.log.read_text().splitlines() if "wandb sync" in line]
    assert after.strip() in line and before.strip() not in line


@pytest.mark.slow
def test_the_quickstart(tmp_path) -> None:
    """The data, sizes and options of configs/quickstart.yaml, with both trackers."""
    places = {"output_dir": tmp_path, "prepared_dir": tmp_path / "prepared", "cache_dir": tmp_path / "cache"}
    arguments = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--report_to", "wandb", "tensorboard"]
    metrics = train_classifier.main([*arguments, *command_line({}, **places, use_cpu="true")])
    steps, epochs = metrics["train"]["steps"], 4
    assert steps > 20 and steps % epochs == 0
    ends = [steps // epochs * epoch for epoch in range(1, epochs + 1)]
    folder = tmp_path / "quickstart-seed42"
    assert_curves(folder, steps, 10, ends, "macro_f1")
    assert len(tensorboard_curves(folder)["train/loss"]) == math.ceil(steps / 10)
