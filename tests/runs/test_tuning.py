"""Options chosen by trials: spaces, budgets, kills, several processes, pruning, and what is said of it."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import train_classifier
from opinionlm.config.config import Config
from opinionlm.config.parser import parse_config
from opinionlm.data.prepared import load_prepared
from opinionlm.errors import UserError
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.runs import tuning, tuning_trials
from opinionlm.runs.lock import locked
from opinionlm.runs.processes import FreshProcess
from opinionlm.runs.tuning import tune
from opinionlm.runs.tuning_report import Trial, Tuned, expected_best, tuning_lines
from opinionlm.runs.tuning_spaces import PRESETS, Range, Tuning, edges, preset_of, read_tuning, space_of
from opinionlm.runs.tuning_trials import Trainings
from tests.classifier_runs import command_line, write_setting
from tests.conftest import REPOSITORY
from tests.experiments.run_folders import write_run
from tests.task_data import write_prepared

SPACE = {"learning_rate": Range(1e-6, 1e-1, log=True), "classifier_dropout": Range(0.0, 0.5)}
SPACE |= {"warmup_steps": (0.0, 0.1)}
# A training that notes its start, takes a while, and scores a rate of 1e-3 best; its evaluations are in checkpoints.
STUB = """
import json, math, os, sys, time, yaml
options = yaml.safe_load(open(sys.argv[1]))
folder = os.path.join(options["output_dir"], options["run_name"])
with open(os.path.join(options["output_dir"], "starts.log"), "a") as file:
    file.write(json.dumps([options["run_name"], options.get("learning_rate"), options["dataset"]]) + "\\n")
rate = float(options.get("learning_rate", 5e-5))
score = 1 / (1 + abs(math.log10(rate) + 3)) - options.get("classifier_dropout", 0.1) / 10
if rate > float(os.environ.get("STUB_FAILS_ABOVE", "1")):
    sys.exit("error: the loss is no number")
history = []
for epoch in range(1, 4):
    time.sleep(float(os.environ.get("STUB_SECONDS", "0.02")))
    history.append({"step": epoch, "eval_loss": 1.0, "eval_macro_f1": score * epoch / 3})
    checkpoint = os.path.join(folder, "checkpoints", f"checkpoint-{epoch}")
    os.makedirs(checkpoint, exist_ok=True)
    json.dump({"log_history": history}, open(os.path.join(checkpoint, "trainer_state.json"), "w"))
    open(os.path.join(checkpoint, "manifest.json"), "w").write("{}")
json.dump(history, open(os.path.join(folder, "history.json"), "w"))
json.dump({"validation": {"macro_f1": score}}, open(os.path.join(folder, "metrics.json"), "w"))
"""


@pytest.fixture
def row(tmp_path, monkeypatch) -> Config:
    """A run over a small data set, whose trials are the stub's."""
    (tmp_path / "stub.py").write_text(STUB)
    write_prepared(tmp_path / "data", "sequence")

    class Stub(FreshProcess):
        def __init__(self, arguments, environment, output) -> None:
            command = [sys.executable, str(tmp_path / "stub.py"), arguments[-1]]
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment))

    monkeypatch.setattr(tuning_trials, "FreshProcess", Stub)
    monkeypatch.setattr(tuning_trials, "POLL", 0.01)
    monkeypatch.setattr(tuning, "POLL", 0.05)
    monkeypatch.setattr(tuning, "HEARTBEAT", 1)
    monkeypatch.setattr(tuning, "GRACE", 3)
    return parse_config(["--dataset", str(tmp_path / "data"), "--report_to", "none"], "")


def fresh() -> Trainings:
    return Trainings(dict(os.environ), forks=False)


def outcome(tuned: Tuned) -> list[tuple]:
    return [(trial.number, dict(trial.values), trial.state, trial.score) for trial in tuned.trials]


def starts(folder: Path) -> list[str]:
    path = folder / "starts.log"
    return path.read_text().splitlines() if path.is_file() else []


