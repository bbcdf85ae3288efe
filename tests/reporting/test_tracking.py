"""Tracking: what W&B and TensorBoard hold afterwards, and that no failure of theirs reaches the run."""

import importlib.util
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import wandb
from datasets import DatasetDict

from opinionlm.config.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.evaluation.class_predictions import SplitPredictions, confident_mistakes, per_class_table
from opinionlm.reporting.tracking import wandb as tracking_wandb
from opinionlm.reporting.tracking.base import Trackers
from opinionlm.reporting.tracking.open import TrackingCallback, open_tracking
from opinionlm.training.callbacks import TrainingClock
from opinionlm.utils.markdown import markdown
from tests.wandb_records import records

LABELS = ["noise", "buy", "sell"]
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "scale.png"
ENVIRONMENT = {"python": "3.11", "packages": {"torch": "2.13.0"}, "git_commit": None}


def predictions() -> SplitPredictions:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]])
    return SplitPredictions(LABELS, ["spam", "buy | now", "dump\nit", "hm"], np.array([0, 1, 2, 2]), probabilities)


def config(folder: Path, *report_to: str) -> Config:
    config = Config()
    config.training.run_name = folder.name
    config.training.output_dir = str(folder.parent)
    config.tracking.report_to = list(report_to or ["wandb"])
    config.tracking.wandb_group, config.tracking.wandb_tags = "table-1", ["gemma", "top1"]
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run-seed1"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    with suppress(ConnectionResetError):  # one test kills W&B's process
        wandb.teardown()


class State:
    global_step = 0

    def __init__(self) -> None:
        self.log_history = []


def log_a_run(tracker) -> None:
    """What Trainer and the training script log in a run of two epochs."""
    callback, state = TrackingCallback(tracker, TrainingClock()), State()
    for step, logs in (
        (10, {"loss": 1.5, "learning_rate": 5e-5, "grad_norm": 1.0, "epoch": 0.5, "train_runtime": 3.0}),
        (20, {"eval_macro_f1": 0.25, "eval_loss": 1.4, "epoch": 1.0}),
        (30, {"loss": float("nan"), "learning_rate": 3e-5, "epoch": 1.5}),
        (40, {"eval_macro_f1": 0.5, "eval_loss": 1.2, "epoch": 2.0}),
        (40, {"train_runtime": 12.0, "train_loss": 1.3, "epoch": 2.0}),
    ):
        state.global_step = step
        callback.on_log(None, state, None, logs)
    tracker.summarise({"test": {"macro_f1": 0.45}, "model": {"total_parameters": 100, "trainable_parameters": 10}})
    tracker.log_predictions("test", predictions(), {"confusion": PICTURE})
    tracker.finish()


def offline_records(folder: Path) -> dict[str, list[dict]]:
    """The records of the newest offline file, by type."""
    file = max(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, list[dict]] = {}
    for record in records(file):
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def test_offline_file_holds_the_whole_run(folder, capfd):
    log_a_run(open_tracking(config(folder), folder, ENVIRONMENT))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("W&B: offline (") and "wandb sync " in err
    assert Path(err.split("wandb sync ")[1].strip()).is_dir()

    written = offline_records(folder)
    run = written["run"][0]
    assert run["run_id"] == (folder / "wandb_run_id").read_text().strip()
    assert (run["project"], run["run_group"], run["tags"]) == ("opinionlm", "table-1", ["gemma", "top1"])
    assert run["display_name"] == "run-seed1"
    update = run["config"]["update"]
    assert update["learning_rate"] == 5e-5 and update["wandb_tags"] == ["gemma", "top1"]
    assert update["environment"]["packages"]["torch"] == "2.13.0"

    history = [item["item"] for item in written["history"]]
    curve = {row["step"]: row["validation/macro_f1"] for row in history if "validation/macro_f1" in row}
    assert curve == {20: 0.25, 40: 0.5}
    assert [row["train/loss"] for row in history if "train/loss" in row] == [1.5]
    assert [row["train/learning_rate"] for row in history if "train/learning_rate" in row] == [5e-5, 3e-5]

    summary = {key: value for item in written["summary"] for key, value in item["update"].items()}
    assert summary["test/macro_f1"] == 0.45 and summary["train_runtime"] == 12
    assert summary["model/trainable_parameters"] == 10 and summary["model/total_parameters"] == 100

    files = next(folder.glob("wandb/offline-run-*/files"))
    tables = {path.name.split("_table_")[0].rsplit("_", 2)[0]: path for path in files.rglob("*.table.json")}
    content = [json.loads(path.read_text()) for path in tables.values()]
    mistakes = next(table for table in content if "confidence" in table["columns"])
    assert mistakes["data"] == [["dump\nit", "sell", "buy", 0.8], ["hm", "sell", "noise", 0.5]]
    per_class = next(table for table in content if "recall" in table["columns"])
    assert per_class["data"][1] == ["buy", 0.5, 1.0, pytest.approx(2 / 3), 1]
    confusion = next(table for table in content if "nPredictions" in table["columns"])
    assert ["sell", "buy", 1] in confusion["data"]
    assert list(files.rglob("*confusion_figure*.png"))
    visualised = [key for item in written["config"] for key in item["update"]]
    assert "_wandb.visualize.test/confusion" in visualised


