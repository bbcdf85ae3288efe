"""Batches that do not fit, counters of a checkpoint, steps that are no numbers (with engines: tests/faults)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from opinionlm.errors import UserError
from opinionlm.training.counters import Counters
from opinionlm.training.nonfinite import StepFacts, refuse_nonfinite
from opinionlm.training.out_of_memory import cut, in_parts, is_out_of_memory, next_parts


def batch(rows: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.arange(2 * rows).view(rows, 2), "labels": torch.arange(rows)}


@pytest.mark.parametrize(
    ("rows", "parts", "sizes"), [(4, 1, [4]), (4, 2, [2, 2]), (5, 2, [3, 2]), (3, 3, [1, 1, 1]), (5, 4, [2, 2, 1])]
)
def test_parts_are_the_batch_in_its_order(rows: int, parts: int, sizes: list[int]) -> None:
    pieces = cut(batch(rows), parts)
    assert [len(piece["labels"]) for piece in pieces] == sizes
    for name, whole in batch(rows).items():
        assert torch.equal(torch.cat([piece[name] for piece in pieces]), whole)


@pytest.mark.parametrize(("parts", "rows", "expected"), [(1, 8, 2), (2, 8, 4), (4, 8, 8), (4, 5, 5), (1, 2, 2)])
def test_parts_double_up_to_single_texts(parts: int, rows: int, expected: int, capsys) -> None:
    assert next_parts(parts, rows, 1, MemoryError()) == expected
    assert f"batches of {rows} are computed in {expected} parts" in capsys.readouterr().out


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(UserError, match="out of memory with a single text"):
        next_parts(4, 4, 1, MemoryError())
    # Distributed: 16 texts, of which each pass reads eight.
    with pytest.raises(UserError, match="out of memory with 8 texts per process"):
        next_parts(2, 16, 2, MemoryError())
    with pytest.raises(UserError, match="out of memory with 6 texts per process"):
        next_parts(2, 11, 2, MemoryError())


def test_which_errors_say_that_memory_is_exhausted() -> None:
    said = "[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory"
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError(said)):
        assert is_out_of_memory(error)
    for error in (RuntimeError("shapes do not fit"), ValueError(said), OSError(said)):
        assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    ("fits", "calls"), [(8, [8]), (4, [8, 4, 4]), (3, [8, 4, 2, 2, 2, 2]), (1, [8, 4, 2] + [1] * 8)]
)
def test_rows_are_computed_in_ever_smaller_parts(fits: int, calls: list[int]) -> None:
    seen: list[int] = []

    def compute(part: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(len(part["labels"]))
        if len(part["labels"]) > fits:
            raise MemoryError
        return part["labels"] * 10

    assert in_parts(compute, batch(8)).tolist() == [10 * at for at in range(8)]
    assert seen == calls


@pytest.mark.parametrize("error", [MemoryError("not even one"), RuntimeError("shapes do not fit")])
def test_errors_that_parts_do_not_help_are_raised(error: Exception) -> None:
    tries: list[int] = []

    def compute(part: dict[str, torch.Tensor]) -> torch.Tensor:
        tries.append(len(part["labels"]))
        raise error

    with pytest.raises(type(error), match=str(error)):
        in_parts(compute, batch(4))
    # Memory is tried down to a single text, another error is raised at once.
    assert tries == ([4, 2, 1] if isinstance(error, MemoryError) else [4])


def test_counters_begin_at_nothing_and_come_back_per_process(tmp_path) -> None:
    nothing = Counters()
    assert nothing.parts == 1 and nothing.last_step == {}
    assert not any(value for name, value in asdict(nothing).items() if name != "parts")
    folder = tmp_path / "deep" / "checkpoint-3"
    first, second = Counters(loss_total=1.5, last_logged_step=2, seconds=7.0, nonfinite_steps=1), Counters(parts=2)
    first.save(folder, 0)
    second.save(folder, 1)  # the folder is there by now
    assert Counters.load(folder, 0) == first and Counters.load(folder, 1) == second


def test_losses_are_means_over_the_steps_that_were_made() -> None:
    counters = Counters()
    assert counters.mean_loss == 0.0 and counters.close_window(1) == counters.close_evaluation() == {}
    for loss in (1.0, 2.0, 6.0):
        counters.add(loss)
    assert counters.mean_loss == 3.0
    assert counters.close_window(4) == {"loss": 3.0, "loss_steps": 3} and counters.last_logged_step == 4
    counters.add(11.0)
    # Each window has its own beginning; the mean over all steps has none.
    assert counters.close_window(5) == {"loss": 11.0, "loss_steps": 1} and counters.close_window(6) == {}
    assert counters.close_evaluation() == {"loss_since_evaluation": 5.0} and counters.close_evaluation() == {}
    assert counters.mean_loss == 5.0


def test_counters_of_older_checkpoints(tmp_path) -> None:
    folder = tmp_path / "checkpoint-7"
    Counters().save(folder, 0)
    old = {"loss_total": 4.0, "loss_since_log": 1.0, "last_logged_step": 4, "seconds": 2.0, "parts": 1}
    (folder / "counters_0.json").write_text(json.dumps(old | {"nonfinite_steps": 2}))
    found = Counters.load(folder, 0)
    assert (found.loss_total, found.steps, found.mean_loss, found.loss_since_log) == (5.0, 5, 1.0, 0.0)


def facts(losses: list[float], norm: float = 1.0) -> StepFacts:
    return StepFacts(step=3, losses=losses, gradient_norm=norm, learning_rate=1e-3, ids=[["a"], ["b"]])


def test_steps_are_skipped_up_to_the_limit(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "outputs" / "run"
    refuse_nonfinite(facts([1.0, math.nan]), skipped=2, limit=2, folder=folder, is_main=True)
    said = capsys.readouterr().out
    assert said.startswith("warning: step 3: loss nan, gradient norm 1; the step is skipped (2 of at most 2)")
    assert json.loads((folder / "nonfinite_step_3.json").read_text()) == {
        "step": 3,
        "loss": "nan",
        "losses": [1.0, "nan"],
        "gradient_norm": 1.0,
        "learning_rate": 1e-3,
        "ids": [["a"], ["b"]],
    }
    with pytest.raises(UserError, match="step 3: loss nan"):
        refuse_nonfinite(facts([1.0, math.nan]), skipped=3, limit=2, folder=folder, is_main=True)


def test_other_processes_neither_write_nor_speak(tmp_path, capsys) -> None:
    refuse_nonfinite(facts([math.inf]), skipped=1, limit=1, folder=tmp_path / "run", is_main=False)
    with pytest.raises(SystemExit) as left:
        refuse_nonfinite(facts([math.inf]), skipped=2, limit=1, folder=tmp_path / "run", is_main=False)
    assert left.value.code == 2
    assert not (tmp_path / "run").exists() and capsys.readouterr().out == ""