@pytest.mark.slow
def test_a_killed_study_goes_on_as_one_that_was_not(row, tmp_path, monkeypatch) -> None:
    asked = Tuning(7, SPACE, {})
    whole = tune(row, asked, "mine", tmp_path / "whole", fresh())
    assert [trial.number for trial in whole.trials] == list(range(7)) and len(starts(tmp_path / "whole")) == 7
    monkeypatch.setenv("STUB_SECONDS", "0.2")
    process = multiprocessing.get_context("fork").Process(
        target=tune, args=(row, asked, "mine", tmp_path / "broken", fresh())
    )
    process.start()
    deadline = time.monotonic() + 60
    while len(starts(tmp_path / "broken")) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    monkeypatch.setenv("STUB_SECONDS", "0.02")
    assert outcome(tune(row, asked, "mine", tmp_path / "broken", fresh())) == outcome(whole)
    # Given once more it has nothing to do; and values spread: no two slots draw alike.
    done = len(starts(tmp_path / "broken"))
    assert outcome(tune(row, asked, "mine", tmp_path / "broken", fresh())) == outcome(whole)
    assert len(starts(tmp_path / "broken")) == done == 8
    assert len({trial.values["learning_rate"] for trial in whole.trials}) == 7
    with pytest.raises(UserError, match="its study was made with other trials; delete the folder"):
        tune(row, Tuning(8, SPACE, {}), "mine", tmp_path / "whole", fresh())


def test_a_study_belongs_to_the_files_that_its_trials_read(row, tmp_path) -> None:
    row.robust.soft_labels = str(tmp_path / "soft.csv")
    (tmp_path / "soft.csv").write_text("id,probability_a\n")
    asked = Tuning(1, SPACE, {})
    tune(row, asked, "mine", tmp_path / "study", fresh())
    (tmp_path / "soft.csv").write_text("id,probability_b\n")
    with pytest.raises(UserError, match="its study was made with other files; delete the folder"):
        tune(row, asked, "mine", tmp_path / "study", fresh())
    # A study that is done needs them no more.
    (tmp_path / "soft.csv").unlink()
    assert len(tune(row, asked, "mine", tmp_path / "study", fresh()).trials) == 1


