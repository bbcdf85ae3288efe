"""What a run spends: sums over parts, operations by hand, words; and a real run that fills its cache and finds it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import train_classifier
from opinionlm.config.config import Config
from opinionlm.config.options import DataConfig
from opinionlm.training.batching import BatchPlan
from opinionlm.training.cost import block_flops
from opinionlm.training.prefix_cache import PrefixStates
from opinionlm.training.spending import (
    Preparation,
    add_preparation,
    cost_facts,
    describe_cost,
    members_cost,
    preparation_of,
)
from tests.classifier_runs import command_line, write_setting


def states(built_seconds: float | None) -> PrefixStates:
    return PrefixStates(torch.zeros(1, 2), np.array([0, 1]), built_seconds=built_seconds)


def test_only_what_was_built_is_spent() -> None:
    found = {"train": states(4.0), "validation": states(None), "test": states(0.5)}
    spent = preparation_of(1.0, 2.0, found, train_tokens=70)
    assert spent == Preparation(1.0, 2.0, 4.5, 70, cache_splits_built=2, cache_splits_reused=1)
    assert preparation_of(0.0, 0.0, {"train": states(None)}, 70) == Preparation(cache_splits_reused=1)
    assert preparation_of(0.0, 0.0, None, 70) == Preparation()


def test_a_continued_run_spent_what_its_parts_did(tmp_path) -> None:
    config = Config()
    config.training.output_dir, config.training.run_name = str(tmp_path), "run"
    config.run_folder.mkdir()
    first = Preparation(cache_seconds=10.0, cache_train_tokens=70, cache_splits_built=3)
    assert add_preparation(config, "data", first) == first
    # The second part finds its own cache; that is no reuse of another run's.
    assert add_preparation(config, "data", Preparation(selection_seconds=1.0, cache_splits_reused=3)) == Preparation(
        selection_seconds=1.0, cache_seconds=10.0, cache_train_tokens=70, cache_splits_built=3
    )
    # Other data or options are another run, and a damaged note is none.
    assert add_preparation(config, "other data", first) == first
    config.training.learning_rate = 1.0
    assert add_preparation(config, "other data", first) == first
    (config.run_folder / "preparation.json").write_text("[1]")
    assert add_preparation(config, "other data", first) == first


def test_totals_and_words_by_hand() -> None:
    cost = cost_facts(Preparation(cache_seconds=10.0, cache_splits_built=3), 2.0, 0.5, tokens=1000, train_flops=7.0)
    assert cost["total_seconds"] == 12.5 and cost["train_seconds"] == 2.0 and cost["evaluation_seconds"] == 0.5
    assert cost["tokens_per_second"] == 500.0 and cost["tokens_per_second_overall"] == 80.0
    words = describe_cost(cost)
    assert words.startswith(
        "12 s in all (cache 10 s, training 2.0 s, evaluation 0.5 s), 500 tokens/s in training, 80 over"
    )
    reused = cost_facts(Preparation(cache_splits_reused=2, cache_splits_built=1), 2.0, 0.5, 1000, 7.0)
    assert reused["cache_seconds"] == 0.0 and "cache of 2 of 3 splits reused" in describe_cost(reused)
    # No steps, no tokens, no operations: no numbers of them.
    fitted = cost_facts(Preparation(), 3.0, 1.0, tokens=0, train_flops=None)
    assert not {"tokens_per_second", "tokens_per_second_overall", "train_flops"} & fitted.keys()
    assert "tokens/s" not in describe_cost(fitted)


def test_an_ensemble_took_what_its_members_took() -> None:
    new = cost_facts(Preparation(cache_seconds=10.0), 2.0, 1.0, tokens=1000, train_flops=7.0)
    other = cost_facts(Preparation(), 8.0, 1.0, tokens=1000, train_flops=5.0)
    both = members_cost([new, other])
    assert both["total_seconds"] == 22.0 and both["train_seconds"] == 10.0 and both["train_flops"] == 12.0
    assert both["tokens_per_second"] == 200.0
    # A member from before there was a total: the sum is not that of some members.
    old = {"train_seconds": 8.0, "tokens_per_second": 1.0, "peak_memory_mb": 1.0, "train_flops": 1.0}
    assert "total_seconds" not in members_cost([new, old]) and members_cost([new, old])["train_seconds"] == 10.0


def test_recomputed_blocks_run_forward_twice() -> None:
    frozen, trained = torch.nn.Linear(4, 4, bias=False).requires_grad_(False), torch.nn.Linear(4, 4, bias=False)
    # Forward 2 per weight and block; backward 2 for the gradient of the trained weights and 2 to go through the block.
    assert block_flops([frozen, trained], gradient_flows=False) == 2 * 16 + 6 * 16
    assert block_flops([frozen, trained], gradient_flows=False, recomputed=True) == 2 * 16 + 8 * 16


@pytest.mark.parametrize("max_tokens", [None, 40])
def test_texts_read_by_every_number_of_steps(max_tokens: int | None) -> None:
    lengths = np.random.default_rng(0).integers(3, 12, 37)
    plan = BatchPlan(lengths, 4, DataConfig(max_tokens_per_batch=max_tokens), seed=1, epochs=3, processes=2)
    sizes = []
    for epoch in range(3):
        batches = plan.batches(epoch)
        sizes += [sum(len(batch) for batch in batches[start : start + 2]) for start in range(0, len(batches), 2)]
    for steps in range(len(sizes) + 1):
        assert plan.texts_read(steps, accumulation=2) == sum(sizes[:steps])


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_a_cache_is_paid_once_and_by_the_run_that_built_it(tmp_path, capsys) -> None:
    setting = write_setting(tmp_path) | {"adaptation": "head_only", "output_dir": str(tmp_path)}
    costs = {}
    for name, options in {"first": {}, "second": {}, "without": {"cache_frozen": "off"}}.items():
        train_classifier.main(command_line(setting, run_name=name, **options))
        costs[name] = metrics_of(tmp_path / name)["cost"]
        # The terminal and the card say what the file does.
        assert describe_cost(costs[name]) in capsys.readouterr().out
        assert f"| cost | {describe_cost(costs[name])} |" in (tmp_path / name / "best" / "README.md").read_text()
    first, second, without = costs["first"], costs["second"], costs["without"]
    parts = ("train_seconds", "cache_seconds", "evaluation_seconds")
    for cost in costs.values():
        assert cost["total_seconds"] == pytest.approx(sum(cost[part] for part in parts))
        assert cost["tokens_per_second_overall"] < cost["tokens_per_second"]
    assert first["cache_seconds"] > 0 and first["cache_splits_built"] == 3
    assert second["cache_seconds"] == 0 and second["cache_splits_reused"] == 3 and second["train_flops"] == 0
    assert without["cache_seconds"] == 0 and "cache_splits_built" not in without
    # Two epochs of forward passes without the cache, one with it; the head is not counted.
    assert first["train_flops"] > 0 and without["train_flops"] == pytest.approx(2 * first["train_flops"])


def test_a_continued_run_pays_for_its_own_cache(tmp_path) -> None:
    setting = write_setting(tmp_path) | {"adaptation": "head_only", "output_dir": str(tmp_path), "run_name": "run"}
    train_classifier.main(command_line(setting))
    first = metrics_of(tmp_path / "run")["cost"]
    # As if it had been killed at the end: it goes on, and finds the states that it has computed itself.
    (tmp_path / "run" / "metrics.json").unlink()
    train_classifier.main(command_line(setting))
    again = metrics_of(tmp_path / "run")["cost"]
    assert again["cache_seconds"] == first["cache_seconds"] > 0 and again["cache_splits_reused"] == 0
    assert again["train_flops"] == first["train_flops"] and again["total_seconds"] > again["cache_seconds"]


def test_logistic_regression_has_neither_steps_nor_tokens(tmp_path) -> None:
    setting = write_setting(tmp_path) | {"output_dir": str(tmp_path), "head_hidden_sizes": "[]"}
    train_classifier.main(command_line(setting, run_name="sklearn", engine="sklearn", adaptation="head_only"))
    metrics = metrics_of(tmp_path / "sklearn")
    assert metrics["train"].keys() == {"steps", "best_step", "C"} and "tokens_per_second" not in metrics["cost"]
    assert metrics["cost"]["cache_seconds"] > 0 and metrics["cost"]["train_flops"] > 0
    card = (tmp_path / "sklearn" / "best" / "README.md").read_text()
    assert f"| fit | logistic regression on the frozen features, C {metrics['train']['C']:g} |" in card
    assert "| learning rate" not in card and "| optimizer step" not in card
    train_classifier.main(command_line(setting, run_name="words", engine="tfidf"))
    cost = metrics_of(tmp_path / "words")["cost"]
    assert cost["total_seconds"] == pytest.approx(cost["train_seconds"] + cost["evaluation_seconds"])
    assert not {"train_flops", "tokens_per_second"} & cost.keys()


def test_flops_above_a_cut_are_those_of_every_epoch(tmp_path) -> None:
    setting = write_setting(tmp_path) | {"adaptation": "top_blocks", "output_dir": str(tmp_path)}
    train_classifier.main(command_line(setting, run_name="first"))
    train_classifier.main(command_line(setting, run_name="without", cache_frozen="off"))
    built, whole = metrics_of(tmp_path / "first"), metrics_of(tmp_path / "without")
    tokens = whole["cost"]["train_flops"] - built["cost"]["train_flops"]
    # What the cache saved is one of two forward passes through the frozen blocks.
    train_classifier.main(command_line(setting, run_name="second"))
    reused = metrics_of(tmp_path / "second")
    assert built["cost"]["train_flops"] - reused["cost"]["train_flops"] == pytest.approx(tokens) and tokens > 0
