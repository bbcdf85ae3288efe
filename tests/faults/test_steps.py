"""Steps that go wrong: too little memory, losses that are no numbers. Both engines."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from opinionlm.errors import UserError
from opinionlm.training.engines import Engine
from opinionlm.training.losses.base import WeightedCrossEntropy
from tests.training.test_exact_loss import WEIGHTS
from tests.training.test_loop import Killer, engine, of

KINDS = ["trainer", "loop"]


def limit_rows(model: torch.nn.Module, rows: int, backward: bool, error: Exception) -> list[int]:
    """Make a model run out of memory with more rows; returns the sizes of the batches that it is given to train on."""
    seen: list[int] = []

    def refuse(gradient: torch.Tensor) -> None:
        if len(gradient) > rows:
            raise error

    def check(head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if not head.training:
            return
        seen.append(len(inputs[0]))
        if backward:
            # The head has its gradients by then, the backbone has not.
            inputs[0].register_hook(refuse)
        elif len(inputs[0]) > rows:
            raise error

    model.head.register_forward_pre_hook(check)
    return seen


def without_dropout(one: Engine) -> Engine:
    """Dropout draws other numbers for other batches."""
    for module in one.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return one


@pytest.mark.parametrize(
    ("kind", "backward"),
    [
        ("trainer", False),
        ("loop", True),
        pytest.param("trainer", True, marks=pytest.mark.slow),
        pytest.param("loop", False, marks=pytest.mark.slow),
    ],
)
def test_too_little_memory_changes_the_batches_and_nothing_else(kind, backward, tmp_path, capsys) -> None:
    whole, short = without_dropout(engine(kind, tmp_path / "whole")), without_dropout(engine(kind, tmp_path / "short"))
    whole.train()
    seen = limit_rows(short.model, 1, backward, torch.OutOfMemoryError("CUDA out of memory."))
    short.train()
    assert set(seen) == {4, 2, 1} and seen[-1] == 1
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("out of memory")]
    assert len(said) == 2 and "batches of 4 are computed in 4 parts" in said[1]
    for name in ("loss", "grad_norm", "learning_rate", "eval_macro_f1"):
        assert of(short, name) == pytest.approx(of(whole, name), abs=1e-5), name
    assert short.state.num_input_tokens_seen == whole.state.num_input_tokens_seen
    # Adam makes of a gradient's rounding a part of its rate, which is 3e-3.
    for one, other in zip(whole.model.parameters(), short.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=5e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_does_not_suffice_for_one_text_is_named(kind, tmp_path) -> None:
    one = engine(kind, tmp_path)
    limit_rows(one.model, 0, False, RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: tried 8 GB"))
    with pytest.raises(UserError, match="out of memory with a single text; lower max_length"):
        one.train()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_with_too_little_memory(kind, tmp_path) -> None:
    one = engine(kind, tmp_path)
    expected = one.outputs(one.eval_dataset)

    def check(head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 3:
            raise MemoryError

    one.model.head.register_forward_pre_hook(check)
    assert one.outputs(one.eval_dataset) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_other_errors_are_not_taken_for_a_lack_of_memory(kind, tmp_path) -> None:
    one = engine(kind, tmp_path)
    limit_rows(one.model, 0, False, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        one.train()


class Poisoned(WeightedCrossEntropy):
    """Some batches' losses are no numbers.

    Args:
        batches: their numbers in the order of training, from 0.
        value: the loss.
    """

    def __init__(self, batches: set[int], value: float) -> None:
        super().__init__(WEIGHTS)
        self.batches, self.poison, self.count = batches, value, 0

    def weighted_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        number, self.count = self.count, self.count + 1
        found = super().weighted_sum(logits, labels)
        return found * self.poison if number in self.batches else found


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_stops_training(kind, tmp_path) -> None:
    # Two batches per step: the fourth batch belongs to the second step.
    one = engine(kind, tmp_path, loss=Poisoned({3}, math.nan))
    with pytest.raises(UserError, match=r"step 2: loss nan, gradient norm nan; .*names its texts.*max_nonfinite"):
        one.train()
    facts = json.loads((tmp_path / "nonfinite_step_2.json").read_text())
    assert facts["step"] == 2 and facts["loss"] == "nan" and facts["gradient_norm"] == "nan"
    assert math.isfinite(facts["losses"][0]) and facts["losses"][1] == "nan" and facts["learning_rate"] > 0
    one.plan.set_epoch(0)
    batches = list(one.plan)
    assert facts["ids"] == [[str(position) for position in batch] for batch in batches[2:4]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_steps_can_be_skipped(kind, value, tmp_path, capsys) -> None:
    one = engine(kind, tmp_path, loss=Poisoned({3}, value), max_nonfinite_steps=1)
    weights: list[torch.Tensor] = []

    def keep(*_: object) -> None:
        weights.append(next(one.model.head.parameters()).detach().clone())

    torch_step = register_optimizer_step_post_hook(keep)
    try:
        one.train()
    finally:
        torch_step.remove()
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert one.state.global_step == 9
    assert "warning: step 2: loss" in capsys.readouterr().out
    json.dumps(one.state.log_history, allow_nan=False)
    assert all(parameter.isfinite().all() for parameter in one.model.parameters())
    # One more than allowed stops.
    with pytest.raises(UserError, match="step 3: loss"):
        engine(kind, tmp_path / "b", loss=Poisoned({3, 4}, value), max_nonfinite_steps=1).train()


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_steps_are_remembered(kind, tmp_path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    one = engine(kind, tmp_path, [Killer(4)], Poisoned({3}, math.nan), max_nonfinite_steps=1, **options)
    with pytest.raises(KeyboardInterrupt):
        one.train()
    checkpoint = str(tmp_path / kind / "checkpoint-3")
    again = engine(kind, tmp_path, loss=Poisoned({0}, math.nan), max_nonfinite_steps=1, **options)
    with pytest.raises(UserError, match="step 4: loss nan"):
        again.train(resume_from_checkpoint=checkpoint)
