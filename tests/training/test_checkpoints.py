"""Which checkpoints count: complete, undamaged, with the best one before them; which go when there are too many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from opinionlm.config.config import Config
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError
from opinionlm.runs.folder import require_same_start
from opinionlm.training.checkpoints import (
    AVERAGED,
    damage,
    latest_checkpoint,
    load_best_weights,
    load_trained_weights,
    rotate,
    save_trained_weights,
    seal,
    writing,
)
from opinionlm.utils.files import clear_temporaries, write_json
from tests.tiny import tiny_classifier


def write(folder: Path, step: int, best: int, sealed: bool = True) -> Path:
    path = folder / "r" / "checkpoints" / f"checkpoint-{step}"
    (path / "deep").mkdir(parents=True)
    (path / "trained.safetensors").write_bytes(bytes(range(step)))
    (path / "deep" / "shard").write_text("x")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "best_global_step": best}))
    if sealed:
        seal(path)
    return path


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(training=TrainingConfig(output_dir=str(tmp_path), run_name="r"))


def test_the_newest_complete_one_counts(config, tmp_path, capsys) -> None:
    assert latest_checkpoint(config.training) is None
    write(tmp_path, 9, 9)
    ten = write(tmp_path, 10, 10)  # newer than 9, though not by the alphabet
    cut = write(tmp_path, 11, 11, sealed=False)
    assert latest_checkpoint(config.training) == str(ten)
    said = capsys.readouterr().out
    assert said.count("warning") == 1 and f"{cut} is incomplete (writing it was cut off); it is skipped" in said
    assert not cut.exists()
    assert latest_checkpoint(config.training) == str(ten) and "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: (path / "deep" / "shard").write_text("y"), "is damaged (deep/shard is not what was written)"),
        (lambda path: (path / "deep" / "shard").unlink(), "is damaged (shard is missing)"),
        (lambda path: (path / "manifest.json").write_text("{"), "is damaged (manifest.json cannot be read)"),
        (lambda path: (path / "manifest.json").write_text("[]"), "is damaged (manifest.json cannot be read)"),
    ],
)
def test_damage_is_named(harm, reason, config, tmp_path, capsys) -> None:
    four, eight = write(tmp_path, 4, 4), write(tmp_path, 8, 8)
    assert damage(eight) is None
    harm(eight)
    assert damage(eight) == reason
    assert latest_checkpoint(config.training) == str(four) and f"warning: {eight} {reason}" in capsys.readouterr().out


def test_one_without_its_best_is_of_no_use_but_kept(config, tmp_path, capsys) -> None:
    two, best, newest = write(tmp_path, 2, 2), write(tmp_path, 4, 4), write(tmp_path, 6, 4)
    assert latest_checkpoint(config.training) == str(newest)
    (best / "trained.safetensors").write_bytes(b"")
    assert latest_checkpoint(config.training) == str(two)
    said = capsys.readouterr().out
    assert f"{newest} needs the best one before it, and checkpoint-4 is damaged" in said
    assert not best.exists() and damage(newest.with_name("unused-checkpoint-6")) is None


def test_an_old_run_does_not_pass_for_a_new_one(config, tmp_path) -> None:
    write(tmp_path, 4, 4)
    config.training.resume_from_checkpoint = False
    assert latest_checkpoint(config.training) is None
    config.training.resume_from_checkpoint = True
    assert latest_checkpoint(config.training) is None


def test_rotation_keeps_the_newest_and_the_best(tmp_path) -> None:
    for step in (2, 4, 6, 8, 10):
        write(tmp_path, step, 4)
    folder = tmp_path / "r" / "checkpoints"

    def left() -> list[int]:
        return sorted(int(path.name.split("-")[1]) for path in folder.iterdir())

    rotate(folder, 3, 4)
    assert left() == [4, 8, 10]
    rotate(folder, 1, 4)
    assert left() == [4, 10]
    rotate(folder, 1, None)
    assert left() == [10]


def test_a_best_one_damaged_while_training_went_on(tmp_path) -> None:
    model, folder = tiny_classifier(), tmp_path / "checkpoint-3"
    save_trained_weights(model, folder)
    seal(folder)
    load_best_weights(model, folder)
    (folder / "trained.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="best checkpoint is damaged .*; the same command goes on from"):
        load_best_weights(model, folder)


def test_other_data_are_refused(tmp_path) -> None:
    facts = {"data_fingerprint": "a", "processes": 2}
    require_same_start(tmp_path, facts)
    write_json(tmp_path / "environment.json", facts)
    require_same_start(tmp_path, facts)
    for name, value in (("data_fingerprint", "b"), ("processes", 1)):
        with pytest.raises(UserError, match=f"began with {name} .*overwrite: true"):
            require_same_start(tmp_path, facts | {name: value})


def test_temporary_files_of_killed_processes_go(tmp_path) -> None:
    import os

    for name in (".a.json.999999999", f".b.json.{os.getpid()}", ".hidden.json", "c.json.999999999"):
        (tmp_path / name).write_text("")
    clear_temporaries(tmp_path, "b*")
    clear_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".b.json.{os.getpid()}", ".hidden.json", "c.json.999999999"}


def test_weights_come_back_and_other_parameters_are_refused(tmp_path) -> None:
    model, other = tiny_classifier(), tiny_classifier()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    save_trained_weights(model, tmp_path / "deep" / "one")
    load_trained_weights(other, tmp_path / "deep" / "one")
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    fewer = tiny_classifier()
    name, parameter = next(iter(fewer.named_parameters()))
    parameter.requires_grad_(False)
    with pytest.raises(UserError, match=f"holds other parameters than this run trains .for instance {name}"):
        load_trained_weights(fewer, tmp_path / "deep" / "one")
    # The whole weights of a model whose own are split over processes take the place of its own.
    state = {name: torch.full_like(value, 7.0) for name, value in model.named_parameters()}
    save_trained_weights(model, tmp_path / "two", state)
    load_trained_weights(other, tmp_path / "two")
    assert all((value == 7.0).all() for value in other.parameters())


def test_the_best_is_the_average_where_there_is_one(tmp_path) -> None:
    model, folder = tiny_classifier(), tmp_path / "checkpoint-3"
    save_trained_weights(model, folder)
    save_file({name: torch.full_like(p.detach(), 0.5) for name, p in model.named_parameters()}, folder / AVERAGED)
    seal(folder)
    load_best_weights(model, folder)
    assert all((parameter == 0.5).all() for parameter in model.parameters())


def test_other_processes_read_and_change_nothing(config, tmp_path, capsys) -> None:
    four, cut = write(tmp_path, 4, 4), write(tmp_path, 6, 6, sealed=False)
    assert latest_checkpoint(config.training, is_main=False) == str(four)
    assert cut.exists() and capsys.readouterr().out == ""
    config.training.resume_from_checkpoint = False
    assert latest_checkpoint(config.training, is_main=False) is None and four.exists()


def test_training_starts_anew_where_none_is_left(config, tmp_path, capsys) -> None:
    assert latest_checkpoint(config.training) is None and "starts anew" not in capsys.readouterr().out
    write(tmp_path, 4, 4, sealed=False)
    assert latest_checkpoint(config.training) is None
    assert "can be used; training starts anew" in capsys.readouterr().out
    write(tmp_path, 5, 0)  # no best one yet
    assert latest_checkpoint(config.training).endswith("checkpoint-5")


def test_a_name_that_is_no_checkpoint_is_left_alone(config, tmp_path) -> None:
    four = write(tmp_path, 4, 4)
    for name in ("checkpoint-last", "checkpoint-"):
        (four.parent / name).mkdir()
    assert latest_checkpoint(config.training) == str(four)
    rotate(four.parent, 1, None)
    assert {path.name for path in four.parent.iterdir()} == {"checkpoint-4", "checkpoint-last", "checkpoint-"}


def test_rotation_deletes_nothing_below_the_limit(tmp_path) -> None:
    for step in (2, 4, 6):
        write(tmp_path, step, 2)
    folder = tmp_path / "r" / "checkpoints"
    for limit in (9, 4, 3):
        rotate(folder, limit, 2)
        assert len(list(folder.iterdir())) == 3
    rotate(folder, 2, 6)
    assert {path.name for path in folder.iterdir()} == {"checkpoint-4", "checkpoint-6"}


@pytest.mark.parametrize("best", [None, 1, 4, 7])
@pytest.mark.parametrize("limit", range(1, 10))
def test_as_many_checkpoints_stay_as_asked_for(limit: int, best: int | None, tmp_path) -> None:
    for step in range(1, 8):
        write(tmp_path, step, best or 0)
    folder = tmp_path / "r" / "checkpoints"
    rotate(folder, limit, best)
    left = sorted(int(path.name.split("-")[1]) for path in folder.iterdir())
    # The newest ones, of which the oldest makes room for the best one where that is older still.
    newest = list(range(8 - min(limit, 7), 8))
    expected = newest if best is None or best in newest else sorted([best, *(newest[1:] or [7])])
    assert left == expected


def test_sealing_again_takes_in_what_came_since(tmp_path) -> None:
    path = write(tmp_path, 4, 4)
    (path / "later").write_text("x")
    seal(path)
    (path / "later").write_text("y")
    assert damage(path) == "is damaged (later is not what was written)"
    assert damage(tmp_path / "nowhere") == "is missing"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2"), "writing broke off"),
        (RuntimeError("PytorchStreamWriter failed writing file data/2"), "writing broke off"),
        (OSError("x" * 500), "x" * 300),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(error: Exception, reason: str, tmp_path) -> None:
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    with pytest.raises(UserError) as caught, writing(folder):
        raise error
    assert reason in str(caught.value) and "\n" not in str(caught.value) and "x" * 301 not in str(caught.value)
    assert not folder.exists()


def test_other_errors_while_writing_are_raised_as_they_are(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"), writing(tmp_path):
        raise RuntimeError("shapes do not fit")
    assert tmp_path.exists()
