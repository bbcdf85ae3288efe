"""A model reads texts in chunks: as if each chunk were a text, joined before the head, whatever the batch."""

from __future__ import annotations

import pytest
import torch

from opinionlm.data.encoding.collators import PadCollator
from opinionlm.models import chunks as chunks_module
from opinionlm.models.heads import pool
from tests.tiny import FAMILIES, tiny_classifier


def row(*lengths: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed + sum(lengths))
    ids = torch.randint(4, 300, (sum(lengths),), generator=generator).tolist()
    return {"input_ids": ids, "chunks": list(lengths)}


ROWS = [row(5), row(12, 12, 12), row(12, 12), row(9), row(12, 12, 7)]


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    return PadCollator(0)(rows)


@pytest.mark.parametrize("pooling", ["auto", "first", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_batch_of_mixed_texts_equals_one_by_one(family: str, pooling: str) -> None:
    model = tiny_classifier(family, pooling=pooling)
    together = model(**collate(ROWS)).logits
    alone = torch.cat([model(**collate([one])).logits for one in ROWS])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("chunk_pooling", ["mean", "max"])
@torch.no_grad()
def test_pooling_by_hand(chunk_pooling: str) -> None:
    model = tiny_classifier("bert", pooling="pooler")
    model.config.chunk_pooling = chunk_pooling
    text = row(12, 12, 7)
    parts = [text["input_ids"][start:stop] for start, stop in ((0, 12), (12, 24), (24, 31))]
    vectors = [model.pooled(torch.tensor([part]), torch.ones(1, len(part), dtype=torch.long))[0] for part in parts]
    stacked = torch.stack(vectors)
    expected = stacked.mean(dim=0) if chunk_pooling == "mean" else stacked.amax(dim=0)
    found = model.pooled(**collate([text, row(4)]))[0]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_a_short_text_gives_the_same_bits() -> None:
    model = tiny_classifier()
    short = [row(5), row(9)]
    plain = [{"input_ids": one["input_ids"]} for one in short]
    for chunk_pooling in ("mean", "max"):
        model.config.chunk_pooling = chunk_pooling
        assert torch.equal(model(**collate(short)).logits, model(**collate(plain)).logits)
        # Forced through the chunks, too.
        batch = {name: tensor.unsqueeze(1) for name, tensor in collate(short).items()}
        assert torch.equal(model(**batch).logits, model(**collate(plain)).logits)


def test_gradients_reach_every_chunk_and_none_comes_of_padding() -> None:
    model = tiny_classifier(classifier_dropout=0.0)
    batch = collate(ROWS)
    model(**batch).logits.sum().backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for one in ROWS:
        model(**collate([one])).logits.sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, atol=5e-5, rtol=1e-3)


def test_memory_of_a_very_long_text_is_bounded(monkeypatch) -> None:
    model, seen = tiny_classifier(), []
    text = row(*[12] * 40)
    with torch.no_grad():
        whole = model(**collate([text])).logits
    monkeypatch.setattr(chunks_module, "TOKENS_AT_ONCE", 60)
    model.backbone.register_forward_pre_hook(
        lambda module, args, named: seen.append(named["input_ids"].shape[0]), with_kwargs=True
    )
    with torch.no_grad():
        pieces = model(**collate([text])).logits
    assert seen == [5] * 8
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-4)


def test_largest_values_are_those_of_tokens() -> None:
    states = torch.tensor([[[1.0, -5.0], [0.0, -3.0], [9.0, 9.0]], [[-1.0, -2.0], [9.0, 9.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert pool(states, mask, "max").tolist() == [[1.0, -3.0], [-1.0, -2.0]]
