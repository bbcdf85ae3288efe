"""Checkpoints: the trained parameters, and a manifest that says whether all of a checkpoint is there and unchanged.

A checkpoint is a folder ``checkpoints/checkpoint-<step>``. Trainer, our own loop and callbacks write into it one file
after the other; then every file is synced to disk, and ``manifest.json`` with the SHA-256 of each is written last and
atomically. A folder without a manifest was cut off; one whose files do not fit it was damaged. Neither is ever read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from opinionlm.adaptation.methods import trained_parameters
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError, one_line
from opinionlm.training.fsdp import put, split_up
from opinionlm.utils.files import file_sha256, sync_folder, write_json

TORCH_WRITER = ("inline_container", "PytorchStreamWriter")
WEIGHTS, MANIFEST = "trained.safetensors", "manifest.json"
# Their moving average, where there is one (`opinionlm.training.ema`): the weights a checkpoint is evaluated by.
AVERAGED = "averaged.safetensors"


def save_trained_weights(model: nn.Module, folder: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write the parameters that train to ``trained.safetensors``; split ones are taken whole from ``state``."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = trained_parameters(model)
    values = {name: parameter if state is None else state[name] for name, parameter in trained.items()}
    values = {name: value.detach().contiguous().cpu() for name, value in values.items()}
    save_file(values, folder / WEIGHTS, metadata={"format": "pt"})


def load_trained_weights(model: nn.Module, folder: Path, file: str = WEIGHTS) -> None:
    """Read `WEIGHTS` to train on, or `AVERAGED`; the file must hold exactly the parameters that train.

    Raises:
        UserError: another set of parameters was trained when the checkpoint was written.
    """
    state = load_file(folder / file)
    split_up(model)
    expected = trained_parameters(model)
    if state.keys() != expected.keys():
        differing = sorted(state.keys() ^ expected.keys())
        raise UserError(
            f"{folder / file}: holds other parameters than this run trains (for instance {differing[0]}); the "
            "config changed since it was written: give another run_name, or overwrite: true"
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            put(parameter, state[name])


def load_best_weights(model: nn.Module, folder: Path) -> None:
    """Put back the weights that the best checkpoint was evaluated by: the average where it holds one.

    Raises:
        UserError: it was damaged meanwhile.
    """
    found = damage(folder)
    if found is not None:
        raise UserError(
            f"{folder}: the best checkpoint {found}; the same command goes on from the newest usable checkpoint "
            "before it, or else trains from the start"
        )
    load_trained_weights(model, folder, AVERAGED if (folder / AVERAGED).is_file() else WEIGHTS)


def seal(folder: Path) -> None:
    """Declare a checkpoint complete: sync its files, then write its manifest.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)
    files = {str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    write_json(folder / MANIFEST, {"sha256": files})
    sync_folder(folder)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence; None when it is as it was written."""
    if not folder.is_dir():
        return "is missing"
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        for name, sha256 in expected.items():
            if file_sha256(folder / name) != sha256:
                return f"is damaged ({name} is not what was written)"
    except FileNotFoundError as error:
        name = Path(error.filename).name
        return "is incomplete (writing it was cut off)" if name == MANIFEST else f"is damaged ({name} is missing)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"is damaged ({MANIFEST} cannot be read)"
    return None


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint."""
    return int(folder.name.removeprefix("checkpoint-"))


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints in a folder, complete or not, newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=step_of, reverse=True)


def usable(folder: Path) -> str | None:
    """Why training cannot go on from a checkpoint, as the end of a sentence; None when it can.

    The best checkpoint up to it has to be whole too: at the end its weights are the result.
    """
    found = damage(folder)
    if found is not None:
        return found
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    best = state["best_global_step"]
    if best and best != state["global_step"]:
        found = damage(folder.with_name(f"checkpoint-{best}"))
    return None if found is None else f"needs the best one before it, and checkpoint-{best} {found}"


def latest_checkpoint(training: TrainingConfig, is_main: bool = True) -> str | None:
    """The newest usable checkpoint of a run, None when there is none or the run is not to be resumed.

    What is newer and not usable is named in one line each, and makes room, so that training can write it again. The
    main process alone speaks and changes files; the others call this after it.
    """
    folder = training.run_folder / "checkpoints"
    if not training.resume_from_checkpoint:
        # Training starts anew: what is there would pass for its own.
        if is_main and folder.is_dir():
            shutil.rmtree(folder)
        return None
    found = checkpoints_of(folder)
    for path in found:
        problem = usable(path)
        if problem is None:
            if is_main:
                print(f"Continuing from {path}")
            return str(path)
        if is_main:
            print(f"warning: {path} {problem}; it is skipped", flush=True)
            set_aside(path)
    if found and is_main:
        print(f"No checkpoint in {folder} can be used; training starts anew")
    return None


def set_aside(folder: Path) -> None:
    """Delete a checkpoint that is not whole; rename one that is, and cannot be used for another reason."""
    if damage(folder) is not None:
        shutil.rmtree(folder)
        return
    aside = folder.with_name(f"unused-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def rotate(folder: Path, limit: int, best_step: int | None) -> None:
    """Delete the oldest checkpoints until ``limit`` are left; the newest and the best one always stay.

    Trainer rotates before a checkpoint is sealed, and would then trust one that may still be cut off.
    """
    found = checkpoints_of(folder)
    keep = set(found[:1]) | {path for path in found if step_of(path) == best_step}
    surplus = len(found) - max(limit, len(keep))
    for path in [path for path in reversed(found) if path not in keep][: max(0, surplus)]:
        # Without its manifest a half-deleted checkpoint cannot be taken for a damaged one.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it a checkpoint is written.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # What torch raises on a full disk is a RuntimeError: "[enforce fail at inline_container.cc:672] . unexpected
        # pos 799680 vs 799568", or "PytorchStreamWriter failed writing file data/2".
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in TORCH_WRITER):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        reason = "writing broke off" if isinstance(error, RuntimeError) else one_line(error)
        raise UserError(
            f"{folder}: the checkpoint cannot be written ({reason}); make room on the disk, then the same command "
            "goes on from the one before"
        ) from error
