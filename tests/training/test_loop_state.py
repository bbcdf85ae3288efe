"""What a loop needs to go on, written and read back: optimizer, schedule, random numbers, memory of callbacks."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from opinionlm.training.loop_state import has_stopped, keep_callbacks, load_progress, restore_callbacks, save_progress


def optimizer_after(steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(steps):
        weight.grad = torch.full((3,), 0.5)
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


def drawn() -> tuple[float, float, float, float]:
    return random.gauss(0, 1), float(np.random.normal()), torch.rand(()).item(), random.random()


def test_everything_comes_back(tmp_path) -> None:
    folder = tmp_path / "deep" / "checkpoint-2"
    drawn()  # of a pair of Gaussian numbers the second one is kept for the next call
    optimizer, scheduler = optimizer_after(2)
    state = TrainerState(global_step=2, best_global_step=1)
    save_progress(folder, optimizer, scheduler, state, process=0)
    expected = [drawn() for _ in range(3)]
    other, other_scheduler = optimizer_after(0)
    found = load_progress(folder, other, other_scheduler, process=0)
    assert [drawn() for _ in range(3)] == expected
    assert (found.global_step, found.best_global_step) == (2, 1)
    assert other_scheduler.get_last_lr() == scheduler.get_last_lr() == [pytest.approx(0.1 / 3)]
    (one,), (two,) = (list(each.state_dict()["state"].values()) for each in (optimizer, other))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_other_processes_write_their_random_numbers_only(tmp_path) -> None:
    optimizer, scheduler = optimizer_after(1)
    save_progress(tmp_path, optimizer, scheduler, TrainerState(global_step=1), process=1)
    assert [path.name for path in tmp_path.iterdir()] == ["random_1.pt"]
    save_progress(tmp_path, optimizer, scheduler, TrainerState(global_step=1), process=0)
    drawn()
    save_progress(tmp_path, optimizer, scheduler, TrainerState(global_step=9), process=1)
    expected = drawn()
    assert load_progress(tmp_path, optimizer, scheduler, process=0).global_step == 1
    assert drawn() != expected
    load_progress(tmp_path, optimizer, scheduler, process=1)
    assert drawn() == expected


class Forgetful(TrainerCallback):
    """Has nothing to remember."""


def test_callbacks_remember_and_whether_training_was_to_end() -> None:
    state, waiting, control = TrainerState(), EarlyStoppingCallback(early_stopping_patience=5), TrainerControl()
    assert not has_stopped(state)
    waiting.early_stopping_patience_counter = 3
    keep_callbacks(state, [waiting, Forgetful(), control])
    assert set(state.stateful_callbacks) == {"EarlyStoppingCallback", "TrainerControl"} and not has_stopped(state)
    again = EarlyStoppingCallback(early_stopping_patience=5)
    restore_callbacks(state, [Forgetful(), again])
    assert again.early_stopping_patience_counter == 3
    control.should_training_stop = True
    keep_callbacks(state, [waiting, control])
    assert has_stopped(state)


@dataclass
class Planted:
    """Makes a file when it is unpickled by something that runs what a file says."""

    path: str

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["loop_state.pt", "random_0.pt"])
def test_a_checkpoint_runs_no_code(name: str, tmp_path) -> None:
    optimizer, scheduler = optimizer_after(1)
    save_progress(tmp_path, optimizer, scheduler, TrainerState(global_step=1), process=0)
    content = torch.load(tmp_path / name, weights_only=True)
    torch.save(content | {"more": Planted(str(tmp_path / "planted"))}, tmp_path / name)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_progress(tmp_path, optimizer, scheduler, process=0)
    assert not (tmp_path / "planted").exists()
