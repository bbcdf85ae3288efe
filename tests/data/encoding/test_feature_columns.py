"""Columns in front of the text: written, stored and compared in preparation, saved with the model, asked for again."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value

import opinionlm
import predict
from opinionlm.data.cleaning import PROFILES, text_steps
from opinionlm.data.encoding.features import Feature, feature_text, in_words, known_features, with_features
from opinionlm.data.encoding.texts import encode_texts
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.spec import FeatureSpec
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.errors import UserError
from opinionlm.experiments.changed_texts import changed_table
from opinionlm.inference.export.comparison import measured, validation_of
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from tests.classifier_runs import train
from tests.tiny import wordpiece_tokenizer

STARS, TITLE, EXCHANGE = (
    FeatureSpec("stars", "number"),
    FeatureSpec("title", "text"),
    FeatureSpec("exchange", "category"),
)
SPEC = {
    "name": "reviews",
    "files": [
        {
            "path": "reviews.csv",
            "columns": {"text": "body", "label": "label", "title": "head", "stars": "rating", "exchange": "exchange"},
        }
    ],
    "features": {"title": "text", "stars": "number", "exchange": "category"},
    "labels": ["bad", "good"],
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
}


def rows_of(count: int = 120) -> list[list[str]]:
    """Reviews whose rating alone tells the label."""
    generator = np.random.default_rng(3)
    rows = []
    for number in range(count):
        words = generator.choice(["coin", "market", "today", "chain", "price"], 4)
        rating = int(generator.integers(1, 6))
        label = "good" if rating > 2 else "bad"
        exchange = ("north", "south", "")[number % 3]
        rows.append([f"{' '.join(words)} {number}", label, f"Part {number}!", f"{rating}.0", exchange])
    return rows


def write(folder: Path, rows: list[list[str]], tokenizer: str = "models/gemma3-mini") -> Path:
    with open(folder / "reviews.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["body", "label", "head", "rating", "exchange"], *rows])
    path = folder / "reviews.yaml"
    path.write_text(yaml.safe_dump(SPEC | {"tokenizer_name_or_path": tokenizer}, sort_keys=False))
    return path


def test_words_by_hand() -> None:
    features = [Feature("platform", "category", ("reddit",)), TITLE, STARS]
    values = {"platform": "reddit", "title": "Why?", "stars": "3"}
    assert in_words(features, values, "I asked.") == "reddit: title: Why? stars: 3. I asked."
    assert in_words(features, values | {"platform": "", "title": "Why"}, "x") == "title: Why. stars: 3. x"
    assert in_words(features, dict.fromkeys(values, ""), "x") == "x"
    rows = Dataset.from_dict({"stars": ["3", ""], "title": ["A", "B!"], "text": ["x", "y"], "text_pair": ["p", "q"]})
    read = with_features(rows, [STARS, TITLE])
    assert list(read["text"]) == ["stars: 3. title: A. x", "title: B! y"] and list(read["text_pair"]) == ["p", "q"]


def test_a_feature_may_be_called_sets() -> None:
    features = Features(
        dict.fromkeys(["text", "sets"], Value("string")) | {"labels": List(ClassLabel(names=["a", "b"]))}
    )
    rows = Dataset.from_dict({"text": ["buy"], "sets": ["x"], "labels": [[1]]}, features)
    assert encode_texts(rows, wordpiece_tokenizer(), 8, target="labels")["labels"] == [[0.0, 1.0]]


def test_values() -> None:
    steps = text_steps(PROFILES["default"])
    for written, number in (
        ("3.0", "3"),
        (" 3 ", "3"),
        ("-0.50", "-0.5"),
        ("1e3", "1000"),
        ("1234567", "1234567"),
        ("", ""),
    ):
        assert feature_text(STARS, written, steps) == number
    for written in ("n/a", "1_000", "nan", "inf", "1e999", "٣"):
        with pytest.raises(ValueError, match="stars: .* is no number"):
            feature_text(STARS, written, steps)
    assert feature_text(EXCHANGE, " North ", steps) == "North"
    assert Feature("stars", "number", ("1", "5")).is_known("2.5") and not Feature(
        "stars", "number", ("1", "5")
    ).is_known("6")
    assert not Feature("stars", "number", ("1", "5")).is_known("n/a")


def test_what_training_knows() -> None:
    rows = Dataset.from_dict({"stars": ["10", "9", ""], "title": ["a", "b", "c"], "exchange": ["s", "n", ""]})
    found = known_features(rows, (STARS, TITLE, EXCHANGE), platform_prefix=False, source="x.yaml")
    assert [feature.known for feature in found] == [("9", "10"), (), ("n", "s")]
    many = Dataset.from_dict({"exchange": [str(number) for number in range(1001)]})
    with pytest.raises(UserError, match=r"x\.yaml: features.exchange: 1,001 different values are no categories"):
        known_features(many, (EXCHANGE,), platform_prefix=False, source="x.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"platform": "category"}}, "features.platform: runs read it with platform_prefix: true"),
        ({"features": {"label": "category"}}, "features.label: this name is taken"),
        ({"features": {"level1": "category"}}, "features.level1: this name is taken"),
        # Columns of predictions/<split>.csv, from which models are asked again.
        ({"features": {"gold": "category"}}, "features.gold: this name is taken"),
        ({"features": {"probability_x": "number"}}, "features.probability_x: this name is taken"),
        ({"features": {"stars": "numeric"}}, "features.stars: .*numeric"),
        ({"features": ["stars"]}, "features: expected names and kinds"),
        ({"features": {"mood": "text"}}, r"files\[0\].columns: mood is missing; features names it"),
        ({"features": {}}, "unknown column 'title'"),
        ({"task": "instruction", "labels": None}, "features: only tasks with labels read columns beside the text"),
    ],
)
def test_yamls_that_make_no_sense(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec_from_dict(SPEC | change, "reviews.yaml")


def test_preparation_keeps_columns_and_compares_by_them(tmp_path) -> None:
    text = "the same words for all of them"
    odd = [
        [text, "good", "Same", "5", "north"],
        [text, "bad", "Same", "1", "north"],  # another rating: another input, no contradiction
        [text, "bad", "Same", "1.0", "north"],  # a copy
        ["other words for this", "bad", "Odd", "three", "south"],
    ]
    prepared = prepare_or_load(str(write(tmp_path, rows_of() + odd)), tmp_path, tmp_path / "data")
    assert prepared.features == tuple(FeatureSpec(name, kind) for name, kind in SPEC["features"].items())
    rows = [row for split in prepared.dataset.values() for row in split]
    assert sorted((row["stars"], row["label"]) for row in rows if row["text"] == text) == [("1", 0), ("5", 1)]
    assert {row["exchange"] for row in rows} == {"north", "south", ""}
    assert all(row["title"].startswith(("Part", "Same")) for row in rows)
    report = json.loads((prepared.path / "report.json").read_text())
    assert report["rejected"] == {"bad_feature": 1, "duplicate_raw": 1}
    assert "'three' is no number" in (prepared.path / "rejects.csv").read_text()


@pytest.fixture(scope="module")
def run(setting, tmp_path_factory) -> Path:
    """A run on reviews, with TF-IDF interpolation."""
    folder = tmp_path_factory.mktemp("reviews")
    path = write(folder, rows_of(), setting["model_name_or_path"])
    options = {"dataset": path, "data_dir": folder, "output_dir": folder, "run_name": "run", "blend_words": "true"}
    train(setting | {"max_length": "64"}, **options, adaptation="full", num_train_epochs="1")
    return folder / "run"


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def label(run: Path, source: Path, output: Path) -> list[dict[str, str]]:
    predict.main(["--model", str(run / "best"), "--input", str(source), "--output", str(output), "--overwrite"])
    return read(output)


def probabilities(rows: list[dict[str, str]]) -> list[list[float]]:
    return [[float(row[name]) for name in ("probability_bad", "probability_good")] for row in rows]


def test_prediction_reads_what_training_read(run, tmp_path, capsys) -> None:
    config = json.loads((run / "best" / "config.json").read_text())
    assert [one["name"] for one in config["features"]] == ["title", "stars", "exchange"]
    assert config["features"][1]["known"] == ["1", "5"] and config["platforms"] is None
    assert "`title: <title>. stars: <stars>. exchange: <exchange>. <text>`" in (run / "best" / "README.md").read_text()
    scored = read(run / "predictions" / "test.csv")
    written = {row[0]: row for row in rows_of()}
    source = tmp_path / "new.csv"
    with open(source, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["body", "label", "head", "rating", "exchange"], *(written[r["text"]] for r in scored)]
        )
    again = label(run, source, tmp_path / "out.csv")
    assert np.allclose(probabilities(again), probabilities(scored), atol=1e-5)
    assert again[0]["rating"] == written[scored[0]["text"]][3], "columns that are read are still shown"
    assert "no training text had" not in capsys.readouterr().err
    # The same as records, and JSON lines by the features' own names.
    names = ("text", "title", "stars", "exchange")
    records = [dict(zip(names, [row[0], *row[2:]], strict=True)) for row in (written[r["text"]] for r in scored)]
    records[0] |= {"stars": float(records[0]["stars"]), "something": [1, 2]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = opinionlm.load(run / "best", device="cpu").predict(records)
    found = [[one.probabilities["bad"], one.probabilities["good"]] for one in answers]
    assert np.allclose(found, probabilities(scored), atol=1e-5)
    lines = tmp_path / "new.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert np.allclose(probabilities(label(run, lines, tmp_path / "out.csv")), probabilities(scored), atol=1e-5)


def test_a_prediction_file_can_be_read_again(run, tmp_path) -> None:
    # By predict.py, and by an export, which compares a graph with the model on the validation texts.
    scored = read(run / "predictions" / "validation.csv")
    assert {row["stars"] for row in scored} == {*"12345"}
    predictor = load_predictor(run / "best", PredictionOptions())
    items, _ = validation_of(run, predictor)
    assert items[0].startswith(f"title: {scored[0]['title']}") and " stars: " in items[0]
    assert np.allclose(measured(predictor, items), probabilities(scored), atol=1e-5)


def test_unseen_values_are_counted_and_said(run, tmp_path, capsys) -> None:
    source = tmp_path / "new.csv"
    rows = [["coin today", "A", "9", "north"], ["coin now", "B", "n/a", "west"], ["chain now", "C", "", ""]]
    with open(source, "w", newline="", encoding="utf-8") as file:
        # By the features' own names; training had others.
        csv.writer(file).writerows([["body", "title", "stars", "exchange"], *rows])
    assert len(label(run, source, tmp_path / "out.csv")) == 3
    said = capsys.readouterr().err
    assert "warning: stars: 2 records have values that no training text had, for instance '9'" in said
    assert "warning: exchange: 1 records have values that no training text had, for instance 'west'" in said
    with pytest.warns(UserWarning, match="exchange: 1 records"):
        opinionlm.load(run / "best", device="cpu").predict(
            [{"text": "coin", "title": "", "stars": None, "exchange": "west"}]
        )


def test_a_run_is_asked_again_with_its_columns(run) -> None:
    as_they_are, same = changed_table(run, {"same": str})
    assert same[1].startswith("0 of") and same[2:5] == as_they_are[2:5]


def test_absent_columns_are_told_in_one_line(run, tmp_path) -> None:
    source = tmp_path / "new.csv"
    source.write_text("body,head,exchange\ncoin,A,north\n")
    with pytest.raises(UserError, match=r"new\.csv: the column 'rating' \(for stars\) is not there") as error:
        label(run, source, tmp_path / "out.csv")
    assert "\n" not in str(error.value) and "has no option: add or rename head, rating, exchange" in str(error.value)
    (tmp_path / "posts.txt").write_text("coin\n")
    with pytest.raises(
        UserError, match=r"posts\.txt: 'title' is not there, and the model reads title, stars, exchange"
    ):
        label(run, tmp_path / "posts.txt", tmp_path / "out.csv")
    model = opinionlm.load(run / "best", device="cpu")
    with pytest.raises(UserError, match=r"texts\[0\]: 'title' is not there"):
        model.predict(["coin"])
    with pytest.raises(UserError, match=r"texts\[1\]: 'stars' is not there"):
        model.predict(
            [{"text": "a", "title": "", "stars": 1, "exchange": ""}, {"text": "b", "title": "x", "exchange": ""}]
        )
    for wrong, found in (({"title": []}, "a list"), ({"text": True}, "true")):
        with pytest.raises(UserError, match=rf"texts\[0\]: expected texts and numbers, found {found}"):
            model.predict([{"text": "a", "title": "", "stars": 1, "exchange": ""} | wrong])
