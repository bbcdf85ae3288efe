"""Training on texts in chunks: the cache gives the same numbers, steps are exact, budgets count every chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.models.classifier import stores_pooled
from opinionlm.models.frozen_prefix import PrefixStandIn
from opinionlm.training import prefix_cache_building as cache_building
from opinionlm.training.batching import BatchPlan, EncodedTexts
from opinionlm.training.prefix_cache import cache_key, texts_digest, weights_digest
from tests.processes import in_two_processes
from tests.tiny import tiny_classifier
from tests.training import test_exact_loss, test_exact_task_losses
from tests.training.test_exact_loss import assert_same, first_step, reference
from tests.training.test_prefix_cache import METHODS, build


def chunked(count: int = 16) -> Dataset:
    """Texts of one to four chunks, of at most eight tokens each."""
    generator = np.random.default_rng(7)
    rows = []
    for index in range(count):
        number = int(generator.integers(1, 5))
        lengths = [8] * number if number > 1 else [int(generator.integers(2, 9))]
        ids = generator.integers(4, 300, sum(lengths)).tolist()
        rows.append({"input_ids": ids, "labels": (index * index) % 4, "length": len(ids), "chunks": lengths})
    return Dataset.from_list(rows)


@pytest.mark.parametrize("family", ["gemma3_text", "bert", "gpt2", "t5"])
@pytest.mark.parametrize("method", METHODS)
def test_stored_states_give_the_same_logits(family: str, method: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache_building, "CPU_TOKENS", 40)
    model = tiny_classifier(family, head_hidden_sizes=[32])
    apply_adaptation(model, METHODS[method])
    encoded = chunked(12)
    states = build(model, tmp_path, encoded)
    assert len(states.states) == (12 if stores_pooled(model) else sum(encoded["length"]))
    reader = EncodedTexts(encoded, np.arange(12), states)
    for chosen in ([3, 7, 1, 0, 5], [2], list(range(12))):
        batch = PadCollator(0)(reader.__getitems__(chosen))
        plain = PadCollator(0)(EncodedTexts(encoded, np.arange(12)).__getitems__(chosen))
        del batch["labels"], plain["labels"]
        with torch.no_grad():
            expected = model(**plain).logits
            if stores_pooled(model):
                cached = model(**batch).logits
            else:
                with PrefixStandIn(model):
                    cached = model(**batch).logits
        torch.testing.assert_close(cached, expected, rtol=0, atol=3e-6)


def test_the_cache_knows_chunks() -> None:
    encoded = chunked()
    other = [row | {"chunks": [row["length"]]} for row in encoded.to_list()]
    assert (
        texts_digest(encoded)
        != texts_digest(Dataset.from_list(other))
        != texts_digest(encoded.remove_columns("chunks"))
    )
    for method, differs in (("head_only", True), ("top_one", False)):
        model = tiny_classifier()
        apply_adaptation(model, METHODS[method])
        digest = weights_digest(model)
        mean = cache_key(model, encoded, digest, False)
        model.config.chunk_pooling = "max"
        assert (cache_key(model, encoded, digest, False) != mean) == differs


@pytest.mark.parametrize(("batch", "accumulation", "count"), [(8, 2, 16), (1, 16, 16), (4, 4, 13)])
def test_accumulation_equals_one_big_batch(batch: int, accumulation: int, count: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(test_exact_loss, "examples", chunked)
    assert_same(first_step(tmp_path, batch, accumulation, count), reference(count))


def several(task: str, count: int) -> Dataset:
    """The same texts, each with any of three labels."""
    labels = (np.random.default_rng(3).random((count, 3)) < 0.4).astype(np.float32)
    return Dataset.from_list([row | {"labels": own.tolist()} for row, own in zip(chunked(count), labels, strict=True)])


@pytest.mark.parametrize(("batch", "accumulation", "count"), [(8, 2, 16), (1, 13, 13)])
def test_several_labels_of_chunked_texts(batch: int, accumulation: int, count: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(test_exact_task_losses, "examples", several)
    task = "multi_label"
    step = test_exact_task_losses.first_step(tmp_path, task, batch, accumulation, count)
    assert_same(step, test_exact_task_losses.reference(task, count))


def shared_steps(folder: Path) -> tuple[list[tuple[float, dict]], int]:
    """One optimizer step over 13 texts in one of several processes, with a label each and with any number."""
    test_exact_loss.examples, test_exact_task_losses.examples = chunked, several
    steps = [first_step(folder, 2, 4, 13), test_exact_task_losses.first_step(folder, "multi_label", 2, 4, 13)]
    return steps, torch.distributed.get_world_size()


def test_two_processes_equal_one_big_batch(tmp_path, monkeypatch) -> None:
    steps, world = in_two_processes(tmp_path, shared_steps, tmp_path)
    assert world == 2
    monkeypatch.setattr(test_exact_loss, "examples", chunked)
    monkeypatch.setattr(test_exact_task_losses, "examples", several)
    expected = [reference(13), test_exact_task_losses.reference("multi_label", 13)]
    for (loss, gradients), whole in zip(steps, expected, strict=True):
        assert_same((loss, {name.removeprefix("module."): found for name, found in gradients.items()}), whole)


def test_r_drop_reads_chunks_twice(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(test_exact_loss, "examples", chunked)
    # Without dropout both passes are the same, and the divergence is nothing.
    assert_same(first_step(tmp_path, 8, 2, rdrop_alpha=1.0), reference())


def test_budgets_count_the_tokens_of_all_chunks() -> None:
    texts = EncodedTexts(chunked(60), np.arange(60))
    plan = BatchPlan(texts.lengths, 4, DataConfig(max_tokens_per_batch=64), 0, 1)
    for batch in plan:
        read = PadCollator(0)(texts.__getitems__(batch))
        assert read["input_ids"].numel() <= 64
    assert any(len(batch) > 4 for batch in plan)
