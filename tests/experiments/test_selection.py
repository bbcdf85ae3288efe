"""The cells of a table that `--only` names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import reproduce
from opinionlm.errors import UserError
from opinionlm.experiments import grid_runner, grid_tuning
from opinionlm.experiments.grid import Table, load_table
from opinionlm.experiments.selection import selected_cells
from opinionlm.scripts.reproduce import files_text
from tests.experiments.test_grid import SPEC, TAUGHT, finish, save


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that are started; each is finished at once."""
    names: list[str] = []

    def pretend(self: grid_runner.Children, run: grid_runner.Run, environment: object, force: bool) -> None:
        names.append(run.folder.name)
        finish(run, 0.5)
        (run.folder / "config.yaml").write_text(yaml.safe_dump(run.options()))

    monkeypatch.setattr(grid_runner.Children, "run", pretend)
    monkeypatch.setattr(reproduce.main.__module__ + ".report", lambda folder, table, runs: [])
    return names


def test_dozens_of_comparisons_are_counted(tmp_path) -> None:
    comparisons = [tmp_path / "comparisons" / name for name in ("a.md", "a.csv")]
    assert files_text(tmp_path, [tmp_path / "table.md", *comparisons]) == "table.md, comparisons/ (2 files)"


def cells(folder: Path, given: list[str], **changes) -> set[str]:
    table = load_table(save(folder, **changes), "smoke", {})
    return set(selected_cells(given, table.axes, table.cells, "mine.yaml"))


def test_labels_of_one_axis_are_alternatives_and_axes_go_together(tmp_path) -> None:
    everything = {"slow-none", "slow-inverse", "fast-none", "fast-inverse"}
    assert cells(tmp_path, []) == everything
    assert cells(tmp_path, ["Rate=fast"]) == {"fast-none", "fast-inverse"}
    assert cells(tmp_path, ["Rate=fast", "Weights=none"]) == {"fast-none"}
    assert cells(tmp_path, ["Rate=fast", "Rate=slow"]) == everything


def test_a_label_may_hold_equals_signs_and_a_cell_without_the_axis_has_all_its_labels(tmp_path) -> None:
    weights = {"w=1": {"class_weights": "none"}, "w=2": {"class_weights": "inverse_frequency"}}
    rates = SPEC["axes"]["Rate"] | {"words": {"engine": "tfidf", "without": "Weights"}}
    changes = {"axes": {"Rate": rates, "Weights": weights}, "published": []}
    changes |= {"options": {"dataset": "configs/datasets/sample.yaml", "report_to": "none"}}
    assert cells(tmp_path, ["Weights=w=1"], **changes) == {"slow-w_1", "fast-w_1", "words-any"}


def test_what_labels_texts_for_a_cell_is_chosen_with_it(tmp_path) -> None:
    assert cells(tmp_path, ["Labels=Soft ones", "Weights=none"], **TAUGHT) == {"soft_ones-none", "some-none"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["fast"], "--only fast: must be AXIS=LABEL, as in --only 'Rate=slow'"),
        (["rate=fast"], "--only rate=fast: mine.yaml has no axis 'rate', did you mean 'Rate'?"),
        (["Rate=fasst"], "--only Rate=fasst: 'Rate' of mine.yaml has no label 'fasst', did you mean 'fast'?"),
        (["Rate="], "--only Rate=: 'Rate' of mine.yaml has no label ''"),
    ],
)
def test_what_no_cell_has_is_named(given: list[str], message: str, tmp_path) -> None:
    with pytest.raises(UserError) as caught:
        cells(tmp_path, given)
    assert str(caught.value).startswith(message)


def test_the_chosen_cells_run_and_others_stay_to_do(tmp_path, started, capsys) -> None:
    path = save(tmp_path)
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out")]
    assert reproduce.main([*command, "--only", "Rate=fast", "Weights=none"]) == 0
    assert started == ["fast-none-seed0", "fast-none-seed1"]
    assert "1 of 4 cells × 2 seeds, 2 runs to do" in capsys.readouterr().out
    assert reproduce.main([*command, "--dry_run", "--only", "Weights=inverse"]) == 0
    printed = capsys.readouterr().out
    assert "slow-inverse: rows" in printed and "slow-none" not in printed
    started.clear()
    # The same table without --only goes on with the rest.
    assert reproduce.main(command) == 0
    assert len(started) == 6 and "4 cells × 2 seeds, 6 runs to do" in capsys.readouterr().out


def test_rows_that_are_not_chosen_are_not_tuned_and_tuned_ones_are_found_again(tmp_path, started, monkeypatch) -> None:
    """Else their finished runs would have options that the table does not ask for."""
    tuned: list[set[str]] = []

    def note(table: Table, names: set[str], configs: object, source: Path, folder: Path, jobs: int) -> Table:
        tuned.append(set(names))
        return table

    monkeypatch.setattr(grid_tuning, "tune_rows", note)
    weights = {"Weights": SPEC["axes"]["Weights"]}
    axes = {"Way": {"full": {"adaptation": "full"}, "head": {"adaptation": "head_only"}}, **weights}
    path = save(tmp_path, axes=axes, published=[], scales={"smoke": {"seeds": 0, "tune": {"trials": 2}}})
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out"), "--only", "Weights=none"]
    assert reproduce.main([*command, "Way=head"]) == 0
    assert reproduce.main([*command, "Way=full"]) == 0
    assert tuned == [{"head-none"}, {"full-none", "head-none"}]
    assert started == ["head-none-seed0", "full-none-seed0"]
