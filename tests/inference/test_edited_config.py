"""A config.json or a rule that somebody has edited: every mistake is one line, and none another answer."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opinionlm.data.cleaning import Cleaning, text_options
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.onnx_model import OnnxModel
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.saved_decision import keep_members, kept_members, rule_facts, rule_from
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.saved import saved_config
from opinionlm.models.tagger import OpinionTaggerConfig
from tests.saved_classifier import LEAVES, save_tiny_classifier

CPU = PredictionOptions("cpu", "float32")
CLEANING = text_options(Cleaning())


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_tiny_classifier(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "best"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "foo"},
        {"head": "foo"},
        {"chunk_pooling": "foo"},
        {"max_length": "64"},
        {"max_length": 0},
        {"chunk_overlap": -1},
        {"chunk_overlap": 2.5},
        {"read_ends": "no"},
        {"text_pairs": 1},
        {"platforms": "reddit"},
        {"features": [1]},
        {"features": [{"name": "stars"}]},
        {"features": [{"name": "stars", "kind": "foo", "known": []}]},
        {"task_tokens": None},
        {"temperature": "1"},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"decision": "foo"},
        {"decision_offsets": 0.5},
        {"decision_offsets": [0.0, 0.0, 0.0, "x"]},
        {"calibration_biases": [0.0, 0.0, 0.0, float("nan")]},
        {"calibration_biases": True},
        {"label_set_thresholds": 0.5},
        {"label_set_score": "lac", "label_set_thresholds": [0.5]},
        {"label_set_score": None, "label_set_thresholds": [0.5] * 50},
        {"word_share": 2.0},
        {"precision": "float16"},
        {"cleaning": "lowercase"},
        {"cleaning": {}},
        {"cleaning": CLEANING | {"emoji": "foo"}},
        {"cleaning": CLEANING | {"newer": True}},
        # Weights that are then not read.
        {"head_bias": False},
    ],
)
def test_mistakes_in_a_configuration_are_one_line(changes: dict[str, Any], folder: Path) -> None:
    edit(folder, **changes)
    with pytest.raises(UserError) as raised:
        load_predictor(folder, CPU)
    assert "\n" not in str(raised.value)


def test_a_number_may_be_written_without_a_point(folder: Path) -> None:
    before = load_predictor(folder, CPU).answers(["buy now"])
    edit(folder, temperature=1, classifier_dropout=0, word_share=0, cleaning=None)
    assert load_predictor(folder, CPU).answers(["buy now"]) == before


@pytest.mark.parametrize("kind", [OpinionClassifierConfig, OpinionTaggerConfig])
@pytest.mark.parametrize("values", [{"max_length": 0}, {"max_length": "64"}])
def test_configurations_hold_no_value_of_another_kind(kind: type, values: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="max_length"):
        kind(**values)


@pytest.mark.parametrize(
    "name, value",
    [("temperature", "warm"), ("decision", "foo"), ("calibration_biases", 3), ("decision_offsets", "ab")],
)
def test_mistakes_in_a_rule_beside_a_model_are_one_line(name: str, value: Any, tmp_path: Path) -> None:
    facts = rule_facts(AnswerRule())
    assert rule_from(facts, "x") == AnswerRule()
    with pytest.raises(UserError, match="^x: rule"):
        rule_from(facts | {name: value}, "x")
    keep_members(tmp_path, [], AnswerRule())
    path = tmp_path / "ensemble.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"rule": content["rule"] | {name: value}}))
    with pytest.raises(UserError, match="ensemble.json"):
        kept_members(tmp_path)


def test_a_graph_of_other_labels_is_refused(folder: Path, monkeypatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = SimpleNamespace(get_inputs=list, get_outputs=lambda: [SimpleNamespace(shape=["texts", len(LEAVES)])])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: graph)
    config = saved_config(folder)
    OnnxModel(folder, config)
    config.num_labels = len(LEAVES) + 1
    with pytest.raises(UserError, match="gives 4 logits for the 5 labels"):
        OnnxModel(folder, config)
