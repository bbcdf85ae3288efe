"""The frozen-prefix cache: same numbers as without it, and nothing wrong is ever read from it."""

from __future__ import annotations

import errno
import os
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.method_options import MethodConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.errors import UserError
from opinionlm.models.classifier import OpinionClassifier, stores_pooled
from opinionlm.models.frozen_prefix import PrefixStandIn, prefix_states
from opinionlm.training import prefix_cache_building as cache_building
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.prefix_cache import (
    STATES,
    DamagedCacheError,
    cache_key,
    clean,
    open_cache,
    texts_digest,
    weights_digest,
)
from opinionlm.training.prefix_cache_building import cached_splits
from tests.processes import in_two_processes
from tests.tiny import FAMILIES, tiny_classifier

METHODS = {
    "top_one": MethodConfig(adaptation="top_blocks", trainable_blocks=1),
    "top_three": MethodConfig(adaptation="top_blocks", trainable_blocks=3),
    "head_only": MethodConfig(adaptation="head_only"),
}


def texts(count: int = 12, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(count):
        length = int(torch.randint(2, 24, (), generator=generator))
        ids = [2, *torch.randint(4, 300, (length,), generator=generator).tolist()]
        rows.append({"input_ids": ids, "labels": index % 4, "length": len(ids)})
    return Dataset.from_list(rows)


def arguments(folder: Path, **options) -> TrainingArguments:
    return TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none", **options)


def settings(folder: Path, **options) -> MethodConfig:
    return MethodConfig(cache_dir=str(folder / "cache"), **options)


def build(model: OpinionClassifier, folder: Path, encoded: Dataset, **options):
    return cached_splits(model, {"train": encoded}, settings(folder, **options), arguments(folder), pad_id=0)["train"]


@pytest.mark.parametrize("family", FAMILIES)
def test_stand_ins_give_the_same_bits(family: str) -> None:
    model = tiny_classifier(family, head_hidden_sizes=[32])
    batch = PadCollator(0)(list(texts()))
    labels = batch.pop("labels")

    def step(states: torch.Tensor | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(5)
        model.zero_grad()
        logits = model(**batch, prefix_states=states).logits
        torch.nn.functional.cross_entropy(logits, labels).backward()
        return logits, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    for method, options in METHODS.items():
        apply_adaptation(model, options)
        # Dropout above the cut is on: the same random numbers must be drawn with and without the stand-ins.
        model.train()
        plain_logits, plain_gradients = step(None)
        states = prefix_states(model, batch["input_ids"], batch["attention_mask"])
        if stores_pooled(model):
            logits, gradients = step(states)
        else:
            with PrefixStandIn(model):
                logits, gradients = step(states)
        assert torch.equal(logits, plain_logits), method
        assert gradients.keys() == plain_gradients.keys(), method
        assert all(torch.equal(gradients[name], gradient) for name, gradient in plain_gradients.items()), method
        assert torch.equal(step(None)[0], plain_logits), "the blocks are back"


@pytest.mark.parametrize("method", METHODS)
def test_texts_of_one_token_are_padded_as_others(method: str, tmp_path) -> None:
    model = tiny_classifier("gpt2")
    apply_adaptation(model, METHODS[method])
    encoded = Dataset.from_list([{"input_ids": [word], "labels": 0, "length": 1} for word in (5, 6, 7)])
    reader = EncodedTexts(encoded, np.arange(3), build(model, tmp_path, encoded))
    batch = PadCollator(0, fixed_length=8)(reader.__getitems__([2, 0]))
    assert batch["prefix_states"].shape == (2, 1 if stores_pooled(model) else 8, model.backbone.config.hidden_size)
    del batch["labels"]
    with torch.no_grad():
        plain = model(batch["input_ids"], batch["attention_mask"]).logits
        with nullcontext() if stores_pooled(model) else PrefixStandIn(model):
            cached = model(**batch).logits
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["gemma3_text", "bert", "gpt2", "t5"])
@pytest.mark.parametrize("method", METHODS)
def test_stored_states_give_the_same_logits(family: str, method: str, tmp_path) -> None:
    model = tiny_classifier(family, head_hidden_sizes=[32])
    apply_adaptation(model, METHODS[method])
    encoded = texts()
    states = build(model, tmp_path, encoded)
    rows = EncodedTexts(encoded, np.arange(len(encoded)), states).__getitems__([3, 7, 1])
    batch = PadCollator(0)(rows)
    del batch["labels"]
    with torch.no_grad():
        plain = model(batch["input_ids"], batch["attention_mask"]).logits
        if stores_pooled(model):
            cached = model(**batch).logits
        else:
            with PrefixStandIn(model):
                cached = model(**batch).logits
    # The batches of building had another shape than this one, so that sums may be taken in another order.
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-6)


