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
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label import multi_label_scores
from opinionlm.experiments.compare import compare_folders
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.experiments.dashboard.payload import build_payload
from opinionlm.experiments.dashboard.predictions import read_predictions
from opinionlm.experiments.label_suspects import write_run_suspects, write_training_suspects
from opinionlm.models.classifier import OpinionClassifier
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


@pytest.mark.parametrize("weights", ["none", "inverse_frequency"])
def test_a_new_head_starts_at_the_frequencies_of_the_labels(setting, weights):
    options = {"max_steps": 1, "learning_rate": 1e-12, "warmup_steps": 0, "class_weights": weights}
    train(setting, run_name=f"start-{weights}", **options)
    folder = Path(setting["output_dir"], f"start-{weights}")
    (data,) = Path(setting["prepared_dir"]).glob("rows-*")
    sets = load_prepared(data).dataset["train"]["labels"]
    gold = np.array([[leaf in labels for leaf in range(4)] for labels in sets])
    share = (gold.sum(axis=0) + 0.5) / (len(gold) + 1)
    # Weighted by its inverse frequency a label is there as often as it is not.
    expected = np.log(share / (1 - share)) if weights == "none" else 4 * [0]
    bias = OpinionClassifier.from_pretrained(folder / "best").head.output.bias.detach().numpy()
    assert bias == pytest.approx(expected, abs=0.05 if weights == "inverse_frequency" else 1e-5)


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
        (data,) = Path(setting["prepared_dir"]).glob("rows-*/near_copies.json")
        far = np.array([row["id"] not in json.loads(data.read_text())[split] for row in rows])
        expected = multi_label_scores(gold[far], predicted[far], Taxonomy.from_tree(TREE))
        without = metrics[split]["without_near_copies"]
        assert (without["near_copies"], without["rows"]) == ((~far).sum(), far.sum()) and not far.all()
        for name in ("macro_f1", "micro_f1", "subset_accuracy"):
            assert without[name] == pytest.approx(expected[name])
            assert without[f"{name}_ci95"][0] <= without[name] <= without[f"{name}_ci95"][1]
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
    more |= {"platform_prefix": "true"} if engine == "loop" else {}
    metrics = train(setting, run_name=engine, engine=engine, **more)
    assert metrics["test"]["macro_f1"] > 0.2 and np.isfinite(metrics["test"]["loss"])
    if engine == "loop":
        with pytest.raises(UserError, match="platform"):
            opinionlm.load(Path(setting["output_dir"], engine, "best")).predict(["happy"])
    gold = matrix(rows_of(setting, engine), "gold")
    assert 0.1 < gold.mean() < 0.5
    if engine == "tfidf":
        # The words give the labels away.
        assert metrics["test"]["micro_f1"] > 0.8


def test_long_texts_in_chunks(setting, tmp_path):
    chunks = {"max_length": 8, "long_texts": "chunk", "chunk_overlap": 2, "classifier_dropout": 0}
    chunks |= {"num_train_epochs": 1, "chunk_pooling": "max"}
    # Each of these by itself is in test_long_text_runs.py.
    other = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "engine": "loop",
        "cache_frozen": "off",
    }
    runs = {"chunks": {}, "chunks-loop": other}
    found = {}
    for run, more in runs.items():
        train(setting, run_name=run, **chunks | more)
        rows = rows_of(setting, run)
        found[run] = np.array([[float(row[f"probability_{leaf}"]) for leaf in LEAVES] for row in rows])
        assert found[run] == pytest.approx(found["chunks"], abs=1e-4)
    best = Path(setting["output_dir"], "chunks", "best")
    again = opinionlm.load(best, device="cpu").predict([row["text"] for row in rows])
    values = np.array([list(one.probabilities.values()) for one in again])
    assert values == pytest.approx(found["chunks"], abs=2e-5)
    config = json.loads((best / "config.json").read_text())
    assert (config["chunk_overlap"], config["chunk_pooling"]) == (2, "max")
    cut = chunks | {"long_texts": "truncate", "chunk_overlap": 32, "chunk_pooling": "mean"}
    train(setting, run_name="cut", **cut)
    assert rows_of(setting, "cut")[0]["probability_joy"] != rows_of(setting, "chunks")[0]["probability_joy"]


