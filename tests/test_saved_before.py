"""What was saved by commit 23834f9 loads, answers the same and continues; `tests/assets/make_saved.py` made it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel, AutoModelForSequenceClassification

import export
import predict
import train_classifier
import train_instruct
from opinionlm.adaptation import merging
from opinionlm.data.prepared import load_prepared
from opinionlm.errors import UserError
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules

ROOT = Path(__file__).resolve().parent.parent
SAVED = Path("tests/assets/saved")
ANSWERS = sorted(path.stem for path in (ROOT / SAVED / "answers").glob("*.csv"))
INPUTS = {"similarity": ["--input", str(SAVED / "pairs.csv"), "--pair_column", "other"]}
PLATFORMS = {"classifier_platforms": ["--platform", "forum"]}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A copy of what was saved, under the relative paths that it was saved with."""
    shutil.copytree(ROOT / SAVED, tmp_path / SAVED)
    monkeypatch.chdir(tmp_path)
    return tmp_path / SAVED


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name, place, tmp_path) -> None:
    asked = INPUTS.get(name, ["--input", str(SAVED / "posts.txt")]) + PLATFORMS.get(name, [])
    predict.main(["--model", str(SAVED / name), *asked, "--output", str(tmp_path / "now.csv"), "--device", "cpu"])
    then, now = rows_of(place / "answers" / f"{name}.csv"), rows_of(tmp_path / "now.csv")
    assert len(then) == len(now)
    for before, after in zip(then, now, strict=True):
        assert before.keys() <= after.keys()
        for column, value in before.items():
            if column == "score" or column.startswith(("confidence", "probability_")):
                # What 4-bit kernels and threads add differs in the last digits between processors.
                assert float(after[column]) == pytest.approx(float(value), abs=2e-3)
            else:
                assert after[column] == value


def test_four_bits_are_expanded_where_they_fit(place, tmp_path, monkeypatch) -> None:
    options = PredictionOptions(device="cpu", precision="float32")
    wide = load_predictor(SAVED / "classifier_4bit", options).model
    assert wide.dtype == torch.float32 and quantized_modules(wide) == []
    as_saved = load_predictor(SAVED / "classifier_4bit", PredictionOptions(device="cpu")).model
    stored = OpinionClassifier.from_pretrained(SAVED / "classifier_4bit").eval()
    assert as_saved.dtype == torch.bfloat16 and quantized_modules(as_saved) == [] != quantized_modules(stored)
    # So many positions that rounded frequencies of rotary positions would show.
    tokens = torch.arange(5, 45).repeat(4)[None]
    ids = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    with torch.no_grad():
        assert torch.equal(as_saved(**ids).logits, stored(**ids).logits)
        assert wide(**ids).logits.numpy() == pytest.approx(stored(**ids).logits.numpy(), abs=0.05)
    monkeypatch.setattr(merging, "fits_expanded", lambda model: False)
    assert quantized_modules(load_predictor(SAVED / "classifier_4bit", PredictionOptions(device="cpu")).model)
    with pytest.raises(UserError, match="are in 4 bits and compute in bfloat16; leave the option out"):
        load_predictor(SAVED / "classifier_4bit", options)


def test_four_bits_leave_as_plain_weights(place, tmp_path) -> None:
    export.main([str(SAVED / "classifier_4bit"), "--format", "remote_code", "--output", str(tmp_path / "plain")])
    asked = ["--input", str(SAVED / "posts.txt"), "--device", "cpu", "--precision", "float32"]
    predict.main(["--model", str(SAVED / "classifier_4bit"), *asked, "--output", str(tmp_path / "own.csv")])
    kinds = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain", trust_remote_code=True)
    assert quantized_modules(kinds) == [] and len(rows_of(tmp_path / "own.csv")) == 4


def test_pretrained_weights(place) -> None:
    assert AutoModel.from_pretrained(SAVED / "pretrained").config.model_type == "bert"


@pytest.mark.parametrize(("name", "task"), [("posts", "sequence"), ("token", "token"), ("similarity", "similarity")])
def test_prepared_data(name, task, place) -> None:
    prepared = load_prepared(place / f"prepared_{name}")
    assert prepared.task == task and set(prepared.dataset) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("resumed_trainer", train_classifier),
        ("resumed_loop", train_classifier),
        ("resumed_instruct", train_instruct),
    ],
)
def test_interrupted_run_continues(name, script, place, capsys) -> None:
    stored = yaml.safe_load((place / "runs" / name / "config.yaml").read_text())
    assert stored["num_train_epochs"] == 2
    metrics = script.main(["--config", str(place / "runs" / name / "config.yaml")])
    assert "Continuing from" in capsys.readouterr().out
    whole = json.loads((place / f"{name}.json").read_text())
    assert metrics["train"]["steps"] == whole["train"]["steps"]
    assert metrics["train"]["best_step"] == whole["train"]["best_step"]
    for split in ("validation", "test"):
        for score in ("loss", "accuracy", "macro_f1"):
            assert metrics[split][score] == pytest.approx(whole[split][score], abs=1e-3)