def test_frozen_dropout_is_off_and_trained_dropout_on() -> None:
    model = tiny_classifier("bert")
    apply_adaptation(model, METHODS["top_one"])
    model.train()
    assert not model.backbone.embeddings.training
    assert [block.training for block in model.backbone.encoder.layer] == [False, False, False, True]
    apply_adaptation(model, MethodConfig(adaptation="full"))
    assert all(module.training for module in model.train().modules())


def test_cache_is_used_again(tmp_path, monkeypatch) -> None:
    model = tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])
    first = build(model, tmp_path, texts())
    monkeypatch.setattr(cache_building, "fill", lambda *a: pytest.fail("built again"))
    other = tiny_classifier(head_hidden_sizes=[16])  # another head on the same weights
    apply_adaptation(other, METHODS["top_one"])
    assert torch.equal(build(other, tmp_path, texts()).states, first.states)


def test_key_changes_with_everything_that_matters() -> None:
    def key(model: OpinionClassifier, encoded: Dataset, autocast: bool = False) -> str:
        return cache_key(model, encoded, weights_digest(model), autocast)

    def classifier(method: str = "top_one", **options) -> OpinionClassifier:
        model = tiny_classifier(**options)
        apply_adaptation(model, METHODS[method])
        return model

    base, encoded = classifier(), texts()
    keys = {key(base, encoded)}
    assert key(classifier(head_hidden_sizes=[8]), texts()) in keys  # the head does not matter

    for name in ("backbone.embed_tokens.weight", "backbone.layers.2.mlp.down_proj.weight"):
        changed = classifier()
        with torch.no_grad():
            changed.get_parameter(name)[0, 0] += 1e-3
        keys.add(key(changed, encoded))
    above = classifier()
    with torch.no_grad():
        above.backbone.layers[3].mlp.down_proj.weight[0, 0] += 1
    assert key(above, encoded) == key(base, encoded)  # a trained block does not matter

    one_token = encoded.to_list()
    one_token[5]["input_ids"][1] += 1
    keys |= {
        key(classifier("top_three"), encoded),
        key(classifier("head_only"), encoded),
        key(classifier("head_only", pooling="mean"), encoded),
        key(base, Dataset.from_list(one_token)),
        key(base, encoded.select([1, 0, *range(2, 12)])),
        key(base, encoded, autocast=True),
        key(classifier("top_one", seed=1), encoded),
    }
    assert len(keys) == 1 + 2 + 7


def test_digest_knows_where_texts_end() -> None:
    one = Dataset.from_list([{"input_ids": [2, 5], "length": 2}, {"input_ids": [6], "length": 1}])
    other = Dataset.from_list([{"input_ids": [2], "length": 1}, {"input_ids": [5, 6], "length": 2}])
    assert texts_digest(one) != texts_digest(other)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "description"])
