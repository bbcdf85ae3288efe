"""Runs on long texts: both engines, with and without cache, and the saved model, say the same of them."""

from __future__ import annotations

import csv
import json
import shutil
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


ENDS = {"max_length": "12", "long_texts": "ends", "num_train_epochs": "1"}


@pytest.fixture(scope="module")
def ends_run(setting, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ends")
    train(setting, **ENDS, output_dir=folder, run_name="ends", classifier_dropout="0", platform_prefix="true")
    return folder / "ends"


def test_both_ends_whatever_way_it_is_computed(setting, ends_run, tmp_path, capsys) -> None:
    options = ENDS | {"classifier_dropout": "0", "platform_prefix": "true", "engine": "loop", "cache_frozen": "off"}
    metrics = train(setting, **options, output_dir=tmp_path, run_name="other")
    said = capsys.readouterr().out
    assert "read by their first 6 and last 6 tokens; the " in said and " tokens between (" in said
    assert_alike(of_run(ends_run), of_run(tmp_path / "other"))
    # As a text that is cut.
    assert metrics["cost"]["tokens_per_text"] <= 12


def test_the_saved_model_reads_both_ends(ends_run, tmp_path) -> None:
    config = json.loads((ends_run / "best" / "config.json").read_text())
    assert (config["max_length"], config["chunk_overlap"], config["read_ends"]) == (12, None, True)
    card = (ends_run / "best" / "README.md").read_text()
    assert "Of texts beyond 12 tokens opinionlm reads the first 6 and the last 6, special tokens included" in card
    table = ends_run / "predictions" / "test.csv"
    output = tmp_path / "answers.csv"
    platform = ["--platform_column", "platform"]
    predict.main(["--model", str(ends_run / "best"), "--input", str(table), "--output", str(output), *platform])
    assert_alike(probabilities(output), of_run(ends_run), 1e-5)
    start, end = "love great happy gain coin market " * 3, " hate awful loss scam" * 3
    texts = [start + middle + end for middle in ("", "today chain " * 20)] + [start + end + " today", start]
    whole, longer, other, cut = (
        list(one.probabilities.values())
        for one in opinionlm.load(ends_run / "best", device="cpu").predict(
            [{"text": text, "platform": "forum"} for text in texts]
        )
    )
    assert whole == longer and whole != other and whole != cut


def test_a_model_from_before_is_cut(ends_run, tmp_path) -> None:
    shutil.copytree(ends_run / "best", tmp_path / "best")
    path = tmp_path / "best" / "config.json"
    config = json.loads(path.read_text())
    del config["read_ends"]
    path.write_text(json.dumps(config))
    start = "love great happy gain coin market " * 6
    texts = [{"text": start + end, "platform": "forum"} for end in ("", "hate awful loss scam")]
    first, second = opinionlm.load(tmp_path / "best", device="cpu").predict(texts)
    assert first.probabilities == second.probabilities


def test_task_tokens_are_put_into_the_whole_text(setting, tmp_path) -> None:
    """AdaPT's tokens may reach over the gap, and predict.py finds those that training read."""
    adapt = {"adaptation": "adapt", "sensitivity_samples": 24, "sensitivity_warmup_steps": 5, "sequence_max_gap": 0}
    train(setting, **ENDS, **adapt, output_dir=tmp_path, run_name="adapted")
    best = tmp_path / "adapted" / "best"
    assert json.loads((best / "config.json").read_text())["task_tokens"] > 0
    table, output = tmp_path / "adapted" / "predictions" / "test.csv", tmp_path / "answers.csv"
    predict.main(["--model", str(best), "--input", str(table), "--output", str(output)])
    assert_alike(probabilities(output), of_run(tmp_path / "adapted"), 1e-5)


def test_pairs_refuse_chunks_before_a_model_is_loaded(setting, tmp_path) -> None:
    pairs = write_prepared(tmp_path / "pairs", "sequence")
    with pytest.raises(UserError, match="long_texts: 'chunk' reads single texts, and .* holds pairs"):
        train(setting, **CHUNKS | {"dataset": pairs}, output_dir=tmp_path)


def test_pairs_are_cut_with_ends_as_without(setting, tmp_path) -> None:
    pairs = write_prepared(tmp_path / "pairs", "sequence")
    options = {"dataset": pairs, "max_length": 8, "output_dir": tmp_path}
    cut = train(setting, **options, run_name="cut")
    ends = train(setting, **options, run_name="ends", long_texts="ends")
    assert cut["test"] == ends["test"]
    for name in ("cut", "ends"):
        assert json.loads((tmp_path / name / "best" / "config.json").read_text())["read_ends"] is False
        assert "Texts beyond 8 tokens are cut." in (tmp_path / name / "best" / "README.md").read_text()