@pytest.mark.parametrize("kind", ["references", "files", "none"])
def test_data_and_model_are_artifacts_with_their_lineage(folder, kind, tmp_path, capfd):
    data, best = tmp_path / "prepared", folder / "best"
    for path in (data, best):
        path.mkdir()
        (path / "content.txt").write_text(path.name)
    options = config(folder)
    options.tracking.wandb_artifacts = kind
    prepared = PreparedDataset(DatasetDict(), None, "posts & more", "f1" * 32, data, "sequence", (), None)
    with open_tracking(options, folder, ENVIRONMENT) as tracker:
        tracker.begin([])
        capfd.readouterr()
        tracker.log_artifacts(prepared, best)
        assert capfd.readouterr() == ("", "")
    artifacts = {item["name"]: item for item in offline_records(folder).get("artifact", [])}
    if kind == "none":
        assert not artifacts
        return
    assert set(artifacts) == {"data-posts___more", "model-run-seed1"}
    logged, model = artifacts["data-posts___more"], artifacts["model-run-seed1"]
    assert (logged["type"], model["type"], sorted(model["aliases"])) == ("dataset", "model", ["best", "latest"])
    assert json.loads(logged["metadata"]) == {"fingerprint": "f1" * 32, "task": "sequence"}
    lineage = json.loads(model["metadata"])
    assert lineage["data"] == "data-posts___more" and lineage["data_fingerprint"] == "f1" * 32
    (content,) = model["manifest"]["contents"]
    assert content["path"] == "content.txt" and (kind == "files") == (not content.get("ref"))


def test_a_resumed_run_keeps_its_id(folder):
    for _ in range(2):
        open_tracking(config(folder), folder, ENVIRONMENT).finish()
    runs = list(folder.glob("wandb/offline-run-*"))
    identity = (folder / "wandb_run_id").read_text().strip()
    assert runs and all(identity in run.name for run in runs)


def test_online_without_a_key_is_offline(folder, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "online")
    open_tracking(config(folder), folder, ENVIRONMENT).finish()
    assert "W&B: offline (no API key is configured)" in capfd.readouterr().err


