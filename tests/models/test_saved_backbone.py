"""Going on from a model that was trained here: its backbone and nothing else of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from opinionlm.adaptation.build import load_checked_backbone
from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from opinionlm.models.backbones import read_model_config
from tests.classifier_runs import train


@pytest.fixture(scope="module")
def first(setting, tmp_path_factory) -> Path:
    """``best/`` of a run that trained everything."""
    folder = tmp_path_factory.mktemp("first")
    train(setting, output_dir=folder, run_name="run", adaptation="full", num_train_epochs=1)
    return folder / "run" / "best"


def backbone_of(folder: Path, *options: str) -> torch.nn.Module:
    config = parse_config(["--model_name_or_path", str(folder), *options], "test")
    return load_checked_backbone(config.model, config.method, 512, read_model_config(config.model), vocabulary=10)


def test_it_is_the_trained_backbone(first) -> None:
    saved = load_file(first / "model.safetensors")
    state = backbone_of(first).state_dict()
    assert {f"backbone.{name}" for name in state} == {name for name in saved if name.startswith("backbone.")}
    for name, value in state.items():
        assert torch.equal(value, saved[f"backbone.{name}"]), name


def test_training_goes_on_from_it_with_another_head(setting, first, tmp_path) -> None:
    again = setting | {"model_name_or_path": str(first)}
    options = {"output_dir": tmp_path, "adaptation": "head_only", "num_train_epochs": 1, "head_hidden_sizes": "[]"}
    metrics = train(again, run_name="second", **options)
    before, after = load_file(first / "model.safetensors"), load_file(tmp_path / "second/best/model.safetensors")
    shared = [name for name in after if name.startswith("backbone.")]
    assert shared and all(torch.equal(before[name], after[name]) for name in shared)
    assert 0 <= metrics["test"]["macro_f1"] <= 1


def test_what_it_was_trained_on_is_not_what_it_is_judged_on(setting, first, tmp_path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(setting["data_dir"], folder, ignore=shutil.ignore_patterns("prepared", "cache"))
    spec = yaml.safe_load((folder / "posts.yaml").read_text())
    spec["split"]["seed"] = 7
    (folder / "posts.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    other = setting | {"model_name_or_path": str(first), "dataset": str(folder / "posts.yaml")}
    with pytest.raises(UserError, match=r"was trained on \d+ of the \d+ texts of posts's validation split"):
        train(other, output_dir=tmp_path, run_name="leak")
    assert not (tmp_path / "leak").exists()


def test_what_is_no_plain_backbone_is_refused(setting, first, tmp_path) -> None:
    train(setting, output_dir=tmp_path, run_name="lora", adaptation="lora", num_train_epochs=1)
    with pytest.raises(UserError, match="merge it first: python -m opinionlm predict --model"):
        backbone_of(tmp_path / "lora" / "best")
    with pytest.raises(UserError, match="neither suits"):
        backbone_of(first, "--random_weights", "true")
    with pytest.raises(UserError, match="pooler' is a layer that a model of type '\\w+' does not have"):
        backbone_of(first, "--pooling", "pooler")
