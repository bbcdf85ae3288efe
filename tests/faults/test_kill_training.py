"""Training is killed by SIGKILL at seeded random moments; the same command then ends as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.children import events, picked, run
from tests.faults.runs import assert_same, results, training

Reference = Callable[[str], tuple[list[str], dict[str, Any]]]
slow = pytest.mark.slow


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


@pytest.fixture(scope="module")
def settings(setting, instruct_setting) -> dict[str, dict[str, str]]:
    return {"trainer": setting, "loop": setting, "instruct": instruct_setting}


@pytest.fixture(scope="module")
def reference(settings, tmp_path_factory) -> Reference:
    """What happens in an undisturbed run of a case, and what comes of it."""
    found: dict[str, tuple[list[str], dict[str, Any]]] = {}

    def of(case: str) -> tuple[list[str], dict[str, Any]]:
        if case not in found:
            root = tmp_path_factory.mktemp(f"whole_{case}") / "root"
            found[case] = events(training(case, settings[case], root)), results(root)
        return found[case]

    return of


@pytest.mark.parametrize(
    ("case", "part", "seed"),
    [
        ("trainer", "/checkpoints/", 1),
        ("loop", "step", 1),
        pytest.param("trainer", "/prepared", 1, marks=slow),
        pytest.param("trainer", "step", 1, marks=slow),
        pytest.param("trainer", "step", 2, marks=slow),
        pytest.param("trainer", "/checkpoints/", 2, marks=slow),
        pytest.param("trainer", "/checkpoints/", 3, marks=slow),
        pytest.param("trainer", "manifest", 1, marks=slow),
        pytest.param("trainer", "rmtree", 1, marks=slow),
        pytest.param("trainer", "/.best", 1, marks=slow),
        pytest.param("trainer", "/predictions", 1, marks=slow),
        pytest.param("trainer", "/figures", 1, marks=slow),
        pytest.param("trainer", "metrics.json", 1, marks=slow),
        pytest.param("loop", "/cache/", 1, marks=slow),
        pytest.param("loop", "/cache/", 2, marks=slow),
        pytest.param("loop", "/checkpoints/", 1, marks=slow),
        pytest.param("loop", "manifest", 2, marks=slow),
        pytest.param("loop", "/.best", 2, marks=slow),
        pytest.param("instruct", "/checkpoints/", 1, marks=slow),
        pytest.param("instruct", "step", 1, marks=slow),
        pytest.param("instruct", "/cache/", 1, marks=slow),
        pytest.param("instruct", "/.best", 1, marks=slow),
    ],
)
def test_killed_once(case, part, seed, settings, reference: Reference, tmp_path) -> None:
    happened, expected = reference(case)
    (moment,) = picked(happened, part, 1, seed)
    job = training(case, settings[case], tmp_path / "root")
    assert run(job, kill_at=moment) == -signal.SIGKILL, job.log.read_text()[-2000:]
    assert not (job.folder / "out" / "r" / "metrics.json").exists()
    assert run(job) == 0, job.log.read_text()[-3000:]
    assert_same(results(job.folder), expected)
    assert not list(job.folder.rglob(".*"))


@slow
@pytest.mark.parametrize("case", ["trainer", "loop"])
def test_killed_again_and_again(case, settings, reference: Reference, tmp_path) -> None:
    """Every attempt comes a little further and dies, at events and by the clock."""
    happened, expected = reference(case)
    job = training(case, settings[case], tmp_path / "root")
    killed = 0
    for attempt in range(6):
        moment = {"kill_after": 0.7 + attempt / 3} if attempt % 2 else {"kill_at": len(happened) * (attempt + 3) // 10}
        code = run(job, **moment)
        killed += code == -signal.SIGKILL
        if code == 0:
            break
        assert code == -signal.SIGKILL, job.log.read_text()[-3000:]
    # How far the clock lets it come depends on the machine.
    assert killed >= 2
    assert run(job) == 0, job.log.read_text()[-3000:]
    assert_same(results(job.folder), expected)


@slow
def test_early_stopping_remembers_how_long_it_has_waited(settings, tmp_path) -> None:
    # Nothing improves at this learning rate: the third evaluation after the first ends the run.
    options = {"learning_rate": 1e-12, "num_train_epochs": 8}
    whole = training("trainer", settings["trainer"], tmp_path / "whole", **options)
    happened = events(whole)
    expected = results(whole.folder)
    assert expected["metrics"]["train"]["steps"] == 8
    # Killed before the second evaluation after the first, and after the last checkpoint, when it was over already.
    for name, part in (("middle", "checkpoint-6/manifest.json"), ("over", "/.best")):
        job = training("trainer", settings["trainer"], tmp_path / name, **options)
        moment = next(number for number, event in enumerate(happened, start=1) if part in event)
        assert run(job, kill_at=moment) == -signal.SIGKILL
        assert run(job) == 0, job.log.read_text()[-3000:]
        assert_same(results(job.folder), expected)


def damaged(path: Path) -> None:
    """One byte in the middle of a file is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("case", "file", "harm"),
    [
        ("loop", "loop_state.pt", cut_off),
        pytest.param("loop", "random_0.pt", Path.unlink, marks=slow),
        pytest.param("trainer", "optimizer.pt", damaged, marks=slow),
        pytest.param("trainer", "trained.safetensors", cut_off, marks=slow),
        pytest.param("trainer", "manifest.json", damaged, marks=slow),
        pytest.param("trainer", "manifest.json", Path.unlink, marks=slow),
    ],
)
def test_a_damaged_checkpoint_is_skipped(case, file, harm, settings, reference: Reference, tmp_path) -> None:
    happened, expected = reference(case)
    job = training(case, settings[case], tmp_path / "root")
    moment = next(number for number, event in enumerate(happened, start=1) if "/.best" in event)
    assert run(job, kill_at=moment) == -signal.SIGKILL
    checkpoints = job.folder / "out" / "r" / "checkpoints"
    newest, *older = sorted(checkpoints.iterdir(), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    harm(newest / file)
    assert run(job) == 0, job.log.read_text()[-3000:]
    said = job.log.read_text()
    (line,) = [line for line in said.splitlines() if line.startswith("warning:")]
    assert f"{newest} is " in line and ("damaged" in line or "incomplete" in line)
    assert f"Continuing from {older[0]}" in said
    assert_same(results(job.folder), expected)


@slow
def test_without_a_usable_checkpoint_training_starts_anew(settings, reference: Reference, tmp_path) -> None:
    happened, expected = reference("loop")
    job = training("loop", settings["loop"], tmp_path / "root")
    moment = next(number for number, event in enumerate(happened, start=1) if "/.best" in event)
    assert run(job, kill_at=moment) == -signal.SIGKILL
    for folder in (job.folder / "out" / "r" / "checkpoints").iterdir():
        (folder / "trained.safetensors").unlink()
    assert run(job) == 0, job.log.read_text()[-3000:]
    assert "can be used; training starts anew" in job.log.read_text()
    assert_same(results(job.folder), expected)
