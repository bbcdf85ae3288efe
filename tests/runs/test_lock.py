"""One run, one folder, one launch: who is refused, who takes over, and what is left behind."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import pretrain
import prompt
import train_classifier
import train_instruct
from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from opinionlm.experiments import cross_fit
from opinionlm.runs import lock as run_lock
from opinionlm.runs.folder import is_finished
from opinionlm.runs.lock import Held, folders_of, lock_of, locked, process_start, this_process
from tests.classifier_runs import train

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from opinionlm.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_run(folder: Path) -> Iterator[subprocess.Popen]:
    """A process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def write_lock(folder: Path, **changes: object) -> None:
    """The lock of this very process, with changes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock_of(folder).write_text(json.dumps(asdict(replace(this_process(), **changes))))


def test_the_second_start_is_refused_and_changes_nothing(setting, tmp_path) -> None:
    folder = tmp_path / "out" / "r"
    (folder / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}\n")
    options = {"output_dir": folder.parent, "run_name": "r", "prepared_dir": tmp_path / "prepared"}
    with another_run(folder) as other:
        before = sorted(folder.parent.rglob("*"))
        for extra in ({}, {"overwrite": "true"}, {"resume_from_checkpoint": "false"}, {"engine": "tfidf"}):
            with pytest.raises(UserError) as refused:
                train(setting, **options, **extra)
            said = str(refused.value)
            assert said.startswith(f"{folder}: is written by process {other.pid} since 2") and "-c" in said
            assert "wait until it ends, stop it, or give another run_name" in said and "\n" not in said
        assert sorted(folder.parent.rglob("*")) == before and not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("main", "name"),
    [
        (train_instruct.main, "r"),
        (prompt.main, "r"),
        (pretrain.main, "r"),
        (cross_fit.main, "r-crossfit"),
        (train_classifier.main, "r"),
    ],
)
def test_every_script_asks(main, name, tmp_path) -> None:
    folder = tmp_path / name
    write_lock(folder, process=1, started=process_start(1))  # init is alive
    with pytest.raises(Held, match=r"is written by process 1 since"):
        main(["--output_dir", str(tmp_path), "--run_name", "r", "--model_name_or_path", "models/gemma3-mini"])
    assert [path.name for path in tmp_path.iterdir()] == [f".{name}.lock"]


def test_seeds_hold_every_member_and_the_whole(tmp_path) -> None:
    arguments = ["--output_dir", str(tmp_path), "--run_name", "r", "--seeds", "1..2"]
    config = parse_config(arguments, "test")
    names = {folder.name for folder in folders_of(config.training)}
    assert names == {"r-seed1", "r-seed2", "r-seeds", "r-ensemble"}
    for name in sorted(names):
        write_lock(tmp_path / name, process=1, started=process_start(1))
        with pytest.raises(Held):
            train_classifier.main(arguments)
        # Those that were taken before are given back.
        assert [path.name for path in tmp_path.iterdir()] == [f".{name}.lock"]
        lock_of(tmp_path / name).unlink()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_taken_over(number, tmp_path, capsys) -> None:
    """SIGTERM without a handler of ours kills as SIGKILL does."""
    folder = tmp_path / "r"
    with another_run(folder) as other:
        other.send_signal(number)
        # Not waited for: it is a zombie now, which has ended too.
        deadline = time.monotonic() + 10
        while process_start(other.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert lock_of(folder).exists()
        with locked(folder):
            said = capsys.readouterr().out
    assert said.startswith(f"{folder}: its lock is taken over: process {other.pid} since ") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_left_that_was_killed_before_it_had_its_lock_goes(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "r"

    def killed(temporary: Path, path: Path) -> bool:
        os._exit(9)

    monkeypatch.setattr(run_lock, "link", killed)
    child = multiprocessing.get_context("fork").Process(target=lambda: locked(folder).__enter__())
    child.start()
    child.join()
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1 and not lock_of(folder).exists()
    with locked(folder):
        assert list(tmp_path.iterdir()) == [lock_of(folder)]


@pytest.mark.parametrize(
    "changes",
    [
        {"process": 4_194_304},  # above every number that Linux gives
        {"started": "1"},
        {"machine": (this_process().machine[0], "another-start", "pid:[1]")},
    ],
    ids=["gone", "number used again", "machine started anew"],
)
def test_stale_locks(changes, tmp_path, capsys) -> None:
    write_lock(tmp_path / "r", **changes)
    with locked(tmp_path / "r"):
        assert json.loads(lock_of(tmp_path / "r").read_text())["process"] == os.getpid()
    assert "its lock is taken over" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host": "node17"}, "process .* on node17 since .*that machine cannot be asked from here: if that run has"),
        ({"machine": ("another-machine", *this_process().machine[1:])}, "that machine cannot be asked"),
        ({"machine": (*this_process().machine[:2], "pid:[1]")}, "in another container, which cannot be asked"),
    ],
    ids=["host", "host of the same name", "container"],
)
def test_what_cannot_be_asked_is_refused_with_the_remedy(changes, reason, tmp_path) -> None:
    folder = tmp_path / "r"
    write_lock(folder, **changes)
    for wait in (None, ""):
        with pytest.raises(UserError, match=reason) as refused, locked(folder, wait=wait):
            pass
        assert f"delete {lock_of(folder)}" in str(refused.value)
    assert json.loads(lock_of(folder).read_text())["host"]


def test_an_unreadable_lock_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("opinionlm.runs.lock.PATIENCE", 0.1)
    for content in ("", "{", "[]", '{"host": 1}'):
        lock_of(tmp_path / "r").write_text(content)
        reason = "its lock cannot be read; if no run writes there, delete "
        with pytest.raises(UserError, match=reason), locked(tmp_path / "r"):
            pass
        assert lock_of(tmp_path / "r").read_text() == content


def test_of_many_at_once_one_wins(tmp_path) -> None:
    """Starts over a free folder and over a stale lock; the winner of each round holds it long enough for all."""
    code = """