def test_an_unreachable_server_falls_back_quickly(folder, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    start = time.monotonic()
    log_a_run(open_tracking(config(folder), folder, ENVIRONMENT))
    assert time.monotonic() - start < 20
    out, err = capfd.readouterr()
    assert out == "" and "W&B: offline (the server cannot be used: CommError" in err
    assert [record["exit_code"] for record in offline_records(folder)["exit"]] == [0]


def test_disabled_means_no_tracking(folder, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_a_run(open_tracking(config(folder), folder, ENVIRONMENT))
    assert list(folder.iterdir()) == [] and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [RuntimeError("boom\nand more"), OSError(28, "No space left on device")])
def test_an_exception_in_wandb_never_propagates(folder, monkeypatch, capfd, error):
    tracker = open_tracking(config(folder), folder, ENVIRONMENT)
    tracker.begin([])
    capfd.readouterr()

    def explode(*args, **kwargs):
        raise error

    monkeypatch.setattr(wandb.Run, "log", explode)
    log_a_run(tracker)
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "W&B: tracking stops here, the run goes on" in err


def test_wandb_init_that_always_fails_leaves_no_tracking(folder, monkeypatch, capfd):
    def explode(**kwargs):
        raise wandb.errors.UsageError("no")

    monkeypatch.setattr(wandb, "init", explode)
    log_a_run(open_tracking(config(folder), folder, ENVIRONMENT))
    assert capfd.readouterr() == ("", "W&B: no tracking, the run goes on (UsageError: no)\n")


def test_the_death_of_wandbs_process_does_not_stop_the_run(folder, capfd):
    tracker = open_tracking(config(folder), folder, ENVIRONMENT)
    tracker.begin([])
    for child in psutil.Process().children():
        if "wandb-core" in child.name():
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
    log_a_run(tracker)
    assert capfd.readouterr().err.count("tracking stops here") == 1


def test_uploads_that_never_end_are_left_to_wandb_sync(folder, monkeypatch, capfd):
    tracker = open_tracking(config(folder), folder, ENVIRONMENT)
    tracker.begin([])
    finish = wandb.Run.finish

    def too_slow(run, exit_code=None):
        finish(run, exit_code)
        raise TimeoutError

    monkeypatch.setattr(wandb.Run, "finish", too_slow)
    tracker.finish()
    assert "W&B: not everything is uploaded after 60 s; upload the rest with: wandb sync" in capfd.readouterr().err


def test_leaving_by_an_exception_marks_the_run_failed(folder):
    with pytest.raises(KeyError), open_tracking(config(folder), folder, ENVIRONMENT):
        raise KeyError
    assert [record["exit_code"] for record in offline_records(folder)["exit"]] == [1]


def test_tensorboard(folder, capfd):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_a_run(open_tracking(config(folder, "tensorboard"), folder, ENVIRONMENT))
    assert capfd.readouterr().out == ""
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert [(event.step, event.value) for event in events.Scalars("validation/macro_f1")] == [(20, 0.25), (40, 0.5)]
    assert events.Scalars("test/macro_f1")[0].value == pytest.approx(0.45)
    assert "test/confusion" in tags["images"]
    assert {"config/text_summary", "environment/text_summary", "test/per_class/text_summary"} <= set(tags["tensors"])


def test_tensorboard_that_is_not_installed_is_said_before_training(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="report_to: tensorboard is not installed"):
        open_tracking(config(folder, "tensorboard"), folder, ENVIRONMENT)


def test_none_writes_nothing(folder):
    log_a_run(open_tracking(config(folder, "none"), folder, ENVIRONMENT))
    assert list(folder.iterdir()) == []


def test_tables():
    assert per_class_table(predictions()).rows[2] == ["sell", 0.0, 0.0, 0.0, 2]
    assert len(confident_mistakes(predictions(), limit=1).rows) == 1
    assert markdown(confident_mistakes(predictions(), limit=1)).splitlines()[2] == "| dump it | sell | buy | 0.800 |"


def test_of_two_trackers_the_one_that_works_goes_on(folder, monkeypatch, capfd) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = open_tracking(config(folder, "wandb", "tensorboard"), folder, ENVIRONMENT)
    tracker.begin([])
    capfd.readouterr()

    def explode(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb.Run, "log", explode)
    log_a_run(tracker)
    assert capfd.readouterr().err.count("W&B: tracking stops here, the run goes on") == 1
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("validation/macro_f1")] == [20, 40]
    assert events.Scalars("model/total_parameters")[0].value == 100


