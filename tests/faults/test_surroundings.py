"""A full disk, a place that cannot be written, dying workers, lost tracking: one line, or none at all."""

from __future__ import annotations

import csv
import dataclasses

import pytest

from tests.faults.children import Job, run
from tests.faults.runs import assert_same, results, training

slow = pytest.mark.slow


def error_line(job: Job) -> str:
    """The last line of a job that was refused; there is no traceback."""
    said = job.log.read_text()
    assert "Traceback" not in said, said[-3000:]
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: "), said[-3000:]
    return last


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        pytest.param("loop", "files_of_at_most_300_kb", marks=slow),
        pytest.param("trainer", "files_of_at_most_300_kb", marks=slow),
        pytest.param("trainer", "files_of_at_most_800_kb", marks=slow),
    ],
)
def test_a_full_disk_while_training(case, fault, setting, tmp_path) -> None:
    options = {"adaptation": "full", "cache_frozen": "off"}
    whole = training(case, setting, tmp_path / "whole", **options)
    assert run(whole) == 0
    job = training(case, setting, tmp_path / "full", **options)
    assert run(dataclasses.replace(job, patches=[fault])) == 2
    line = error_line(job)
    assert "the checkpoint cannot be written" in line and "then the same command goes on" in line
    assert run(job) == 0, job.log.read_text()
    assert_same(results(job.folder), results(whole.folder))


def test_a_full_disk_while_preprocessing(setting, tmp_path) -> None:
    arguments = ["--config", setting["dataset"], "--data_dir", setting["data_dir"]]
    arguments += ["--output_dir", str(tmp_path / "out" / "data")]
    job = Job("preprocess", arguments, tmp_path / "out", tmp_path / "log", ["files_of_at_most_4_kb"])
    assert run(job) == 2
    line = error_line(job)
    assert "output_dir: " in line and "File too large" in line
    assert not list((tmp_path / "out").iterdir())


@slow
def test_a_full_disk_while_predicting(setting, tmp_path) -> None:
    model = tmp_path / "train"
    assert run(training("loop", setting, model, num_train_epochs=1)) == 0
    with open(tmp_path / "posts.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text"], *([f"the price fell again {row}"] for row in range(100))])
    command = ["--model", str(model / "out" / "r" / "best"), "--input", str(tmp_path / "posts.csv"), "--window", "16"]
    command += ["--output", str(tmp_path / "labels.csv"), "--device", "cpu"]
    job = Job("predict", command, tmp_path, tmp_path / "predict.log", ["files_of_at_most_4_kb"])
    assert run(job) == 2
    line = error_line(job)
    assert "make room and give the same command again" in line and " rows are safe" in line
    assert run(dataclasses.replace(job, patches=[])) == 0
    with open(tmp_path / "labels.csv", newline="") as file:
        assert [row["text"].split()[-1] for row in csv.DictReader(file)] == [str(row) for row in range(100)]


def test_an_output_that_cannot_be_written(setting, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    job = training("loop", setting, tmp_path / "root", output_dir=tmp_path / "file" / "out", cache_frozen="off")
    assert run(job) == 2
    assert "output_dir: cannot write" in error_line(job)


def test_workers_that_die(setting, tmp_path) -> None:
    job = training("loop", setting, tmp_path / "root", dataloader_num_workers=1)
    assert run(dataclasses.replace(job, patches=["workers_die"])) == 2
    assert "dataloader_num_workers: a process that prepares batches died" in error_line(job)


@slow
def test_workers_that_die_under_trainer(setting, tmp_path) -> None:
    job = training("trainer", setting, tmp_path / "root", dataloader_num_workers=2)
    assert run(dataclasses.replace(job, patches=["workers_die"])) == 2
    assert "dataloader_num_workers: a process that prepares batches died" in error_line(job)


@slow
def test_tracking_that_breaks_changes_nothing(setting, tmp_path) -> None:
    whole = training("trainer", setting, tmp_path / "whole")
    assert run(whole) == 0
    job = dataclasses.replace(
        training("trainer", setting, tmp_path / "broken", report_to="wandb"), patches=["tracking_breaks"]
    )
    assert run(job) == 0, job.log.read_text()
    assert job.log.read_text().count("W&B: tracking stops here, the run goes on (ConnectionResetError") == 1
    assert_same(results(job.folder), results(whole.folder))
