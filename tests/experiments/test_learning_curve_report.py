"""A table of training texts: cells that go without them, what is said below it, its figure; runs are made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from opinionlm.errors import UserError
from opinionlm.experiments import learning_curve_report as module
from opinionlm.experiments.grid import LearningCurve, Table, load_table
from opinionlm.experiments.grid_runner import Run, runs_of
from opinionlm.experiments.learning_curve_report import (
    beyond_lines,
    curve_lines,
    curves_of,
    training_rows,
    write_curves,
)
from tests.experiments.test_grid import save

METHODS = {
    "slow": {"adaptation": "full"},
    "fast": {"engine": "tfidf"},
    "asked": {"script": "prompt.py", "without": "Texts"},
}
SIZES = {size: {"max_train_samples": size} for size in (50, 100, 200, 400)}
# Share of 300 test rows that are right, by training texts; 0 for none.
RIGHT = {
    "slow": {50: 0.4, 100: 0.55, 200: 0.7, 400: 0.8},
    "fast": {50: 0.6, 100: 0.62, 200: 0.64, 400: 0.65},
    "asked": {0: 0.5},
}
CURVE = {"size": "Texts", "more": 500}


def curve_table(folder: Path, **changes) -> Table:
    options = {"axes": {"Way": METHODS, "Texts": SIZES}, "scales": {"small": {"seeds": "0..2"}}, "published": []}
    options |= {"options": {"dataset": "configs/datasets/sample.yaml"}}
    options |= {"learning_curve": CURVE, "measures": {"Macro-F1": "test.macro_f1"}, "figures": ["bars"]}
    return load_table(save(folder, **(options | changes)), "small", {})


def write_run(run: Run) -> None:
    """A finished run whose answers are right in the share that `RIGHT` says, for the easier rows."""
    size = run.cell.labels["Texts"]
    share = RIGHT[run.cell.labels["Way"]][0 if size == "any" else int(size)]
    difficulty = np.random.default_rng(1).random(300) + 0.03 * np.random.default_rng(run.seed).normal(size=300)
    (run.folder / "predictions").mkdir(parents=True)
    (run.folder / "metrics.json").write_text(json.dumps({"test": {"macro_f1": share}}))
    (run.folder / "labels.json").write_text(json.dumps(["a", "b"]))
    with open(run.folder / "predictions" / "test.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "platform", "gold", "predicted"])
        for row in range(300):
            gold = "ab"[row % 2]
            writer.writerow([row, "", gold, gold if difficulty[row] < share else "ba"[row % 2]])


@pytest.fixture
def finished(tmp_path, monkeypatch) -> tuple[Table, list[Run]]:
    class Data:
        dataset = {"train": range(1000)}

    monkeypatch.setattr(module, "load_rows", lambda data: Data())
    table = curve_table(tmp_path)
    runs = runs_of(table, tmp_path)
    for run in runs:
        write_run(run)
    return table, runs


def test_a_row_without_an_axis_has_one_cell(tmp_path) -> None:
    cells = curve_table(tmp_path).cells
    assert [cell.name for cell in cells if cell.script == "prompt.py"] == ["asked-any"]
    assert len(cells) == 9 and "max_train_samples" not in cells[-1].options and "without" not in cells[-1].options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_curve": {"size": "Way"}}, "must be the last axis, 'Texts'"),
        ({"learning_curve": {"size": "Texts", "more": 0}}, "whole number of texts above 0"),
        ({"learning_curve": {"size": "Texts", "mor": 5}}, "unknown key 'mor'"),
        ({"axes": {"Way": METHODS, "Texts": {"few": {}}}}, "must be numbers of training texts"),
        ({"axes": {"Way": {"a": {"without": "Text"}}, "Texts": SIZES}}, "must name another axis: Texts"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        curve_table(tmp_path, **changes)


def test_what_the_curves_say(finished) -> None:
    table, runs = finished
    curves = {curve.name: curve for curve in curves_of(table, runs)}
    assert curves["slow"].sizes.tolist() == [50, 100, 200, 400] and not len(curves["asked"].sizes)
    assert curves["slow"].scores == pytest.approx(list(RIGHT["slow"].values()), abs=0.06)
    text = "\n".join(curve_lines(list(curves.values()), LearningCurve(**CURVE)))
    assert "slow: 0." in text and "500 more would bring +0." in text and "asked:" not in text
    # Behind at 100 by .07, ahead at 200 by .06.
    assert "slow is ahead of fast from 1" in text and "slow is ahead of asked from" in text
    assert "fast is ahead of asked" not in text
    assert curve_lines([curves["asked"]], LearningCurve("Texts")) == []


def test_curves_of_scorers_of_pairs(finished) -> None:
    table, runs = finished
    for run in runs:
        (run.folder / "labels.json").unlink()
        noise = 5 / np.sqrt(int(run.cell.labels["Texts"])) if run.cell.labels["Texts"] != "any" else 3
        gold = np.random.default_rng(1).uniform(0, 5, 300)
        predicted = gold + np.random.default_rng(run.seed).normal(0, noise, 300)
        with open(run.folder / "predictions" / "test.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "platform", "text", "text_pair", "gold", "predicted"])
            writer.writerows([row, "", "a", "b", gold[row], predicted[row]] for row in range(300))
    curves = curves_of(table, runs)
    assert {curve.metric for curve in curves} == {"Pearson's r"}
    assert "Pearson's r on test; intervals" in "\n".join(curve_lines(curves, LearningCurve(**CURVE)))
    slow = next(curve for curve in curves if curve.name == "slow")
    low, high = np.percentile(slow.resampled, [2.5, 97.5], axis=0)
    # Correlation of a score with itself plus noise.
    expected = 1 / np.sqrt(1 + (25 / slow.sizes) / (25 / 12))
    assert ((low < expected) & (expected < high)).sum() >= 3
    with open(runs[0].folder / "predictions" / "test.csv", "w", newline="") as file:
        file.write("id,platform,text,gold,answer\na,,Who?,Ann,Ann\n")
    with pytest.raises(UserError, match="its answers are no labels, tags or scores, of which curves are"):
        curves_of(table, runs)


def test_sizes_beyond_the_training_split_are_left_out(finished, monkeypatch) -> None:
    table, runs = finished

    class Few:
        dataset = {"train": range(150)}

    assert beyond_lines(table, runs, curves_of(table, runs)) == []
    monkeypatch.setattr(module, "load_rows", lambda data: Few())
    assert beyond_lines(table, runs, curves_of(table, runs)) == [
        "",
        "Rows with 200 and 400 learned from all 150 that there are.",
    ]
    curve = next(curve for curve in curves_of(table, runs) if curve.name == "slow")
    assert curve.sizes.tolist() == [50, 100, 150]
    # An unfinished seed leaves its size out.
    (runs[0].folder / "metrics.json").unlink()
    curve = next(curve for curve in curves_of(table, runs) if curve.name == "slow")
    assert curve.sizes.tolist() == [100, 150]
    assert "no forecast from fewer than 3 sizes" in "\n".join(curve_lines([curve], LearningCurve("Texts")))


def test_the_training_split_is_what_runs_train_on(tmp_path, monkeypatch) -> None:
    """Of one platform alone, and where every size is a data set of its own, the largest of them."""

    class Rows:
        def __init__(self, data) -> None:
            size = data.dataset.removeprefix("rows").removesuffix(".yaml")
            self.dataset = {"train": range(90 if data.train_platforms == ["reddit"] else int(size))}

    monkeypatch.setattr(module, "load_rows", Rows)
    ways = {"slow": {}, "fast": {"learning_rate": 1e-3}}
    for options, expected in (({}, 400), ({"train_platforms": "reddit"}, 90)):
        table = curve_table(
            tmp_path,
            options={"dataset": "rows{Texts}.yaml"} | options,
            axes={"Way": ways, "Texts": {size: {} for size in SIZES}},
        )
        assert training_rows(runs_of(table, tmp_path)) == expected


@pytest.mark.usefixtures("drawn_figures")
def test_the_figure(finished, tmp_path) -> None:
    table, runs = finished
    paths = write_curves(tmp_path, table, curves_of(table, runs))
    assert [path.name for path in paths] == ["learning_curve.png", "learning_curve.svg"]
    text = paths[1].read_text()
    assert all(name in text for name in ("slow", "asked", "training texts"))
