"""train_classifier.py on tags, scores and pairs: what it writes, what it refuses, and that what it saves is whole."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import pearsonr
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

import train_classifier
from opinionlm.errors import UserError
from tests.classifier_runs import command_line
from tests.drawing import drawn
from tests.task_data import TAGS, write_prepared
from tests.tiny import save_pretrained_model, wordpiece_tokenizer


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    """Options that every run here shares; ``dataset`` is chosen by the test."""
    folder = tmp_path_factory.mktemp("tasks")
    for family in ("bert", "gpt2"):
        save_pretrained_model(folder / family, family)
    wordpiece_tokenizer().save_pretrained(folder / "bert")
    for task in ("token", "similarity", "sequence"):
        write_prepared(folder / task, task)
    return {
        "folder": str(folder),
        "model_name_or_path": str(folder / "bert"),
        "cache_dir": str(folder / "cache"),
        "max_length": "64",
        "learning_rate": "3e-3",
        "num_train_epochs": "3",
        "per_device_train_batch_size": "8",
        "report_to": "none",
        "use_cpu": "true",
    }


def train(setting: dict[str, str], task: str, output: Path, name: str, **options: object) -> dict:
    values = {key: value for key, value in setting.items() if key != "folder"}
    values |= {"dataset": f"{setting['folder']}/{task}", "output_dir": output, "run_name": name}
    return train_classifier.main(command_line(values, **options))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tagger_run(setting, tmp_path_factory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("tagger")
    with drawn():
        return output / "tags", train(setting, "token", output, "tags", num_train_epochs=6)


def test_tagging_run_folder(tagger_run) -> None:
    folder, metrics = tagger_run
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    test = metrics["test"]
    assert {"loss", "entity_f1", "entity_precision", "entity_recall", "macro_f1", "accuracy", "f1_coin"} <= test.keys()
    assert {"precision_person", "recall_person", "entity_f1_ci95", "macro_f1_ci95", "accuracy_ci95"} <= test.keys()
    assert test["entity_f1"] > 0.7  # it learned something
    rows = rows_of(folder / "predictions" / "test.csv")
    assert list(rows[0]) == ["id", "platform", "tokens", "gold", "predicted", "wrong"]
    gold, predicted = ([row[name].split() for row in rows] for name in ("gold", "predicted"))
    assert all(len(a) == len(b) == len(row["tokens"].split()) for a, b, row in zip(gold, predicted, rows, strict=True))
    assert f1_score(gold, predicted, mode="strict", scheme=IOB2) == pytest.approx(test["entity_f1"])
    for name in ("confusion_test", "per_type_validation", "learning_curves"):
        assert (folder / "figures" / f"{name}.png").is_file()
    card = (folder / "best" / "README.md").read_text()
    assert (
        "pipeline_tag: token-classification" in card
        and "entity_f1" in card
        and "chosen by validation entity-F1" in card
    )
    history = json.loads((folder / "history.json").read_text())
    evaluated = {entry["step"]: entry["eval_entity_f1"] for entry in history if "eval_entity_f1" in entry}
    assert metrics["train"]["best_step"] == max(evaluated, key=lambda step: (evaluated[step], -step))


def test_saved_tagger_tags_in_a_pipeline(tagger_run) -> None:
    folder, _ = tagger_run
    assert AutoModelForTokenClassification.from_pretrained(folder / "best").config.id2label == dict(enumerate(TAGS))
    tag = pipeline("token-classification", model=str(folder / "best"), aggregation_strategy="first", device="cpu")
    row = next(row for row in rows_of(folder / "predictions" / "test.csv") if row["wrong"] == "0")
    (entity,) = tag(row["tokens"])
    words, tags = row["tokens"].split(), row["predicted"].split()
    assert entity["entity_group"] == next(name[2:] for name in tags if name != "O")
    expected = " ".join(word for word, name in zip(words, tags, strict=True) if name != "O")
    assert row["tokens"][entity["start"] : entity["end"]].strip() == expected


def test_truncation_cannot_flatter(setting, tmp_path, tagger_run, capsys) -> None:
    metrics = train(setting, "token", tmp_path, "short", max_length=8, num_train_epochs=6)
    assert "words lie beyond max_length: 8" in capsys.readouterr().out
    rows = rows_of(tmp_path / "short" / "predictions" / "test.csv")
    assert metrics["test"]["entity_recall"] < tagger_run[1]["test"]["entity_recall"]
    gold, predicted = ([row[name].split() for row in rows] for name in ("gold", "predicted"))
    assert f1_score(gold, predicted, mode="strict", scheme=IOB2) == pytest.approx(metrics["test"]["entity_f1"])


@pytest.mark.parametrize(
    ("task", "adaptation"),
    [
        ("token", "top_blocks"),
        ("similarity", "head_only"),
        # The other two cross the same task and the same cut.
        pytest.param("token", "head_only", marks=pytest.mark.slow),
        pytest.param("similarity", "top_blocks", marks=pytest.mark.slow),
    ],
)
def test_cache_changes_nothing(setting, tmp_path, task, adaptation) -> None:
    options = {"adaptation": adaptation, "num_train_epochs": 1}
    options |= {"label_all_subwords": True} if task == "token" else {}
    runs = {mode: train(setting, task, tmp_path, mode, cache_frozen=mode, **options) for mode in ("off", "on")}
    for split in ("validation", "test"):
        for name, value in runs["off"][split].items():
            assert runs["on"][split][name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_similarity_run_folder(setting, tmp_path, family) -> None:
    options = {"model_name_or_path": f"{setting['folder']}/{family}", "num_train_epochs": 5}
    with drawn() if family == "bert" else nullcontext():
        metrics = train(setting, "similarity", tmp_path, "scores", **options)
    folder, test = tmp_path / "scores", metrics["test"]
    rows = rows_of(folder / "predictions" / "test.csv")
    assert list(rows[0]) == ["id", "platform", "text", "text_pair", "gold", "predicted"]
    gold, predicted = (np.array([float(row[name]) for row in rows]) for name in ("gold", "predicted"))
    assert test["pearson"] == pytest.approx(pearsonr(gold, predicted).statistic, abs=1e-3)
    assert test["loss"] == test["mse"] == pytest.approx(((gold - predicted) ** 2).mean(), abs=1e-5)
    assert len(test["spearman_ci95"]) == 2 and (folder / "figures" / "scores_test.png").is_file()
    card = (folder / "best" / "README.md").read_text()
    assert (
        "chosen by validation pearson" in card and "| loss | squared error |" in card and card.count("## Scores") == 1
    )
    # The saved model and tokenizer give these very scores.
    model = AutoModelForSequenceClassification.from_pretrained(folder / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    texts, pairs = ([row[name] for row in rows] for name in ("text", "text_pair"))
    batch = tokenizer(texts, pairs, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert model(**batch).logits[:, 0].numpy() == pytest.approx(predicted, abs=2e-4)


def test_pairs_with_labels(setting, tmp_path) -> None:
    train(setting, "sequence", tmp_path, "pairs")
    rows = rows_of(tmp_path / "pairs" / "predictions" / "test.csv")
    assert rows[0].keys() >= {"text", "text_pair", "gold", "predicted", "probability_agree"}
    assert '"text_pair": "Why?"' in (tmp_path / "pairs" / "best" / "README.md").read_text()


def test_class_weights_are_never_silent(setting, tmp_path) -> None:
    with pytest.raises(UserError, match="class_weights: 'inverse_frequency' is not read by task: similarity"):
        train(setting, "similarity", tmp_path, "a", class_weights="inverse_frequency")
    with pytest.raises(UserError, match=r"class_counts: .* is not read by class_weights: auto \(none\)"):
        train(setting, "token", tmp_path, "b", class_counts="[9, 1, 1, 1, 1]")
    with pytest.raises(UserError, match="task: 'token', but .* task 'similarity'"):
        train(setting | {"task": "token"}, "similarity", tmp_path, "c")
    with pytest.raises(UserError, match="pooling: 'mean' is not read by task: token"):
        train(setting, "token", tmp_path, "d", pooling="mean")
    write_prepared(tmp_path / "summaries", "similarity", named="summarization")
    with pytest.raises(UserError, match="'summarization' is text to text, which train_instruct.py trains"):
        train(setting, "similarity", tmp_path, "e", dataset=tmp_path / "summaries")
    assert not [path for path in tmp_path.iterdir() if path.name != "summaries"]


def test_config_of_a_run_names_what_it_did(tagger_run) -> None:
    config = yaml.safe_load((tagger_run[0] / "config.yaml").read_text())
    assert config["class_weights"] == "auto" and config["task"] == "auto"
