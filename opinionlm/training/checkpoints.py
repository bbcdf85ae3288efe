"""Checkpoints that hold the trained parameters and nothing that can be loaded from the base model again."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from opinionlm.adaptation.methods import trained_parameters
from opinionlm.config import Config
from opinionlm.errors import UserError

WEIGHTS = "trained.safetensors"
# Their moving average, where there is one (`opinionlm.training.averaging`): the weights a checkpoint is judged by.
AVERAGED = "averaged.safetensors"


def save_trained_weights(model: nn.Module, folder: Path) -> None:
    """Write the parameters that training changes to ``folder/trained.safetensors``."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = trained_parameters(model)
    state = {name: parameter.detach().contiguous().cpu() for name, parameter in trained.items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def load_trained_weights(model: nn.Module, folder: Path, file: str = WEIGHTS) -> None:
    """Read them back; the file must hold exactly the parameters that train.

    Args:
        model: with the same adaptation as when they were written.
        folder: of the checkpoint.
        file: `WEIGHTS` to train on, or `AVERAGED`.

    Raises:
        UserError: another set of parameters was trained when the checkpoint was written.
    """
    state = load_file(folder / file)
    expected = trained_parameters(model)
    if state.keys() != expected.keys():
        differing = sorted(state.keys() ^ expected.keys())
        raise UserError(
            f"{folder / file}: holds other parameters than this run trains (for instance {differing[0]}); the "
            "config changed since it was written: give another run_name, or overwrite: true"
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(state[name])


def load_best_weights(model: nn.Module, folder: Path) -> None:
    """Put the weights into a model that a checkpoint was judged by: the average where it holds one."""
    load_trained_weights(model, folder, AVERAGED if (folder / AVERAGED).is_file() else WEIGHTS)


def latest_checkpoint(config: Config) -> str | None:
    """The newest complete checkpoint of a run, None when there is none or the run is not to be resumed.

    Trainer writes ``trainer_state.json`` after everything else, so a checkpoint without it was cut off.
    """
    folder = config.run_folder / "checkpoints"
    if not config.training.resume_from_checkpoint or not folder.is_dir():
        return None
    complete = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    newest = max(complete, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
    return None if newest is None else str(newest)
