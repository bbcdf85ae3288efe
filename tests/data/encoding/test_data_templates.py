"""Templates that are written from the data, and those that speak of something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from opinionlm.data.encoding.data_templates import (
    require_place_for_pairs,
    template_for,
    template_warning,
    unread_features,
)
from opinionlm.data.encoding.templates import PromptTemplate
from opinionlm.data.prepared import MANIFEST, PreparedDataset
from opinionlm.data.spec import FeatureSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from tests.conftest import REPOSITORY


def data_of(folder: Path, description: str, task: str = "sequence", labels=("bad", "good")) -> PreparedDataset:
    manifest = {"fingerprint": "0", "labels": None, "rows": {}, "name": "posts", "spec": {"description": description}}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return PreparedDataset(DatasetDict(), Taxonomy.from_tree(list(labels)), "posts", "0", folder, task=task)


def test_a_template_is_written_from_description_and_labels(tmp_path):
    data = data_of(tmp_path, "Reviews of {phones}, labelled by sentiment.")
    template = template_for("auto", data)
    assert template.render("a {text}", "", (), ["bad", "good"]) == (
        "Reviews of {phones}, labelled by sentiment. Choose the label of the text. Labels: bad, good.\n\n"
        "Text: a {text}\nLabel:"
    )
    assert "Text: a\nSecond text: b\nLabel:" in template.render("a", "b", (), ["x"])
    assert template_warning(template, data) == []
    assert template_for("auto", replace(data, path=tmp_path / "gone")).prompt.startswith("Choose the label")


def test_columns_that_prompts_leave_out_are_named(tmp_path):
    data = data_of(tmp_path, "Things.")
    assert unread_features(data) == []
    (line,) = unread_features(replace(data, features=(FeatureSpec("stars", "number"), FeatureSpec("title", "text"))))
    assert line == "reads   the text without stars, title: prompts hold no features"


@pytest.mark.parametrize(
    ("task", "asked"),
    [("question_answering", "Answer the question."), ("summarization", "Summarise"), ("instruction", "Follow the")],
)
def test_other_tasks_are_asked_for_what_they_are(task, asked, tmp_path):
    template = template_for("auto", data_of(tmp_path, "Things.", task))
    assert template.prompt.startswith(f"Things. {asked}") and "{labels}" not in template.prompt


@pytest.mark.parametrize("task", ["question_answering", "instruction"])
def test_contexts_are_not_left_out(task, tmp_path):
    rows = {"text": ["who?", "where?"], "context": ["", "Anna lives in Rome"], "answers": [["Anna"], ["Rome"]]}
    data = replace(data_of(tmp_path, "Things.", task), dataset=DatasetDict(train=Dataset.from_dict(rows)))
    blind = PromptTemplate(prompt="q: {text}\na:", source="t.yaml")
    with pytest.raises(UserError, match="t.yaml shows no {context}, and texts of posts have contexts"):
        require_place_for_pairs(blind, data)
    require_place_for_pairs(template_for("auto", data), data)
    none = Dataset.from_dict(rows | {"context": ["", ""]})
    require_place_for_pairs(blind, replace(data, dataset=DatasetDict(train=none)))


def test_several_labels_are_asked_for_as_such(tmp_path):
    data = data_of(tmp_path, "Things.", "multi_label")
    template = template_for("auto", data)
    assert template_for(None, data) == template
    assert template.render("a", "b", (), ["bad", "good"]) == (
        "Things. Say which of the labels the text has, or none. Labels: bad, good.\n\nText: a\nSecond text: b\nLabels:"
    )


def test_without_a_template_free_answers_get_one_of_their_own_and_labels_the_general_one(tmp_path):
    data = data_of(tmp_path, "Things.")
    assert template_for(None, data) == template_for("configs/prompts/classify.yaml", data)
    assert template_warning(template_for(None, data), data) == []
    free = replace(data_of(tmp_path, "Things.", "question_answering"), taxonomy=None)
    assert template_for(None, free) == template_for("auto", free)
    (warning,) = template_warning(template_for("classify", free), free)
    assert "classify.yaml shows {labels}, the data have none" in warning


@pytest.mark.parametrize(
    ("template", "description", "noticed"),
    [
        ("opinion", "Reviews of phones, labelled by sentiment.", "cryptocurrency, opinion"),
        ("opinion", "Posts about cryptocurrency.", ""),
        ("sentiment", "Film reviews.", ""),
        ("sentiment", "Sentences that cite a paper.", "negative, positive, review, sentiment"),
        ("classify", "Sentences that cite a paper.", ""),
        ("opinion", "", ""),
    ],
)
def test_a_template_about_something_else_is_noticed(template, description, noticed, tmp_path):
    data = data_of(tmp_path, description, labels=("Uses", "Motivation"))
    warnings = template_warning(template_for(template, data), data)
    assert [line.partition("speaks of ")[2].partition(", the data")[0] for line in warnings] == [noticed] * bool(
        noticed
    )


@pytest.mark.parametrize("config", ["gemma1b_instruct", "gemma3_mini_prompt", "imdb_gemma_prompt", "gemma1b_prompt"])
def test_the_shipped_runs_ask_about_their_data(config, tmp_path):
    import yaml

    options = yaml.safe_load((REPOSITORY / "configs" / f"{config}.yaml").read_text())
    spec = load_spec(options.get("dataset", "sample"))
    data = data_of(tmp_path, spec.description, labels=spec.labels.leaves)
    template = template_for(options.get("prompt_template", "classify"), data)
    assert template_warning(template, data) == []
