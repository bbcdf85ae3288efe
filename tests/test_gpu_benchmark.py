"""benchmarks/gpu.py: what it runs in which time, what it keeps and skips, what it writes; and all of it on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import Result, Worker, earlier_results, main, page, run_checks, what_is_missing, write
from benchmarks.gpu_checks import CHECKS, Check, Place
from benchmarks.report import Row, agree, compare

FACTS = {"date": "2026-11-29", "commit": "abc", "chip": "H200", "chip_memory": "141 GB", "driver": "580", "dry": False}
FACTS |= {"python": "3.12", "versions": {"torch": "2.11.0", "trl": None}}


def check(name: str, seconds: int = 10, packages: tuple[str, ...] = ()) -> Check:
    return Check(name, name.title(), seconds, packages, lambda place: [])


class Machine:
    """Stands for the worker: says which checks were asked for, and that they took so long."""

    def __init__(self, **seconds: float) -> None:
        self.seconds, self.asked, self.saved = seconds, [], 0

    def measure(self, name: str, limit: float) -> Result:
        self.asked.append(name)
        return Result("done", self.seconds.get(name, 10.0), rows=[compare("time", 2.0, 1.0, "s")])

    def save(self) -> None:
        self.saved += 1

    def run(self, checks: list[Check], results: dict[str, Result], seconds: float) -> dict[str, Result]:
        run_checks(checks, results, seconds, time.perf_counter(), self.measure, self.save)
        return results


def test_what_does_not_fit_is_left_and_what_fits_behind_it_runs() -> None:
    machine = Machine()
    results = machine.run([check("first"), check("long", 900), check("last")], {}, seconds=60)
    assert machine.asked == ["first", "last"] and machine.saved == 3
    assert results["long"].status == "left" and "give the command again" in results["long"].reason


def test_a_slow_machine_makes_later_checks_take_longer() -> None:
    machine = Machine(first=40.0)
    # Expected to take 10 seconds each, and the first took four times as long.
    results = machine.run([check("first"), check("second", 16)], {}, seconds=60)
    assert results["second"].status == "left" and "64 seconds" in results["second"].reason


def test_a_second_call_runs_only_what_is_not_done() -> None:
    results = {"one": Result("done"), "two": Result("failed", reason="died"), "three": Result("left")}
    machine = Machine()
    machine.run([check("one"), check("two"), check("three")], results, seconds=60)
    assert machine.asked == ["two", "three"]


def test_a_missing_package_is_named() -> None:
    machine = Machine()
    results = machine.run([check("peer", packages=("json", "no_such_package")), check("next")], {}, seconds=60)
    assert results["peer"] == Result("skipped", reason="no_such_package not installed")
    assert machine.asked == ["next"]


def test_results_come_back_on_the_same_machine_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    results = {
        "resume": Result("done", 5.0, rows=[agree("equal", 1, 1, "run", 0)]),
        "fsdp2": Result("failed", 1.0, "x"),
    }
    write(tmp_path, FACTS, results)
    file = tmp_path / "gpu.json"
    assert earlier_results(file, FACTS) == results
    assert earlier_results(file, FACTS | {"driver": "590"}) == {}
    assert "everything anew" in capsys.readouterr().out
    assert set(json.loads(file.read_text())["rows"][0]) == set(Row.__dataclass_fields__)
    file.write_text(file.read_text()[:40])
    assert earlier_results(file, FACTS) == {} == earlier_results(tmp_path / "none.json", FACTS)


def test_page_says_chip_driver_versions_and_what_became_of_every_check() -> None:
    missed = compare("steps", 1.0, 2.0, "s", goal=1.5)
    text = page(FACTS, {"recipe_bf16": Result("done", 61.0, rows=[missed]), "fsdp2": Result("failed", 3.0, "NCCL")})
    for part in ("H200", "driver 580", "torch 2.11.0", "| steps | 1 | 2 | s | 0.50 | **missed** |"):
        assert part in text
    assert "fsdp2: failed, 3 seconds. NCCL" in text and "trl" not in text.splitlines()[3]
    assert all(f"## {each.title}" in text for each in CHECKS)


def test_a_process_that_fails_or_hangs_is_replaced(tmp_path: Path) -> None:
    worker = Worker(Place(tmp_path, dry=True), tmp_path / "gpu.log")
    try:
        failed = worker.measure("no_such_check", 60.0)
        assert failed.status == "failed" and "KeyError" in failed.reason
        assert "KeyError" in (tmp_path / "gpu.log").read_text()
        # It has not even started in this time.
        late = worker.measure("recipe_bf16", 0.0)
        assert late.status == "failed" and "stopped after 0 seconds" in late.reason and worker.process is None
    finally:
        worker.finish()


def test_old_versions_and_no_gpu_end_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--output_dir", str(tmp_path / "out")]) == 2
    assert "--dry" in capsys.readouterr().err and not (tmp_path / "out").exists()
    monkeypatch.setattr("benchmarks.gpu.installed_version", {"torch": "2.10.1"}.get)
    assert what_is_missing(dry=True) == "torch 2.10.1: 2.11 or newer is needed"


@pytest.mark.slow
def test_every_check_runs_on_the_cpu(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "gpu.py"), "--dry", "--minutes", "60"]
    command += ["--output_dir", str(tmp_path / "out"), "--scratch", str(tmp_path / "scratch")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    log = tmp_path / "out" / "gpu.log"
    assert ended.returncode == 0, ended.stdout + ended.stderr + log.read_text()[-5000:]
    checks = json.loads((tmp_path / "out" / "gpu.json").read_text())["checks"]
    assert {name for name, result in checks.items() if result["status"] != "skipped"} >= {"recipe_bf16", "resume"}
    assert all(result["rows"] for result in checks.values() if result["status"] == "done")
    assert {result["status"] for result in checks.values()} <= {"done", "skipped"}
    # A second call has nothing to do.
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0 and "about" not in again.stdout
