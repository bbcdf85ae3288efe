"""What a run fits or chooses does not depend on the labels of test: with others there, it is the same to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import DatasetDict

import train_instruct
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.prepared import MANIFEST
from tests.classifier_runs import command_line, train
from tests.tiny import save_generative_model

# Of a run that fits as much as any: temperature, offsets, thresholds of label sets.
FITTED = {"decision": "thresholds", "label_set_coverage": 0.8, "num_train_epochs": 1}


@pytest.fixture(scope="module")
def folders(setting, tmp_path_factory) -> list[Path]:
    """The data set of `setting`, and the same with the gold labels of test dealt out anew."""
    prepared = prepare_or_load(setting["dataset"], Path(setting["data_dir"]), Path(setting["prepared_dir"]))
    test = prepared.dataset["test"]
    order = np.random.default_rng(0).permutation(len(test)).tolist()
    levels = ["label", *(name for name in test.column_names if name.startswith("level"))]
    columns = {name: [test[name][row] for row in order] for name in levels}
    shuffled = test.map(lambda row, at: {name: values[at] for name, values in columns.items()}, with_indices=True)
    assert list(shuffled["label"]) != list(test["label"]) and list(shuffled["text"]) == list(test["text"])
    folder = tmp_path_factory.mktemp("shuffled") / "posts"
    DatasetDict(dict(prepared.dataset) | {"test": shuffled}).save_to_disk(folder)
    shutil.copy(prepared.path / MANIFEST, folder / MANIFEST)
    return [prepared.path, folder]


# With words blended in, everything else is fitted too.
@pytest.mark.parametrize("blend_words", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_of_a_classifier(setting, folders, tmp_path, blend_words: bool) -> None:
    options = FITTED | {"blend_words": blend_words, "run_name": "run"}
    runs = [train(setting, dataset=folder, output_dir=tmp_path / str(at), **options)
            for at, folder in enumerate(folders)]  # fmt: skip
    configs = [(tmp_path / str(at) / "run" / "best" / "config.json").read_bytes() for at in range(2)]
    assert configs[0] == configs[1]
    saved = json.loads(configs[0])
    assert saved["temperature"] != 1 and any(saved["decision_offsets"]) and saved["label_set_thresholds"]
    weights = [(tmp_path / str(at) / "run" / "best" / "model.safetensors").read_bytes() for at in range(2)]
    assert weights[0] == weights[1]
    assert (saved["word_share"] > 0) == blend_words
    assert runs[0]["validation"] == runs[1]["validation"] and runs[0]["decision"] == runs[1]["decision"]
    assert runs[0]["test"]["brier"] != runs[1]["test"]["brier"]


@pytest.mark.parametrize("decision", ["logit_adjusted", pytest.param("expected_cost", marks=pytest.mark.slow)])
def test_of_the_floor(setting, folders, tmp_path, decision: str) -> None:
    options = {"decision": decision, "label_set_coverage": 0.8, "engine": "tfidf", "run_name": "run"}
    runs = [train(setting, dataset=folder, output_dir=tmp_path / str(at), **options)
            for at, folder in enumerate(folders)]  # fmt: skip
    assert runs[0]["decision"] == runs[1]["decision"] and runs[0]["train"] == runs[1]["train"]
    assert runs[0]["validation"] == runs[1]["validation"]
    assert runs[0]["test"]["brier"] != runs[1]["test"]["brier"]


def test_of_a_language_model(setting, folders, tmp_path) -> None:
    save_generative_model(tmp_path / "model")
    (tmp_path / "template.yaml").write_text('prompt: "{text}:"')
    shared = {name: setting[name] for name in ("learning_rate", "report_to", "use_cpu", "per_device_train_batch_size")}
    shared |= {"model_name_or_path": tmp_path / "model", "prompt_template": tmp_path / "template.yaml"}
    shared |= {"max_length": 64, "adaptation": "top_blocks", "cache_dir": tmp_path / "cache"}
    runs, saved = [], []
    for at, folder in enumerate(folders):
        options = shared | FITTED | {"dataset": folder, "output_dir": tmp_path / str(at), "run_name": "run"}
        runs.append(train_instruct.main(command_line({}, **options)))
        saved.append((tmp_path / str(at) / "run" / "best" / "opinionlm.json").read_bytes())
    assert saved[0] == saved[1] and json.loads(saved[0])["rule"]["temperature"] != 1
    assert runs[0]["validation"] == runs[1]["validation"] and runs[0]["decision"] == runs[1]["decision"]
    assert runs[0]["test"]["brier"] != runs[1]["test"]["brier"]
