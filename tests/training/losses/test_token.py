"""The loss of answer tokens against torch's, in chunks of any size."""

from __future__ import annotations

import pytest
import torch

from opinionlm.training.losses import token as supervised_loss
from opinionlm.training.losses.token import SupervisedCrossEntropy, parts


@pytest.mark.parametrize(("chunk", "rows"), [(12, 3), (15, 3), (16, 4), (4, 1), (3, 1), (1, 1), (10**6, 250_000)])
def test_parts_are_all_rows_in_order_and_no_larger_than_a_chunk(chunk: int, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(supervised_loss, "CHUNK", chunk)
    logits = torch.arange(44.0).view(11, 4)
    found = parts(logits)
    assert torch.equal(torch.cat([logits[part] for part in found]), logits)
    assert {part.stop - part.start for part in found} == {rows}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [5, 1 << 24])
def test_value_and_gradient_are_those_of_torch(dtype: torch.dtype, chunk: int, monkeypatch) -> None:
    monkeypatch.setattr(supervised_loss, "CHUNK", chunk)
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    again = logits.detach().clone().requires_grad_()
    targets, rows = torch.tensor([0, 4, 2, 2, 1, 3, 0]), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    weights = torch.tensor([1.0, 0.25, 3.0])
    loss = SupervisedCrossEntropy()(logits, targets, rows, weights)
    expected = (weights[rows] * torch.nn.functional.cross_entropy(again.float(), targets, reduction="none")).sum()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(logits.grad, again.grad)


def test_sixty_four_megabytes_in_float32_at_a_time() -> None:
    # Of Gemma's 262,144 tokens 64 rows are 2^24 numbers of four bytes; one row is taken however long it is.
    assert [(part.start, part.stop) for part in parts(torch.empty(130, 2**18, device="meta"))] == [
        (0, 64),
        (64, 128),
        (128, 192),
    ]
    assert len(parts(torch.empty(3, 2**24 + 1, device="meta"))) == 3
    assert parts(torch.empty(0, 5)) == []
