"""train_instruct.py through its command line: what it writes, how it continues, how it fails."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSeq2SeqLM
from sklearn.metrics import f1_score
from transformers import AutoModelForCausalLM, AutoTokenizer

import opinionlm
import predict
import train_instruct
from opinionlm.config.options import ModelConfig
from opinionlm.data.contamination import seen_among
from opinionlm.data.encoding.templates import PromptTemplate
from opinionlm.data.prepared import load_prepared
from opinionlm.errors import UserError
from opinionlm.evaluation.label_scoring import score_labels, scored_ids
from opinionlm.evaluation.metrics import softmax
from opinionlm.inference.hub import saved_folder
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.saved_generative import GenerativeSettings, loaded_as, read_settings, save_generative
from opinionlm.models.quantization import quantized_modules
from opinionlm.training.spending import describe_cost
from tests.classifier_runs import WORDS, drawn_posts, write_posts
from tests.tiny import save_generative_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    """A tiny pretrained model, a template and a small raw data set: options that every run here shares."""
    folder = tmp_path_factory.mktemp("setting")
    save_generative_model(folder / "model")
    write_posts(folder, drawn_posts(120))
    (folder / "template.yaml").write_text('prompt: "post: {text}\\nlabel:"\n')
    return {
        "dataset": str(folder / "posts.yaml"),
        "data_dir": str(folder),
        "prepared_dir": str(folder / "prepared"),
        "cache_dir": str(folder / "cache"),
        "model_name_or_path": str(folder / "model"),
        "prompt_template": str(folder / "template.yaml"),
        "adaptation": "top_blocks",
        "max_length": "64",
        "learning_rate": "1e-3",
        "num_train_epochs": "2",
        "per_device_train_batch_size": "16",
        "report_to": "none",
        "use_cpu": "true",
    }


def command_line(setting: dict[str, str], **options: object) -> list[str]:
    return [part for name, value in (setting | options).items() for part in (f"--{name}", str(value))]


def train(setting: dict[str, str], **options: object) -> dict | None:
    return train_instruct.main(command_line(setting, **options))


@pytest.fixture(scope="module")
def finished(setting, tmp_path_factory) -> tuple[Path, dict]:
    """A finished run and what it returned."""
    outputs = tmp_path_factory.mktemp("outputs")
    metrics = train(setting, output_dir=outputs, run_name="full_run")
    return outputs / "full_run", metrics


def test_second_texts_are_not_left_out(setting, tmp_path) -> None:
    spec = yaml.safe_load(Path(setting["dataset"]).read_text())
    spec["files"][0]["columns"]["text_pair"] = "level1"
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    with pytest.raises(UserError, match="shows no {context}, where the second text of a pair goes; .* auto"):
        train(setting, dataset=tmp_path / "pairs.yaml", prepared_dir=tmp_path, output_dir=tmp_path, run_name="pairs")


def test_run_folder(setting, finished) -> None:
    folder, metrics = finished
    stored = json.loads((folder / "metrics.json").read_text())
    # The card says what was done and spent, as metrics.json does: the texts in batches of 16, twice.
    (prepared,) = Path(setting["prepared_dir"]).glob("posts-*")
    texts = 2 * len(load_prepared(prepared).dataset["train"])
    card, made, cost = (folder / "best" / "README.md").read_text(), stored["train"], stored["cost"]
    assert f"`python -m opinionlm predict --model {folder / 'best'} --input posts.csv" in card
    assert made["steps"] == 10 and made["texts_per_step"] == texts / 10
    assert (
        f"| optimizer step | 16 texts; {texts / 10:.1f} texts, {made['tokens_per_step']:,.0f} tokens on average |"
        in card
    )
    assert "| training | 2 epochs, 10 steps |" in card and f"| cost | {describe_cost(cost)} |" in card
    spent = sum(cost[name] for name in ("cache_seconds", "train_seconds", "evaluation_seconds"))
    assert cost["total_seconds"] == pytest.approx(spent) and cost["cache_splits_built"] == 3
    assert stored == metrics
    assert stored.keys() >= {"train", "validation", "test", "model", "cost"}
    assert stored["model"]["trainable_parameters"] < stored["model"]["total_parameters"]
    assert stored["train"]["supervised_tokens"] > 0 and len(stored["test"]["macro_f1_ci95"]) == 2
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["decode"] == "score" and "pooling" not in config
    for name in ("confusion_test", "per_class_test", "reliability_test", "learning_curves"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "rejects.csv").read_text() == "split,id,reason\n"
    with open(folder / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() >= {"id", "text", "gold", "predicted", "level1", "level2", "probability_noise"}
    gold, predicted = [row["gold"] for row in rows], [row["predicted"] for row in rows]
    assert f1_score(gold, predicted, average="macro") == pytest.approx(stored["test"]["macro_f1"])
    assert {row["level1"] for row in rows if row["predicted"] == "positive"} <= {"subjective"}

    # The saved model, its tokenizer and its settings give these very probabilities.
    model = AutoModelForCausalLM.from_pretrained(folder / "best").eval()
    tokenizer, settings = AutoTokenizer.from_pretrained(folder / "best"), read_settings(folder / "best")
    encoder = settings.encoder(tokenizer, encoder_decoder=False)
    prompts = [encoder.prompt_ids(row["text"]) for row in rows]
    scored = softmax(score_labels(model, prompts, scored_ids(encoder), 0))
    probabilities = settings.rule.probabilities(np.log(scored))
    expected = [[float(row[f"probability_{label}"]) for label in WORDS] for row in rows]
    assert probabilities == pytest.approx(np.array(expected), abs=2e-5)

    # What was fitted on validation is in metrics.json, in best/ and in its card.
    assert stored["decision"]["temperature"] == settings.rule.temperature != 1.0
    for split in ("validation", "test"):
        assert stored[split].keys() >= {"ece", "ece_uncalibrated", "label_set_coverage", "label_set_size"}
        assert stored[split]["platforms"]["forum"]["macro_f1"] == pytest.approx(stored[split]["macro_f1"])
    card = (folder / "best" / "README.md").read_text()
    assert f"| temperature | {settings.rule.temperature:.3f} |" in card and "| forum | 24 |" in card

    # A finished run is not run again; other options under its name are refused.
    assert train(setting, output_dir=folder.parent, run_name="full_run") is None
    with pytest.raises(UserError, match="other options"):
        train(setting, output_dir=folder.parent, run_name="full_run", seed=3)


def test_an_interrupted_run_ends_like_a_whole_one(setting, finished, tmp_path) -> None:
    folder, metrics = finished
    shutil.copytree(folder, tmp_path / "full_run")
    (tmp_path / "full_run" / "metrics.json").unlink()
    # The options name another folder now; the run has to be told so.
    config = (tmp_path / "full_run" / "config.yaml").read_text().replace(str(folder.parent), str(tmp_path))
    (tmp_path / "full_run" / "config.yaml").write_text(config)
    shutil.rmtree(tmp_path / "full_run" / "checkpoints" / "checkpoint-10")
    resumed = train(setting, output_dir=tmp_path, run_name="full_run")
    assert resumed["validation"] == metrics["validation"] and resumed["test"] == metrics["test"]


def test_frozen_blocks_run_once_and_change_nothing(setting, finished, tmp_path, capsys) -> None:
    without = {name: value for name, value in setting.items() if name != "cache_dir"}
    plain = train(without, cache_frozen="off", output_dir=tmp_path, run_name="plain")
    assert "cache   " not in capsys.readouterr().out
    kept = finished[1]
    for split in ("validation", "test"):
        assert plain[split]["loss"] == pytest.approx(kept[split]["loss"], rel=1e-5)
        assert plain[split]["macro_f1"] == kept[split]["macro_f1"]
    assert kept["cost"]["train_flops"] < plain["cost"]["train_flops"]
    # Another seed finds the states of the first.
    again = train(setting, output_dir=tmp_path, run_name="again", seed=1)
    assert again["cost"]["cache_splits_reused"] == 3 and again["cost"]["cache_seconds"] == 0
    assert "cache   states of the 3 frozen blocks" in capsys.readouterr().out


def test_single_texts_are_calibrated_as_the_run_was(setting, tmp_path) -> None:
    train(setting, output_dir=tmp_path, run_name="batch", max_steps=4, num_train_epochs=1, calibration="batch")
    with open(tmp_path / "batch" / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))[:5]
    model = opinionlm.load(tmp_path / "batch", device="cpu")
    for row in rows:
        # By the prior of one text every label would have the same probability.
        (alone,) = model.predict([row["text"]], are_prepared=True)
        assert alone.label == row["predicted"]
        assert alone.probabilities == pytest.approx(
            {label: float(row[f"probability_{label}"]) for label in WORDS}, abs=2e-5
        )
    settings = read_settings(tmp_path / "batch" / "best")
    assert np.exp(settings.label_prior).sum() == pytest.approx(1)


def test_predict_decides_as_the_run_did(setting, tmp_path) -> None:
    options = {"decision": "thresholds", "calibration": "contextual", "label_set_score": "aps"}
    train(setting, output_dir=tmp_path, run_name="trust", num_train_epochs=1, **options)
    best = tmp_path / "trust" / "best"
    rule = read_settings(best).rule
    assert rule.kind == "thresholds" and len(rule.offsets) == 4 and rule.label_sets.score == "aps"
    with open(tmp_path / "trust" / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    posts, output = tmp_path / "posts.csv", tmp_path / "labels.csv"
    with open(posts, "w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[row["text"]] for row in rows]])
    command = ["--model", str(best), "--input", str(posts), "--output", str(output)]
    confidence = sorted(float(row["confidence"]) for row in rows)
    limit = (confidence[len(rows) // 2 - 1] + confidence[len(rows) // 2]) / 2
    predict.main([*command, "--label_sets", "0.8", "--abstain_below", f"{limit:.6f}"])
    with open(output, newline="") as file:
        again = list(csv.DictReader(file))
    assert len(again) == len(rows) and 0 < sum(not row["predicted"] for row in again) < len(rows)
    stored = np.array([[float(row[f"probability_{label}"]) for label in WORDS] for row in rows])
    members = rule.label_sets.members(stored, 0.8)
    for row, before, inside in zip(again, rows, members, strict=True):
        assert float(row["confidence"]) == pytest.approx(float(before["confidence"]), abs=2e-5)
        assert row["predicted"] in ("", before["predicted"])
        # Stored probabilities are rounded, so only a label at the border itself may differ.
        assert len(set(json.loads(row["label_set"])) ^ set(np.array(list(WORDS))[inside])) <= 1


def test_decode_generate_counts_invalid_answers(setting, tmp_path) -> None:
    options = {"decode": "generate", "num_beams": 1, "max_answer_length": 6, "max_eval_samples": 6}
    metrics = train(setting, output_dir=tmp_path, run_name="g", num_train_epochs=1, **options)
    assert 0.0 <= metrics["test"]["invalid_rate"] <= 1.0
    low, high = metrics["test"]["accuracy_ci95"]
    assert low <= metrics["test"]["accuracy"] <= high
    with open(tmp_path / "g" / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    invalid = [row for row in rows if row["answer"].strip() not in WORDS]
    assert len(invalid) == round(metrics["test"]["invalid_rate"] * len(rows))
    assert all(row["predicted"] == row["level1"] == "" for row in invalid)


@pytest.mark.parametrize(
    ("options", "template", "message"),
    [
        ({}, 'prompt: "no field"', "lacks the field {text}"),
        ({}, 'prompt: "{text} {label}:"', "unknown field {label}"),
        ({}, 'prompt: "{text}:"\nchat: true', "has no chat template"),
        ({}, 'prompt: "{text}:"\nlabels: {positive: good, negative: good}', "have the same answer 'good'"),
        ({}, 'prompt: "{text}:"\nlabels: {positive: good, negative: good bad}', "begins like 'good'"),
        ({}, 'prompt: "{text}:"\nlabels: {neutral: good}', "'neutral' is not one of the data's labels"),
        ({"max_length": 12}, 'prompt: "a template of very many words for {text}:"', "without any text"),
        ({"max_length": 4}, 'prompt: "{text}:"', "leave no room for a prompt beside an answer"),
    ],
)
def test_bad_templates_are_named_before_training(setting, tmp_path, options, template, message) -> None:
    (tmp_path / "bad.yaml").write_text(template)
    with pytest.raises(UserError) as caught:
        train(setting, output_dir=tmp_path, run_name="bad", prompt_template=tmp_path / "bad.yaml", **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


def test_encoder_only_models_are_refused(setting, tmp_path) -> None:
    from tests.tiny import save_pretrained_model

    save_pretrained_model(tmp_path / "bert", "bert")
    with pytest.raises(UserError, match="'bert' is an encoder-only model"):
        train(setting, output_dir=tmp_path, run_name="bad", model_name_or_path=tmp_path / "bert")


@pytest.mark.slow
def test_two_processes(setting, tmp_path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(ROOT / "train_instruct.py"), *command_line(setting, output_dir=tmp_path, run_name="two")]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    one = train(setting, output_dir=tmp_path, run_name="one", per_device_train_batch_size=32)
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert two["validation"]["loss"] == pytest.approx(one["validation"]["loss"], rel=1e-4)
    assert torch.tensor(two["validation"]["macro_f1"]).item() == pytest.approx(one["validation"]["macro_f1"])


@pytest.mark.parametrize(
    ("task", "family", "adaptation", "metric", "room"),
    [
        ("qa", "t5", "lora", "f1", 24),
        ("summarization", "t5", "full", "rougeL", 120),
        ("instruction", "gpt2", "lora", "perplexity", 24),
    ],
)
def test_free_answers(setting, task: str, family: str, adaptation: str, metric: str, room: int, tmp_path) -> None:
    save_generative_model(tmp_path / "model", family)
    template = {"qa": "question_answering"}.get(task, task)
    metrics = train(
        setting,
        dataset=ROOT / "configs" / "datasets" / f"sample_{task}.yaml",
        data_dir=ROOT / "data",
        model_name_or_path=tmp_path / "model",
        prompt_template=ROOT / "configs" / "prompts" / f"{template}.yaml",
        output_dir=tmp_path,
        run_name="free",
        adaptation=adaptation,
        decode="generate",
        num_beams=1 if room > 100 else 2,
        max_length=125,
        max_answer_length=room,
        max_train_samples=32,
        max_eval_samples=4,
        num_train_epochs=1,
    )
    folder = tmp_path / "free"
    assert metrics["test"].keys() >= {metric, "loss", "perplexity"}
    assert metrics["test"]["perplexity"] == pytest.approx(np.exp(metrics["test"]["loss"]), rel=1e-5)
    history = json.loads((folder / "history.json").read_text())
    assert any(f"eval_{metric}" in entry for entry in history)
    with open(folder / "predictions" / "test.csv", newline="") as file:
        assert [*next(csv.reader(file))] == ["id", "platform", "text", "context", "gold", "answer"]
    settings = read_settings(folder / "best")
    assert settings.taxonomy is None and settings.max_answer_length == room
    if adaptation == "lora":
        # A standard adapter: it loads with PEFT alone on top of the base model.
        auto_class = AutoPeftModelForSeq2SeqLM if family == "t5" else AutoPeftModelForCausalLM
        model = auto_class.from_pretrained(folder / "best")
        assert settings.base_model == str(tmp_path / "model") and any(
            "lora" in name for name, _ in model.named_modules()
        )
    with open(folder / "rejects.csv", newline="") as file:
        rejected = list(csv.DictReader(file))
    assert len(rejected) == sum(metrics["train"]["rejected"].values())


def test_free_answers_are_not_scored_as_labels(setting, tmp_path) -> None:
    options = {"dataset": ROOT / "configs" / "datasets" / "sample_qa.yaml", "data_dir": ROOT / "data"}
    with pytest.raises(UserError, match="decode: 'score' needs a closed set of labels"):
        train(setting, output_dir=tmp_path, run_name="bad", max_length=120, **options)


@pytest.mark.parametrize("adaptation", ["top_blocks", "qlora"])
def test_four_bits(setting, adaptation: str, tmp_path) -> None:
    options = {"load_in_4bit": "true", "adaptation": adaptation, "num_train_epochs": 1, "max_eval_samples": 8}
    metrics = train(setting, output_dir=tmp_path, run_name="four", learning_rate="1e-2", **options)
    assert metrics["model"]["quantized_modules"] > 0
    auto_class = AutoPeftModelForCausalLM if adaptation == "qlora" else AutoModelForCausalLM
    model = auto_class.from_pretrained(tmp_path / "four" / "best").eval()
    assert adaptation == "qlora" or len(quantized_modules(model)) == metrics["model"]["quantized_modules"]
    best = tmp_path / "four" / "best"
    require_same_answers(best, tmp_path)
    if adaptation == "top_blocks":
        with pytest.raises(UserError, match="are in 4 bits and compute in float32; leave the option out"):
            load_predictor(best, PredictionOptions(device="cpu", precision="bfloat16"))
    if adaptation == "qlora":
        # Merged into what was trained, in 4 bits, and not into the weights before they were rounded.
        predict.main(["--model", str(best), "--merge", str(tmp_path / "merged")])
        require_same_answers(tmp_path / "merged", tmp_path, run="four")
        assert not (tmp_path / "merged" / "config.json").read_text().count("quantization_config")


def test_an_adapter_is_saved_with_what_its_base_model_was_loaded_by(setting, tmp_path) -> None:
    model = AutoModelForCausalLM.from_pretrained(setting["model_name_or_path"])
    options = ModelConfig(model_name_or_path="user/base", model_revision="v1", dtype="fastest")
    settings = GenerativeSettings(
        task="instruction",
        template=PromptTemplate("post: {text}\nanswer:"),
        taxonomy=None,
        max_length=64,
        max_answer_length=8,
        decode="generate",
        score_normalisation="sum",
        calibration="none",
        num_beams=1,
        base_model="user/base",
        base_options=loaded_as(options, model),
    )
    save_generative(tmp_path, model, AutoTokenizer.from_pretrained(setting["model_name_or_path"]), settings)
    found = read_settings(tmp_path).model_options(tmp_path, "auto")
    assert (found.model_name_or_path, found.model_revision, found.dtype) == ("user/base", "v1", "float32")
    assert read_settings(tmp_path).model_options(tmp_path, "bfloat16").dtype == "bfloat16"
    lost = replace(settings, base_options=loaded_as(replace(options, random_weights=True), model))
    with pytest.raises(UserError, match="an adapter beside random weights, which are saved nowhere"):
        lost.model_options(tmp_path, "auto")


def require_same_answers(folder: Path, scratch: Path, run: str | None = None) -> None:
    """predict.py says of the test texts what the run itself said."""
    own = scratch / run if run else folder.parent
    with open(own / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    posts = scratch / f"{folder.name}.csv"
    with open(posts, "w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[row["text"]] for row in rows]])
    again = labels_of(folder, posts, scratch / f"{folder.name}_labels.csv")
    for one, other in zip(rows, again, strict=True):
        assert float(one["probability_noise"]) == pytest.approx(float(other["probability_noise"]), abs=2e-5)


def test_bottleneck_adapters_are_saved_beside_their_base(setting, tmp_path) -> None:
    options = {"adaptation": "houlsby", "adapter_size": 8, "num_train_epochs": 1, "max_eval_samples": 12}
    train(setting, output_dir=tmp_path, run_name="houlsby", **options)
    best = tmp_path / "houlsby" / "best"
    assert not (best / "model.safetensors").exists() and (best / "trained.safetensors").is_file()
    with open(tmp_path / "houlsby" / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    posts = tmp_path / "posts.csv"
    with open(posts, "w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[row["text"]] for row in rows]])
    predict.main(["--model", str(best), "--input", str(posts), "--output", str(tmp_path / "labels.csv")])
    with open(tmp_path / "labels.csv", newline="") as file:
        again = list(csv.DictReader(file))
    for one, other in zip(rows, again, strict=True):
        assert one["predicted"] == other["predicted"]
        assert float(one["probability_noise"]) == pytest.approx(float(other["probability_noise"]), abs=2e-5)


def labels_of(folder: Path, posts: Path, output: Path) -> list[dict[str, str]]:
    predict.main(["--model", str(folder), "--input", str(posts), "--output", str(output)])
    with open(output, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("adaptation", ["lora", "ia3"])
def test_a_merged_adapter_answers_the_same(setting, adaptation, tmp_path) -> None:
    options = {"adaptation": adaptation, "num_train_epochs": 1, "learning_rate": "1e-2", "max_eval_samples": 12}
    train(setting, output_dir=tmp_path, run_name="adapted", **options)
    best, merged = tmp_path / "adapted" / "best", tmp_path / "merged"
    predict.main(["--model", str(best), "--merge", str(merged)])
    assert (best / "adapter_model.safetensors").is_file()
    assert (merged / "model.safetensors").is_file() and not (merged / "adapter_model.safetensors").exists()
    for name in ("input.json", "seen_texts.npy"):
        assert (merged / name).read_bytes() == (best / name).read_bytes()
    with pytest.raises(UserError, match=r"is an adapter of .*model, which is on this machine alone; merge it first"):
        saved_folder(best)
    assert saved_folder(merged) == merged
    # What a model was taught on is known when another training goes on from it.
    (folder,) = Path(setting["prepared_dir"]).glob("posts-*")
    prepared = load_prepared(folder)
    texts = prepared.dataset["train"]["text"]
    assert seen_among(ModelConfig(model_name_or_path=str(merged)), texts) == len(texts)
    posts = tmp_path / "posts.csv"
    posts.write_text("text\nlove great happy gain\nprice closed volume\nhate awful scam\n")
    before, after = labels_of(best, posts, tmp_path / "a.csv"), labels_of(merged, posts, tmp_path / "b.csv")
    for one, other in zip(before, after, strict=True):
        assert one["predicted"] == other["predicted"]
        assert float(one["probability_noise"]) == pytest.approx(float(other["probability_noise"]), abs=2e-5)
    with pytest.raises(UserError, match="has no adapter"):
        predict.main(["--model", str(merged), "--merge", str(tmp_path / "again")])


@pytest.mark.parametrize(("adaptation", "kind"), [("prefix", "PREFIX_TUNING"), ("pfeiffer", "pfeiffer adapter")])
def test_adapters_that_are_no_change_of_weights_are_not_merged(setting, adaptation, kind, tmp_path) -> None:
    shared = {name: value for name, value in setting.items() if name != "num_train_epochs"}
    train(shared, output_dir=tmp_path, run_name="adapted", adaptation=adaptation, max_steps=1, max_eval_samples=8)
    with pytest.raises(UserError, match=f"{kind} adds layers or tokens"):
        predict.main(["--model", str(tmp_path / "adapted" / "best"), "--merge", str(tmp_path / "merged")])
    assert not (tmp_path / "merged").exists()
