"""Runs on long texts: both engines, with and without cache, and the saved model, say the same of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import opinionlm
import predict
from opinionlm.errors import UserError
from tests.classifier_runs import train
from tests.task_data import write_prepared

CHUNKS = {"max_length": "12", "long_texts": "chunk", "chunk_overlap": "4", "num_train_epochs": "1"}


def probabilities(folder: Path) -> list[list[float]]:
    with open(folder, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(row[name]) for name in row if name.startswith("probability_")] for row in rows]


def of_run(folder: Path) -> list[list[float]]:
    return probabilities(folder / "predictions" / "test.csv")


def assert_alike(one: list[list[float]], other: list[list[float]], tolerance: float = 1e-4) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first == pytest.approx(second, abs=tolerance)


@pytest.fixture(scope="module")
def run(setting, tmp_path_factory) -> Path:
    """A run of Trainer with its frozen blocks cached."""
    folder = tmp_path_factory.mktemp("long")
    train(setting, **CHUNKS, output_dir=folder, run_name="chunks", blend_words="true")
    return folder / "chunks"


# Dropout would draw other numbers for other batches.
SAME = CHUNKS | {"classifier_dropout": "0"}


@pytest.fixture(scope="module")
def same_run(setting, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("same")
    train(setting, **SAME, output_dir=folder, run_name="one")
    return folder / "one"


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "loop"},
        {"cache_frozen": "off"},
        {"per_device_train_batch_size": "4", "gradient_accumulation_steps": "4"},
    ],
)
def test_whatever_way_it_is_computed(setting, same_run, tmp_path, options: dict) -> None:
    train(setting, **SAME | options, output_dir=tmp_path, run_name="other")
    assert_alike(of_run(same_run), of_run(tmp_path / "other"))


def test_the_saved_model_reads_as_training_did(run, tmp_path) -> None:
    config = json.loads((run / "best" / "config.json").read_text())
    assert (config["max_length"], config["chunk_overlap"], config["chunk_pooling"]) == (12, 4, "mean")
    assert "in chunks that share 4 tokens" in (run / "best" / "README.md").read_text()
    table = run / "predictions" / "test.csv"
    for number, limits in enumerate((["--batch_size", "3"], ["--max_tokens_per_batch", "30"])):
        output = tmp_path / f"{number}.csv"
        predict.main(["--model", str(run / "best"), "--input", str(table), "--output", str(output), *limits])
        assert_alike(probabilities(output), of_run(run), 1e-5)
    with open(table, encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    answers = opinionlm.load(run / "best", device="cpu").predict([*texts, ""])
    assert answers[-1] is None
    assert_alike([list(one.probabilities.values()) for one in answers[:-1]], of_run(run), 1e-5)


def test_a_run_that_truncates_says_what_it_loses(run, setting, tmp_path, capsys) -> None:
    train(setting, **CHUNKS | {"long_texts": "truncate", "chunk_overlap": "32"}, output_dir=tmp_path, run_name="cut")
    said = capsys.readouterr().out
    assert "longer than max_length: 12: train 9" in said and "of all) are not read" in said
    assert of_run(tmp_path / "cut") != of_run(run)


def test_frozen_features_of_chunks(setting, tmp_path) -> None:
    options = CHUNKS | {
        "adaptation": "head_only",
        "engine": "sklearn",
        "chunk_pooling": "max",
        "head_hidden_sizes": "[]",
    }
    options.pop("num_train_epochs")
    shared = {name: value for name, value in setting.items() if name not in ("head_hidden_sizes",)}
    train(shared, **options, output_dir=tmp_path, run_name="probe")
    table = tmp_path / "probe" / "predictions" / "test.csv"
    predict.main(
        ["--model", str(tmp_path / "probe" / "best"), "--input", str(table), "--output", str(tmp_path / "a.csv")]
    )
    assert_alike(probabilities(tmp_path / "a.csv"), of_run(tmp_path / "probe"), 1e-5)


def test_pairs_are_refused_before_a_model_is_loaded(setting, tmp_path) -> None:
    pairs = write_prepared(tmp_path / "pairs", "sequence")
    with pytest.raises(UserError, match="long_texts: 'chunk' reads single texts, and .* holds pairs"):
        train(setting, **CHUNKS | {"dataset": pairs}, output_dir=tmp_path)