import sys, time
from pathlib import Path
from opinionlm.runs.lock import Held, locked
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with locked(folder):
        print("won", flush=True)
        sys.stdin.readline()
except Held:
    print("refused", flush=True)
"""
    for stale in (False, True):
        folder = tmp_path / str(stale) / "r"
        if stale:
            write_lock(folder, started="1")
        command = [sys.executable, "-c", code, str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(6)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = []
        for child in children:
            line = child.stdout.readline()
            answers.append(line if "taken over" not in line else child.stdout.readline())
        for child in children:
            child.communicate("end\n")
        assert sorted(answers) == ["refused\n"] * 5 + ["won\n"]
        assert not folder.parent.exists() or list(folder.parent.iterdir()) == []


def test_a_lock_taken_over_by_another_meanwhile_is_left_alone(tmp_path, monkeypatch) -> None:
    """Between the look at a stale lock and the opening of its file another start took it over."""
    folder, judge = tmp_path / "r", run_lock.refuse_living
    write_lock(folder, started="1")

    def slowly(holder: object, place: Path) -> None:
        judge(holder, place)
        write_lock(folder, process=1, started=process_start(1))

    monkeypatch.setattr(run_lock, "refuse_living", slowly)
    with pytest.raises(Held, match="is written by process 1 since"), locked(folder):
        pass
    assert json.loads(lock_of(folder).read_text())["process"] == 1


def test_file_systems_without_links(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with locked(tmp_path / "r"):
        assert json.loads(lock_of(tmp_path / "r").read_text())["process"] == os.getpid()
        with pytest.raises(Held), locked(tmp_path / "r"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [UserError("no"), KeyError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_the_lock_is_released(error, tmp_path) -> None:
    with pytest.raises(type(error)), locked(tmp_path / "new" / "folder" / "r"):
        assert lock_of(tmp_path / "new" / "folder" / "r").is_file()
        raise error
    # Nor are the folders left that were made for it.
    assert list(tmp_path.iterdir()) == []


def test_overwrite_spares_a_folder_that_another_writes(tmp_path) -> None:
    """Whoever asks without a lock of its own, as cross_fit does of its folds."""
    config = parse_config(["--output_dir", str(tmp_path), "--run_name", "r", "--overwrite"], "test")
    config.run_folder.mkdir()
    (config.run_folder / "kept").touch()
    write_lock(config.run_folder, process=1, started=process_start(1))
    with pytest.raises(Held):
        is_finished(config)
    assert (config.run_folder / "kept").exists()
    write_lock(config.run_folder)  # its own
    assert not is_finished(config) and not config.run_folder.exists()


def test_all_processes_of_a_launch_are_one_holder(tmp_path, monkeypatch) -> None:
    from opinionlm.runs.lock import locked_run

    config = parse_config(["--output_dir", str(tmp_path), "--run_name", "r"], "test")
    with locked_run(config.training):
        monkeypatch.setenv("RANK", "1")
        with locked_run(config.training):
            pass
        assert lock_of(config.run_folder).is_file()
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(Held), locked_run(config.training):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_folder_is_that_folder(tmp_path) -> None:
    (tmp_path / "scratch" / "r").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "scratch" / "r")
    (tmp_path / "all").symlink_to(tmp_path / "scratch")
    with locked(tmp_path / "scratch" / "r"):
        for place in (tmp_path / "link", tmp_path / "all" / "r"):
            with pytest.raises(Held), locked(place):
                pass


def test_the_exit_code_is_two(tmp_path) -> None:
    write_lock(tmp_path / "r", process=1, started=process_start(1))
    command = [sys.executable, "train_classifier.py", "--output_dir", str(tmp_path), "--run_name", "r"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: {tmp_path / 'r'}: is written by process 1")
