"""R-Drop: its divergence by hand, plain training without dropout, exact under accumulation, refused without effect."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.errors import UserError
from opinionlm.training.losses.base import WeightedCrossEntropy
from opinionlm.training.losses.rdrop import batch_sum, divergences, require_dropout
from tests.classifier_runs import train
from tests.tiny import tiny_classifier
from tests.training.test_exact_loss import WEIGHTS, assert_same, examples, first_step, reference
from tests.training.test_loop import engine, of


class TwoFaced(nn.Module):
    """Answers a doubled batch with given logits, one set for each half."""

    def __init__(self, first: torch.Tensor, second: torch.Tensor) -> None:
        super().__init__()
        self.answers = torch.cat([first, second])

    def forward(self, input_ids: torch.Tensor) -> SequenceClassifierOutput:
        assert torch.equal(*input_ids.chunk(2)), "both halves are the same texts"
        return SequenceClassifierOutput(logits=self.answers)


def test_divergence_by_hand() -> None:
    # P = (1/2, 1/2), Q = (4/5, 1/5): KL(P‖Q) = ½ ln(5/8) + ½ ln(5/2), KL(Q‖P) = 0.8 ln 1.6 + 0.2 ln 0.4.
    forward = 0.5 * math.log(5 / 8) + 0.5 * math.log(5 / 2)
    backward = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    p, q = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(4), 0.0]])
    assert divergences(p, q).item() == pytest.approx((forward + backward) / 2, abs=1e-7)
    assert divergences(q, p).item() == pytest.approx((forward + backward) / 2, abs=1e-7)
    # torch's own divergence as the oracle, for tags too.
    one, other = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).unbind()
    expected = [
        nn.functional.kl_div(a.log_softmax(-1), b.log_softmax(-1), reduction="none", log_target=True).sum(-1)
        for a, b in ((one, other), (other, one))
    ]
    torch.testing.assert_close(divergences(one, other), sum(expected) / 2)


def test_sum_by_hand() -> None:
    loss = WeightedCrossEntropy(torch.tensor([1.0, 3.0]))
    first, second = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 1])
    value, _ = batch_sum(TwoFaced(first, second), {"input_ids": torch.arange(2)}, labels, loss, alpha=0.7)
    losses = [(math.log(2), math.log(1 + math.exp(-1))), (math.log(1 + math.exp(2)), math.log(2))]
    extra = divergences(first, second).tolist()
    expected = sum(
        weight * (sum(pair) / 2 + 0.7 * divergence)
        for weight, pair, divergence in zip((1, 3), losses, extra, strict=True)
    )
    assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("batch", "accumulation", "count"), [(16, 1, 16), (4, 4, 13)])
def test_without_dropout_it_is_plain_training(batch: int, accumulation: int, count: int, tmp_path) -> None:
    assert_same(first_step(tmp_path, batch, accumulation, count, rdrop_alpha=5.0), reference(count))


class OwnNoise(nn.Module):
    """A model whose two passes differ in a way that depends on the text alone, as equal dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        half = torch.arange(len(input_ids)) >= len(input_ids) // 2
        values = (input_ids * attention_mask).sum(1, keepdim=True) % 7 / 7
        return SequenceClassifierOutput(logits=values * self.weight[half.long()])


def test_accumulation_equals_one_big_batch() -> None:
    loss, model, rows = WeightedCrossEntropy(WEIGHTS), OwnNoise(), list(examples(13))

    def gradient(cut: int) -> torch.Tensor:
        model.zero_grad()
        total = loss.example_weights(torch.tensor([row["labels"] for row in rows])).sum()
        for start in range(0, len(rows), cut):
            batch = PadCollator(pad_token_id=0)(rows[start : start + cut])
            labels = batch.pop("labels")
            (batch_sum(model, batch, labels, loss, alpha=3.0)[0] / total).backward()
        return model.weight.grad.clone()

    torch.testing.assert_close(gradient(3), gradient(13))
    assert gradient(13).abs().sum() > 0


def test_loop_equals_trainer_and_dropout_counts(tmp_path) -> None:
    runs = []
    for kind, alpha in (("trainer", 2.0), ("loop", 2.0), ("loop", 0.0)):
        runs.append(engine(kind, tmp_path / f"{alpha}", rdrop_alpha=alpha, num_train_epochs=1))
        runs[-1].train()
    assert of(runs[1], "loss") == pytest.approx(of(runs[0], "loss"), abs=1e-6)
    assert of(runs[1], "eval_loss") == pytest.approx(of(runs[0], "eval_loss"), abs=1e-6)
    assert of(runs[2], "loss") != of(runs[1], "loss")


def test_refused_where_both_passes_are_the_same() -> None:
    batch = PadCollator(pad_token_id=0)(list(examples(3)))
    still = tiny_classifier("llama", classifier_dropout=0.0)
    before = torch.random.get_rng_state()
    with pytest.raises(UserError, match="nothing in what trains has dropout"):
        require_dropout(still, batch, "a.yaml")
    assert torch.equal(before, torch.random.get_rng_state()) and not still.training
    require_dropout(tiny_classifier("llama", classifier_dropout=0.1), batch, "a.yaml")
    # Attention that is dropped by a function, which no module shows.
    functional = tiny_classifier("llama", classifier_dropout=0.0)
    for module in functional.modules():
        if "Attention" in type(module).__name__:
            module.attention_dropout = 0.2
    require_dropout(functional, batch, "a.yaml")
    # BERT drops, but not in a frozen prefix.
    frozen = tiny_classifier("bert", classifier_dropout=0.0)
    require_dropout(frozen, batch, "a.yaml")
    frozen.freeze_prefix(4)
    with pytest.raises(UserError, match="set classifier_dropout above 0"):
        require_dropout(frozen, batch, "a.yaml")


def test_a_run_over_the_frozen_cache(setting, tmp_path) -> None:
    options = {"output_dir": str(tmp_path), "adaptation": "head_only", "num_train_epochs": "1"}
    metrics = train(setting, **options, run_name="rdrop", rdrop_alpha="1", classifier_dropout="0.2")
    assert 0 <= metrics["test"]["macro_f1"] <= 1
    with pytest.raises(UserError, match="nothing in what trains has dropout"):
        train(setting, **options, run_name="still", rdrop_alpha="1", classifier_dropout="0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rdrop_alpha", "-1"], "rdrop_alpha: -1.0 must not be negative"),
        (["--rdrop_alpha", "1", "--engine", "tfidf"], "rdrop_alpha: 1.0 is not read by engine: tfidf"),
        (["--rdrop_alpha", "1", "--task", "similarity"], "rdrop_alpha: 1.0 is not read by task: similarity"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(arguments, "test")
    assert message in str(caught.value)


def test_a_batch_is_read_once_unless_told() -> None:
    loss, logits, labels = (
        WeightedCrossEntropy(torch.ones(2)),
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor([0, 1]),
    )

    class Once(nn.Module):
        def forward(self, input_ids: torch.Tensor) -> SequenceClassifierOutput:
            assert input_ids.tolist() == [0, 1]
            return SequenceClassifierOutput(logits=logits)

    value, outputs = batch_sum(Once(), {"input_ids": torch.arange(2)}, labels, loss)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2)))
    assert outputs.logits is logits
