"""prompt.py through its command line, the examples that it shows, and predict.py with language models."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import predict
import prompt
from opinionlm.config.options import ModelConfig
from opinionlm.data.contamination import save_seen_texts
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import Example, load_template, template_from
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.entailment import entailment_id, entailment_scores
from opinionlm.evaluation.label_scoring import score_labels, scored_ids
from opinionlm.evaluation.metrics import softmax
from opinionlm.inference.saved_generative import GenerativeSettings, save_generative
from opinionlm.runs.few_shot import demonstrate, draw_rows
from opinionlm.utils.shipped import model_identity
from tests.classifier_runs import write_posts
from tests.tiny import save_generative_model, save_pretrained_model, tiny_config, tiny_tokenizer

WORDS = ["noise", "objective", "positive", "negative"]
POSTS = [(f"coin {at} is {WORDS[at % 4][0]} today {at * 7}", WORDS[at % 4]) for at in range(60)]
TREE = Taxonomy.from_tree({"noise": None, "objective": None, "subjective": ["positive", "negative"]})
TEMPLATE = {"prompt": "{examples}post: {text}\nlabel:", "example": "post: {text}\nlabel:{answer}\n"}


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    """A tiny language model, a template and a small raw data set: options that every run here shares."""
    folder = tmp_path_factory.mktemp("setting")
    save_generative_model(folder / "model", single=True)
    write_posts(folder, POSTS)
    (folder / "template.yaml").write_text(yaml.safe_dump(TEMPLATE))
    return {
        "dataset": str(folder / "posts.yaml"),
        "data_dir": str(folder),
        "prepared_dir": str(folder / "prepared"),
        "model_name_or_path": str(folder / "model"),
        "prompt_template": str(folder / "template.yaml"),
        "max_length": "512",
        "use_cpu": "true",
        "report_to": "none",
    }


def ask(setting: dict[str, str], **options: object) -> dict | None:
    return prompt.main([part for name, value in (setting | options).items() for part in (f"--{name}", str(value))])


@pytest.mark.usefixtures("drawn_figures")
@pytest.mark.slow
def test_executions_with_different_seeds(setting, tmp_path) -> None:
    options = {"output_dir": tmp_path, "run_name": "shots", "shots": 4, "seeds": "0..1", "calibration": "contextual"}
    summary = ask(setting, **options)
    assert summary["seeds"] == [0, 1] and summary["test"]["macro_f1"]["std"] is not None
    shown = []
    for seed in (0, 1):
        folder = tmp_path / f"shots-seed{seed}"
        metrics = json.loads((folder / "metrics.json").read_text())
        shown.append(metrics["train"]["examples"])
        assert len(set(shown[-1])) == 4 and metrics["model"]["trainable_parameters"] == 0
        assert yaml.safe_load((folder / "config.yaml").read_text())["shots"] == 4
        facts = json.loads((folder / "environment.json").read_text())
        assert facts["model_fingerprint"] == model_identity(setting["model_name_or_path"])
        for name in ("confusion_test", "per_class_test", "reliability_test"):
            assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        with open(folder / "predictions" / "test.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[0].keys() >= {"id", "gold", "predicted", "level1", "level2", "probability_noise"}
        assert {row["level1"] for row in rows if row["predicted"] == "negative"} <= {"subjective"}
        assert not {row["id"] for row in rows} & set(shown[-1]), "evaluated texts are not shown"
    assert shown[0] != shown[1]
    before = (tmp_path / "shots-seed0" / "metrics.json").stat().st_mtime_ns
    assert ask(setting, **options) == summary, "nothing is asked again"
    assert (tmp_path / "shots-seed0" / "metrics.json").stat().st_mtime_ns == before


def test_probabilities_are_those_of_the_prompts(setting, tmp_path) -> None:
    ask(setting, output_dir=tmp_path, run_name="zero")
    with open(tmp_path / "zero" / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    model = AutoModelForCausalLM.from_pretrained(setting["model_name_or_path"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(setting["model_name_or_path"])
    encoder = PromptEncoder(load_template(setting["prompt_template"]), tokenizer, 512, tuple(WORDS))
    scores = score_labels(model, [encoder.prompt_ids(row["text"]) for row in rows], scored_ids(encoder), 0)
    expected = softmax(scores)
    found = [[float(row[f"probability_{word}"]) for word in WORDS] for row in rows]
    assert np.allclose(found, expected, atol=2e-6)


def test_written_answers_are_read_strictly(setting, tmp_path) -> None:
    metrics = ask(
        setting, output_dir=tmp_path, run_name="written", decode="generate", num_beams=2, max_answer_length=4
    )
    assert metrics["test"]["invalid_rate"] == 1.0 and metrics["test"]["macro_f1"] == 0.0, "a model of random weights"
    header = (tmp_path / "written" / "predictions" / "test.csv").read_text().splitlines()[0]
    assert header == "id,platform,text,gold,predicted,level1,level2,answer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 1000}, "shots: 1000 examples, but train has"),
        ({"shots": 36, "max_train_samples": 36}, "shots: 36 examples (need|leave)"),
        ({"shots": 12, "max_length": 250}, "show fewer, or raise max_length"),
        ({"decode": "generate", "calibration": "batch"}, "calibration: 'batch' is not read by decode: gen"),
        ({"method": "entailment"}, "none of which is `entailment`"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(setting, tmp_path, monkeypatch, options, message) -> None:
    monkeypatch.setattr("opinionlm.runs.prompting.load_model", lambda *arguments: pytest.fail("loaded"))
    with pytest.raises(UserError, match=message) as caught:
        ask(setting, output_dir=tmp_path, run_name="mistake", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "mistake").exists()


def test_a_model_that_was_trained_on_evaluated_texts_is_refused(setting, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("opinionlm.runs.prompting.load_model", lambda *arguments: pytest.fail("loaded"))
    shutil.copytree(setting["model_name_or_path"], tmp_path / "model")
    save_seen_texts(tmp_path / "model", ModelConfig(), [text for text, _ in POSTS])
    with pytest.raises(UserError, match="was trained on 12 of the 12 texts of posts's validation split"):
        ask(setting, output_dir=tmp_path, run_name="seen", model_name_or_path=tmp_path / "model")


def test_encoders_write_nothing(setting, tmp_path) -> None:
    save_pretrained_model(tmp_path / "bert", "bert")
    with pytest.raises(UserError, match="encoder-only"):
        ask(setting, output_dir=tmp_path, run_name="bert", model_name_or_path=tmp_path / "bert")


def posts(count: int = 40) -> Dataset:
    rows = [{"id": str(row), "text": f"post {row} " + "again " * row, "label": row % 4} for row in range(count)]
    return Dataset.from_list(rows)


@pytest.mark.parametrize("shots", [0, 1, 3, 4, 6, 9])
def test_examples_are_balanced_seeded_and_never_evaluated(shots: int) -> None:
    train, evaluated = posts(), [posts(8)]
    rows = draw_rows(train, evaluated, TREE, shots, seed=3)
    assert rows == draw_rows(train, evaluated, TREE, shots, seed=3) and len(set(rows)) == shots
    counts = np.bincount([train[row]["label"] for row in rows], minlength=4) if rows else np.zeros(4)
    assert counts.max() - counts.min() <= 1
    assert all(row >= 8 for row in rows), "the first eight are evaluated"
    if shots > 3:
        assert rows != draw_rows(train, evaluated, TREE, shots, seed=4)


def test_too_few_examples_of_a_class_are_named() -> None:
    with pytest.raises(UserError, match="need 3 of 'noise', of which train has 2 that are not evaluated"):
        draw_rows(posts(16), [posts(8)], TREE, 12, seed=0)


def test_long_examples_are_cut_and_never_left_out() -> None:
    encoder = PromptEncoder(template_from(TEMPLATE, "t.yaml"), tiny_tokenizer(), 200, tuple(WORDS))
    train = posts()
    rows = [1, 12, 38, 39]
    shown = demonstrate(train, rows, WORDS, encoder)
    assert shown.ids == ("1", "12", "38", "39") and 1 <= shown.shortened < 4
    lengths = [
        len(encoder.tokenizer(example.text, add_special_tokens=False)["input_ids"]) for example in shown.examples
    ]
    for example, row in zip(shown.examples, rows, strict=True):
        assert train[row]["text"].startswith(example.text) and example.answer == WORDS[row % 4]
    for text in ("", "short", "long " * 400):
        ids = encoder.prompt_ids(text, examples=shown.examples)
        assert len(ids) <= encoder.prompt_budget
    # The evaluated text has as much room as any demonstration.
    assert encoder.prompt_budget - encoder.prompt_length(shown.examples) >= max(lengths)
    assert demonstrate(train, rows, WORDS, PromptEncoder(encoder.template, encoder.tokenizer, 2000, tuple(WORDS))) == (
        type(shown)(tuple(Example(train[row]["text"], WORDS[row % 4]) for row in rows), shown.ids, 0)
    )


def test_a_template_without_a_place_for_examples_is_named() -> None:
    encoder = PromptEncoder(template_from({"prompt": "{text} is"}, "t.yaml"), tiny_tokenizer(), 400, tuple(WORDS))
    with pytest.raises(UserError, match="shots: 2, but t.yaml has no place"):
        demonstrate(posts(), [1, 2], WORDS, encoder)


@pytest.fixture(scope="module")
def entailment_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nli")
    torch.manual_seed(0)
    config = tiny_config("bert")
    config.id2label = {0: "contradiction", 1: "neutral", 2: "ENTAILMENT"}
    config.label2id = {name: index for index, name in config.id2label.items()}
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_entailment_scores_are_those_of_single_pairs(entailment_model: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(entailment_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(entailment_model)
    texts, hypotheses = ["the price fell", "buy now " * 60, ""], ["This is noise.", "This is good news."]
    for budget in (1, 4096):
        scores = entailment_scores(model, tokenizer, texts, hypotheses, 64, budget)
        for row, text in enumerate(texts):
            for column, hypothesis in enumerate(hypotheses):
                pair = tokenizer(text, hypothesis, truncation="only_first", max_length=64, return_tensors="pt")
                with torch.no_grad():
                    assert scores[row, column] == pytest.approx(float(model(**pair).logits[0, 2]), abs=1e-5)
    with pytest.raises(UserError, match="leave no room"):
        entailment_scores(model, tokenizer, texts, hypotheses, 10)
    with pytest.raises(UserError, match="none of which is `entailment`"):
        entailment_id(tiny_config("bert"))


def test_entailment_run(setting, entailment_model: Path, tmp_path) -> None:
    options = {"output_dir": tmp_path, "method": "entailment", "model_name_or_path": entailment_model}
    metrics = ask(setting, run_name="nli", max_length=64, calibration="batch", report_to="wandb", **options)
    assert 0 <= metrics["test"]["macro_f1"] <= 1
    assert list((tmp_path / "nli").glob("wandb/*/run-*.wandb"))
    assert (tmp_path / "nli" / "predictions" / "test.csv").is_file()


def test_an_untrained_head_is_refused(setting, entailment_model: Path, tmp_path) -> None:
    # What made the report's zero-shot numbers chance: a score layer that no one had trained.
    bare = AutoModelForSequenceClassification.from_pretrained(entailment_model).bert
    bare.config.architectures = None
    bare.save_pretrained(tmp_path / "bare")
    tiny_tokenizer().save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="no trained classifier"):
        ask(setting, output_dir=tmp_path, method="entailment", model_name_or_path=tmp_path / "bare", max_length=64)


def saved(folder: Path, setting: dict[str, str], adapter: bool, decode: str, taxonomy: Taxonomy | None) -> Path:
    model = AutoModelForCausalLM.from_pretrained(setting["model_name_or_path"])
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, init_lora_weights=False))
    settings = GenerativeSettings(
        task="question_answering" if taxonomy is None else "sequence",
        template=template_from({"prompt": "post: {text}{context}\nlabel:"}, "t.yaml"),
        taxonomy=taxonomy,
        max_length=96,
        max_answer_length=4,
        decode=decode,
        score_normalisation="mean",
        calibration="contextual" if decode == "score" else "none",
        num_beams=1,
        base_model=setting["model_name_or_path"] if adapter else None,
    )
    save_generative(folder, model, tiny_tokenizer(), settings)
    return folder


def predicted(model: Path, tmp_path: Path, *options: str) -> list[dict[str, str]]:
    (tmp_path / "in.csv").write_text("id,text,context\na,the price fell,now\nb,buy,\na2,the price fell,now\n")
    output = tmp_path / "out.csv"
    predict.main(["--model", str(model), "--input", str(tmp_path / "in.csv"), "--output", str(output), *options])
    with open(output, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("adapter", [False, True])
def test_predict_scores_labels_with_a_saved_language_model(setting, tmp_path, adapter: bool) -> None:
    folder = saved(tmp_path / "best", setting, adapter, "score", TREE)
    rows = predicted(folder, tmp_path, "--pair_column", "context", "--device", "cpu")
    assert list(rows[0]) == ["id", "text", "text_pair", "predicted", "confidence", "level1", "level2"] + [
        f"probability_{word}" for word in WORDS
    ]
    probabilities = np.array([[float(row[f"probability_{word}"]) for word in WORDS] for row in rows])
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5) and np.array_equal(probabilities[0], probabilities[2])
    assert [row["predicted"] for row in rows] == [WORDS[row.argmax()] for row in probabilities]
    without = tmp_path / "without.csv"
    (tmp_path / "plain.csv").write_text("id,text\na,the price fell\n")
    predict.main(["--model", str(folder), "--input", str(tmp_path / "plain.csv"), "--output", str(without)])
    assert len(without.read_text().splitlines()) == 2, "a context may be missing"
    lines = tmp_path / "lines.jsonl"
    predict.main(["--model", str(folder), "--input", str(tmp_path / "plain.csv"), "--output", str(lines)])
    assert isinstance(json.loads(lines.read_text())["probability_noise"], float)


@pytest.mark.parametrize("taxonomy", [TREE, None])
def test_predict_writes_answers(setting, tmp_path, taxonomy: Taxonomy | None) -> None:
    rows = predicted(saved(tmp_path / "best", setting, False, "generate", taxonomy), tmp_path)
    labels = [] if taxonomy is None else ["predicted", "level1", "level2"]
    assert list(rows[0]) == ["id", "text", *labels, "answer", "context"] and len(rows) == 3


def test_predict_names_a_missing_base_model(setting, tmp_path) -> None:
    folder = saved(tmp_path / "best", setting, True, "score", TREE)
    content = json.loads((folder / "opinionlm.json").read_text())
    (folder / "opinionlm.json").write_text(json.dumps(content | {"base_model": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match="model_name_or_path"):
        predicted(folder, tmp_path)
