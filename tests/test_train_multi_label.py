"""Several labels per text from raw files to a run, its model, its ensemble and its predictions, with every engine."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import pipeline

import opinionlm
import predict
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label import multi_label_scores
from tests.classifier_runs import train, write_setting

LEAVES = ["joy", "love", "anger", "calm"]
WORDS = {"joy": "happy glad", "love": "love dear", "anger": "hate rage", "calm": "calm still"}
TREE = {"good": ["joy", "love"], "bad": ["anger"], "calm": None}


def write_rows(folder: Path, count: int = 200) -> None:
    """Texts whose words show their labels; a fifth have none."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        labels = [leaf for leaf, share in zip(LEAVES, (0.4, 0.3, 0.3, 0.1), strict=True) if generator.random() < share]
        labels = [] if number % 5 == 0 else labels
        words = [str(generator.choice(WORDS[leaf].split())) for leaf in labels for _ in range(2)]
        text = " ".join([*words, *generator.choice(["coin", "market", "chain", "today"], 3), str(number)])
        rows.append(json.dumps({"text": text, "labels": labels}))
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    spec = {"name": "rows", "task": "multi_label", "tokenizer_name_or_path": str(folder / "model"), "labels": TREE}
    spec["files"] = [{"path": "rows.jsonl", "platform": "web", "columns": {"text": "text", "label": "labels"}}]
    spec["split"] = {"train": 0.6, "validation": 0.2, "test": 0.2}
    (folder / "rows.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("several")
    options = write_setting(folder) | {"dataset": str(folder / "rows.yaml"), "output_dir": str(folder / "out")}
    write_rows(folder)
    return options


@pytest.fixture(scope="module")
def summary(setting) -> dict:
    return train(setting, run_name="several", seeds="1..2", num_train_epochs=3)


def rows_of(setting: dict[str, str], run: str, split: str = "test") -> list[dict[str, str]]:
    with open(Path(setting["output_dir"], run, "predictions", f"{split}.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def matrix(rows: list[dict[str, str]], column: str) -> np.ndarray:
    return np.array([[leaf in json.loads(row[column]) for leaf in LEAVES] for row in rows])


@pytest.mark.parametrize("run", ["several-seed1", "several-ensemble"])
def test_files_of_a_run_agree_with_its_scores(setting, summary, run):
    metrics = json.loads(Path(setting["output_dir"], run, "metrics.json").read_text())
    for split in ("validation", "test"):
        rows = rows_of(setting, run, split)
        gold, predicted = matrix(rows, "gold"), matrix(rows, "predicted")
        expected = multi_label_scores(gold, predicted, Taxonomy.from_tree(TREE))
        assert {name: metrics[split][name] for name in expected} == pytest.approx(expected)
        probabilities = np.array([[float(row[f"probability_{leaf}"]) for leaf in LEAVES] for row in rows])
        thresholds = np.array([metrics["decision"]["thresholds"][leaf] for leaf in LEAVES])
        sure = np.abs(probabilities - thresholds) > 1e-5
        assert ((probabilities >= thresholds) == predicted)[sure].all()
        # Ancestors are always implied.
        for row in rows:
            assert ("bad" in json.loads(row["level1"])) == ("anger" in json.loads(row["predicted"]))
    assert metrics["test"]["platforms"]["web"]["macro_f1"] == pytest.approx(metrics["test"]["macro_f1"])
    assert {"macro_f1_at_half", "false_negative_rate", "ece_uncalibrated"} <= metrics["test"].keys()
    figures = {path.name for path in Path(setting["output_dir"], run, "figures").glob("*_test.png")}
    assert figures == {
        f"{name}_test.png" for name in ("co_occurrence", "per_label", "precision_recall", "reliability")
    }


def test_the_checkpoint_is_chosen_by_macro_f1_as_reported(setting, summary):
    metrics = json.loads(Path(setting["output_dir"], "several-seed1", "metrics.json").read_text())
    history = json.loads(Path(setting["output_dir"], "several-seed1", "history.json").read_text())
    history = history["history"] if isinstance(history, dict) else history
    best = max(entry["eval_macro_f1"] for entry in history if "eval_macro_f1" in entry)
    assert metrics["chosen_by"] == {"name": "macro_f1", "greater_is_better": True}
    # Calibration moves the grid of the common threshold a little.
    assert metrics["validation"]["macro_f1"] == pytest.approx(best, abs=0.05)


def test_saved_models_answer_as_in_the_run(setting, summary, tmp_path):
    rows = rows_of(setting, "several-seed1")
    for run in ("several-seed1", "several-ensemble"):
        model = Path(setting["output_dir"], run, "best")
        predictor = opinionlm.load(model, label_sets=0.8)
        found = predictor.predict([row["text"] for row in rows])
        expected = rows_of(setting, run)
        for one, row in zip(found, expected, strict=True):
            assert one.probabilities == pytest.approx(
                {leaf: float(row[f"probability_{leaf}"]) for leaf in LEAVES}, abs=2e-5
            )
            assert list(one.labels) == json.loads(row["predicted"])
            assert [list(level) for level in one.levels] == [json.loads(row[f"level{n}"]) for n in (1, 2)]
            assert set(one.label_set) <= set(LEAVES)
    source, output = tmp_path / "posts.csv", tmp_path / "labels.jsonl"
    source.write_text("text\nhappy happy coin\n", encoding="utf-8")
    predict.main(["--model", str(model), "--input", str(source), "--output", str(output)])
    answer = json.loads(output.read_text(encoding="utf-8"))
    assert isinstance(answer["predicted"], list) and isinstance(answer["probability_joy"], float)


def test_pipeline_gives_a_probability_per_label(setting, summary):
    classify = pipeline("text-classification", str(Path(setting["output_dir"], "several-seed1", "best")), top_k=None)
    found = {entry["label"]: entry["score"] for entry in classify("happy coin")[0]}
    assert set(found) == set(LEAVES) and abs(sum(found.values()) - 1) > 1e-6


def test_what_a_model_of_several_labels_cannot_give(setting, summary):
    best = [Path(setting["output_dir"], f"several-seed{seed}", "best") for seed in (1, 2)]
    with pytest.raises(UserError, match="--abstain_below: .* leave the option out"):
        opinionlm.load(best[0], abstain_below=0.5)
    with pytest.raises(UserError, match="by a threshold, fitted to that model alone"):
        opinionlm.load(*best)


@pytest.mark.parametrize("engine", ["loop", "sklearn", "tfidf"])
def test_other_engines(setting, engine):
    more = {"adaptation": "head_only"} if engine == "sklearn" else {}
    more |= {"head_hidden_sizes": "[]"} if engine == "sklearn" else {}
    metrics = train(setting, run_name=engine, engine=engine, **more)
    assert metrics["test"]["macro_f1"] > 0.2 and np.isfinite(metrics["test"]["loss"])
    gold = matrix(rows_of(setting, engine), "gold")
    assert 0.1 < gold.mean() < 0.5
    if engine == "tfidf":
        # The words give the labels away.
        assert metrics["test"]["micro_f1"] > 0.8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "focal"}, "loss: 'focal' is for texts with one label each"),
        ({"loss": "tree_soft"}, "task multi_label takes cross_entropy or asymmetric"),
        ({"rdrop_alpha": 1}, "rdrop_alpha: 1.0 is not read by task: multi_label"),
        ({"label_smoothing": 0.1}, "label_smoothing: 0.1 is not read by task: multi_label"),
        ({"decision": "thresholds"}, "decision: 'thresholds' is not read by task: multi_label"),
        ({"blend_words": "true"}, "blend_words: True is not read by task: multi_label"),
        ({"adaptation": "adapt"}, "is for single texts with one label each"),
        ({"task": "sequence"}, "holds data of task 'multi_label'"),
        ({"metric_for_best_model": "accuracy"}, "'accuracy' is no score of the validation split"),
    ],
)
def test_options_of_other_tasks_are_refused(setting, options, said):
    with pytest.raises(UserError) as error:
        train(setting, run_name="refused", **options)
    assert said in str(error.value) and not Path(setting["output_dir"], "refused").exists()


def test_labels_are_weighed_and_the_asymmetric_loss_trains(setting):
    weights = {"class_weights": "effective_number", "label_thresholds": "global", "num_train_epochs": 1}
    metrics = train(setting, run_name="asymmetric", loss="asymmetric", **weights)
    assert len(set(metrics["decision"]["thresholds"].values())) == 1
    card = Path(setting["output_dir"], "asymmetric", "best", "README.md").read_text(encoding="utf-8")
    assert "global thresholds" in card and "of a text's labels" in card and "| joy |" in card
