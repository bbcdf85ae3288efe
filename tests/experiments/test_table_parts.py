"""Means over an axis and numbers of every epoch, against arithmetic by hand."""

from __future__ import annotations

import csv
import json

import pytest

from opinionlm.errors import UserError
from opinionlm.experiments.grid import load_table
from opinionlm.experiments.grid_runner import runs_of
from opinionlm.experiments.table_figures import write_figures
from opinionlm.experiments.table_parts import epoch_lines, epochs_of, mean_lines, mean_rows
from opinionlm.experiments.tables import collect, markdown, write_table
from tests.experiments.test_grid import finish, save

MEANS = {"scales": {"small": {"seeds": 0}}, "mean_over": {"axis": "Rate", "gain": "Weights"}}
PUBLISHED = [
    {"Rate": "slow", "Weights": "none", "Accuracy": 0.3},
    {"Rate": "fast", "Weights": "none", "Accuracy": 0.5},
    {"Rate": "fast", "Weights": "inverse", "Accuracy": 0.9},
]


def test_means_over_an_axis_and_their_changes(tmp_path) -> None:
    table = load_table(save(tmp_path, **MEANS, published=PUBLISHED), "small", {})
    runs = runs_of(table, tmp_path)
    for run, accuracy in zip(runs, (0.4, 0.6, 0.6, 0.9), strict=True):  # slow: none, inverse; fast: none, inverse
        finish(run, accuracy)
    results = collect(table, runs)
    plain, weighted = mean_rows(table, results)
    assert plain.labels == {"Weights": "none"} and weighted.labels == {"Weights": "inverse"}
    assert plain.measured["Accuracy"]["mean"] == pytest.approx(0.5)
    assert plain.measured["Accuracy"]["std"] == pytest.approx(0.02**0.5)
    assert weighted.measured["Accuracy"]["mean"] == pytest.approx(0.75)
    assert plain.gains == {} and weighted.gains["Accuracy"] == pytest.approx(0.75 / 0.5 - 1)
    # A published mean is of all labels or none.
    assert plain.published == {"Accuracy": pytest.approx(0.4)} and weighted.published == {}
    assert "| none | 0.500 ± 0.141 | 0.400 |" in markdown(table, results)
    assert "| inverse | 0.750 ± 0.212 (+50.0%) |  |" in markdown(table, results)
    paths = write_table(tmp_path, table, results)
    rows = list(csv.DictReader((tmp_path / "means.csv").open()))
    assert [row["Weights"] for row in rows if row["measure"] == "Accuracy"] == ["none", "inverse"]
    assert {row["comparable"] for row in rows} == {"True"}
    assert tmp_path / "means.csv" in paths and not (tmp_path / "epochs.csv").exists()


def test_a_smoke_test_has_no_published_means(tmp_path) -> None:
    scales = {"smoke": {"seeds": 0}}
    table = load_table(save(tmp_path, **(MEANS | {"scales": scales}), published=PUBLISHED), "smoke", {})
    runs = runs_of(table, tmp_path)
    for run in runs:
        finish(run, 0.5)
    text = markdown(table, collect(table, runs))
    assert "| none | 0.500 | 12 |" in text and "published |" not in text


def test_an_unfinished_cell_leaves_its_mean_out(tmp_path) -> None:
    table = load_table(save(tmp_path, **MEANS), "small", {})
    runs = runs_of(table, tmp_path)
    for run in runs[:3]:
        finish(run, 0.5)
    plain, weighted = mean_rows(table, collect(table, runs))
    assert "Accuracy" in plain.measured and not weighted.measured and not weighted.gains


def test_means_are_drawn_and_need_an_axis(tmp_path) -> None:
    drawn = MEANS | {"figures": ["means"]}
    drawn["mean_over"] = {**MEANS["mean_over"], "reference": "a line", "reference_values": {"": 0.3}}
    table = load_table(save(tmp_path, **drawn), "small", {})
    runs = runs_of(table, tmp_path)
    for run in runs:
        finish(run, 0.5)
    names = [path.name for path in write_figures(tmp_path, table, collect(table, runs))]
    assert names == ["means_accuracy.png", "means_accuracy.svg", "means_seconds.png", "means_seconds.svg"]
    for changes, message in (
        ({"mean_over": {"axis": "Rates"}}, "mean_over: unknown axis 'Rates', did you mean 'Rate'"),
        ({"mean_over": {"gain": "Rate"}}, "mean_over: the key 'axis' is missing"),
        ({"figures": ["means"]}, "figures: means need mean_over"),
    ):
        with pytest.raises(UserError, match=message):
            load_table(save(tmp_path, **changes), "smoke", {})