@pytest.mark.slow
def test_two_processes_share_a_study_and_no_trial_runs_twice(row, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STUB_SECONDS", "0.05")
    monkeypatch.setattr(tuning, "GRACE", 20)
    asked, fork = Tuning(8, SPACE, {}), multiprocessing.get_context("fork")
    processes = [fork.Process(target=tune, args=(row, asked, "mine", tmp_path / "shared", fresh())) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    lines = starts(tmp_path / "shared")
    assert len(lines) == len(set(lines)) == 8
    tuned = tune(row, asked, "mine", tmp_path / "shared", fresh())
    assert len(starts(tmp_path / "shared")) == 8 and len({t.values["learning_rate"] for t in tuned.trials}) == 8


@pytest.mark.slow
def test_no_trial_is_taken_twice_however_many_take_at_once(row, tmp_path, monkeypatch) -> None:
    """Without a lock 11 of 60 trials went to two of 4 processes in SQLite (2026-11-30)."""
    fork = multiprocessing.get_context("fork")
    # Everyone has taken one before anyone takes the next.
    together = fork.Barrier(4)

    def note_trial(trial, row, trainings) -> None:
        with open(row.folder / "taken.log", "a") as file:
            file.write(f"{trial.user_attrs['slot']}\n")
        with suppress(threading.BrokenBarrierError):
            together.wait(20)
        if trial.user_attrs["slot"] >= row.tuning.trials - 4:
            # None of these trials ends, so that the study would be waited for.
            os._exit(0)

    monkeypatch.setattr(tuning, "run_trial", note_trial)
    arguments = (row, Tuning(32, SPACE, {}), "mine", tmp_path / "study", fresh())
    processes = [fork.Process(target=tune, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(map(int, (tmp_path / "study" / "taken.log").read_text().split())) == list(range(32))


@pytest.mark.slow
def test_what_lies_below_the_median_is_given_up_and_what_fails_counts(row, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STUB_FAILS_ABOVE", "2e-2")
    tuned = tune(row, Tuning(14, SPACE, {}), "mine", tmp_path / "study", fresh())
    states = [trial.state for trial in tuned.trials]
    assert len(states) == 14 and {"complete", "pruned", "failed"} == set(states)
    # Whatever became of a trial, no weights of it stay.
    assert not list((tmp_path / "study").glob("trial*/checkpoints")) and list((tmp_path / "study").glob("trial*.log"))
    for trial in tuned.trials:
        assert (trial.state == "failed") == (trial.values["learning_rate"] > 2e-2) == (trial.score is None)
    assert tuned.best.score == max(trial.score for trial in tuned.trials if trial.state == "complete")
    text = "\n".join(tuning_lines({"mine": tuned}))
    assert f"| mine | 14 | {states.count('pruned')} | {states.count('failed')} |" in text
    monkeypatch.setenv("STUB_FAILS_ABOVE", "0")
    with pytest.raises(UserError, match="every trial failed; the last: exit code 1: error: the loss is no number"):
        tune(row, Tuning(2, SPACE, {}), "none", tmp_path / "failing", fresh())


def test_trials_hold_no_test_row_and_equal_values_run_once(row, tmp_path) -> None:
    tuned = tune(
        row, Tuning(6, {"warmup_steps": (0.0, 0.1)}, {"max_train_samples": 8}), "mine", tmp_path / "study", fresh()
    )
    assert len(tuned.trials) == 6 and len(starts(tmp_path / "study")) <= 2
    assert tuned.best.seconds > 0
    (data,) = (tmp_path / "study" / "data").iterdir()
    cut, whole = load_prepared(data), load_prepared(tmp_path / "data")
    assert cut.dataset["test"]["id"] == cut.dataset["validation"]["id"] == whole.dataset["validation"]["id"]
    assert not {row_id for split in cut.dataset.values() for row_id in split["id"]} & set(whole.dataset["test"]["id"])
    assert all(f'"{data}"' in line for line in starts(tmp_path / "study"))
    assert "max_train_samples: 8" in (tmp_path / "study" / "trial00.yaml").read_text()


@pytest.mark.slow
def test_a_study_that_is_told_to_stop_ends_its_trial_and_goes_on_later(row, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("STUB_SECONDS", "600")
    trainings, asked, stopped_after = fresh(), Tuning(3, SPACE, {}), 2.0
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(tune, row, asked, "mine", tmp_path / "study", trainings)
        deadline = time.monotonic() + 60
        while not starts(tmp_path / "study") and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(stopped_after)
        trainings.stopped.set()
        assert isinstance(future.exception(timeout=60), UserError)
    monkeypatch.setenv("STUB_SECONDS", "0.02")
    tuned = tune(row, asked, "mine", tmp_path / "study", fresh())
    assert [trial.state for trial in tuned.trials] == ["complete"] * 3
    rates = [float(line.split(", ")[1]) for line in starts(tmp_path / "study")]
    assert len(rates) == 4 and rates[0] == rates[1] == tuned.trials[0].values["learning_rate"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tuning")]
    begun, ended = [line for line in lines if line.endswith(".log)")], [line for line in lines if " after " in line]
    assert len(begun) == 4 and begun[3].startswith("tuning  study: trial02 of 3, learning_rate ")
    assert len(ended) == 3 and ended[2].endswith(f" s, best {tuned.best.score:.3f}")
    assert lines[0].startswith("tuning  study: 3 trials of learning_rate, classifier_dropout, warmup_steps, in ")
    # The attempt that was stopped counts.
    assert tuned.trials[0].seconds > stopped_after > tuned.trials[1].seconds


def test_another_study_in_a_database_wants_another_run_name(row, tmp_path) -> None:
    """It is found by its name there, whatever the folder: another output_dir met the same refusal."""
    space, storage = {"warmup_steps": (0.0,)}, f"sqlite:///{tmp_path / 'shared.db'}"
    tune(row, Tuning(1, space, {}, storage), "mine", tmp_path / "one", fresh())
    message = "delete the folder and the study 'mine' of the database, or give another run_name"
    with pytest.raises(UserError, match=f"its study was made with other trials; {message}"):
        tune(row, Tuning(2, space, {}, storage), "mine", tmp_path / "two", fresh())


def test_libraries_are_loaded_before_the_first_trial_and_for_no_study_that_is_done(row, tmp_path, monkeypatch) -> None:
    """The first trial's seconds had the start of the server that forks all of them: 49 beside 7 (2026-11-30)."""
    events = []

    def note_trial(*arguments) -> None:
        events.append("trial")
        tuning_trials.run_trial(*arguments)

    monkeypatch.setattr(tuning_trials, "ConsoleProcess", tuning_trials.FreshProcess)
    monkeypatch.setattr(tuning_trials, "load_libraries", lambda environment: events.append("loaded"))
    monkeypatch.setattr(tuning, "run_trial", note_trial)
    asked = Tuning(2, {"warmup_steps": (0.0, 0.1)}, {})
    for _ in range(2):
        tune(row, asked, "mine", tmp_path / "study", Trainings(dict(os.environ), forks=True))
        assert events == ["loaded", "trial", "trial"]


def test_dashboards_leave_trials_out(row, tmp_path) -> None:
    tune(row, Tuning(2, {"warmup_steps": (0.0, 0.1)}, {}), "mine", tmp_path / "out" / "r-tuning", fresh())
    assert list((tmp_path / "out" / "r-tuning").glob("trial*/metrics.json"))
    with pytest.raises(UserError, match="holds no run folder"):
        collect(tmp_path / "out")
    finished = write_run(tmp_path / "out" / "r")
    assert [run.name for run in collect(tmp_path / "out").runs] == [finished.name]


def test_expected_best_is_the_mean_over_all_choices() -> None:
    scores = [0.3, 0.7, 0.1, 0.7, 0.5]
    for number in range(1, 6):
        every = [max(chosen) for chosen in itertools.combinations(scores, number)]
        assert expected_best(scores, number) == pytest.approx(np.mean(every))
    lower = Tuned(SPACE, "loss", False, tuple(Trial(i, {}, "complete", s, 1.0) for i, s in enumerate(scores)))
    assert lower.best.score == 0.1 and lower.expected_best(5) == pytest.approx(0.1)
    assert lower.expected_best(1) == pytest.approx(np.mean(scores)) and lower.expected_best(6) is None


def test_the_end_of_a_range_is_named() -> None:
    chosen = {"learning_rate": 9e-2, "classifier_dropout": 0.2, "warmup_steps": 0.0}
    assert edges(SPACE, chosen) == ["learning_rate 0.09 is at the upper end of its range (0.1)"]
    assert edges(SPACE, chosen | {"learning_rate": 1e-3, "classifier_dropout": 0.01}) == [
        "classifier_dropout 0.01 is at the lower end of its range (0)"
    ]


def test_every_method_has_a_preset_that_its_runs_take() -> None:
    expected = {"full": "full", "top_blocks": "top_blocks", "dora": "lora", "head_only": "head_only"}
    expected |= {"prefix": "prompts"}
    for adaptation, preset in expected.items():
        config = parse_config(["--adaptation", adaptation], "")
        assert preset_of(config) == preset
        space = space_of(Tuning(2, "auto", {}), config)
        assert "learning_rate" in space and space.keys() <= PRESETS[preset].keys()
    assert "lora_r" not in space_of(Tuning(2, "auto", {}), parse_config(["--adaptation", "ia3"], ""))
    words = parse_config(["--engine", "tfidf"], "")
    assert space_of(Tuning(2, "auto", {}), words) == PRESETS["tfidf"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "the key 'trials' is missing"),
        ({"trials": 0}, "tune.trials: 0 must be at least 1"),
        ({"trials": 2, "seed": -1}, "tune.seed: -1 must be from 0 to 4,294,967,295"),
        ({"trials": 2, "budget": 1}, "unknown key 'budget'"),
        ({"trials": 2, "space": "loar"}, "tune.space: unknown preset 'loar', did you mean 'lora'"),
        ({"trials": 2, "space": {"learning_rat": [1]}}, "tune.space.learning_rat: unknown option"),
        ({"trials": 2, "space": {"learning_rate": {"low": 1, "high": 1}}}, "1.0 to 1.0 must be a range that rises"),
        ({"trials": 2, "space": {"learning_rate": {"low": 0, "high": 1, "log": True}}}, "rises from above 0"),
        (
            {"trials": 2, "space": {"adaptation": {"low": 1, "high": 2}}},
            "adaptation: expected a list of values, as in [one, other]; only numbers have ranges",
        ),
        ({"trials": 2, "space": {"learning_rate": 1.0}}, "as in [one, other], or a range, as in {low: 1, high: 2}"),
        ({"trials": 2, "space": {"ema_decay": {"low": None, "high": 0.9}}}, "the key 'low' is missing"),
        ({"trials": 2, "space": {"max_eval_samples": [9, 99]}}, "max_eval_samples: is not to be tuned, as it changes"),
        ({"trials": 2, "space": {"seed": [1, 2]}}, "seed: is not to be tuned"),
        ({"trials": 2, "options": {"seed": 1}}, "tune.options: seed: is set by the trials themselves"),
    ],
)
def test_what_cannot_be_asked_for_is_named(raw, message) -> None:
    with pytest.raises(UserError) as caught:
        read_tuning(raw, "mine.yaml: tune")
    assert message in str(caught.value) and str(caught.value).startswith("mine.yaml: tune")


def test_a_value_that_a_run_refuses_is_named() -> None:
    asked = read_tuning({"trials": 2, "space": {"learning_rate": [-1.0]}}, "tune")
    with pytest.raises(UserError, match=r"tune.space.learning_rate: -1.0 must be positive"):
        space_of(asked, parse_config([], ""))


@pytest.mark.slow
def test_a_trial_may_be_stopped_often_and_a_study_while_it_waits(row, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STUB_SECONDS", "600")
    for attempt in range(tuning_trials.RETRIES + 2):
        trainings = fresh()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(tune, row, Tuning(1, SPACE, {}), "mine", tmp_path / "study", trainings)
            deadline = time.monotonic() + 60
            while len(starts(tmp_path / "study")) <= attempt and time.monotonic() < deadline:
                time.sleep(0.02)
            trainings.stopped.set()
            assert isinstance(future.exception(timeout=60), UserError)
    # A training that outlived its study holds its folder; a signal ends the wait for it.
    trainings = fresh()
    with locked(tmp_path / "study" / "trial00"), ThreadPoolExecutor(1) as pool:
        future = pool.submit(tune, row, Tuning(1, SPACE, {}), "mine", tmp_path / "study", trainings)
        time.sleep(1)
        assert not future.done()
        trainings.stopped.set()
        assert isinstance(future.exception(timeout=60), UserError)
    monkeypatch.setenv("STUB_SECONDS", "0.02")
    (trial,) = tune(row, Tuning(1, SPACE, {}), "mine", tmp_path / "study", fresh()).trials
    assert trial.state == "complete"


@pytest.mark.slow
def test_a_run_that_asks_for_it_trains_with_the_best_values(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(tuning_trials, "POLL", 0.05)
    setting = write_setting(tmp_path) | {"output_dir": str(tmp_path / "out"), "run_name": "mine"}
    # What trials choose is not given beside it.
    del setting["learning_rate"]
    space = "{trials: 2, space: {learning_rate: [1.0e-6, 3.0e-3]}, options: {num_train_epochs: 1}}"
    metrics = train_classifier.main(command_line(setting, tune=space))
    assert metrics is not None and "3.00e-03" not in capsys.readouterr().err
    kept = (tmp_path / "out" / "mine" / "config.yaml").read_text()
    assert "learning_rate: 0.003" in kept and "num_train_epochs: 2.0" in kept
    assert "learning_rate 0.003" in (tmp_path / "out" / "mine-tuning" / "tuning.md").read_text()
    # What comes to the run while the same command trains leaves it alone; another command is refused.
    (tmp_path / "out" / "mine" / "metrics.json").unlink()
    with locked(tmp_path / "out" / "mine"):
        assert train_classifier.main(command_line(setting, tune=space)) is None
        assert "the other process trains with the best values" in capsys.readouterr().out
        assert run_in_another_process(command_line(setting, tune=space), tmp_path / "log") == 2
    assert "is written by process" in (tmp_path / "log").read_text()


def run_in_another_process(arguments: list[str], log: Path) -> int:
    with open(log, "wb") as file:
        command = [sys.executable, "train_classifier.py", *arguments]
        return subprocess.run(command, stdout=file, stderr=file, cwd=REPOSITORY).returncode
