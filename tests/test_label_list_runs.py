"""Several labels per text by language models, through the command lines: trained, asked, saved and asked again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import opinionlm
import predict
import prompt
import train_instruct
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label import multi_label_scores, written_list_scores
from opinionlm.experiments.compare import compare_folders
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.experiments.dashboard.payload import build_payload
from opinionlm.inference import generative
from opinionlm.inference.saved_generative import read_settings
from opinionlm.tasks import generation
from tests.generative import full_sequence_score
from tests.test_train_multi_label import LEAVES, TREE, WORDS, matrix, rows_of, write_rows
from tests.tiny import save_generative_model, tiny_config, tiny_tokenizer

TEMPLATE = {"prompt": "{examples}post: {text}\nlabels:", "example": "post: {text}\nlabels:{answer}\n"}
TRAINED = {
    "adaptation": "full",
    "learning_rate": "5e-3",
    "num_train_epochs": "4",
    "per_device_train_batch_size": "16",
}
WRITES = {"decode": "generate", "num_beams": 1, "max_answer_length": 24}


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("lists")
    save_generative_model(folder / "model", single=True)
    write_rows(folder)
    (folder / "template.yaml").write_text(yaml.safe_dump(TEMPLATE))
    return {
        "dataset": str(folder / "rows.yaml"),
        "data_dir": str(folder),
        "prepared_dir": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "model_name_or_path": str(folder / "model"),
        "prompt_template": str(folder / "template.yaml"),
        "max_length": "400",
        "report_to": "none",
        "use_cpu": "true",
    }


def command_line(setting: dict[str, str], **options: object) -> list[str]:
    return [part for name, value in (setting | options).items() for part in (f"--{name}", str(value))]


def train(setting: dict[str, str], **options: object) -> dict:
    return train_instruct.main(command_line(setting, **TRAINED | options))


def ask(setting: dict[str, str], **options: object) -> dict:
    return prompt.main(command_line(setting, **options))


def probabilities(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"probability_{leaf}"]) for leaf in LEAVES] for row in rows])


@pytest.fixture(scope="module")
def scored(setting) -> dict:
    return train(setting, run_name="scored")


def pretended(model, encoder, prompts, *arguments, **options) -> list[str]:
    """What a model that knows the words of the labels would write; at every fifth text it adds what is no label."""
    answers = []
    for ids in prompts:
        text = encoder.tokenizer.decode(ids).split("post: ")[-1].split("\nlabels:")[0]
        labels = [leaf for leaf in LEAVES if any(word in text.split() for word in WORDS[leaf].split())]
        number = int(text.split()[-1])
        answers.append(", ".join(labels + ["joke"] * (number % 5 == 1)) or "none")
    return answers


@pytest.fixture(scope="module")
def written(setting) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "generate_answers", pretended)
        return train(setting, run_name="written", num_train_epochs=1, **WRITES)


@pytest.fixture(scope="module")
def asked(setting) -> dict:
    return ask(setting, run_name="asked", shots=5)


@pytest.mark.parametrize("run", ["scored", "asked"])
def test_log_odds_are_evaluated_as_those_of_a_head(setting, scored, asked, run) -> None:
    metrics = json.loads(Path(setting["output_dir"], run, "metrics.json").read_text())
    assert metrics == {"scored": scored, "asked": asked}[run]
    for split in ("validation", "test"):
        rows = rows_of(setting, run, split)
        gold, predicted = matrix(rows, "gold"), matrix(rows, "predicted")
        expected = multi_label_scores(gold, predicted, Taxonomy.from_tree(TREE))
        assert {name: metrics[split][name] for name in expected} == pytest.approx(expected)
        thresholds = np.array([metrics["decision"]["thresholds"][leaf] for leaf in LEAVES])
        sure = np.abs(probabilities(rows) - thresholds) > 1e-5
        assert ((probabilities(rows) >= thresholds) == predicted)[sure].all()
        assert {"macro_f1_at_half", "false_negative_rate", "ece", "macro_f1_ci95", "loss"} <= metrics[split].keys()
    figures = {path.name for path in Path(setting["output_dir"], run, "figures").glob("*_test.png")}
    assert {"co_occurrence_test.png", "precision_recall_test.png"} <= figures


def test_yes_and_no_are_learned(setting, scored) -> None:
    history = json.loads(Path(setting["output_dir"], "scored", "history.json").read_text())
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < 0.6 * losses[0] and scored["chosen_by"]["name"] == "macro_f1"
    best = max(entry["eval_macro_f1"] for entry in history if "eval_macro_f1" in entry)
    assert scored["validation"]["macro_f1"] == pytest.approx(best)


def test_probabilities_are_those_of_whole_sequences(setting, scored) -> None:
    folder = Path(setting["output_dir"], "scored")
    model = AutoModelForCausalLM.from_pretrained(folder / "best").eval()
    settings = read_settings(folder / "best")
    encoder = settings.encoder(AutoTokenizer.from_pretrained(folder / "best"), encoder_decoder=False)
    rows = rows_of(setting, "scored")[:4]
    logits = [
        [
            full_sequence_score(model, encoder.prompt_ids(row["text"]), question.yes)
            - full_sequence_score(model, encoder.prompt_ids(row["text"]), question.no)
            for question in encoder.questions
        ]
        for row in rows
    ]
    assert settings.rule.probabilities(np.array(logits)) == pytest.approx(probabilities(rows), abs=2e-5)


def test_saved_models_answer_as_in_the_run(setting, scored, tmp_path) -> None:
    rows, best = rows_of(setting, "scored"), Path(setting["output_dir"], "scored", "best")
    table, output = Path(setting["output_dir"], "scored", "predictions", "test.csv"), tmp_path / "out.csv"
    predict.main(["--model", str(best), "--input", str(table), "--output", str(output), "--label_sets", "0.8"])
    with open(output, newline="", encoding="utf-8") as file:
        again = list(csv.DictReader(file))
    assert probabilities(again) == pytest.approx(probabilities(rows), abs=2e-5)
    for one, row in zip(again, rows, strict=True):
        assert [one[name] for name in ("predicted", "level1", "level2")] == [
            row[name] for name in ("predicted", "level1", "level2")
        ]
        assert isinstance(json.loads(one["label_set"]), list)
    first = opinionlm.load(best, device="cpu").predict([rows[0]["text"]])[0]
    assert list(first.labels) == json.loads(rows[0]["predicted"]) and first.answer is None
    card = (best / "README.md").read_text(encoding="utf-8")
    assert "per_label thresholds" in card and "| macro_f1 |" in card and "`joy: yes`" in card
    with pytest.raises(UserError, match="--abstain_below"):
        opinionlm.load(best, abstain_below=0.5)


def test_written_lists_are_read_strictly(setting, written, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(generative, "generate_answers", pretended)
    rows = rows_of(setting, "written")
    assert list(rows[0]) == ["id", "platform", "text", "gold", "predicted", "level1", "level2", "answer"]
    is_list = np.array([bool(row["predicted"]) for row in rows])
    predicted = np.array([[leaf in json.loads(row["predicted"] or "[]") for leaf in LEAVES] for row in rows])
    expected = written_list_scores(matrix(rows, "gold"), predicted, is_list, Taxonomy.from_tree(TREE))
    assert {name: written["test"][name] for name in expected} == pytest.approx(expected)
    assert 0.1 < written["test"]["invalid_rate"] < 0.4 and written["test"]["f1_joy"] > 0.7
    assert {len(json.loads(row["predicted"])) for row in rows if row["predicted"]} >= {0, 1, 2}
    assert "ece" not in written["test"] and len(written["test"]["subset_accuracy_ci95"]) == 2
    for row in rows:
        parts = [part.strip() for part in row["answer"].split(",")]
        known = set(parts) <= set(LEAVES) and len(set(parts)) == len(parts)
        assert bool(row["predicted"]) == (known or row["answer"] == "none")
    best, output = Path(setting["output_dir"], "written", "best"), tmp_path / "out.jsonl"
    table = Path(setting["output_dir"], "written", "predictions", "test.csv")
    predict.main(["--model", str(best), "--input", str(table), "--output", str(output)])
    again = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [one["answer"] for one in again] == [row["answer"] for row in rows]
    for one, row in zip(again, rows, strict=True):
        assert one["predicted"] == (json.loads(row["predicted"]) if row["predicted"] else None)
    assert "a list such as `joy, love`, or `none`" in (best / "README.md").read_text(encoding="utf-8")
    found = opinionlm.load(best, device="cpu").predict([row["text"] for row in rows])
    assert [one.labels is not None for one in found] == is_list.tolist()
    assert [one.answer for one in found] == [row["answer"] for row in rows]


def test_a_model_of_random_weights_writes_no_lists(setting) -> None:
    metrics = ask(setting, run_name="random", shots=3, **WRITES)
    assert metrics["test"]["invalid_rate"] == 1.0 and metrics["test"]["subset_accuracy"] == 0.0
    assert all(row["predicted"] == "" for row in rows_of(setting, "random"))


def test_dashboard_and_comparison_read_all_of_them(setting, scored, written, asked) -> None:
    ask(setting, run_name="random_again", **WRITES)
    payload = build_payload(collect(Path(setting["output_dir"])))
    groups = [group for group in payload["groups"] if group["task"] == "multi_label"]
    runs = {run["name"]: run for group in groups for run in group["runs"]}
    for name in ("scored", "written", "asked", "random_again"):
        assert runs[name]["splits"]["test"]["support"], name
    folders = [Path(setting["output_dir"], name) for name in ("scored", "written")]
    text, _, _ = compare_folders(folders, "test")
    assert f"written: macro-F1 {written['test']['macro_f1']:.3f}" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"calibration": "contextual"}, "calibration: 'contextual' is not read by task: multi_label"),
        ({"class_weights": "inverse_frequency"}, "class_weights: 'inverse_frequency' is not read by"),
        ({"decision": "thresholds"}, "decision: 'thresholds' is not read by task: multi_label"),
        ({"label_thresholds": "global", **WRITES}, "label_thresholds: 'global' is not read by decode: generate"),
        ({"metric_for_best_model": "accuracy"}, "'accuracy' is no score of the validation split"),
    ],
)
def test_options_that_are_not_for_several_labels(setting, options, said) -> None:
    with pytest.raises(UserError) as error:
        train(setting, run_name="refused", **options)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not Path(setting["output_dir"], "refused").exists()


def test_entailment_chooses_one_label(setting, tmp_path) -> None:
    config = tiny_config("bert")
    config.id2label = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config.label2id = {name: index for index, name in config.id2label.items()}
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="method: entailment chooses one label of a text"):
        ask(setting, run_name="nli", method="entailment", model_name_or_path=tmp_path, max_length=64)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, WRITES], ids=["score", "generate"])
def test_encoder_decoder_models_with_adapters(setting, tmp_path, options) -> None:
    save_generative_model(tmp_path / "model", "t5")
    run = {"run_name": "t5", "output_dir": str(tmp_path), "model_name_or_path": str(tmp_path / "model")}
    metrics = train(setting | run, adaptation="lora", num_train_epochs=1, **options)
    assert np.isfinite(metrics["test"]["loss"]) and 0 <= metrics["test"]["macro_f1"] <= 1
    rows = rows_of(setting | run, "t5")
    again = opinionlm.load(tmp_path / "t5" / "best", device="cpu").predict([row["text"] for row in rows])
    if options:
        assert [one.answer for one in again] == [row["answer"] for row in rows]
    else:
        found = np.array([list(one.probabilities.values()) for one in again])
        assert found == pytest.approx(probabilities(rows), abs=2e-5)
