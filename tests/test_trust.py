"""Decisions, calibration and label sets through the command lines: fitted on validation, saved, served."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import predict
from opinionlm.errors import UserError
from opinionlm.evaluation.conformal import COVERAGES, LabelSets
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions, TrustOptions
from opinionlm.inference.saved_decision import keep_rule, saved_rule
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.classifier_config import OpinionClassifierConfig
from tests.classifier_runs import WORDS, train
from tests.inference.test_prediction import some_texts, write_csv
from tests.saved_classifier import LEAVES, save_tiny_classifier


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def serve(folder: Path, source: Path, output: Path, *options: object) -> list[dict[str, str]]:
    predict.main(["--model", str(folder), "--input", str(source), "--output", str(output), *map(str, options)])
    return read(output)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A saved model with a rule that is easy to see: warm, the second leaf favoured, sets from 0.5 on."""
    folder = save_tiny_classifier(tmp_path_factory.mktemp("model"))
    model = OpinionClassifier.from_pretrained(folder)
    sets = LabelSets("lac", tuple(coverage for coverage in COVERAGES))
    keep_rule(model.config, AnswerRule(2.0, "thresholds", (0.0, 1.0, 0.0, 0.0), label_sets=sets))
    model.save_pretrained(folder)
    return folder


def test_a_rule_survives_saving(model_folder) -> None:
    rule = saved_rule(OpinionClassifierConfig.from_pretrained(model_folder))
    assert rule == AnswerRule(2.0, "thresholds", (0.0, 1.0, 0.0, 0.0), label_sets=LabelSets("lac", COVERAGES))
    assert json.loads((model_folder / "config.json").read_text())["temperature"] == 2.0
    # A model without one answers as plainly as before.
    assert saved_rule(OpinionClassifierConfig()) == AnswerRule()


def test_predictions_follow_the_saved_rule(model_folder, tmp_path) -> None:
    texts = [text for text in some_texts(61) if text]  # an empty text has no answer
    rows = serve(model_folder, write_csv(tmp_path / "posts.csv", texts), tmp_path / "out.csv", "--label_sets", 0.8)
    plain = load_predictor(save_tiny_classifier(tmp_path / "plain"), PredictionOptions("cpu")).probabilities(texts)
    warm = np.sqrt(plain) / np.sqrt(plain).sum(axis=1, keepdims=True)
    stored = np.array([[float(row[f"probability_{leaf}"]) for leaf in LEAVES] for row in rows])
    np.testing.assert_allclose(stored, warm, atol=2e-6)
    favoured = warm * np.exp([0, 1, 0, 0])
    assert [row["predicted"] for row in rows] == [LEAVES[leaf] for leaf in favoured.argmax(axis=1)]
    assert (favoured.argmax(axis=1) != warm.argmax(axis=1)).any()
    for row, probabilities in zip(rows, stored, strict=True):
        assert float(row["confidence"]) == float(row[f"probability_{row['predicted']}"])
        # 1 − p ≤ 0.8
        assert json.loads(row["label_set"]) == [
            leaf for leaf, p in zip(LEAVES, probabilities, strict=True) if p >= 0.2
        ]


