"""Exports against the models that they were made of, in and out of this process."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import train_classifier
from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label_rules import MultiLabelRule
from opinionlm.inference import loading
from opinionlm.inference.export import folder as export_folder
from opinionlm.inference.export.card import RAW_LABELS, exported_card, pipeline_card
from opinionlm.inference.export.folder import check_written, export_model
from opinionlm.inference.export.source import load_source
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from opinionlm.reporting.model_card import raw_note
from opinionlm.scripts.export import main
from tests.classifier_runs import command_line
from tests.inference.export_matrix import FORMS, GRAPHS, TASKS, run_cell, whole_matrix
from tests.inference.export_models import TEXTS, check_here, exported, save_model
from tests.matrix_page import committed_outcome
from tests.tiny import FAMILIES

THRESHOLDS = {
    "temperature": 1.7,
    "calibration_biases": [0.3, -0.2, 0.1, -0.2],
    "decision": "thresholds",
    "decision_offsets": [0.5, -1.0, 0.4, 0.6],
}
# What argmax is saved as: the offsets take the biases back.
ARGMAX = THRESHOLDS | {"decision": "argmax", "decision_offsets": [-0.3, 0.2, -0.1, 0.2]}


@pytest.mark.parametrize("form", [form for form in FORMS if form not in GRAPHS])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "gpt2", "gemma3_text", "t5"])
def test_page_is_true_of_a_part(form: str, family: str, repository) -> None:
    page = (repository / "docs" / "export_matrix.md").read_text()
    task = TASKS[(list(FORMS).index(form) + list(FAMILIES).index(family)) % len(TASKS)]
    assert run_cell(form, family, task) == committed_outcome(page, task, form, family)


@pytest.mark.slow
def test_page_is_true_of_everything(repository) -> None:
    assert whole_matrix() == (repository / "docs" / "export_matrix.md").read_text()


@pytest.mark.parametrize("rule", [THRESHOLDS, ARGMAX], ids=["thresholds", "argmax"])
def test_labels_are_those_of_predict(rule: dict, tmp_path) -> None:
    """By a pipeline over the export, and by the model with its rule beside it; plain argmax would differ."""
    source = save_model(tmp_path / "best", "distilbert", head="native", rule=rule)
    (source / "seen_texts.npy").write_bytes(b"a note")
    predictor = load_predictor(source, PredictionOptions("cpu"))
    answers = {text: row[0] for text, row in zip(TEXTS, predictor.answers(TEXTS), strict=True)}
    written = exported(source, tmp_path / "out", "transformers")
    check_here(written)
    # What goes on from the export is checked as what goes on from the model.
    assert (written.folder / "seen_texts.npy").read_bytes() == b"a note"
    served = pipeline("text-classification", model=str(written.folder), device="cpu")(TEXTS)
    assert [entry["label"] for entry in served] == list(answers.values())


def test_weights_leave_as_they_were_trained_whatever_predict_computes_in(tmp_path, monkeypatch) -> None:
    source = save_model(tmp_path / "best", "distilbert", head="native")
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(settings | {"precision": "bfloat16"}))
    monkeypatch.setattr(loading, "computes_in_bfloat16", lambda: True)
    assert load_predictor(source, PredictionOptions("cpu")).model.dtype == torch.bfloat16
    written = exported(source, tmp_path / "out", "transformers")
    weights = AutoModelForSequenceClassification.from_pretrained(written.folder).state_dict()
    trained = load_predictor(source, PredictionOptions("cpu", "float32")).model.backbone.state_dict()
    name = "transformer.layer.0.attention.q_lin.weight"
    assert torch.equal(weights[f"distilbert.{name}"], trained[name])


def test_offsets_decide_and_are_folded(tmp_path) -> None:
    """An offset that outweighs every logit makes its label the answer to all texts."""
    rule = THRESHOLDS | {"decision_offsets": [0.0, 0.0, 0.0, 90.0]}
    written = exported(
        save_model(tmp_path / "best", "bert", head="native", rule=rule), tmp_path / "out", "transformers"
    )
    check_here(written)
    served = pipeline("text-classification", model=str(written.folder), device="cpu")(TEXTS)
    assert {entry["label"] for entry in served} == {"negative"}


def test_own_class_without_a_bias_is_refused_what_needs_one(tmp_path) -> None:
    best = save_model(tmp_path / "best", "llama", head="native", rule=THRESHOLDS)
    with pytest.raises(UserError, match="decides by thresholds.*decision: argmax.*--format remote_code"):
        exported(best, tmp_path / "out", "transformers")
    # The modelling file gives its last layer a bias.
    check_here(exported(best, tmp_path / "code", "remote_code"))
    # Under argmax nothing is left to add.
    plain = save_model(tmp_path / "argmax", "llama", head="native", rule=ARGMAX)
    check_here(exported(plain, tmp_path / "plain", "transformers"))


@pytest.mark.parametrize("method", ["lora", "ia3"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_merged_adapters_leave(method: str, family: str, tmp_path) -> None:
    written = exported(
        save_model(tmp_path / "best", family, method=method, head="native"), tmp_path / "out", "transformers"
    )
    assert written.tolerance == 1e-4
    check_here(written)


@pytest.mark.parametrize("method", ["houlsby", "pfeiffer", "prefix", "prompt", "p_tuning"])
@pytest.mark.parametrize("family", ["bert", "gemma3_text"])
def test_what_cannot_be_merged_leaves_with_its_code(method: str, family: str, tmp_path) -> None:
    best = save_model(tmp_path / "best", family, method=method)
    check_here(exported(best, tmp_path / "code", "remote_code"))
    if family == "bert":
        with pytest.raises(UserError, match=f"'{method}'.*adaptation: lora.*remote_code"):
            exported(
                save_model(tmp_path / "b2", family, method=method, pooling="pooler"), tmp_path / "x", "transformers"
            )


@pytest.mark.parametrize(
    ("family", "head", "message"),
    [
        ("gpt2", {"head_hidden_sizes": [8]}, "no head of hidden layers.*head: native"),
        ("distilbert", {"pooling": "first"}, "has a dense layer.*head: native"),
        ("llama", {"pooling": "mean", "head_bias": False}, "reads pooling: last.*pooling: last"),
        ("llama", {}, "no bias.*head_bias: false"),
        ("t5", {}, "no class for labels of texts.*--format remote_code"),
    ],
)
def test_heads_that_no_class_holds_are_refused(family: str, head: dict, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        exported(save_model(tmp_path / "best", family, **head), tmp_path / "out", "transformers")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"decision": "expected_cost"}, "expected_cost.*decision: thresholds or argmax"),
        ({"word_share": 0.2}, "TF-IDF has a share of 0.2.*blend_words: false"),
    ],
)
def test_rules_that_no_logits_hold_are_refused(rule: dict, message: str, tmp_path, monkeypatch) -> None:
    source = save_model(tmp_path / "best", "bert", rule=rule)
    # Words that are not there.
    monkeypatch.setattr(loading, "load_interpolation", lambda folder, share: None)
    with pytest.raises(UserError, match=message):
        exported(source, tmp_path / "out", "remote_code")


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_long_texts_are_read_in_chunks_there_too(family: str, pooling: str, tmp_path) -> None:
    rule = {"chunk_overlap": 4, "chunk_pooling": pooling}
    best = save_model(tmp_path / "best", family, rule=rule)
    written = exported(best, tmp_path / "out", "remote_code")
    check_here(written)
    # All of a text counts, in a pipeline that truncates as well.
    texts = ["is this coin any good ? " * 12 + end for end in ("buy now", "again")]
    predictor = load_predictor(best, PredictionOptions("cpu"))
    rows = [dict(zip(predictor.columns, row, strict=True)) for row in predictor.answers(texts)]
    assert rows[0]["confidence"] != rows[1]["confidence"]
    serve = pipeline("text-classification", model=str(written.folder), device="cpu", trust_remote_code=True)
    found = serve(texts, truncation=True)
    assert [one["label"] for one in found] == [row["predicted"] for row in rows]
    assert [one["score"] for one in found] == pytest.approx([float(row["confidence"]) for row in rows], abs=2e-6)
    with pytest.raises(UserError, match="reads no text in chunks.*long_texts: truncate, or use --format remote_code"):
        exported(save_model(tmp_path / "b2", "bert", head="native", rule=rule), tmp_path / "x", "transformers")


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "gemma3_text", "t5"])
def test_both_ends_of_long_texts_are_read_there_too(family: str, tmp_path) -> None:
    best = save_model(tmp_path / "best", family, rule={"read_ends": True})
    written = exported(best, tmp_path / "out", "remote_code")
    check_here(written)
    # The beginning and the end of a text count, in a pipeline that truncates as well, and its middle does not.
    start, middle = "is this coin any good ? " * 12, "the price fell again " * 12
    texts = [start + "buy now", start + "again", start + middle + start + "again", "buy now"]
    predictor = load_predictor(best, PredictionOptions("cpu"))
    rows = [dict(zip(predictor.columns, row, strict=True)) for row in predictor.answers(texts)]
    assert len({row["confidence"] for row in rows}) == 3 and rows[1]["confidence"] == rows[2]["confidence"]
    serve = pipeline("text-classification", model=str(written.folder), device="cpu", trust_remote_code=True)
    for options in ({"truncation": True}, {"batch_size": 4, "padding": True}):
        found = serve(texts, **options)
        assert [one["label"] for one in found] == [row["predicted"] for row in rows]
        assert [one["score"] for one in found] == pytest.approx([float(row["confidence"]) for row in rows], abs=2e-6)
    # Padded on the left, too.
    batch = serve.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    with torch.inference_mode():
        scores = serve.model(**batch).logits.softmax(dim=-1).amax(dim=-1).tolist()
    assert scores == pytest.approx([one["score"] for one in found], abs=2e-6)


def test_own_classes_read_no_text_by_both_ends(tmp_path) -> None:
    best = save_model(tmp_path / "best", "bert", head="native", rule={"read_ends": True})
    with pytest.raises(UserError, match="by both its ends; train with long_texts: truncate, or use --format remote_c"):
        exported(best, tmp_path / "out", "transformers")


@pytest.mark.parametrize("kind", ["transformers", "remote_code"])
def test_several_labels_are_those_of_predict(kind: str, tmp_path) -> None:
    rule = {"temperature": 1.3, "calibration_biases": [0.3, -0.2, 0.1, -0.2]}
    saved = save_model(tmp_path / "none", "distilbert", "multi_label", head="native", rule=rule)
    unfitted = load_predictor(saved, PredictionOptions())
    # Every label is that of half of the texts.
    rule["label_thresholds"] = np.median(unfitted.probabilities(TEXTS), axis=0).tolist()
    best = save_model(tmp_path / "best", "distilbert", "multi_label", head="native", rule=rule)
    answers = [json.loads(row[0]) for row in load_predictor(best, PredictionOptions("cpu")).answers(TEXTS)]
    assert len(set(map(tuple, answers))) > 2
    written = exported(best, tmp_path / "out", kind)
    check_here(written)
    serve = pipeline("text-classification", model=str(written.folder), device="cpu", trust_remote_code=True)
    for found, labels in zip(serve(TEXTS, top_k=None), answers, strict=True):
        assert {one["label"] for one in found if one["score"] >= 0.5} == set(labels)
    # Without a bias in the family's own last layer there is no place for thresholds.
    decoder = save_model(tmp_path / "llama", "llama", "multi_label", head="native", rule=rule)
    with pytest.raises(UserError, match="decides by label_thresholds.*own class has none; use --format remote_code"):
        exported(decoder, tmp_path / "x", "transformers")


def test_roberta_with_a_foreign_padding_token_is_refused(tmp_path) -> None:
    best = save_model(tmp_path / "best", "roberta", head="native")
    tokenizer = AutoTokenizer.from_pretrained(best)
    tokenizer.pad_token = "<eos>"
    tokenizer.save_pretrained(best)
    with pytest.raises(UserError, match="padding token 0.*pads with 1"):
        exported(best, tmp_path / "out", "transformers")


@pytest.mark.parametrize(("kind", "other"), [("transformers", "remote_code"), ("remote_code", "onnx")])
def test_a_wrong_export_is_not_kept(kind: str, other: str, tmp_path, monkeypatch) -> None:
    """The remedy is another format than the one that failed."""
    source = save_model(tmp_path / "best", "bert", head="native")
    monkeypatch.setattr(export_folder, "check_written", lambda exports: [spoil_and_check(one) for one in exports])
    with pytest.raises(UserError, match=f"logits differ by .*nothing is kept. Use --format {other},"):
        export_model(source, tmp_path / "out", kind)
    assert {path.name for path in tmp_path.iterdir()} == {"best"}


def spoil_and_check(written) -> None:
    """Add something to a bias of the last layer, as a wrong export might."""
    weights = load_file(written.folder / "model.safetensors")
    name = "head.output.bias" if written.remote_code else "classifier.bias"
    weights[name][1] += 0.01
    save_file(weights, written.folder / "model.safetensors", {"format": "pt"})
    check_here(written)


def test_existing_folder_and_no_model_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        main([str(tmp_path / "nothing")])
    source = save_model(tmp_path / "best", "bert", head="native")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="--output: .*exists already"):
        main([str(source), "--output", str(tmp_path / "out")])
    # Not an export, whatever is asked for; nor is the model itself.
    for folder in (tmp_path / "out", source):
        with pytest.raises(UserError, match="is no export, and is not overwritten"):
            main([str(source), "--output", str(folder), "--overwrite"])


def test_another_model_is_never_overwritten_by_an_export(tmp_path) -> None:
    source, other = (save_model(tmp_path / name / "best", "bert", head="native") for name in ("a", "b"))
    (other / "README.md").write_text("# Ours\n\n`opinionlm export` makes another form of it.\n")
    with pytest.raises(UserError, match="b/best is no export, and is not overwritten"):
        main([str(source), "--output", str(other), "--overwrite"])
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="link exists already"):
        main([str(source), "--output", str(tmp_path / "link")])
    with pytest.raises(UserError, match="link is a link, and no link is overwritten"):
        main([str(source), "--output", str(tmp_path / "link"), "--overwrite"])
    with pytest.raises(UserError, match="README.md, which is no folder"):
        main([str(source), "--output", str(other / "README.md" / "out")])


@pytest.mark.parametrize("name", ["classifier", "classifier_platforms", "similarity", "token"])
@pytest.mark.parametrize("kind", ["transformers", "remote_code", "onnx"])
def test_the_card_of_an_export_shows_what_works(name: str, kind: str, tmp_path, repository) -> None:
    """Wherever the run lies: a pipeline reads no graph, and predict.py no export but a graph."""
    source = load_source(repository / "tests" / "assets" / "saved" / name)
    card = exported_card(source, kind)
    assert "import opinionlm" not in card and "saved/runs/" not in card and card.count("## Exported") == 1
    assert card.startswith("---\n") and "## Scores" in card
    if kind == "onnx":
        assert "pipeline(" not in card and "predict --model . --backend onnx " in card
    else:
        assert "predict.py --model" not in card and 'model="."' in card
        assert ('model=".", trust_remote_code=True' in card) == (kind == "remote_code")


def test_the_card_says_how_the_export_reads_long_texts_and_gives_labels() -> None:
    said = "Texts. Of texts beyond 32 tokens opinionlm reads the first 16 and the last 16, special tokens included"
    card = f"{said}; a pipeline with truncation=True reads their first 32.\n{RAW_LABELS}\n{raw_note(MultiLabelRule())}"
    found = pipeline_card(card, 'model="."')
    assert found.startswith(f"{said}; so does a pipeline.\n# a label is given where its score is at least 0.5")
    assert "before calibration" not in found
    head = "opinionlm reads texts beyond 1,000 tokens whole, in chunks that share 8 tokens"
    assert pipeline_card(f"{head}; a pipeline reads their first 1000 alone.", "") == f"{head}; so does a pipeline."


def test_a_rule_without_a_number_for_every_label_is_refused(tmp_path) -> None:
    """One offset would be added to all labels, and change nothing."""
    wrong = {"decision": "thresholds", "decision_offsets": [90.0]}
    with pytest.raises(UserError, match="has 1 decision_offsets for 4 labels; copy the whole folder anew"):
        load_predictor(save_model(tmp_path / "one", "bert", rule=wrong), PredictionOptions("cpu"))
    with pytest.raises(UserError, match="has 2 label_thresholds for 4 labels"):
        load_predictor(
            save_model(tmp_path / "two", "bert", "multi_label", rule={"label_thresholds": [0.1, 0.2]}),
            PredictionOptions("cpu"),
        )
    with pytest.raises(UserError, match="temperature of 0.0, not above 0"):
        load_predictor(save_model(tmp_path / "cold", "bert", rule={"temperature": 0.0}), PredictionOptions("cpu"))


def test_an_export_is_replaced_by_a_complete_one_alone(tmp_path, monkeypatch) -> None:
    source, out = save_model(tmp_path / "best", "bert", head="native"), tmp_path / "out"
    monkeypatch.setattr(export_folder, "check_written", lambda exports: [check_here(one) for one in exports])
    export_model(source, out, "transformers")
    (out / "mine.txt").write_text("of before")
    before = (out / "model.safetensors").read_bytes()
    save_model(tmp_path / "best", "bert", head="native", seed=1)
    monkeypatch.setattr(export_folder, "check_written", lambda exports: [spoil_and_check(one) for one in exports])
    with pytest.raises(UserError, match="nothing is kept"):
        export_model(source, out, "transformers", overwrite=True)
    assert (out / "model.safetensors").read_bytes() == before and (out / "mine.txt").is_file()
    monkeypatch.setattr(export_folder, "check_written", lambda exports: [check_here(one) for one in exports])
    export_model(source, out, "transformers", overwrite=True)
    assert (out / "model.safetensors").read_bytes() != before and not (out / "mine.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"best", "out"}


@pytest.mark.slow
def test_exports_load_where_opinionlm_is_absent(tmp_path) -> None:
    """One process without the package for all forms and tasks at once."""
    exports = []
    for family, task in (("bert", "similarity"), ("gemma3_text", "sequence"), ("distilbert", "token")):
        for kind in ("transformers", "remote_code"):
            name = f"{family}-{kind}"
            best = save_model(tmp_path / f"best-{name}", family, task, head="native")
            exports.append(exported(best, tmp_path / name, kind))
    check_written(exports)
    assert not [export for export in exports if (export.folder / export_folder.ANSWERS).exists()]
    (exports[1].folder / "modeling_opinionlm.py").write_text("import opinionlm\n")
    with pytest.raises(UserError, match="cannot be loaded without opinionlm"):
        check_written(exports[1:2])


def test_saved_tokenizer_cuts_where_training_did(tmp_path) -> None:
    written = exported(save_model(tmp_path / "best", "gpt2", head="native"), tmp_path / "out", "transformers")
    tokenizer = AutoTokenizer.from_pretrained(written.folder)
    assert len(tokenizer(written.items[-1], truncation=True)["input_ids"]) == 32
    assert np.array_equal(written.expected[0].shape, (4,))


@pytest.mark.slow
def test_a_trained_run_leaves(setting: dict[str, str], tmp_path) -> None:
    """From ``head: native`` in a run of train_classifier.py to its export, and labels on its validation texts."""
    options = {name: value for name, value in setting.items() if name != "head_hidden_sizes"}
    train_classifier.main(command_line(options, head="native", output_dir=tmp_path, run_name="run", decision="argmax"))
    written = exported(tmp_path / "run", tmp_path / "out", "transformers")
    check_here(written)
    with open(tmp_path / "run" / "predictions" / "validation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    serve = pipeline("text-classification", model=str(written.folder), device="cpu")
    served = serve([row["text"] for row in rows], truncation=True)
    assert [entry["label"] for entry in served] == [row["predicted"] for row in rows]
    assert "import opinionlm" not in (written.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max_f1_loss", "0.1"], "transformers is no graph and loses nothing"),
        (["--format", "onnx", "--max_f1_loss", "nan"], "nan must be at least 0"),
    ],
)
def test_a_loss_that_nothing_is_measured_by_is_refused(options: list[str], said: str) -> None:
    with pytest.raises(UserError, match=f"--max_f1_loss: {said}"):
        main(["somewhere", *options])
