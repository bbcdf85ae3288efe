"""The precision that predict.py computes in: measured at the end of training, kept with the model, overridden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from opinionlm.errors import UserError
from opinionlm.inference import loading, speed
from opinionlm.inference.arguments import parse_arguments
from opinionlm.inference.loading import load_predictor, parameter_dtype
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.predictions import LoadedModel
from opinionlm.inference.speed import Speed, agreement, choose_precision, measure, rows_of
from tests.classifier_runs import train, write_setting
from tests.saved_classifier import LEAVES, save_tiny_classifier

TEXTS = Dataset.from_dict({"text": [f"love this coin {number}" for number in range(40)]})


def with_answers(monkeypatch: pytest.MonkeyPatch, rates: dict[torch.dtype, float], changed: int) -> None:
    """A processor with bfloat16, posts/s in each precision, and how many of 200 labels are others in bfloat16."""
    monkeypatch.setattr(speed, "computes_in_bfloat16", lambda: True)

    def measured(predictor, rows):
        others = changed if predictor.model.dtype == torch.bfloat16 else 0
        cells = [["noise" if number < others else "positive"] for number in range(200)]
        return Speed(rates[predictor.model.dtype], 1.0, 2.0), cells

    monkeypatch.setattr(speed, "measure", measured)
    monkeypatch.setattr(speed, "posts_per_second", lambda predictor, rows: rates[predictor.model.dtype])


@pytest.mark.parametrize(
    ("rate", "changed", "expected"),
    [(20.0, 1, "bfloat16"), (20.0, 2, "float32"), (11.9, 0, "float32"), (20.0, 0, "bfloat16")],
)
def test_bfloat16_is_chosen_where_it_is_faster_and_keeps_the_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, changed: int, expected: str
) -> None:
    with_answers(monkeypatch, {torch.float32: 10.0, torch.bfloat16: rate}, changed)
    predictor = load_predictor(save_tiny_classifier(tmp_path / "model"), PredictionOptions("cpu"))
    chosen = choose_precision(predictor, TEXTS)
    assert chosen.precision == expected and chosen.speed.posts_per_second == (rate if expected == "bfloat16" else 10)
    assert f"{rate / 10:.2f} times" in chosen.reason and f"{1 - changed / 200:.1%}" in chosen.reason


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (Speed(0.2543, 3_931.4, 4_102.0), "0.254 posts/s, one in 3,931 ms (95 % within 4,102)"),
        (Speed(1_234.5, 2.345, 99.96), "1,234 posts/s, one in 2.35 ms (95 % within 100)"),
    ],
)
def test_speeds_are_written_without_exponents(measured: Speed, expected: str) -> None:
    assert measured.describe() == expected


def test_float32_is_timed_in_float32_whatever_the_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_answers(monkeypatch, {torch.float16: 99.0, torch.float32: 10.0, torch.bfloat16: 5.0}, 0)
    predictor = load_predictor(save_tiny_classifier(tmp_path / "model"), PredictionOptions("cpu"))
    predictor.model.half()
    chosen = choose_precision(predictor, TEXTS)
    assert chosen.precision == "float32" and chosen.speed.posts_per_second == 10


def test_a_gain_that_does_not_show_twice_is_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "computes_in_bfloat16", lambda: True)
    rates = iter([10.0, 20.0, 10.0, 10.0])
    monkeypatch.setattr(speed, "measure", lambda predictor, rows: (Speed(next(rates), 1.0, 2.0), [["noise"]]))
    monkeypatch.setattr(speed, "posts_per_second", lambda predictor, rows: next(rates))
    predictor = load_predictor(save_tiny_classifier(tmp_path / "model"), PredictionOptions("cpu"))
    chosen = choose_precision(predictor, TEXTS)
    assert chosen.precision == "float32" and "1.00 times" in chosen.reason


def test_without_instructions_float32_is_kept_untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "computes_in_bfloat16", lambda: False)
    predictor = load_predictor(save_tiny_classifier(tmp_path / "model"), PredictionOptions("cpu"))
    rounded = replace(predictor, model=predictor.model.to(torch.bfloat16))
    chosen = choose_precision(rounded, TEXTS)
    assert chosen.precision == "float32" and "not tried" in chosen.describe()
    assert 0 < chosen.facts["p50_ms"] <= chosen.facts["p95_ms"] and chosen.facts["posts_per_second"] > 0


def test_agreement_counts_tags_one_by_one() -> None:
    some, others = [["B-a I-a O"], ["O"]], [["B-a O O"], ["O"], ["B-a"]]
    assert agreement(some, others, tags=True) == pytest.approx(3 / 4)
    assert agreement(some, others, tags=False) == pytest.approx(1 / 2)


def test_a_measurement_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SINGLE", 50)
    monkeypatch.setattr(speed, "BULK", 512)
    predictor = load_predictor(save_tiny_classifier(tmp_path / "model"), PredictionOptions("cpu"))
    # Every look at this clock takes a second: two posts alone fill the limit, and two in bulk.
    ticks = iter(range(1000))
    found, cells = measure(predictor, rows_of(TEXTS), clock=lambda: next(ticks))
    assert found == Speed(2.0, 1000.0, 1000.0) and len(cells) == 2


def test_the_choice_is_kept_with_the_model_and_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "computes_in_bfloat16", lambda: True)
    assert (
        parameter_dtype("bfloat16", "auto") is torch.bfloat16 and parameter_dtype("float32", "auto") is torch.float32
    )
    assert parameter_dtype("bfloat16", "float32") is torch.float32
    # Models saved before there was a choice.
    assert parameter_dtype(None, "auto") == "auto"
    monkeypatch.setattr(loading, "computes_in_bfloat16", lambda: False)
    assert parameter_dtype("bfloat16", "auto") is torch.float32
    assert parameter_dtype("float32", "bfloat16") is torch.bfloat16


def test_bf16_is_the_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--model", "m", "--input", "a.csv", "--output", "b.csv"]
    assert parse_arguments([*files, "--bf16"], "").precision == "bfloat16"
    assert parse_arguments(files, "").precision == "auto"
    with pytest.raises((SystemExit, UserError)):
        parse_arguments([*files, "--bf16", "--precision", "float32"], "")


def test_training_measures_and_keeps_it(tmp_path: Path) -> None:
    train(write_setting(tmp_path), output_dir=tmp_path, run_name="run", num_train_epochs=1)
    best = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    cost = json.loads((tmp_path / "run" / "metrics.json").read_text())["cost"]["predict"]
    assert best["precision"] in ("float32", "bfloat16")
    assert cost.keys() == {"posts_per_second", "p50_ms", "p95_ms"} and 0 < cost["p50_ms"] <= cost["p95_ms"]


def test_buckets_change_no_answer(tmp_path: Path) -> None:
    folder = save_tiny_classifier(tmp_path / "model")
    words = [
        "buy the coin",
        "",
        "sell now !",
        "hold " * 30,
        "   ",
        "moon",
        "buy the coin",
        "price good news again never",
    ]
    alone = LoadedModel(load_predictor(folder, PredictionOptions("cpu")))
    one_by_one = [alone.cells([text])[0] for text in words]
    assert [cells is None for cells in one_by_one] == [not text.strip() for text in words]
    for batch_size, tokens in ((1, 4096), (3, 12), (64, 4096)):
        limits = PredictionOptions("cpu", batch_size=batch_size, max_tokens_per_batch=tokens)
        limited = LoadedModel(load_predictor(folder, limits))
        found = limited.cells(words)
        for cells, expected in zip(found, one_by_one, strict=True):
            assert (cells is None) == (expected is None)
            if cells is not None and expected is not None:
                assert cells[0] == expected[0]
                numbers = [list(map(float, row[-len(LEAVES) :])) for row in (cells, expected)]
                assert numbers[0] == pytest.approx(numbers[1], abs=2e-6)
