"""Everything beside the weights that a training loop needs to go on from a checkpoint."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

# The state has the same name as Trainer's: `opinionlm.training.checkpoints` reads it.
STATE, PROGRESS = "trainer_state.json", "loop_state.pt"


def first_state(args: TrainingArguments, steps: int, epochs: int) -> TrainerState:
    """The state of a run of so many optimizer steps, in so many epochs begun, before the first one."""
    main, local_main = args.process_index == 0, args.local_process_index == 0
    state = TrainerState(
        max_steps=steps, num_train_epochs=epochs, is_world_process_zero=main, is_local_process_zero=local_main
    )
    state.compute_steps(args, steps)
    return state


def save_progress(
    folder: Path, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, state: TrainerState, process: int
) -> None:
    """Write optimizer, schedule and state (the main process) and the random numbers (every process)."""
    folder.mkdir(parents=True, exist_ok=True)
    python_version, python_numbers, python_gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    numpy_key = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    randomness = {
        "python": [python_version, list(python_numbers), python_gauss],
        # In the order of the legacy state, which `np.random.set_state` takes back.
        "numpy": [
            numpy_state["bit_generator"],
            numpy_key,
            numpy_state["state"]["pos"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        ],
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.random.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    torch.save(randomness, folder / f"random_{process}.pt")
    if process == 0:
        progress = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        torch.save(progress, folder / PROGRESS)
        state.save_to_json(str(folder / STATE))


def load_progress(
    folder: Path, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, process: int
) -> TrainerState:
    """Put optimizer, schedule and random numbers back; returns the state."""
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
    return TrainerState.load_from_json(str(folder / STATE))


def keep_callbacks(state: TrainerState, callbacks: list[TrainerCallback | TrainerControl]) -> None:
    """Put what callbacks remember (early stopping: how long it has waited) into the state, as Trainer does."""
    kept = [callback for callback in callbacks if isinstance(callback, ExportableState)]
    state.stateful_callbacks = {type(callback).__name__: callback.state() for callback in kept}


def restore_callbacks(state: TrainerState, callbacks: list[TrainerCallback]) -> None:
    """Give callbacks their memory back."""
    for callback in callbacks:
        stored = state.stateful_callbacks.get(type(callback).__name__)
        if stored is not None:
            for name, value in stored["attributes"].items():
                setattr(callback, name, value)


def has_stopped(state: TrainerState) -> bool:
    """Whether training was to end (early stopping, last step) when a state was stored."""
    control = state.stateful_callbacks.get("TrainerControl")
    return control is not None and control["args"]["should_training_stop"]
