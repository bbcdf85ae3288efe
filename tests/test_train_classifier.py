"""train_classifier.py through its command line: what it writes, how it continues, how it fails."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from sklearn.metrics import f1_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import predict
import train_classifier
from opinionlm.errors import UserError
from opinionlm.evaluation.calibration import calibrated
from opinionlm.inference.arguments import parse_arguments
from opinionlm.training.checkpoints import seal
from tests.classifier_runs import WORDS, command_line, train
from tests.faults.children import Job, run
from tests.processes import in_two_processes

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.usefixtures("drawn_figures")
def test_run_folder(setting, tmp_path, capsys) -> None:
    metrics = train(setting, output_dir=tmp_path, run_name="full_run", report_to="wandb")
    folder = tmp_path / "full_run"
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored == metrics
    assert stored.keys() >= {"train", "validation", "test", "model", "cost"}
    assert stored["cost"].keys() >= {"train_seconds", "tokens_per_second", "peak_memory_mb", "train_flops"}
    assert stored["model"]["trainable_parameters"] < stored["model"]["total_parameters"]
    assert len(stored["test"]["macro_f1_ci95"]) == 2
    assert stored["train"]["steps"] == 12 and stored["train"]["epochs"] == 2

    text = (folder / "config.yaml").read_text()
    config, (chosen, others) = yaml.safe_load(text), text.split("# As by default:")
    assert config["learning_rate"] == 1e-3 and config["adaptation"] == "top_blocks"
    assert "learning_rate: " in chosen and "run_name: " in chosen and "weight_decay: " in others
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0] or environment["packages"]["torch"]
    assert environment["seed"] == 42 and len(environment["data_fingerprint"]) == 64
    for name in ("confusion_test", "per_class_test", "reliability_test", "learning_curves"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    card = ModelCard.load(folder / "best" / "README.md")
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results["macro-F1"] == pytest.approx(stored["test"]["macro_f1"], abs=1e-6)
    assert "Of 100 texts" in card.text
    # Whoever can import opinionlm, as the card's example does, can give its command.
    (options,) = re.findall("`python -m opinionlm predict (.*)`", card.text)
    assert parse_arguments(shlex.split(options), "").model == [folder / "best"]
    assert list(folder.glob("wandb/*/run-*.wandb"))
    assert not list((folder / "best").glob("*.bin")) and not list((folder / "best").glob("*.pt"))

    with open(folder / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() >= {"id", "text", "gold", "predicted", "level1", "level2", "probability_noise"}
    gold, predicted = [row["gold"] for row in rows], [row["predicted"] for row in rows]
    assert f1_score(gold, predicted, average="macro") == pytest.approx(stored["test"]["macro_f1"])
    assert {row["level1"] for row in rows if row["predicted"] == "positive"} <= {"subjective"}

    # The saved model gives these very probabilities, in a process that only knows transformers and opinionlm.
    model = AutoModelForSequenceClassification.from_pretrained(folder / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    batch = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        probabilities = calibrated(
            model(**batch).logits.numpy(), model.config.temperature, model.config.calibration_biases
        )
    stored_probabilities = [[float(row[f"probability_{label}"]) for label in WORDS] for row in rows]
    assert probabilities == pytest.approx(np.array(stored_probabilities), abs=2e-5)

    # A finished run is not run again; other options under its name are refused; predict.py reads its model.
    assert train(setting, output_dir=tmp_path, run_name="full_run", report_to="wandb") is None
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(UserError, match="other options \\(weight_decay\\)"):
        train(setting, output_dir=tmp_path, run_name="full_run", weight_decay=0.3)
    posts = tmp_path / "posts.txt"
    posts.write_text("".join(f"{row['text']}\n" for row in rows))
    predict.main(["--model", str(folder / "best"), "--input", str(posts), "--output", str(tmp_path / "labels.csv")])
    with open(tmp_path / "labels.csv", newline="") as file:
        assert [row["predicted"] for row in csv.DictReader(file)] == predicted


def scores(metrics: dict) -> dict:
    return {name: metrics[name] for name in ("validation", "test")}


@pytest.fixture(scope="module")
def cached(setting, tmp_path_factory) -> dict:
    """What a run of Trainer with its frozen blocks cached says of itself."""
    return train(setting, output_dir=tmp_path_factory.mktemp("cached"), run_name="cached", cache_frozen="on")


def test_cache_changes_nothing(setting, cached, tmp_path) -> None:
    computed = train(setting, output_dir=tmp_path, run_name="off", cache_frozen="off")
    for split in ("validation", "test"):
        one, other = dict(cached[split]), computed[split]
        assert one.pop("platforms").keys() == other.pop("platforms").keys() == {"forum"}
        assert one.pop("without_near_copies")["rows"] == other.pop("without_near_copies")["rows"] > 0
        for name, value in other.items():
            assert one[name] == pytest.approx(value, abs=1e-5), name


def test_interrupted_run_continues_to_the_same_end(setting, tmp_path, monkeypatch) -> None:
    from opinionlm.training.trainer import OpinionTrainer

    options = {"output_dir": tmp_path, "cache_frozen": "off", "adaptation": "full"}
    whole = train(setting, run_name="whole", **options)

    step = OpinionTrainer.training_step

    def dies(self, *arguments, **named):
        if self.state.global_step == 9:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    monkeypatch.setattr(OpinionTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(setting, run_name="broken", **options)
    assert not (tmp_path / "broken" / "metrics.json").exists()
    monkeypatch.undo()
    # What the first process took counts too.
    seconds = list((tmp_path / "broken").glob("checkpoints/checkpoint-*/seconds.txt"))
    assert seconds
    seconds[-1].write_text("1000")
    seal(seconds[-1].parent)
    continued = train(setting, run_name="broken", **options)
    assert scores(continued) == scores(whole)
    assert 1000 < continued["cost"]["train_seconds"] < 2000


@pytest.mark.parametrize("adaptation", ["full", "head_only"])
def test_adaptations_and_early_stopping(setting, tmp_path, adaptation) -> None:
    metrics = train(
        setting,
        output_dir=tmp_path,
        run_name=adaptation,
        adaptation=adaptation,
        learning_rate=1e-12,  # nothing improves
        early_stopping_patience=1,
        num_train_epochs=9,
        max_tokens_per_batch=256,
    )
    assert metrics["train"]["epochs"] == 2 and metrics["train"]["best_step"] == metrics["train"]["steps"] // 2


def test_loop_gives_the_same_run_as_trainer(setting, cached, tmp_path) -> None:
    looped = train(setting, output_dir=tmp_path, run_name="loop", engine="loop")
    for split in ("validation", "test"):
        one, other = dict(cached[split]), looped[split]
        for name in ("platforms", "without_near_copies"):
            assert one.pop(name).keys() == other.pop(name).keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, abs=1e-5), name
    assert looped["train"] == pytest.approx(cached["train"], abs=1e-5)
    assert (tmp_path / "loop" / "figures" / "learning_curves.png").is_file()


def test_logistic_regression_on_frozen_features(setting, tmp_path, capsys) -> None:
    options = {"adaptation": "head_only", "engine": "sklearn", "head_hidden_sizes": "[]"}
    metrics = train(setting, output_dir=tmp_path, run_name="sklearn", **options)
    assert "chosen on validation" in capsys.readouterr().out
    assert metrics["test"]["macro_f1"] > 0.3 and metrics["train"]["steps"] == 0
    # best/ is an ordinary classifier that predicts what the regression predicted.
    with open(tmp_path / "sklearn" / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    posts = tmp_path / "posts.txt"
    posts.write_text("".join(f"{row['text']}\n" for row in rows))
    best = tmp_path / "sklearn" / "best"
    predict.main(["--model", str(best), "--input", str(posts), "--output", str(tmp_path / "labels.csv")])
    with open(tmp_path / "labels.csv", newline="") as file:
        assert [row["predicted"] for row in csv.DictReader(file)] == [row["predicted"] for row in rows]


def test_tfidf_is_a_run_like_any_other(setting, tmp_path, capsys) -> None:
    metrics = train(setting, output_dir=tmp_path, run_name="floor", engine="tfidf")
    assert metrics["test"]["macro_f1"] > 0.9  # the labels' words give these posts away
    folder = tmp_path / "floor"
    assert (folder / "metrics.json").is_file() and (folder / "predictions" / "test.csv").is_file()
    assert not (folder / "best").exists() and "predict.py" not in capsys.readouterr().out
    assert train(setting, output_dir=tmp_path, run_name="floor", engine="tfidf") is None


def test_seeds_share_one_cache(setting, tmp_path, capsys) -> None:
    summary = train(
        setting, output_dir=tmp_path, run_name="many", seeds="3..5", cache_dir=tmp_path / "cache", num_train_epochs=1
    )
    runs = [json.loads((tmp_path / f"many-seed{seed}" / "metrics.json").read_text()) for seed in (3, 4, 5)]
    values = [run["test"]["macro_f1"] for run in runs]
    entry = summary["test"]["macro_f1"]
    assert entry["mean"] == pytest.approx(np.mean(values)) and entry["std"] == pytest.approx(np.std(values, ddof=1))
    assert entry["ci95"][1] - entry["mean"] == pytest.approx(4.302653 * entry["std"] / 3**0.5)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 3  # one per split
    assert capsys.readouterr().out.count("3 of 3 splits there already") == 2
    assert json.loads((tmp_path / "many-seeds.json").read_text()) == summary


def test_four_bit_recipe_end_to_end(setting, tmp_path, capsys) -> None:
    from opinionlm.models.quantization import quantized_modules

    metrics = train(setting, output_dir=tmp_path, run_name="nf4", load_in_4bit=True, dtype="bfloat16")
    warning = (
        "warning: the parameters that train are bfloat16, which loses steps much smaller than a weight; dtype: float32"
    )
    assert warning in capsys.readouterr().out
    assert metrics["model"]["quantized_modules"] == 21
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "nf4" / "best")
    assert len(quantized_modules(loaded)) == 21
    # Training on from it, with load_in_4bit: false, all of it trains.
    options = {"model_name_or_path": tmp_path / "nf4" / "best", "adaptation": "full", "max_steps": 1}
    metrics = train(setting, output_dir=tmp_path, run_name="next", **options)
    assert metrics["model"]["quantized_modules"] == 0
    assert metrics["model"]["trainable_parameters"] == metrics["model"]["total_parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("launched", [False, True])
def test_two_processes_equal_one(launched, setting, tmp_path) -> None:
    # Batches of 8 in each process against 16.
    one = train(setting, output_dir=tmp_path, run_name="one", cache_frozen="off", classifier_dropout=0)
    options = {"output_dir": tmp_path, "run_name": "two", "per_device_train_batch_size": 8, "classifier_dropout": 0}
    options |= {"cache_frozen": "on", "cache_dir": tmp_path / "cache"}  # built by both processes together
    if launched:
        # accelerate's own launcher; the launch file is the shipped one.
        launch = [str(Path(sys.executable).parent / "accelerate"), "launch"]
        launch += ["--config_file", "configs/accelerate/two_cpu_processes.yaml", "--main_process_port", "0"]
        done = subprocess.run(
            [*launch, "train_classifier.py", *command_line(setting, **options)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    else:
        in_two_processes(tmp_path, train_classifier.main, command_line(setting, **options))
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert len([folder for folder in (tmp_path / "cache").iterdir() if not folder.name.startswith(".")]) == 3
    assert two["train"]["steps"] == one["train"]["steps"]
    for split in ("validation", "test"):
        for name in ("loss", "macro_f1", "accuracy", "ece"):
            assert two[split][name] == pytest.approx(one[split][name], abs=2e-4), (split, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "nowhere.yaml"}, "nowhere.yaml"),
        ({"model_name_or_path": "configs"}, "configs has no config.json"),
        ({"trainable_blocks": 9}, "exceeds the model's 4 blocks"),
        ({"class_counts": "[1, 2]"}, "2 numbers for 4 labels"),
        ({"max_train_samples": 1}, "single class"),
        ({"tokenizer_name_or_path": "models/gemma3-mini"}, "6,144 entries, the embedding"),
    ],
)
def test_bad_input_is_named(setting, tmp_path, options, message) -> None:
    with pytest.raises(UserError) as raised:
        train(setting, output_dir=tmp_path, run_name="bad", **options)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "bad").exists()


def test_an_error_is_one_line_and_exit_code_2(setting, tmp_path) -> None:
    options = {"output_dir": str(tmp_path), "run_name": "bad", "class_counts": "[1, 2]"}
    job = Job("train_classifier", command_line(setting, **options), tmp_path, tmp_path / "log")
    assert run(job) == 2, job.log.read_text()
    (line,) = [line for line in job.log.read_text().splitlines() if "2 numbers for 4 labels" in line]
    assert line.startswith("error: ") and job.log.read_text().endswith(f"{line}\n")