def test_abstention_leaves_the_label_blank(model_folder, tmp_path) -> None:
    source = write_csv(tmp_path / "posts.csv", [text for text in some_texts(61) if text])
    rows = serve(model_folder, source, tmp_path / "all.csv")
    some = serve(model_folder, source, tmp_path / "some.csv", "--abstain_below", 0.6)
    abstained = [float(row["confidence"]) < 0.6 for row in rows]
    assert 0 < sum(abstained) < 60
    for before, after, gone in zip(rows, some, abstained, strict=True):
        blank = dict.fromkeys(("predicted", "level1", "level2", "level3"), "") if gone else {}
        assert after == before | blank
    predict.main(
        ["--model", str(model_folder), "--input", str(source), "--output", str(tmp_path / "some.jsonl")]
        + ["--abstain_below", "0.6", "--label_sets", "0.9"]
    )
    objects = [json.loads(line) for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert [item["predicted"] is None for item in objects] == abstained
    assert all(isinstance(item["label_set"], list) for item in objects)


def test_what_cannot_be_served_is_refused(model_folder, tmp_path) -> None:
    source = write_csv(tmp_path / "posts.csv", ["buy"])
    for options, message in (
        (["--label_sets", "1.5"], "--label_sets: 1.5 is no coverage between 0.5 and 0.99"),
        (["--abstain_below", "-1"], "--abstain_below: -1 is no probability above 0"),
    ):
        with pytest.raises(UserError, match=message):
            serve(model_folder, source, tmp_path / "out.csv", *options)
    sets = PredictionOptions("cpu", trust=TrustOptions(coverage=0.9))
    with pytest.raises(UserError, match="holds no thresholds for them"):
        load_predictor(save_tiny_classifier(tmp_path / "plain"), sets)


def test_a_run_fits_on_validation_alone(setting, tmp_path, monkeypatch) -> None:
    from opinionlm.tasks import sequence
    from opinionlm.training.trainer import OpinionTrainer

    events: list[object] = []
    outputs, fit = OpinionTrainer.outputs, sequence.fit_answers
    monkeypatch.setattr(OpinionTrainer, "outputs", lambda self, texts: events.append(texts) or outputs(self, texts))
    monkeypatch.setattr(sequence, "fit_answers", lambda *given: events.append(given[0]) or fit(*given))

    options = {"decision": "thresholds", "label_set_coverage": 0.8, "loss": "tree_conditional"}
    metrics = train(setting, output_dir=tmp_path, run_name="whole", **options)
    folder = tmp_path / "whole"
    # Fitted once, on the gold labels of validation, before the model is shown test.
    validation, gold, test = events
    golds = {
        name: [row["gold"] for row in read(folder / "predictions" / f"{name}.csv")] for name in ("validation", "test")
    }
    assert [list(WORDS)[label] for label in gold] == golds["validation"] != golds["test"]
    assert len(validation) == len(golds["validation"]) and len(test) == len(golds["test"])
    saved = json.loads((folder / "best" / "config.json").read_text())
    assert metrics["decision"]["temperature"] == saved["temperature"] > 0
    assert metrics["decision"]["calibration_biases"] == saved["calibration_biases"] != [0.0] * 4
    assert saved["decision"] == "thresholds" and len(saved["decision_offsets"]) == 4
    assert len(saved["label_set_thresholds"]) == len(COVERAGES)
    for split in ("validation", "test"):
        scores = metrics[split]
        assert scores.keys() >= {
            "ece",
            "ece_uncalibrated",
            "ece_if_calibrated",
            "brier",
            "brier_uncalibrated",
            "label_set_size",
        }
        assert scores["platforms"]["forum"]["macro_f1"] == pytest.approx(scores["macro_f1"])
    assert metrics["validation"]["brier"] <= metrics["validation"]["brier_uncalibrated"] + 0.01
    assert metrics["validation"]["label_set_coverage"] >= 0.8

    # The card says how far the model can be trusted.
    card, test = (folder / "best" / "README.md").read_text(), metrics["test"]
    temperature, coverage = metrics["decision"]["temperature"], test["label_set_coverage"]
    bias = max(metrics["decision"]["calibration_biases"], key=abs)
    for line in (
        "| loss | tree_conditional |",
        "| decision | thresholds |",
        f"| temperature | {temperature:.3f} |",
        f"| largest bias of a class | {bias:+.3f} nats |",
        f"| calibration error (ECE) | {test['ece_uncalibrated']:.4f} before it, {test['ece']:.4f} after it; "
        f"{test['ece_if_calibrated']:.4f} is what chance gives perfect probabilities |",
        f"| label sets (lac) for 80% | right in {coverage:.1%}, {test['label_set_size']:.2f} labels on average |",
        f"| forum | {len(golds['test'])} | {test['macro_f1']:.4f} |",
    ):
        assert line in card
    assert metrics["decision"]["label_set_coverage_asked"] == 0.8

    # predict.py gives the very rows of predictions/test.csv.
    rows = read(folder / "predictions" / "test.csv")
    posts = tmp_path / "posts.csv"
    with open(posts, "w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *[[row["id"], row["text"]] for row in rows]])
    served = serve(folder / "best", posts, tmp_path / "out.csv")
    assert [row["predicted"] for row in served] == [row["predicted"] for row in rows]


@pytest.mark.parametrize("decision", ["argmax", "logit_adjusted", "expected_cost"])
def test_the_floor_has_the_same_decisions(setting, tmp_path, decision) -> None:
    metrics = train(setting, output_dir=tmp_path, run_name=decision, engine="tfidf", decision=decision)
    assert ("tau" in metrics["decision"]) == (decision == "logit_adjusted")
    assert metrics["test"].keys() >= {"ece_uncalibrated", "label_set_coverage", "platforms"}


def test_scores_over_time(setting, tmp_path) -> None:
    """Trained on the past, tested on two later months; in the second one the words change their meaning."""
    generator, rows = np.random.default_rng(0), []
    for index in range(2000):
        label = list(WORDS)[index % 4]
        month = 1 + index // 200
        meaning = list(WORDS)[(index + 1) % 4] if month == 10 else label
        words = generator.choice(WORDS[meaning].split(), 5).tolist()
        path = ["subjective", label] if label in ("positive", "negative") else [label, ""]
        rows.append([" ".join(words) + f" {index}", *path, f"2021-{month:02d}-05"])
    with open(tmp_path / "dated.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "level1", "level2", "when"], *rows])
    spec = yaml.safe_load(Path(setting["dataset"]).read_text())
    spec["files"][0] |= {"path": "dated.csv"}
    spec["files"][0]["columns"]["time"] = "when"
    spec["split"] = {"train": 0.7, "validation": 0.1, "test": 0.2, "by": "time"}
    (tmp_path / "dated.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    options = {"dataset": tmp_path / "dated.yaml", "data_dir": tmp_path, "engine": "tfidf"}
    metrics = train(setting, output_dir=tmp_path, run_name="dated", **options)
    periods = metrics["test"]["periods"]
    assert list(periods) == ["2021-09", "2021-10"] and [found["rows"] for found in periods.values()] == [200, 200]
    assert periods["2021-09"]["macro_f1"] > 0.9 and periods["2021-10"]["macro_f1"] < 0.1
    assert metrics["test"]["accuracy"] == pytest.approx(np.mean([found["accuracy"] for found in periods.values()]))
    low, high = periods["2021-09"]["accuracy_ci95"]
    assert 0.8 < low <= periods["2021-09"]["accuracy"] <= high <= 1
    assert metrics["validation"]["periods"] == {}, "a single month is no development"
    figures = {path.name for path in (tmp_path / "dated" / "figures").iterdir()}
    assert "drift_test.png" in figures and "drift_validation.png" not in figures