def test_damage_is_found_and_mended(damage: str, tmp_path, capsys) -> None:
    model = tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])
    expected = build(model, tmp_path, texts()).states.clone()
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    path = folder / STATES
    match damage:
        case "flip":
            content = bytearray(path.read_bytes())
            content[1234] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(path.read_bytes()[:-4])
        case "missing":
            path.unlink()
        case "description":
            (folder / "meta.json").write_text("{")
    with pytest.raises(DamagedCacheError):
        open_cache(folder, pooled=False)
    assert torch.equal(build(model, tmp_path, texts()).states, expected)
    assert "built again" in capsys.readouterr().out


def test_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    model = tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])

    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left on device.*cache_dir"):
        build(model, tmp_path, texts())
    assert list((tmp_path / "cache").iterdir()) == []


def test_killed_while_building_leaves_nothing_to_read(tmp_path, monkeypatch) -> None:
    model = tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])
    calls = []

    def interrupted(*batch) -> torch.Tensor:
        calls.append(batch)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return prefix_states(*batch)

    monkeypatch.setattr(cache_building, "CPU_TOKENS", 32)
    monkeypatch.setattr(cache_building, "prefix_states", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(model, tmp_path, texts())
    monkeypatch.setattr(cache_building, "prefix_states", prefix_states)
    partial = tmp_path / "cache" / ".0123.99-dead"  # what kill -9 leaves
    partial.mkdir()
    (partial / STATES).write_bytes(b"x")
    states = build(model, tmp_path, texts())
    assert len(states) == 12
    old = time.time() - 100_000
    os.utime(partial, (old, old))
    clean(tmp_path / "cache", 10**9, keep=set())
    assert not partial.exists()


def test_oldest_goes_first(tmp_path) -> None:
    model = tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])
    keys = []
    for seed in range(3):
        build(model, tmp_path, texts(seed=seed))
        keys.append(cache_key(model, texts(seed=seed), weights_digest(model), False))
    folder = tmp_path / "cache"
    for age, name in enumerate(keys):
        os.utime(folder / name / "meta.json", (1000 + age, 1000 + age))
    open_cache(folder / keys[0], pooled=False)  # used now
    size = sum(path.stat().st_size for path in (folder / keys[0]).iterdir())
    assert clean(folder, int(size * 2.4), keep=set()) == [keys[1]]
    assert clean(folder, 0, keep={keys[2]}) == [keys[0]]
    assert (folder / keys[2]).is_dir()


def test_modes(tmp_path, capsys) -> None:
    model = tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])
    splits = {"train": texts()}
    run = arguments(tmp_path)
    assert cached_splits(model, splits, settings(tmp_path, cache_frozen="off"), run, 0) is None
    assert cached_splits(model, splits, settings(tmp_path, cache_limit_gb=1e-9), run, 0) is None
    assert "exceed cache_limit_gb" in capsys.readouterr().out
    with pytest.raises(UserError, match="cache_frozen: on, but .* exceed"):
        cached_splits(model, splits, settings(tmp_path, cache_frozen="on", cache_limit_gb=1e-9), run, 0)
    apply_adaptation(model, MethodConfig(adaptation="full"))
    assert cached_splits(model, splits, settings(tmp_path), run, 0) is None
    with pytest.raises(UserError, match="freezes no block"):
        cached_splits(model, splits, settings(tmp_path, cache_frozen="on"), run, 0)


def filled_while_another_run_finishes_it(folder: Path) -> int:
    """One of two processes finds the cache that is missing for the other: another run has published it meanwhile."""
    options, model = arguments(folder), tiny_classifier()
    apply_adaptation(model, METHODS["top_one"])
    assert torch.distributed.is_initialized()
    if options.process_index == 1:
        looked = Path.is_dir
        Path.is_dir = lambda path: path.parent.name == "cache" or looked(path)
    states = cached_splits(model, {"train": texts()}, settings(folder, adaptation="top_blocks"), options, pad_id=0)
    return len(states["train"])


def test_two_processes_agree_whether_a_cache_is_missing(tmp_path) -> None:
    """Each looked for itself, and where they differed both waited for ever."""
    assert in_two_processes(tmp_path, filled_while_another_run_finishes_it, tmp_path, timeout=90) == 12