def test_long_texts_by_both_ends(setting, tmp_path):
    train(setting, run_name="ends", max_length=8, long_texts="ends", num_train_epochs=1)
    rows, best = rows_of(setting, "ends"), Path(setting["output_dir"], "ends", "best")
    found = np.array([[float(row[f"probability_{leaf}"]) for leaf in LEAVES] for row in rows])
    again = opinionlm.load(best, device="cpu").predict([row["text"] for row in rows])
    assert np.array([list(one.probabilities.values()) for one in again]) == pytest.approx(found, abs=2e-5)
    assert json.loads((best / "config.json").read_text())["read_ends"] is True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "focal"}, "loss: 'focal' is for texts with one label each"),
        ({"loss": "tree_soft"}, "task multi_label takes cross_entropy, asymmetric, tree_marginal"),
        ({"rdrop_alpha": 1}, "rdrop_alpha: 1.0 is not read by task: multi_label"),
        ({"label_smoothing": 0.1}, "label_smoothing: 0.1 is not read by task: multi_label"),
        ({"decision": "thresholds"}, "decision: 'thresholds' is not read by task: multi_label"),
        ({"blend_words": "true"}, "blend_words: True is not read by task: multi_label"),
        ({"task": "sequence"}, "holds data of task 'multi_label'"),
        ({"metric_for_best_model": "accuracy"}, "'accuracy' is no score of the validation split"),
    ],
)
def test_options_of_other_tasks_are_refused(setting, options, said):
    with pytest.raises(UserError) as error:
        train(setting, run_name="refused", **options)
    assert said in str(error.value) and not Path(setting["output_dir"], "refused").exists()