def test_a_tracker_that_cannot_start_leaves_the_other(folder, monkeypatch, capfd) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (folder / "tensorboard").write_text("in the way")
    log_a_run(open_tracking(config(folder, "wandb", "tensorboard"), folder, ENVIRONMENT))
    assert capfd.readouterr().err.count("TensorBoard: no tracking, the run goes on (") == 1
    (folder / "tensorboard").unlink()
    log_a_run(open_tracking(config(folder, "wandb", "tensorboard"), folder, ENVIRONMENT))
    assert not (folder / "wandb").exists() and len(list((folder / "tensorboard").iterdir())) == 1


def test_wandb_opens_after_the_first_step_and_off_the_clock(folder, monkeypatch) -> None:
    """Nothing of it stands before the first step; opening it is no time of training, and happens once."""
    opened = []

    def start(*_):
        opened.append(time.sleep(0.3))

    monkeypatch.setattr(tracking_wandb, "start_wandb", start)
    clock = TrainingClock()
    callback, state = TrackingCallback(open_tracking(config(folder), folder, ENVIRONMENT), clock), State()
    callback.on_train_begin(None, state, None)
    assert not opened
    for step in (1, 2):
        state.global_step = step
        callback.on_step_end(None, state, None)
        callback.on_log(None, state, None, {"loss": 1.5})
    assert len(opened) == 1 and clock.seconds < 0.2


@pytest.mark.parametrize("event", ["on_step_end", "on_log", "on_train_end"])
def test_what_was_logged_before_is_told_once_and_first(folder, event) -> None:
    """Whichever comes first: a step, a log before any step, or the end of a run without a step left."""
    told = []

    class Listener(Trackers):
        def begin(self, history):
            told.append(list(history))

        def log(self, metrics, step):
            told.append(step)

    callback, state = TrackingCallback(Listener({}), TrainingClock()), State()
    state.log_history = [{"loss": 1.0, "step": 1}]
    callback.on_train_begin(None, state, None)
    state.log_history.append({"loss": 0.5, "step": 2})
    getattr(callback, event)(None, state, None)
    callback.on_log(None, state, None, {"loss": 0.5})
    assert told == [[(1, {"train/loss": 1.0})], 0]


def test_wandb_that_is_not_installed_is_said_before_training(folder, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="report_to: wandb is not installed"):
        open_tracking(config(folder), folder, ENVIRONMENT)


def test_a_resumed_run_gets_what_is_missing_and_nothing_twice(folder, capfd) -> None:
    """The first part logged steps 1 to 3, lost an evaluation, and left a checkpoint of step 2."""
    options = config(folder, "wandb", "tensorboard")
    first = open_tracking(options, folder, ENVIRONMENT)
    first.begin([])
    for step in (1, 2, 3):
        first.log({"train/loss": step / 8}, step)
    first.finish(failed=True)
    second = open_tracking(options, folder, ENVIRONMENT)
    second.begin([(1, {"train/loss": 1 / 8}), (2, {"train/loss": 2 / 8, "validation/loss": 0.5})])
    for step in (3, 4):
        second.log({"train/loss": step / 8}, step)
    second.finish()
    parts = sorted(folder.glob("wandb/offline-run-*"))
    assert len(parts) == 2
    line = [line for line in capfd.readouterr().err.splitlines() if "wandb sync" in line][-1]
    assert line.endswith(f"wandb sync {parts[0]} {parts[1]}")
    history = [item["item"] for item in offline_records(folder)["history"]]
    points = [(row["step"], row.get("train/loss"), row.get("validation/loss")) for row in history]
    assert points == [(2, None, 0.5), (4, 0.5, None)]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(n, n / 8) for n in (1, 2, 3, 4)]


def test_guard_reports_once(capfd):
    class Broken(Trackers):
        def log(self, metrics, step):
            raise ValueError("broken")

    tracker = Trackers({"X": lambda: Broken({})})
    for step in range(3):
        tracker.log({"a": 1.0}, step)
    assert capfd.readouterr().err == "X: tracking stops here, the run goes on (ValueError: broken)\n"
