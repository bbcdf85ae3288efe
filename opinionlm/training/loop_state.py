"""Everything beside the weights that a training loop needs to go on from a checkpoint."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerState

# The same name as Trainer's, so that `opinionlm.training.checkpoints.latest_checkpoint` knows a complete checkpoint.
STATE, PROGRESS = "trainer_state.json", "loop_state.pt"


def save_progress(
    folder: Path,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    state: TrainerState,
    loss_total: float,
    process: int,
) -> None:
    """Write optimizer, schedule and counters (the main process) and the random numbers (every process).

    ``trainer_state.json`` comes last: a checkpoint with it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python_version, python_numbers, python_gauss = random.getstate()
    numpy_name, numpy_keys, *numpy_rest = np.random.get_state()
    randomness = {
        "python": [python_version, list(python_numbers), python_gauss],
        "numpy": [numpy_name, torch.from_numpy(numpy_keys.astype(np.int64)), *numpy_rest],
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.random.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    torch.save(randomness, folder / f"random_{process}.pt")
    if process == 0:
        progress = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "loss": loss_total}
        torch.save(progress, folder / PROGRESS)
        state.save_to_json(str(folder / STATE))


def load_progress(
    folder: Path, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, process: int
) -> tuple[TrainerState, float]:
    """Put optimizer, schedule and random numbers back.

    Returns:
        The counters and log so far, and the sum of all steps' losses.
    """
    # weights_only: nothing in these files may run code.
    progress = torch.load(folder / PROGRESS, weights_only=True)
    optimizer.load_state_dict(progress["optimizer"])
    scheduler.load_state_dict(progress["scheduler"])
    randomness = torch.load(folder / f"random_{process}.pt", weights_only=True)
    version, numbers, gauss = randomness["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = randomness["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.random.set_rng_state(randomness["torch"])
    if randomness["cuda"]:
        torch.cuda.random.set_rng_state_all(randomness["cuda"])
    return TrainerState.load_from_json(str(folder / STATE)), progress["loss"]