def test_the_loss_over_all_nodes_trains_on_a_tree_and_is_refused_without(setting):
    metrics = train(setting, run_name="nodes", loss="tree_marginal", num_train_epochs=1)
    assert np.isfinite(metrics["test"]["loss"])
    folder = Path(setting["data_dir"])
    spec = yaml.safe_load((folder / "rows.yaml").read_text()) | {"labels": LEAVES}
    (folder / "flat.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    with pytest.raises(UserError, match="needs a label tree"):
        train(setting | {"dataset": str(folder / "flat.yaml")}, run_name="flat", loss="tree_marginal")


@pytest.mark.slow
def test_adapt_makes_tokens_and_chooses_sublayers(setting):
    few = {"sensitivity_samples": 8, "sensitivity_warmup_steps": 2, "sensitivity_budget": 0.5, "num_train_epochs": 1}
    metrics = train(setting, run_name="adapt", adaptation="adapt", sequence_min_length=1, **few)
    assert metrics["model"]["task_tokens"] > 0 and np.isfinite(metrics["test"]["loss"])


def test_labels_are_weighed_and_the_asymmetric_loss_trains(setting):
    weights = {"class_weights": "effective_number", "label_thresholds": "global", "num_train_epochs": 1}
    metrics = train(setting, run_name="asymmetric", loss="asymmetric", **weights)
    assert len(set(metrics["decision"]["thresholds"].values())) == 1
    card = Path(setting["output_dir"], "asymmetric", "best", "README.md").read_text(encoding="utf-8")
    assert "global thresholds" in card and "of a text's labels" in card and "| joy |" in card


def test_runs_are_compared_by_their_sets(setting, summary):
    folders = [Path(setting["output_dir"], f"several-{name}") for name in ("seed1", "ensemble")]
    text, columns, rows = compare_folders(folders, "test")
    metrics = [json.loads((folder / "metrics.json").read_text())["test"] for folder in folders]
    assert f"several-seed1: macro-F1 {metrics[0]['macro_f1']:.3f}, micro-F1 {metrics[0]['micro_f1']:.3f}" in text
    assert f"macro-F1 {metrics[1]['macro_f1'] - metrics[0]['macro_f1']:+.3f}" in text and "McNemar" in text
    own = {row[3]: row for row in rows if row[0] == "all" and row[2] == 2}
    assert own["joy"][6] == pytest.approx(metrics[0]["f1_joy"])
    gold = matrix(rows_of(setting, "several-seed1"), "gold")
    assert own["joy"][4] == pytest.approx(gold[:, 0].mean())


@pytest.mark.slow
def test_scores_over_time(setting, tmp_path):
    folder = Path(setting["data_dir"])
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    rows = [row | {"text": f"{row['text']} {copy}"} for copy in range(40) for row in rows]
    lines = [json.dumps(row | {"when": f"202{number % 2}-01-0{1 + number % 9}"}) for number, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    spec = yaml.safe_load((folder / "rows.yaml").read_text())
    spec["files"][0]["columns"]["time"] = "when"
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    places = {"dataset": str(tmp_path / "rows.yaml"), "data_dir": str(tmp_path)}
    metrics = train(setting | places, run_name="time", engine="tfidf")
    assert list(metrics["test"]["periods"]) == ["2020-01", "2021-01"]
    for found in metrics["test"]["periods"].values():
        assert {"macro_f1", "subset_accuracy_ci95", "share_joy", "gold_share_calm"} <= found.keys()


def test_suspects_are_judged_label_by_label(setting, summary):
    folder = Path(setting["output_dir"], "several-seed1")
    said = write_run_suspects(folder, "validation")
    with open(folder / "label_suspects_validation.csv", newline="", encoding="utf-8") as file:
        suspects = list(csv.DictReader(file))
    gold = {row["id"]: row["gold"] for row in rows_of(setting, "several-seed1", "validation")}
    assert f"{len(suspects)} of {4 * len(gold)} texts and labels of validation look mislabelled" in said
    for row in suspects:
        assert row["label"] == gold[row["id"]]
        assert len(set(json.loads(row["label"])) ^ set(json.loads(row["suggested"]))) == 1
    qualities = [float(row["quality"]) for row in suspects]
    assert qualities == sorted(qualities)


def test_planted_mistakes_of_training_rows_are_found(setting, tmp_path):
    folder = Path(setting["data_dir"])
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    wrong = {f"row-{number}" for number, row in enumerate(rows) if number % 12 == 1 and row["labels"]}
    for number, row in enumerate(rows):
        row["id"] = f"row-{number}"
        row["labels"] = row["labels"][1:] if row["id"] in wrong else row["labels"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = yaml.safe_load((folder / "rows.yaml").read_text())
    spec["files"][0]["columns"]["id"] = "id"
    prepared = load_prepared(prepare(spec_from_dict(spec, "rows.yaml"), tmp_path, tmp_path / "out"))
    said = write_training_suspects(prepared)
    with open(prepared.path / "label_suspects.csv", newline="", encoding="utf-8") as file:
        suspects = list(csv.DictReader(file))
    found, there = {row["id"] for row in suspects}, set(prepared.dataset["train"]["id"]) & wrong
    assert len(there) >= 3 and len(found & there) >= len(there) - 1 and len(found - there) <= 0.3 * len(found) + 2
    assert f"{len(suspects)} of {4 * len(prepared.dataset['train'])} texts and labels of training" in said


def test_the_dashboard_counts_labels_beside_labels(setting, summary):
    table = Path(setting["output_dir"], "several-seed1", "predictions", "test.csv")
    found = read_predictions(table, LEAVES)
    rows = rows_of(setting, "several-seed1")
    gold, predicted = matrix(rows, "gold").astype(int), matrix(rows, "predicted").astype(int)
    counts = np.array(found.confusion)
    assert (counts[:, :-1] == gold.T @ predicted).all() and found.support == gold.sum(axis=0).tolist()
    assert (counts[:, -1] == gold.T @ (predicted.sum(axis=1) == 0)).all()
    assert len(found.wrong) == (gold != predicted).any(axis=1).sum()
    assert all("[" not in row.gold + row.predicted for row in found.sample)
    payload = build_payload(collect(Path(setting["output_dir"])))
    group = next(group for group in payload["groups"] if group["task"] == "multi_label")
    assert group["main"] == "macro_f1" and group["runs"][0]["splits"]["test"]["support"]
