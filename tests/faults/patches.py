"""Faults of the surroundings, put into a child before its script begins; see `tests.faults.children.Job`."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path


def files_of_at_most_300_kb() -> None:
    """A disk that is full, as far as one file can tell: the weights of a checkpoint do not fit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


def files_of_at_most_800_kb() -> None:
    """The weights fit, the optimizer's state does not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, 800_000))


def files_of_at_most_4_kb() -> None:
    """Next to nothing fits."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))


def workers_die() -> None:
    """Processes that prepare batches are killed, as the kernel does when memory runs out."""
    import torch.utils.data

    from opinionlm.training.batching import EncodedTexts

    fetch = EncodedTexts.__getitems__

    def dying(self, positions):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return fetch(self, positions)

    EncodedTexts.__getitems__ = dying


def tracking_breaks() -> None:
    """Tracking works for two log entries, then the connection is gone."""
    from opinionlm.reporting.tracking import wandb as tracking_wandb

    log, calls = tracking_wandb.WandbTracking.log, []

    def breaking(self, metrics, step):
        calls.append(step)
        if len(calls) > 2:
            raise ConnectionResetError("connection lost")
        log(self, metrics, step)

    tracking_wandb.WandbTracking.log = breaking


def killed_in_the_first_step() -> None:
    """All processes of the run die by SIGKILL."""
    _kill_in_step(1)


def killed_in_the_second_step() -> None:
    """The same, when W&B, which opens after the first step, has written its file."""
    _kill_in_step(2)


def killed_in_the_seventh_step() -> None:
    """The same, later."""
    _kill_in_step(7)


def _await_wandb_file() -> None:
    """Another process writes W&B's file, some time after the run was opened."""
    import wandb

    file, deadline = Path(wandb.run.settings.sync_file), time.monotonic() + 60
    while not (file.exists() and file.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)


def _kill_in_step(number: int) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from tests.faults.children import trains

    steps = []

    def count(optimizer: object, *_: object) -> None:
        steps.extend([1] if trains(optimizer) else [])
        if len(steps) == number and trains(optimizer):
            if number > 1:
                _await_wandb_file()
            os.killpg(os.getpgid(0), signal.SIGKILL)

    register_optimizer_step_post_hook(count)
