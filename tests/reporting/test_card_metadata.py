"""The head of model cards is what the hub reads: `huggingface_hub` finds in it what was meant, and refuses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from opinionlm.config.method_options import DecisionConfig
from opinionlm.data.prepared import MANIFEST
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.reporting.card_metadata import base_facts, card_head, in_millions, licence_note, trained_words
from opinionlm.reporting.model_card import trust_section

SCORES = {"macro_f1": 0.51234567, "accuracy": 0.6, "ece": 0.08, "pearson": float("nan")}


def task(folder: Path, base: str, spec: dict[str, Any] | None) -> Any:
    """As much of a task as a head reads."""
    manifest = {"name": "posts", "fingerprint": "f" * 64, "labels": {}, "rows": {}}
    (folder / MANIFEST).write_text(json.dumps(manifest if spec is None else manifest | {"spec": spec}))
    return SimpleNamespace(
        config=SimpleNamespace(
            model=SimpleNamespace(model_name_or_path=base), training=SimpleNamespace(run_name="mine: seed 1")
        ),
        prepared=SimpleNamespace(name="posts", path=folder),
        shown_metrics=tuple(SCORES),
    )


def read(text: str) -> ModelCard:
    """A card as the hub reads it; faulty metadata raise."""
    return ModelCard(text + "\n# A model\n", ignore_metadata_errors=False)


def test_a_hub_model_on_hub_data(tmp_path) -> None:
    spec = {"language": "en", "licence": "CC BY 4.0", "hub": {"path": "nyu-mll/glue", "config": "mrpc"}}
    made = task(tmp_path, "google/gemma-3-1b-pt", spec)
    data = read(card_head(made, "text-classification", ["hierarchical-text-classification"], SCORES)).data
    assert (data.base_model, data.license, data.language) == ("google/gemma-3-1b-pt", "gemma", "en")
    assert data.datasets == ["nyu-mll/glue"] and data.pipeline_tag == "text-classification"
    assert data.tags == ["opinionlm", "hierarchical-text-classification"] and data.model_name == "mine: seed 1"
    results = {result.metric_name: result for result in data.eval_results}
    assert set(results) == {"macro-F1", "accuracy", "ece"}, "what is not a number is left out"
    macro = results["macro-F1"]
    assert (macro.metric_type, macro.metric_value) == ("f1", pytest.approx(SCORES["macro_f1"], abs=1e-6))
    assert (macro.dataset_type, macro.dataset_name) == ("nyu-mll/glue", "posts")
    assert (macro.dataset_config, macro.dataset_split, macro.task_type) == ("mrpc", "test", "text-classification")
    assert "gemma, that of the data: CC BY 4.0" in licence_note(made)
    # Read and written again it is the same.
    assert read(f"---\n{data.to_yaml()}\n---\n").data.to_dict() == data.to_dict()


@pytest.mark.parametrize("spec", [None, {}, {"hub": None}, {"hub": {"path": "data/../mine", "config": None}}])
def test_own_data_and_an_own_model_name_nothing_that_the_hub_lacks(tmp_path, spec) -> None:
    made = task(tmp_path, str(tmp_path / "model"), spec)
    text = card_head(made, "text-classification", [], SCORES)
    data = read(text).data
    assert data.base_model is None and data.datasets is None and data.language is None and data.license == "unknown"
    assert "null" not in text and str(tmp_path) not in text
    assert all(result.dataset_name == "posts" and result.dataset_config is None for result in data.eval_results)


def test_a_local_base_model_tells_its_licence_itself(tmp_path) -> None:
    assert base_facts("models/gemma3-mini") == ("cc-by-sa-4.0", "en")
    (tmp_path / "README.md").write_text("no head at all")
    assert base_facts(str(tmp_path)) == ("unknown", None)
    assert base_facts("nobody/knows-this") == ("unknown", None)
    data = read(card_head(task(tmp_path, "models/gemma3-mini", {}), "text-classification", [], SCORES)).data
    assert data.base_model is None and (data.license, data.language) == ("cc-by-sa-4.0", "en")


@pytest.mark.parametrize("is_tree", [True, False])
def test_hierarchical_f1_of_platforms_is_shown_for_trees_alone(is_tree) -> None:
    numbers = {"macro_f1": 0.5, "accuracy": 0.6, "hierarchical_f1": 0.7}
    test = numbers | {"ece": 0.1, "ece_uncalibrated": 0.1, "ece_if_calibrated": 0.1, "label_set_coverage": 0.9}
    test |= {"label_set_size": 1.5, "platforms": {"forum": numbers | {"rows": 1200}}}
    text = trust_section(DecisionConfig(), AnswerRule(), test, is_tree)
    assert f"| platform | texts | macro-F1 | accuracy |{' hierarchical-F1 |' if is_tree else ''}\n" in text
    assert f"| forum | 1,200 | 0.5000 | 0.6000 |{' 0.7000 |' if is_tree else ''}\n" in text
    assert len({line.count("|") for line in text.splitlines() if "forum" in line or "platform" in line}) == 1


def test_parameters_in_plain_words() -> None:
    assert [in_millions(count) for count in (512, 26_842_112, 999_885_952, 4.3e9)] == [
        "512",
        "26.8 million",
        "1 billion",
        "4.3 billion",
    ]
    parameters = {"trainable_parameters": 26_842_112, "total_parameters": 268_421_120}
    assert trained_words(parameters) == "26.8 million of 268 million parameters (10 %) were trained"
