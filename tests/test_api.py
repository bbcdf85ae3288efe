"""The public functions of the package on models that were saved before and on small runs."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import opinionlm
import predict
from opinionlm import UserError
from opinionlm.inference.predictions import ScorePrediction, TagPrediction
from opinionlm.utils.shipped import script_environment

SAVED = Path(__file__).resolve().parent / "assets" / "saved"
TRUST = {"device": "cpu", "label_sets": 0.9}
TEXTS = ["Is this coin still worth holding?", "", "good good"]


def rows_of_predict(folder: Path, tmp_path: Path, *options: str) -> list[dict[str, str]]:
    """What predict.py writes for `TEXTS`."""
    with open(tmp_path / "in.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(TEXTS)])
    arguments = ["--model", str(folder), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    predict.main([*arguments, "--device", "cpu", "--text_column", "text", *options])
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["classifier", "classifier_lora", "instruct", "instruct_t5"])
def test_predictions_are_those_of_predict_py(name: str, tmp_path: Path) -> None:
    found = opinionlm.load(SAVED / name, device="cpu").predict(TEXTS)
    expected = rows_of_predict(SAVED / name, tmp_path)
    assert found[1] is None and expected[1]["predicted"] == ""
    for one, row in zip(found[::2], expected[::2], strict=True):
        assert (one.label or "") == row["predicted"]
        assert list(one.levels) == [row[column] for column in row if column.startswith("level") and row[column]]
        if "confidence" in row:
            assert one.confidence == float(row["confidence"])
            assert one.probabilities == {
                column.removeprefix("probability_"): float(row[column])
                for column in row
                if column.startswith("probability_")
            }
        else:
            assert one.answer == row["answer"] and one.confidence is None and one.probabilities is None


def test_several_models_are_averaged(tmp_path: Path) -> None:
    (found,) = opinionlm.load(SAVED / "ensemble", device="cpu").predict(TEXTS[:1])
    row = rows_of_predict(SAVED / "ensemble", tmp_path)[0]
    assert found.label == row["predicted"] and found.confidence == float(row["confidence"])


def test_label_sets_and_abstention() -> None:
    predictor = opinionlm.load(SAVED / "classifier", device="cpu", label_sets=0.9, abstain_below=1.0)
    (found,) = predictor.predict(TEXTS[:1])
    assert found.label is None and found.levels == () and set(found.label_set) <= set(found.probabilities)


def test_tags_and_scores() -> None:
    (tagged,) = opinionlm.load(SAVED / "token", device="cpu").predict(["Anna lives in Rome"])
    assert isinstance(tagged, TagPrediction) and len(tagged.tags) == 4 and tagged.unread_words == 0
    predictor = opinionlm.load(SAVED / "similarity", device="cpu")
    (scored,) = predictor.predict(["a cat"], pairs=["a dog"])
    assert isinstance(scored, ScorePrediction) and isinstance(scored.score, float)
    for options, said in [({}, "reads pairs of texts"), ({"pairs": ["a", "b"]}, "2 for 1 texts")]:
        with pytest.raises(UserError, match=said):
            predictor.predict(["a cat"], **options)


def test_contexts_are_read_of_every_record_that_has_one(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    shutil.copytree(SAVED / "instruct", folder)
    settings = json.loads((folder / "opinionlm.json").read_text())
    settings["template"]["prompt"] = "{context} " + settings["template"]["prompt"]
    (folder / "opinionlm.json").write_text(json.dumps(settings))
    model = opinionlm.load(folder, device="cpu")
    (expected,) = model.predict(["who?"], pairs=["Anna lives in Rome"])
    (without,) = model.predict(["who?"])
    assert expected != without
    for name in ("text_pair", "context"):
        assert model.predict([{"text": "who?", name: "Anna lives in Rome"}, {"text": "who?"}]) == [expected, without]


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("instruct", "model.safetensors", "no weights of '.*' could be loaded .*header"),
        ("instruct_lora", "adapter_model.safetensors", "the adapter in .* does not fit .*header"),
    ],
)
def test_a_language_model_that_was_copied_in_part_is_refused(name: str, file: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "best"
    shutil.copytree(SAVED / name, folder)
    for missing, what in ((file, "has no weights"), ("tokenizer_config.json", "has no tokenizer")):
        content = (folder / missing).read_bytes()
        (folder / missing).unlink()
        with pytest.raises(UserError, match=f"--model: {folder} {what}"):
            opinionlm.load(folder, device="cpu")
        (folder / missing).write_bytes(content)
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(UserError, match=said):
        opinionlm.load(folder, device="cpu")


def test_an_adapter_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """PEFT leaves them as they were drawn, and only warns."""
    folder = tmp_path / "best"
    shutil.copytree(SAVED / "instruct_lora", folder)
    weights = load_file(folder / "adapter_model.safetensors")
    name = min(weights)
    del weights[name]
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"the adapter in .* does not fit .*no {name} in it.; copy the folder anew"):
        opinionlm.load(folder, device="cpu")


def test_platforms() -> None:
    predictor = opinionlm.load(SAVED / "classifier_platforms", device="cpu")
    platform = predictor.predictor.platforms[0]
    (found,) = predictor.predict(TEXTS[:1], platforms=[platform])
    assert found.label
    with pytest.raises(UserError, match="'nowhere' is none of"):
        predictor.predict(TEXTS[:1], platforms=["nowhere"])
    with pytest.raises(UserError, match="platform"):
        predictor.predict(TEXTS[:1])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: opinionlm.load(), "no folder was given"),
        (lambda: opinionlm.load("nowhere"), "no such folder: nowhere"),
        (lambda: opinionlm.load(["one", "other"]), r"give several folders one by one, as in load\(one, other\)"),
        (lambda: opinionlm.load(SAVED / "classifier", device="gpu"), "--device: 'gpu' is none of auto, cpu, cuda"),
        (lambda: opinionlm.load(SAVED / "classifier", precision="float16"), "--precision: 'float16' is none of auto"),
        (lambda: opinionlm.load(SAVED / "classifier", backend="onnxruntime"), "--backend: 'onnxruntime' is none of"),
        (lambda: opinionlm.load(SAVED / "classifier", batch_size=0), "--batch_size: 0 must be at least 1"),
        (lambda: opinionlm.load(SAVED / "classifier", max_tokens_per_batch=-1), "--max_tokens_per_batch: -1 must be"),
        (lambda: opinionlm.load(SAVED / "classifier", bf16=True, precision="float32"), "precision='float32' is given"),
        (lambda: opinionlm.load(SAVED / "classifier", revision="v1"), "only models of the hub have revisions"),
        (lambda: opinionlm.load(SAVED / "classifier", backend="onnx"), "has no model.onnx; write one"),
        (lambda: opinionlm.load(SAVED / "classifier", backend="onnx", precision="bfloat16"), "in its own precision"),
        (lambda: opinionlm.load(SAVED / "ensemble", backend="onnx"), "--backend onnx: takes one model"),
        *[
            (lambda name=name: opinionlm.load(SAVED / name, **TRUST), "is for models that label texts")
            for name in ("token", "similarity", "instruct_t5")
        ],
        (lambda: opinionlm.train("nowhere.yaml"), "no such file: nowhere.yaml"),
        (lambda: opinionlm.train("quickstart", lerning_rate=1), "lerning_rate: unknown option; did you mean"),
        (lambda: opinionlm.train(learning_rate="fast"), "the call: learning_rate"),
        (lambda: opinionlm.prompt(shots="ten"), "the call: shots"),
        (lambda: opinionlm.compare(["one"]), "at least two folders"),
        (lambda: opinionlm.compare("one", "other"), r"a list .* in compare\(\[one, other\]\)"),
        (lambda: opinionlm.compare(["one", "other"], "other"), "split: 'other' is not one of validation, test"),
        (lambda: opinionlm.prepare("nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_mistakes_are_user_errors(call, said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()


@pytest.mark.parametrize("name", ["classifier", "classifier_lora", "similarity", "token", "ensemble", "instruct"])
def test_every_kind_of_model_computes_as_it_is_told(name: str) -> None:
    options = {"device": "cpu", "precision": "bfloat16", "max_tokens_per_batch": 100, "batch_size": 1}
    loaded = opinionlm.load(SAVED / name, **options).predictor
    for one in (loaded, *getattr(loaded, "members", ())):
        # A language model's batches are counted in tokens alone.
        sizes = (64, min(100, one.max_length)) if name == "instruct" else (1, 100)
        assert one.model.dtype == torch.bfloat16 and (one.batch_size, one.max_tokens_per_batch) == sizes


def test_a_run_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="is of a run that saves no model, as those of engine: tfidf"):
        opinionlm.load(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("similarity", ("one", "other")), ("token", ["a", "word"])])
def test_what_is_no_text_is_named_with_the_way_to_give_it(name, text) -> None:
    given = {"pairs": ["x"]} if name == "similarity" else {}
    with pytest.raises(UserError, match=r"texts\[0\]: expected a text or a record, found .* given as pairs="):
        opinionlm.load(SAVED / name, device="cpu").predict([text], **given)


def test_one_string_is_no_list() -> None:
    with pytest.raises(UserError, match="give a list of texts"):
        opinionlm.load(SAVED / "classifier", device="cpu").predict("one text")


def test_train_twice_and_compare(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = opinionlm.prepare("sample", num_proc=1)
    assert data.folder == Path("outputs/data/sample") and set(data.dataset) == {"train", "validation", "test"}
    assert data.report["name"] == "sample" and len(data.dataset["train"]) > len(data.dataset["test"]) > 0
    options = {"dataset": str(data.folder), "engine": "tfidf", "report_to": "none", "max_train_samples": 200}
    first = opinionlm.train(run_name="a", **options)
    assert opinionlm.train(run_name="a", **options) == first and 0 < first["test"]["macro_f1"] < 1
    opinionlm.train(run_name="b", class_weights="none", **options)
    found = opinionlm.compare(["outputs/a", "outputs/b"])
    assert "macro-F1" in found.text and all(len(row) == len(found.columns) for row in found.rows)


def test_the_import_loads_no_library_for_the_public_names() -> None:
    code = "import opinionlm; print(sorted(opinionlm.__all__)); print(opinionlm.load.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=script_environment(), capture_output=True, text=True, check=True
    )
    assert "'compare', 'load', 'prepare', 'prepare_blocks', 'prompt', 'train', 'train_instruct'" in done.stdout
    with pytest.raises(AttributeError):
        opinionlm.nothing  # noqa: B018 — looking is what raises
