"""AdaPT through train_classifier.py: what trains, what is saved, how it continues, what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import predict
from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from opinionlm.evaluation.calibration import calibrated
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from tests.classifier_runs import WORDS, command_line, train
from tests.task_data import write_prepared

CHOICE = {"adaptation": "adapt", "sensitivity_samples": 24, "sensitivity_warmup_steps": 20}
OPTIONS = CHOICE | {"sequence_max_gap": 0}
EMBEDDING = "backbone.embed_tokens"


@pytest.fixture(scope="module")
def adapted(setting, tmp_path_factory) -> tuple[Path, dict]:
    """A finished run."""
    folder = tmp_path_factory.mktemp("adapted")
    return folder / "adapt", train(setting, output_dir=folder, run_name="adapt", **OPTIONS)


def stored_probabilities(folder: Path) -> tuple[list[str], np.ndarray]:
    """Texts and probabilities of ``predictions/test.csv``."""
    with open(folder / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array(
        [[float(row[f"probability_{name}"]) for name in WORDS] for row in rows]
    )


def reloaded_probabilities(folder: Path, texts: list[str]) -> np.ndarray:
    """The same from the saved model by transformers' own classes."""
    model = AutoModelForSequenceClassification.from_pretrained(folder / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits.numpy()
    return calibrated(logits, model.config.temperature, model.config.calibration_biases)


def test_run_folder_tells_what_trains_and_why(setting, adapted) -> None:
    folder, metrics = adapted
    selection = json.loads((folder / "selection.json").read_text())
    model, cost = metrics["model"], metrics["cost"]
    with open(folder / "sequences.csv", newline="") as file:
        sequences = list(csv.DictReader(file))
    assert len(sequences) == model["task_tokens"] > 0 and int(sequences[0]["support"]) >= 5
    assert 0 < selection["selected_parameters"] <= 0.2 * selection["total_parameters"]
    assert model["selected_parameters"] == selection["selected_parameters"]
    assert model["selected_share"] <= 0.2 and model["selected_share_with_task_tokens"] > model["selected_share"]
    assert 0 < cost["task_tokens_per_text"] < cost["tokens_per_text"]
    assert cost["mining_seconds"] > 0 and cost["selection_seconds"] > 0
    assert cost["train_tflops_per_epoch"] == pytest.approx(cost["train_flops"] / 2e12)
    assert (folder / "figures" / "sensitivity.png").read_bytes().startswith(b"\x89PNG")

    # A checkpoint holds what trains and nothing else: head, rows of task tokens, the selected sub-layers.
    (checkpoint, *_) = folder.glob("checkpoints/checkpoint-*/trained.safetensors")
    trained = load_file(checkpoint)
    chosen = {(one["block"], one["kind"]) for one in selection["modules"] if one["selected"]}
    parts = {"attention": {"input_layernorm", "self_attn", "post_attention_layernorm"}}
    parts["feed_forward"] = {"pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm"}
    expected = {f"backbone.layers.{block}.{part}" for block, kind in chosen for part in parts[kind]}
    expected |= {f"{EMBEDDING}.rows", "head"}
    whole = load_file(folder / "best" / "model.safetensors")
    assert trained.keys() == {name for name in whole if any(f"{name}.".startswith(f"{one}.") for one in expected)}
    assert sum(value.numel() for value in trained.values()) == model["trainable_parameters"]

    # What does not train keeps every bit, the old rows of the embedding among it.
    before = load_file(Path(setting["model_name_or_path"]) / "model.safetensors")
    old = {name.removeprefix("model."): value for name, value in before.items() if "lm_head" not in name}
    assert torch.equal(whole[f"{EMBEDDING}.old.weight"], old["embed_tokens.weight"])
    frozen = [name for name in whole if name not in trained and name.startswith("backbone.layers")]
    assert frozen and all(torch.equal(whole[name], old[name.removeprefix("backbone.")]) for name in frozen)
    moved = trained[f"{EMBEDDING}.rows"]
    assert moved.shape[0] == model["task_tokens"]


def test_saved_model_reads_task_tokens_everywhere(adapted, tmp_path) -> None:
    folder, _ = adapted
    texts, expected = stored_probabilities(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    assert isinstance(tokenizer, TaskTokenTokenizer)
    first_id = tokenizer.task_tokens.first_id
    assert any(max(ids) >= first_id for ids in tokenizer(texts)["input_ids"])
    assert reloaded_probabilities(folder, texts) == pytest.approx(expected, abs=2e-5)

    # predict.py and the predictor.
    posts = tmp_path / "posts.txt"
    posts.write_text("".join(f"{text}\n" for text in texts))
    predict.main(["--model", str(folder / "best"), "--input", str(posts), "--output", str(tmp_path / "labels.csv")])
    with open(tmp_path / "labels.csv", newline="") as file:
        labelled = [[float(row[f"probability_{name}"]) for name in WORDS] for row in csv.DictReader(file)]
    assert np.array(labelled) == pytest.approx(expected, abs=2e-5)

    # The pipeline knows no calibration: its answers are those of the plain logits.
    model = AutoModelForSequenceClassification.from_pretrained(folder / "best").eval()
    classify = pipeline("text-classification", model=str(folder / "best"), device="cpu")
    answers = classify(texts, top_k=None, truncation=True)
    with torch.no_grad():
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        plain = model(**batch).logits.softmax(-1).numpy()
    found = [[next(one["score"] for one in answer if one["label"] == name) for name in WORDS] for answer in answers]
    assert np.array(found) == pytest.approx(plain, abs=2e-5)


def test_a_model_without_its_task_tokens_is_refused(adapted, tmp_path) -> None:
    best = tmp_path / "best"
    shutil.copytree(adapted[0] / "best", best)
    (best / "task_tokens.json").unlink()
    with pytest.raises(UserError, match="task_tokens.json"):
        load_predictor(best, PredictionOptions())
    with pytest.raises(UserError, match="copy the whole folder"):
        AutoTokenizer.from_pretrained(best)
    # Another tokenizer in its place would leave the rows unused without a word.
    settings = json.loads((best / "tokenizer_config.json").read_text()) | {"tokenizer_class": "TokenizersBackend"}
    (best / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="task tokens"):
        load_predictor(best, PredictionOptions())


def test_equal_seeds_choose_equally_and_an_interrupted_run_goes_on(setting, adapted, tmp_path, monkeypatch) -> None:
    from opinionlm.training.trainer import OpinionTrainer

    folder, whole = adapted
    step = OpinionTrainer.training_step

    def dies(self, *arguments, **named):
        if self.state.global_step == 9:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    monkeypatch.setattr(OpinionTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(setting, output_dir=tmp_path, run_name="broken", **OPTIONS)
    monkeypatch.undo()
    broken = tmp_path / "broken"
    for name in ("selection.json", "sequences.csv"):
        assert (broken / name).read_text() == (folder / name).read_text()
    continued = train(setting, output_dir=tmp_path, run_name="broken", **OPTIONS)
    assert [continued[split] for split in ("validation", "test")] == [whole[split] for split in ("validation", "test")]
    one, other = (load_file(path / "best" / "model.safetensors") for path in (folder, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_task_tokens_frozen_blocks_are_cached(setting, tmp_path, capsys) -> None:
    options = CHOICE | {"task_tokens": "off", "sensitivity_budget": 0.1, "output_dir": tmp_path}
    runs = {mode: train(setting, run_name=mode, cache_frozen=mode, **options) for mode in ("off", "auto")}
    selection = json.loads((tmp_path / "auto" / "selection.json").read_text())
    lowest = min(one["block"] for one in selection["modules"] if one["selected"])
    assert lowest > 0, "a budget of one or two sub-layers leaves the lowest block alone with this seed"
    assert f"states of the {lowest} frozen blocks" in capsys.readouterr().out
    assert runs["auto"]["test"]["loss"] == pytest.approx(runs["off"]["test"]["loss"], abs=1e-5)
    assert not (tmp_path / "auto" / "best" / "task_tokens.json").exists()
    assert "task_tokens" not in runs["auto"]["model"] and runs["auto"]["cost"]["train_flops"] > 0


@pytest.mark.parametrize(
    "adaptation",
    [
        *("full", "lora", "adalora", "prompt", "head_only"),
        # As full, prompt and lora: some of the weights, virtual tokens, added layers.
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("top_blocks", "lisa", "p_tuning_v2", "houlsby")),
    ],
)
def test_task_tokens_with_other_methods(setting, tmp_path, adaptation) -> None:
    options = {"adaptation": adaptation, "task_tokens": "on", "sequence_max_gap": 0, "num_train_epochs": 1}
    options |= {"num_virtual_tokens": 4} if adaptation in ("p_tuning_v2", "prompt") else {}
    metrics = train(setting, output_dir=tmp_path, run_name="run", **options)
    assert metrics["model"]["task_tokens"] > 0 and "selected_parameters" not in metrics["model"]
    (checkpoint, *_) = (tmp_path / "run").glob("checkpoints/checkpoint-*/trained.safetensors")
    assert [name for name in load_file(checkpoint) if name.endswith("embed_tokens.rows")]
    texts, expected = stored_probabilities(tmp_path / "run")
    assert reloaded_probabilities(tmp_path / "run", texts) == pytest.approx(expected, abs=2e-5)


def test_loop_gives_the_same_run_as_trainer(setting, adapted, tmp_path) -> None:
    looped = train(setting, output_dir=tmp_path, run_name="loop", engine="loop", **OPTIONS)
    for name in ("loss", "macro_f1", "ece"):
        assert looped["test"][name] == pytest.approx(adapted[1]["test"][name], abs=1e-5)


@pytest.mark.slow
def test_two_processes_choose_and_train_as_one(setting, tmp_path) -> None:
    one = train(setting, output_dir=tmp_path, run_name="one", classifier_dropout=0, **OPTIONS)
    options = {"output_dir": tmp_path, "run_name": "two", "per_device_train_batch_size": 8, "classifier_dropout": 0}
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch"]
    launch += ["--config_file", "configs/accelerate/two_cpu_processes.yaml", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, "train_classifier.py", *command_line(setting, **(OPTIONS | options))],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    for name in ("selection.json", "sequences.csv"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert two["test"]["loss"] == pytest.approx(one["test"]["loss"], abs=2e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensitivity_budget": 0}, "sensitivity_budget: 0.0 must be above 0 and at most 1"),
        ({"sensitivity_beta": -1}, "sensitivity_beta: -1.0 must not be negative"),
        ({"sensitivity_samples": 1}, "sensitivity_samples: 1 must be at least 2"),
        ({"sequence_max_gap": -1}, "sequence_max_gap: -1 must not be negative"),
        ({"engine": "sklearn"}, "engine: 'sklearn' trains no sub-layers"),
        ({"engine": "tfidf"}, "engine: 'tfidf' trains no sub-layers"),
        ({"engine": "sklearn", "adaptation": "head_only", "task_tokens": "on"}, "are not read by engine: sklearn"),
        (
            {"engine": "tfidf", "adaptation": "full", "task_tokens": "on"},
            "task_tokens: 'on', sensitivity_samples: 24, sensitivity_warmup_steps: 20, sequence_max_gap: 0 are not "
            "read by engine: tfidf; leave them out, or use engine: trainer",
        ),
        ({"task": "token"}, "adaptation: adapt is for single texts with labels, not for data of task 'token'"),
        ({"cache_frozen": "on"}, "the rows of task tokens train below all of them"),
        ({"load_in_4bit": "true"}, "cannot train 4-bit weights"),
    ],
)
def test_what_cannot_work_is_refused(setting, options, message) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(command_line(setting, **(OPTIONS | options)), "test")
    assert message in str(caught.value)


def test_writing_models_are_refused() -> None:
    with pytest.raises(UserError, match="measures a classifier through its head"):
        parse_config(["--adaptation", "adapt"], "test", "train_instruct")
    with pytest.raises(UserError, match="--task_tokens: unknown option"):
        parse_config(["--task_tokens", "on"], "test", "train_instruct")


def test_budget_below_the_smallest_sublayer(setting, tmp_path) -> None:
    with pytest.raises(UserError, match="less than the smallest sub-layer"):
        train(setting, output_dir=tmp_path, run_name="bad", **(OPTIONS | {"sensitivity_budget": 1e-6}))
    assert not (tmp_path / "bad").exists()


def test_no_sequence_to_be_found(setting, tmp_path) -> None:
    with pytest.raises(UserError, match="lower sequence_min_frequency"):
        train(setting, output_dir=tmp_path, run_name="bad", **(OPTIONS | {"sequence_min_frequency": 10**6}))


@pytest.mark.parametrize("task", ["token", "similarity", "sequence"])
@pytest.mark.parametrize(
    "options",
    [OPTIONS, CHOICE | {"task_tokens": "off"}, {"adaptation": "full", "task_tokens": "on", "sequence_max_gap": 0}],
)
def test_other_tasks_are_refused(setting, tmp_path, task, options) -> None:
    """The cause alone: that such a task reads no option of AdaPT is said of none of them."""
    folder = write_prepared(tmp_path / "data", task)
    with pytest.raises(UserError, match="is for single texts with labels") as caught:
        train(setting | {"dataset": str(folder)}, output_dir=tmp_path, run_name="bad", **options)
    assert "is not read" not in str(caught.value) and "are not read" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