def evaluation(epoch: float, loss: float) -> dict[str, float]:
    return {"epoch": epoch, "eval_loss": loss, "loss_since_evaluation": loss + 1.0}


def test_the_last_evaluation_of_every_epoch(tmp_path) -> None:
    histories = [
        [evaluation(0.5, 9.0), evaluation(1.0, 2.0), {"epoch": 1.0, "loss": 7.0}, evaluation(1.99, 1.0)],
        [evaluation(1.0, 4.0), evaluation(2.0, 3.0), evaluation(3.0, 5.0)],
    ]
    for at, history in enumerate(histories):
        (tmp_path / str(at)).mkdir()
        (tmp_path / str(at) / "history.json").write_text(json.dumps(history))
    found = epochs_of([tmp_path / "0", tmp_path / "1"], {"Validation": "eval_loss", "None": "nothing"})
    # Only epochs that all runs have.
    assert list(found) == [1, 2] and list(found[1]) == ["Validation"]
    assert found[1]["Validation"]["mean"] == pytest.approx(3.0) and found[2]["Validation"]["mean"] == pytest.approx(
        2.0
    )
    assert epochs_of([tmp_path / "none"], {"Validation": "eval_loss"}) == {}


def test_epochs_stand_below_the_table_with_the_published_ones(tmp_path) -> None:
    published = [{"Rate": "slow", "Weights": "none", "Epoch": at, "Validation": at + 0.5} for at in (1, 2)]
    path = save(
        tmp_path,
        epochs={"Validation": "eval_loss"},
        published=[*published, {"Rate": "slow", "Weights": "none", "Accuracy": 0.5}],
        scales={"small": {"seeds": 0}},
    )
    table = load_table(path, "small", {})
    assert table.cells[0].published == {"Accuracy": 0.5}
    runs = runs_of(table, tmp_path)
    finish(runs[0], 0.4)
    (runs[0].folder / "history.json").write_text(json.dumps([evaluation(1.0, 2.0)]))
    results = collect(table, runs)
    assert epoch_lines(table, results)[-2:] == [
        "| slow | none | 1 | 2.000 | 1.500 |",
        "| slow | none | 2 |  | 2.500 |",
    ]
    assert mean_lines(table, results) == []
    write_table(tmp_path, table, results)
    assert len(list(csv.DictReader((tmp_path / "epochs.csv").open()))) == 2
    with pytest.raises(UserError, match="unknown axis or measure 'Validatoin', did you mean 'Validation'"):
        wrong = [{"Rate": "slow", "Epoch": 1, "Validatoin": 1.0}]
        load_table(save(tmp_path, epochs={"Validation": "eval_loss"}, published=wrong), "small", {})


def test_whatever_a_smoke_test_writes_says_that_it_is_not_comparable(tmp_path) -> None:
    scales = {"scales": {"smoke": {"seeds": 1}}, "epochs": {"Loss": "eval_loss"}}
    table = load_table(save(tmp_path, **(MEANS | scales)), "smoke", {})
    runs = runs_of(table, tmp_path)
    for run in runs:
        finish(run, 0.5)
        (run.folder / "history.json").write_text(json.dumps([{"eval_loss": 1.0, "epoch": 1.0}]))
    paths = {path.name: path for path in write_table(tmp_path, table, collect(table, runs))}
    assert r"\caption{Two rates \& two weights (smoke test, not comparable)" in paths["table.tex"].read_text()
    assert "not comparable" in paths["table.md"].read_text()
    for name in ("table.csv", "means.csv", "epochs.csv"):
        with open(paths[name], newline="") as file:
            assert {row["comparable"] for row in csv.DictReader(file)} == {"False"}, name
