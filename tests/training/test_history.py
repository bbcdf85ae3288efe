"""The training loss in ``history.json``: means over windows of equal size, whatever else happens on the way."""

from __future__ import annotations

import json
import math

import pytest

from opinionlm.training.counters import Counters
from tests.faults.test_steps import KINDS, Poisoned
from tests.training.test_loop import Killer, engine


def windows(one) -> list[tuple[int, int, float]]:
    """Last step, number of steps and mean loss of every entry that holds a training loss."""
    entries = [entry for entry in one.state.log_history if "loss" in entry]
    return [(entry["step"], entry["loss_steps"], entry["loss"]) for entry in entries]


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    """The engine; all tests of one follow each other and share its losses."""
    return request.param


def step_losses(kind: str, folder, **options) -> list[float]:
    """The loss of every step of the same run."""
    one = engine(kind, folder / "single", logging_steps=1, **options)
    one.train()
    return [loss for _, _, loss in windows(one)]


@pytest.fixture(scope="module")
def losses(kind, tmp_path_factory) -> list[float]:
    """The loss of every step of the run that most tests make with other windows."""
    return step_losses(kind, tmp_path_factory.mktemp("losses"))


def test_every_loss_is_the_mean_over_as_many_steps(kind, losses, tmp_path) -> None:
    """Nine steps, an epoch and its evaluation after every third: windows of four cross both."""
    one = engine(kind, tmp_path, logging_steps=4)
    one.train()
    expected = [(4, 4, sum(losses[:4]) / 4), (8, 4, sum(losses[4:8]) / 4), (9, 1, losses[8])]
    assert windows(one) == [(step, count, pytest.approx(mean, abs=1e-7)) for step, count, mean in expected]
    # What the terminal shows beside an evaluation is the mean over the steps since the one before.
    evaluated = [entry for entry in one.state.log_history if "eval_macro_f1" in entry]
    assert [entry["loss_since_evaluation"] for entry in evaluated] == [
        pytest.approx(sum(losses[start : start + 3]) / 3, abs=1e-7) for start in (0, 3, 6)
    ]
    # The learning rate and the gradient norm are those of a window's last step.
    entries = [entry for entry in one.state.log_history if "loss" in entry]
    assert all({"grad_norm", "learning_rate", "epoch", "num_input_tokens_seen"} <= entry.keys() for entry in entries)


@pytest.mark.parametrize("logging_steps", [9, 20])
def test_windows_that_fit_the_run_or_exceed_it(kind, losses, logging_steps, tmp_path) -> None:
    one = engine(kind, tmp_path, logging_steps=logging_steps)
    outcome = one.train()
    size = min(logging_steps, 9)
    assert [(step, count) for step, count, _ in windows(one)] == [(end, size) for end in range(size, 10, size)]
    assert outcome.training_loss == pytest.approx(sum(losses) / 9, abs=1e-7)


def test_early_stopping_logs_what_is_left(kind, tmp_path) -> None:
    from transformers import EarlyStoppingCallback

    one = engine(kind, tmp_path, [EarlyStoppingCallback(1)], learning_rate=1e-12, logging_steps=4)
    one.train()
    assert [(step, count) for step, count, _ in windows(one)] == [(4, 4), (6, 2)]


def test_a_resumed_run_goes_on_in_the_window(kind, tmp_path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    options |= {"logging_steps": 4, "save_total_limit": 9}
    whole = engine(kind, tmp_path / "whole", **options)
    whole_loss = whole.train().training_loss
    for step, where in ((9, "at the end of training"), (4, "at the end of a window"), (2, "in a window")):
        checkpoint = tmp_path / "whole" / kind / f"checkpoint-{step}"
        again = engine(kind, tmp_path / "whole", **options)
        assert again.train(resume_from_checkpoint=str(checkpoint)).training_loss == whole_loss, where
        assert timeless(again) == timeless(whole), where


def timeless(one) -> list[dict[str, float]]:
    """What was logged, without what depends on the machine."""
    return [
        {name: value for name, value in entry.items() if "per_second" not in name and "runtime" not in name}
        for entry in one.state.log_history
    ]


def test_a_skipped_step_enters_no_mean(kind, tmp_path) -> None:
    """The second of nine steps has no loss: its window is the mean of three, and the run's of eight."""
    options = {"max_nonfinite_steps": 1, "learning_rate": 1e-12}
    losses = step_losses(kind, tmp_path, learning_rate=1e-12)
    one = engine(kind, tmp_path, loss=Poisoned({3}, math.nan), logging_steps=4, **options)
    outcome = one.train()
    kept = [losses[0], *losses[2:]]
    assert windows(one)[0] == (4, 3, pytest.approx(sum(kept[:3]) / 3, abs=1e-5))
    assert outcome.training_loss == pytest.approx(sum(kept) / 8, abs=1e-5)
    one = engine(kind, tmp_path / "b", loss=Poisoned({2, 3}, math.inf), logging_steps=1, **options)
    one.train()
    assert [step for step, _, _ in windows(one)] == [1, 3, 4, 5, 6, 7, 8, 9]


def test_other_strategies_of_logging(kind, tmp_path) -> None:
    """By epoch of three steps; the first step besides; not at all, which leaves the mean between evaluations."""
    for options, expected in (
        ({"logging_strategy": "epoch"}, [(3, 3), (6, 3), (9, 3)]),
        ({"logging_first_step": True, "logging_steps": 4}, [(1, 1), (4, 3), (8, 4), (9, 1)]),
        ({"logging_strategy": "no"}, []),
    ):
        one = engine(kind, tmp_path, **options)
        one.train()
        assert [(step, count) for step, count, _ in windows(one)] == expected
        assert sum("loss_since_evaluation" in entry for entry in one.state.log_history) == 3


def test_an_interrupted_run_of_before_goes_on(tmp_path) -> None:
    """Checkpoints of before counted logged steps only in the total."""
    folder = tmp_path / "checkpoint-7"
    folder.mkdir()
    old = {"loss_total": 5.0, "loss_since_log": 1.0, "last_logged_step": 5, "seconds": 2.0, "parts": 1}
    (folder / "counters_0.json").write_text(json.dumps(old | {"nonfinite_steps": 1}))
    counters = Counters.load(folder, 0)
    assert (counters.mean_loss, counters.steps, counters.loss_since_log) == (1.0, 6, 0.0)
    assert (counters.last_logged_step, counters.seconds) == (5, 2.0)


def test_killed_between_checkpoints(kind, tmp_path) -> None:
    """Steps that are done again count once."""
    options = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "steps",
        "save_steps": 3,
        "logging_steps": 2,
    }
    whole = engine(kind, tmp_path / "whole", **options)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        engine(kind, tmp_path, [Killer(5)], **options).train()
    again = engine(kind, tmp_path, **options)
    again.train(resume_from_checkpoint=str(tmp_path / kind / "checkpoint-3"))
    assert windows(again) == windows(whole)
    assert [(step, count) for step, count, _ in windows(whole)] == [(2, 2), (4, 2), (6, 2), (8, 2), (9, 1)]
