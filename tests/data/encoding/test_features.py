"""The platform in front of the text: what the model reads in training is what it reads at prediction."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset

import predict
from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.features import Feature, known_features, platforms_of, with_features
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.tasks import task_for
from tests.classifier_runs import train
from tests.saved_classifier import save_tiny_classifier
from tests.tiny import tiny_tokenizer


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def label(model: Path, source: Path, folder: Path, *options: str) -> list[dict[str, str]]:
    arguments = ["--input", str(source), "--output", str(folder / "labels.csv"), "--overwrite", *options]
    predict.main(["--model", str(model), *arguments])
    return read(folder / "labels.csv")


@pytest.fixture(scope="module")
def forums(setting, tmp_path_factory) -> dict[str, str]:
    """Posts of two platforms with the same words, where the platform alone decides the label."""
    folder = tmp_path_factory.mktemp("forums")
    generator = np.random.default_rng(0)
    names = {"reddit": "positive", "qna": "negative"}
    spec = {"name": "forums", "tokenizer_name_or_path": setting["model_name_or_path"], "files": []}
    for platform, answer in names.items():
        with open(folder / f"{platform}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "level1"])
            words = ("coin", "market", "today", "chain", "price")
            writer.writerows([" ".join(generator.choice(words, 4)) + f" {platform[0]}{n}", answer] for n in range(60))
        columns = {"text": "text", "level1": "level1"}
        spec["files"].append({"path": f"{platform}.csv", "platform": platform, "columns": columns})
    spec |= {"labels": ["positive", "negative"], "split": {"train": 0.6, "validation": 0.2, "test": 0.2}}
    (folder / "forums.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return setting | {"dataset": str(folder / "forums.yaml"), "data_dir": str(folder)}


def test_text_with_its_platform() -> None:
    rows = Dataset.from_dict({"platform": ["reddit", ""], "text": ["a", "b"], "text_pair": ["c", "d"]})
    features = known_features(rows, (), platform_prefix=True, source="posts.yaml")
    read_by_model = with_features(rows, features)
    assert list(read_by_model["text"]) == ["reddit: a", "b"] and list(read_by_model["text_pair"]) == ["c", "d"]
    assert platforms_of(features) == ["reddit"] and features == [Feature("platform", "category", ("reddit",))]
    with pytest.raises(UserError, match=r"posts\.yaml names no platforms"):
        known_features(rows.select([1]), (), platform_prefix=True, source="posts.yaml")


def test_the_token_ids_are_those_of_the_prefixed_text() -> None:
    tokenizer = tiny_tokenizer()
    rows = {"id": ["1", "2"], "platform": ["reddit", ""], "text": ["buy now", "buy now"], "label": [0, 1]}
    splits = {name: Dataset.from_dict(rows) for name in ("train", "validation", "test")}
    prepared = PreparedDataset(splits, Taxonomy.from_tree(["a", "b"]), "posts", "0" * 64, Path("posts"))
    config = parse_config(["--platform_prefix"], "test")
    encoded = task_for(prepared, config).encode(tokenizer)
    for split in encoded.values():
        expected = [tokenizer(text).input_ids for text in ("reddit: buy now", "buy now")]
        assert list(split.encoded["input_ids"]) == expected
        assert list(split.texts["text"]) == ["buy now", "buy now"], "tables show the text as it is"


def test_training_and_prediction_read_the_same(forums, tmp_path) -> None:
    options = {"output_dir": tmp_path, "adaptation": "full", "num_train_epochs": "1"}
    train(forums, **options, run_name="with", platform_prefix="true")
    best = tmp_path / "with" / "best"
    assert json.loads((best / "config.json").read_text())["platforms"] == ["qna", "reddit"]
    assert "`qna: …` in a pipeline" in (best / "README.md").read_text()
    table = tmp_path / "with" / "predictions" / "test.csv"
    scored = read(table)
    names = [name for name in scored[0] if name.startswith("probability_")]
    # By column, over the table of the run itself.
    again = label(best, table, tmp_path, "--platform_column", "platform")
    for one, other in zip(scored, again, strict=True):
        assert [float(one[name]) for name in names] == pytest.approx([float(other[name]) for name in names], abs=1e-5)
        assert one["text"] == other["text"]
    # By name for the whole input: right for its posts, another answer for the others.
    fixed = label(best, table, tmp_path, "--platform", "reddit")
    for one, other in zip(again, fixed, strict=True):
        same = [float(one[name]) for name in names] == pytest.approx([float(other[name]) for name in names], abs=1e-6)
        assert same == (one["text"].split()[-1][0] == "r")
    for arguments, message in (
        ([], r"name the column with --platform_column, or give --platform \(qna, reddit\)"),
        (["--platform", "redit"], "'redit' is none that the model was trained on"),
        (["--platform", "qna", "--platform_column", "platform"], "give only one of the two"),
        (["--platform_column", "origin"], "origin"),
    ):
        with pytest.raises(UserError, match=message):
            label(best, table, tmp_path, *arguments)
    lines = tmp_path / "posts.txt"
    lines.write_text("coin market\n")
    with pytest.raises(UserError, match="the input has no columns; give --platform"):
        label(best, lines, tmp_path, "--platform_column", "platform")
    plain = save_tiny_classifier(tmp_path / "plain")
    with pytest.raises(UserError, match="reads no platforms"):
        label(plain, lines, tmp_path, "--platform", "reddit")


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="platform_prefix: True is not read by task: token"):
        parse_config(["--platform_prefix", "--task", "token"], "test")
