"""Runs of a table as jobs of a cluster: submitit's executor for this machine stands in for SLURM."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import reproduce
from opinionlm.errors import UserError
from opinionlm.runs import cluster_jobs
from opinionlm.runs.cluster_jobs import Cluster, ClusterJob, read_resources, run_command
from tests.experiments.test_grid import SPEC, save


def test_resources() -> None:
    pairs = ["time=90", "partition=gpu", "gpus_per_node=1", "mem=32G"]
    assert read_resources(pairs) == {"time": 90, "partition": "gpu", "gpus_per_node": 1, "mem": "32G"}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["tiem=90"], "unknown resource 'tiem'; known are partition,.*, time"),
        (["partition=gpu"], "time is missing.*give time=MINUTES"),
        (["time=1:30:00"], "time=1:30:00: has to be a whole number of at least 1"),
        (["time=0"], "time=0: has to be a whole number of at least 1"),
        (["time=5", "partition"], "partition has no value"),
        (["time=5", "gpus_per_node=2"], "takes one GPU"),
    ],
)
def test_bad_resources_are_named(pairs: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_resources(pairs)


def test_a_machine_without_slurm_is_named_before_anything_runs(tmp_path) -> None:
    path, out = save(tmp_path, scales={"smoke": {"seeds": 1}}, published=[]), tmp_path / "out"
    command = [str(path), "--scale", "smoke", "--output_dir", str(out), "--launcher", "slurm", "--slurm", "time=5"]
    with pytest.raises(UserError, match="--launcher slurm: (needs the package submitit|Could not detect .srun.)"):
        reproduce.main(command)
    assert not (out / "mine" / "smoke" / "runs").exists()
    with pytest.raises(UserError, match="--slurm: is of no use without --launcher slurm"):
        reproduce.main([str(path), "--slurm", "time=5"])


@pytest.fixture
def stand_in(monkeypatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(cluster_jobs, "EXECUTOR", "local")


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_jobs_do_what_processes_do(tmp_path, capsys) -> None:
    axes = {"Rate": {"good": {"learning_rate": 1e-3}, "bad": {"tokenizer_name_or_path": str(tmp_path / "none")}}}
    options = SPEC["options"] | {"prepared_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    path = save(tmp_path, axes=axes, scales={"smoke": {"seeds": 3}}, options=options, published=[])
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out")]
    command += ["--launcher", "slurm", "--slurm", "time=10", "cpus_per_task=1"]
    assert reproduce.main(command) == 1
    printed = capsys.readouterr().out
    assert "failed: bad-seed3: exit code 2: error: tokenizer_name_or_path" in printed
    folder = tmp_path / "out" / "mine" / "smoke"
    metrics = folder / "runs" / "good-seed3" / "metrics.json"
    assert json.loads(metrics.read_text())["test"] and not (metrics.parent / "checkpoints").exists()
    assert "submitted good-seed3" in printed and (folder / "logs" / "good-seed3.log").stat().st_size > 0
    jobs = list((folder / "slurm").glob("*_submitted.pkl"))
    before = metrics.stat().st_mtime_ns
    assert reproduce.main(command) == 1  # only the failed one is submitted again
    assert len(list((folder / "slurm").glob("*_submitted.pkl"))) == len(jobs) + 1 == 3
    assert metrics.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_cancelled_job_ends_with_what_it_runs(tmp_path) -> None:
    cluster, log = Cluster({"time": 5}, tmp_path / "jobs"), tmp_path / "log"
    job = ClusterJob(
        cluster.executor.submit(
            run_command, ["sh", "-c", "trap 'echo ended' TERM; echo begun; sleep 60 & wait"], str(log)
        ),
        log,
    )
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.terminate()
    assert job.wait() is None
    while log.read_text() != "begun\nended\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.read_text() == "begun\nended\n"


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_job_that_vanishes_is_told(tmp_path) -> None:
    cluster, log = Cluster({"time": 5}, tmp_path / "jobs"), tmp_path / "log"
    job = ClusterJob(cluster.executor.submit(run_command, [str(Path("/nowhere/python"))], str(log)), log)
    assert job.wait() is None
    assert "ended without an exit code" in log.read_text()
    assert "/nowhere/python" in Path(log.read_text().split("; see ")[1].strip()).read_text()
