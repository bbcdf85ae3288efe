"""Tables as grids of runs: reading, refusing, running what is missing, rendering."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml

import reproduce
from opinionlm.config.config import Config
from opinionlm.config.parser import read_yaml
from opinionlm.errors import UserError
from opinionlm.experiments import grid_runner
from opinionlm.experiments.data_tables import DataTable, kind_of, load_data_table
from opinionlm.experiments.grid import Scale, Table, load_table
from opinionlm.experiments.grid_runner import check_options, plan_text, require_same_options, runs_of
from opinionlm.experiments.sequence_tables import SequenceTable, load_sequence_table
from opinionlm.experiments.table_figures import bar_figure
from opinionlm.experiments.table_parts import Result
from opinionlm.experiments.tables import collect, latex, markdown, write_table
from opinionlm.runs.lock import locked
from opinionlm.runs.tuning_report import Trial, Tuned
from opinionlm.utils.files import file_sha256

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted((ROOT / "configs" / "tables").glob("*.yaml"))
SPEC = {
    "title": "Two rates & two weights",
    "source": "A paper, Table 1",
    "measures": {"Accuracy": "test.accuracy", "Seconds": "cost.train_seconds"},
    "options": {
        "dataset": "configs/datasets/sample.yaml",
        "max_train_samples": 48,
        "max_eval_samples": 48,
        "max_steps": 2,
        "max_length": 32,
        "report_to": "none",
        "use_cpu": True,
    },
    "axes": {
        "Rate": {"slow": {"learning_rate": "1e-6"}, "fast": {"learning_rate": 1e-3}},
        "Weights": {"none": {"class_weights": "none"}, "inverse": {"class_weights": "inverse_frequency"}},
    },
    "scales": {"smoke": {"seeds": "0..1"}, "small": {"axes": {"Rate": {"slow": {"learning_rate": 1e-6}}}}},
    "published": [{"Rate": "slow", "Weights": "none", "Accuracy": 0.5}],
}


def save(folder: Path, **changes) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(SPEC | changes, sort_keys=False))
    return path


def scales_of(path: Path) -> list[Scale]:
    """The scales of a table; one of no paper may leave `paper` out."""
    return [scale for scale in get_args(Scale) if scale in read_yaml(path)["scales"]]


@cache
def shipped_table(path: Path, scale: Scale) -> Table | DataTable | SequenceTable:
    """A table of configs/tables, read once for all tests of a process."""
    match kind_of(path):
        case "data":
            return load_data_table(path, scale, {})
        case "sequences":
            return load_sequence_table(path, scale, {})
        case _:
            return load_table(path, scale, {})


@cache
def checked_cells(path: Path, scale: Scale) -> dict[str, Config]:
    """The config of every cell of such a table of runs."""
    return check_options(runs_of(shipped_table(path, scale), Path("nowhere")), path)


def test_an_option_of_the_command_line_that_an_axis_sets_is_named(tmp_path):
    axes = SPEC["axes"] | {"Length": {"short": {"max_length": 16}, "as it is": {}}}
    table = load_table(save(tmp_path, axes=axes, published=[]), "smoke", {"learning_rate": 0.5, "max_length": 24})
    assert {cell.options["max_length"] for cell in table.cells} == {16, 24}
    assert len(table.kept["learning_rate"]) == 8
    assert table.kept["max_length"] == (
        "slow-none-short",
        "slow-inverse-short",
        "fast-none-short",
        "fast-inverse-short",
    )
    plan = plan_text(table, runs_of(table, tmp_path))
    assert "--learning_rate: not for all 8 cells, which have their own from an axis" in plan
    assert "--max_length: not for slow-none-short, " in plan
    assert load_table(save(tmp_path), "smoke", {"max_length": 24}).kept == {}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_shipped_table_is_valid_at_every_scale(path: Path) -> None:
    for scale in scales_of(path):
        table = shipped_table(path, scale)
        match table:
            case DataTable():
                assert (ROOT / table.dataset).is_file()
                continue
            case SequenceTable():
                assert all((ROOT / config.data.dataset).is_file() for config in table.tasks.values())
                continue
        assert checked_cells(path, scale)
        assert table.cells and table.seeds
        for cell in table.cells:
            assert (ROOT / cell.options["dataset"]).is_file()
            bundled = Path(cell.options["dataset"]).name.startswith("sample")
            assert bundled or scale != "smoke", "scale smoke runs on bundled data: configs/datasets/sample….yaml"
            template = cell.options.get("prompt_template", "auto")
            assert template == "auto" or (ROOT / template).is_file()


def test_cells(tmp_path) -> None:
    table = load_table(save(tmp_path), "smoke", {"max_length": 16, "learning_rate": 9.0})
    assert [cell.name for cell in table.cells] == ["slow-none", "slow-inverse", "fast-none", "fast-inverse"]
    assert table.seeds == (0, 1)
    # The command line wins over the table, an axis over both.
    assert table.cells[2].options["max_length"] == 16 and table.cells[2].options["learning_rate"] == 1e-3
    assert table.cells[0].published == {"Accuracy": 0.5} and table.cells[1].published == {}
    assert [cell.name for cell in load_table(save(tmp_path), "small", {}).cells] == ["slow-none", "slow-inverse"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": {}}, "unknown key 'axis', did you mean 'axes'"),
        ({"axes": {}}, "axes: is missing"),
        ({"scales": {"small": {"axes": {"Rates": {}}}}}, "unknown axis 'Rates', did you mean 'Rate'"),
        ({"scales": {"smoke": {}}}, "has no scale 'small'"),
        ({"published": [{"Rate": "slow", "Acuracy": 1}]}, "unknown axis or measure 'Acuracy', did you mean"),
        ({"axes": {"Rate": {"a": {"seed": 3}}}}, "seed: is set by the grid itself"),
        ({"axes": {"Rate": {"a": {"dropout": 3}}}}, "cell 'a': axes.Rate.a: dropout: unknown option"),
        ({"axes": {"Rate": {"a": {"learning_rate": -1}}}}, "cell 'a': learning_rate: -1.0 must be positive"),
        ({"axes": {"Rate": {"a": {}, "b": {}}}}, "the cells 'a' and 'b' are the same run"),
        ({"script": "predict.py"}, "'predict.py' is not one of"),
        ({"scales": {"small": {"seeds": "x"}}}, "seeds: 'x' must name different whole numbers"),
    ],
)
def test_bad_tables_are_named(changes, message, tmp_path) -> None:
    path = save(tmp_path, **({"scales": {"small": {}}, "published": []} | changes))
    with pytest.raises(UserError) as caught:
        table = load_table(path, "small", {})
        check_options(runs_of(table, tmp_path), path)
    assert message in str(caught.value) and "\n" not in str(caught.value) and "mine.yaml" in str(caught.value)


def finish(run, accuracy: float) -> None:
    run.folder.mkdir(parents=True)
    stored = run.options() | {"learning_rate": 1e-6, "overwrite": False}
    (run.folder / "config.yaml").write_text(yaml.safe_dump(stored))
    (run.folder / "metrics.json").write_text(
        json.dumps({"test": {"accuracy": accuracy}, "cost": {"train_seconds": 12.0}})
    )


def test_a_mean_over_some_of_the_seeds_is_none(tmp_path) -> None:
    table = load_table(
        save(tmp_path, measures={"Accuracy": "test.accuracy", "Seconds": "cost.total_seconds"}), "smoke", {}
    )
    runs = runs_of(table, tmp_path)
    finish(runs[0], 0.40)
    finish(runs[1], 0.50)
    # The first run is from before totals were kept; then both have one.
    for run, expected in ((runs[1], None), (runs[0], 20.0)):
        path = run.folder / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cost": {"total_seconds": 20.0}}))
        found = collect(table, runs)[0].measured.get("Seconds")
        assert (found is None) if expected is None else found["mean"] == expected


def test_runs_over_other_evaluation_texts_are_not_mixed_in(tmp_path) -> None:
    table = load_table(save(tmp_path), "smoke", {"max_eval_samples": 20})
    runs = runs_of(table, tmp_path)
    finish(runs[0], 0.40)
    (runs[0].folder / "environment.json").write_text("{}")
    configs = check_options(runs, tmp_path)
    with pytest.raises(UserError, match="drew its validation and test texts with its own seed.*--force"):
        require_same_options(runs, configs, force=False)
    (runs[0].folder / "environment.json").write_text('{"evaluation_seed": 42}')
    require_same_options(runs, configs, force=False)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"warmup_steps": 5}])
def test_a_finished_run_has_no_option_that_the_table_has_no_more(options, tmp_path) -> None:
    path = save(tmp_path, options=SPEC["options"] | options)
    runs = runs_of(load_table(path, "smoke", {}), tmp_path)
    finish(runs[0], 0.40)
    require_same_options(runs, check_options(runs, path), force=False)
    runs = runs_of(load_table(save(tmp_path), "smoke", {}), tmp_path)
    with pytest.raises(UserError, match=rf"other options \({next(iter(options))}\)"):
        require_same_options(runs, check_options(runs, path), force=False)


def test_a_finished_run_read_the_files_that_are_there(tmp_path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("id,probability_a\n")
    path = save(tmp_path, options=SPEC["options"] | {"soft_labels": str(labels)})
    runs = runs_of(load_table(path, "smoke", {}), tmp_path)
    configs = check_options(runs, path)
    finish(runs[0], 0.40)
    facts = {"evaluation_seed": 42, "soft_labels_fingerprint": file_sha256(labels)}
    (runs[0].folder / "environment.json").write_text(json.dumps(facts))
    require_same_options(runs, configs, force=False)
    labels.write_text("id,probability_b\n")
    with pytest.raises(UserError, match=r"other options \(soft_labels_fingerprint\)"):
        require_same_options(runs, configs, force=False)


def test_numbers_by_hand(tmp_path) -> None:
    table = replace(load_table(save(tmp_path), "smoke", {}), scale="paper")
    runs = runs_of(table, tmp_path)
    finish(runs[0], 0.40)
    finish(runs[1], 0.50)
    results = collect(table, runs)
    assert results[0].measured["Accuracy"]["mean"] == pytest.approx(0.45)
    assert results[0].measured["Accuracy"]["std"] == pytest.approx(0.0707107, abs=1e-6)
    assert results[0].difference("Accuracy") == pytest.approx(-0.05) and results[1].seeds == 0
    text = markdown(table, results)
    assert "| slow | none | 2/2 | 0.450 ± 0.071 | 0.500 | −0.050 | 12 |" in text and "not comparable" not in text
    assert r"Two rates \& two weights" in latex(table, results) and r"$\pm$" in latex(table, results)
    write_table(tmp_path, table, results)
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and float(rows[0]["mean"]) == pytest.approx(0.45) and rows[2]["mean"] == ""
    assert "6 runs to do; about 1 min of training left (12 s per run so far)" in plan_text(table, runs)
    matrix = markdown(replace(table, layout="matrix"), results)
    assert "| Rate | none | inverse |" in matrix and "| slow | 0.450 ± 0.071 (0.500) |  |" in matrix


def test_a_tuned_row_is_called_as_elsewhere_and_latex_sets_its_label(tmp_path) -> None:
    axes = {"Rate": {"a~b^c": {"learning_rate": 1e-3}}}
    table = load_table(save(tmp_path, axes=axes, published=[]), "smoke", {})
    trial = Trial(0, {"warmup_steps": 0.1}, "complete", 0.5, 1.0)
    tuned = Tuned({"warmup_steps": (0.0, 0.1)}, "macro_f1", True, (trial,))
    table = replace(table, tuned={table.cells[0].name: tuned})
    results = collect(table, runs_of(table, tmp_path))
    assert "| a~b^c | 1 | 0 | 0 |" in markdown(table, results)
    assert r"a\textasciitilde{}b\textasciicircum{}c & 0/2" in latex(table, results)


def test_a_smoke_test_has_no_published_values_beside_it(tmp_path) -> None:
    table = load_table(save(tmp_path), "smoke", {})
    runs = runs_of(table, tmp_path)
    finish(runs[0], 0.40)
    results = collect(table, runs)
    text = markdown(table, results)
    assert "| slow | none | 1/2 | 0.400 | 12 |" in text and "not comparable" in text
    matrix = markdown(replace(table, layout="matrix"), results)
    assert "**Accuracy**" in matrix and "| slow | 0.400 |  |" in matrix
    write_table(tmp_path, table, results)
    with open(tmp_path / "table.csv", newline="") as file:
        assert {(row["published"], row["difference"]) for row in csv.DictReader(file)} == {("", "")}


def test_two_tables_of_one_name_would_write_one_folder(tmp_path) -> None:
    paths = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        paths.append(str(save(folder)))
    with pytest.raises(UserError, match=r"b/mine.yaml: writes the folder of .*a/mine.yaml"):
        reproduce.main([*paths, "--scale", "smoke", "--output_dir", str(tmp_path / "out"), "--dry_run"])


@pytest.mark.slow
def test_grid_runs_what_is_missing_and_survives_a_failure(tmp_path, capsys) -> None:
    axes = {"Rate": {"good": {"learning_rate": 1e-3}, "bad": {"tokenizer_name_or_path": str(tmp_path / "none")}}}
    scales = {"smoke": {"seeds": 3}}
    options = SPEC["options"] | {"prepared_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    path = save(tmp_path, axes=axes, scales=scales, options=options, published=[])
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="cell 'bad': tokenizer_name_or_path: no tokenizer in"):
        reproduce.main([*command, "--dry_run"])
    assert not (tmp_path / "out").exists()
    assert reproduce.main(command) == 1
    printed = capsys.readouterr().out
    assert "good-seed3" in printed and "failed: bad-seed3: exit code 2: error: tokenizer_name_or_path" in printed
    finished = tmp_path / "out" / "mine" / "smoke" / "runs" / "good-seed3" / "metrics.json"
    assert (finished.parent / "best").is_dir() and not (finished.parent / "checkpoints").exists()
    before = finished.stat().st_mtime_ns
    assert reproduce.main(command) == 1  # only the failed one is tried again
    assert finished.stat().st_mtime_ns == before
    assert "not comparable" in (tmp_path / "out" / "mine" / "smoke" / "table.md").read_text()
    with pytest.raises(UserError, match=r"other options \(max_steps\).*--force"):
        reproduce.main([*command, "--max_steps", "1"])


def test_numbers_of_classes_groups_and_published_rows(tmp_path) -> None:
    published = [{"Rate": "slow", "Accuracy": 0.5}, {"Rate": "slow", "Weights": "inverse", "Accuracy": 0.75}]
    measures = {"Accuracy": "test.accuracy", "Recall a": "recall.a", "Precision": "precision.macro", "?": "recall.z"}
    options = SPEC["options"] | {"dataset": "configs/datasets/{Weights}.yaml"}
    path = save(tmp_path, published=published, measures=measures, options=options, compare="Weights")
    table = load_table(path, "smoke", {})
    runs = runs_of(table, tmp_path)
    assert [cell.published.get("Accuracy") for cell in table.cells] == [0.5, 0.75, None, None]
    assert table.cells[1].options["dataset"] == "configs/datasets/inverse.yaml"
    assert runs[0].options()["wandb_group"] == "mine-smoke"
    assert "wandb_tags" not in runs[0].options()
    tracked = runs_of(load_table(path, "smoke", {"report_to": "wandb"}), tmp_path)[0]
    assert tracked.options()["wandb_tags"] == ["A paper", "smoke", "slow", "none"]
    finish(runs[0], 0.4)
    (runs[0].folder / "predictions").mkdir()
    (runs[0].folder / "predictions" / "test.csv").write_text("gold,predicted\na,a\na,b\na,\nb,b\n")
    measured = collect(table, runs)[0].measured
    assert measured["Recall a"]["mean"] == pytest.approx(1 / 3) and "?" not in measured
    assert measured["Precision"]["mean"] == pytest.approx((1 + 0.5) / 2)


def test_estimates(tmp_path) -> None:
    scales = {"smoke": {"seeds": "0..1", "minutes": 3}}
    table = load_table(save(tmp_path, scales=scales), "smoke", {})
    runs = runs_of(table, tmp_path)
    assert "8 runs to do; about 24 min, by experience 3 min per run" in plan_text(table, runs)
    assert "about 12 min with 2 at a time" in plan_text(table, runs, jobs=2)


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_metrics_are_named(content, tmp_path) -> None:
    path = save(tmp_path)
    run = runs_of(load_table(path, "smoke", {}), tmp_path / "out" / "mine" / "smoke")[0]
    run.folder.mkdir(parents=True)
    (run.folder / "metrics.json").write_text(content)
    with pytest.raises(
        UserError, match=r"slow-none-seed0/metrics.json: damaged .*; .* delete .*slow-none-seed0 and run it"
    ):
        reproduce.main([str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out")])


def test_an_unknown_scale_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="has no scale 'huge', only smoke, small"):
        reproduce.main([str(save(tmp_path)), "--scale", "huge"])


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_figures")
def test_a_killed_grid_goes_on_where_it_was(tmp_path, capsys) -> None:
    axes = {"Rate": {"one": {"learning_rate": 1e-4}, "two": {"learning_rate": 1e-3}}}
    options = SPEC["options"] | {"prepared_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    path = save(tmp_path, axes=axes, scales={"smoke": {"seeds": 1}}, options=options, published=[])
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path / "out")]
    folder = tmp_path / "out" / "mine" / "smoke"
    first, second = (folder / "runs" / f"{name}-seed1" for name in ("one", "two"))
    grid = subprocess.Popen([sys.executable, "reproduce.py", *command], cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 300
    while "started   two" not in read(folder / "progress.log") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(grid.pid, signal.SIGKILL)
    grid.wait()
    assert (first / "metrics.json").is_file() and not (second / "metrics.json").exists()
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in first.rglob("*") if file.is_file()}
    assert reproduce.main([*command, "--jobs", "2"]) == 0
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before
    # A config says how it is run, in the way that the table was.
    configs = [read(folder / "cells" / f"{name}-seed1.yaml") for name in ("one", "two")]
    assert configs[0].startswith("# python train_classifier.py --config")
    assert configs[1].startswith("# python -m opinionlm train_classifier --config")
    assert (second / "metrics.json").is_file() and (folder / "bars.png").is_file() and (folder / "bars.svg").is_file()
    lines = read(folder / "progress.log").splitlines()
    assert [line.split()[2:4] for line in lines if "started" in line] == [
        ["started", "one-seed1"],
        ["started", "two-seed1"],
        ["started", "two-seed1"],
    ]
    assert "finished  two-seed1: test macro_f1 " in lines[-1] and lines[-1].endswith("1/1 done")


def read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def test_runs_that_outlive_a_killed_grid_are_waited_for(tmp_path, capfd) -> None:
    """A grid starts a run, dies by SIGKILL, and its run lives on for a second."""
    code = f"""
import os, signal, subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from opinionlm.runs.lock import locked
with locked(Path({str(tmp_path)!r}) / "grid", "still under way here; waiting", inherited=True) as lock:
    subprocess.Popen(["sh", "-c", "sleep 4; touch {tmp_path}/done"], pass_fds=lock)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "done").exists()
    with locked(tmp_path / "grid", "still under way here; waiting"):
        assert (tmp_path / "done").exists()
    said = capfd.readouterr().out
    assert "still under way here; waiting" in said and "its lock is taken over" in said


@pytest.mark.parametrize(("name", "meant"), [("methods_bert_ne", "did you mean 'methods_bert_ner'?"), ("zzz", "")])
def test_a_table_that_is_not_there_is_named(name, meant) -> None:
    with pytest.raises(UserError, match=f"TABLE: no such file: {name}.*; the shipped ones are in") as refused:
        reproduce.main([name])
    assert meant in str(refused.value)


def test_bars_of_scores_below_zero_are_seen(tmp_path) -> None:
    table = load_table(save(tmp_path, published=[]), "smoke", {})
    results = [Result(cell, 1, {"Accuracy": {"mean": -0.02, "std": None, "ci95": None}}) for cell in table.cells]
    axes = bar_figure(table, results, ["Accuracy"]).axes[0]
    assert axes.get_xlim()[0] < -0.02 and all(bar.get_width() == -0.02 for bar in axes.patches)


def test_the_smallest_table_through_the_command_line(tmp_path, capsys) -> None:
    """Also the table about data; the others' smoke scales run outside the tests (docs/tables.md)."""
    command = [str(ROOT / "configs" / "tables" / "opinion_data.yaml"), "--scale", "smoke"]
    # Whatever folder the real data are in: this scale has bundled ones.
    command += ["--output_dir", str(tmp_path), "--prepared_dir", str(tmp_path / "data"), "--data_dir", "nowhere"]
    assert reproduce.main(command) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "opinion_data" / "smoke"
    assert {path.name for path in folder.iterdir()} == {
        "table.md",
        "table.csv",
        "table.tex",
        "class_counts.png",
        "class_counts.svg",
    }
    assert "not comparable" in said and "| noise |" in said and "published |" not in said


def test_a_table_about_data_refuses_options_of_runs_before_it_runs() -> None:
    command = [str(ROOT / "configs" / "tables" / "opinion_data.yaml"), "--scale", "smoke", "--dry_run"]
    with pytest.raises(UserError, match="--learning_rate: a table about data takes only data_dir, prepared_dir"):
        reproduce.main([*command, "--learning_rate", "3"])


@pytest.mark.parametrize(
    "given",
    [["--jobs", "1"], ["--launcher", "slurm", "--slurm", "time=5"], ["--price_per_hour", "1"], ["--force"]],
    ids=lambda given: given[0],
)
def test_how_runs_are_started_is_refused_where_there_are_none(given: list[str], capsys) -> None:
    without = [str(path) for path in sorted((ROOT / "configs" / "tables").glob("*.yaml")) if kind_of(path) != "runs"]
    assert len(without) == 2
    command = ["--scale", "smoke", "--dry_run", *given]
    with pytest.raises(UserError, match=f"{given[0]}: tables without runs .* leave it out"):
        reproduce.main([*without, *command])
    # Beside a table with runs it is read.
    assert reproduce.main([*without, str(ROOT / "configs" / "tables" / "opinion_parameters.yaml"), *command]) == 0


TAUGHT = {
    "axes": {
        "Labels": {"Soft ones": {"teacher": "Some", "soft_label_share": 1.0}, "Some": {"learning_rate": 1e-6}},
        "Weights": {"none": {"class_weights": "none"}, "inverse": {"class_weights": "inverse_frequency"}},
    },
    "scales": {"smoke": {"seeds": "0..1"}},
    "published": [],
}


def test_a_row_learns_from_the_runs_of_another(tmp_path, monkeypatch) -> None:
    table = load_table(save(tmp_path, **TAUGHT), "smoke", {})
    assert [cell.teacher for cell in table.cells] == ["some-none", "some-inverse", None, None]
    runs = runs_of(table, tmp_path / "out")
    check_options(runs, tmp_path / "mine.yaml")
    teacher = tmp_path / "out" / "runs" / "some-inverse-seed1"
    assert runs[3].teacher == teacher and runs[3].options()["soft_labels"] == f"{teacher}-soft_labels.csv"
    commands: list[list[str]] = []

    def pretend(self, command: list[str], log, environment) -> int:
        commands.append(command)
        if command[0] == "self_training":
            return 0 if "some-none" in command[1] else 3
        finish(next(run for run in runs if str(run.config_file.resolve()) == command[-1]), 0.5)
        return 0

    monkeypatch.setattr(grid_runner.Children, "wait_for", pretend)
    failed = grid_runner.run_all(runs, jobs=1, force=False)
    # All teachers first; a student trains only where it got its labels.
    assert [command[0] for command in commands[:4]] == ["train_classifier"] * 4
    assert [command[0] for command in commands[4:]] == [
        *["self_training", "train_classifier"] * 2,
        *["self_training"] * 2,
    ]
    assert sorted(failed) == ["soft_ones-inverse-seed0", "soft_ones-inverse-seed1"]
    assert "exit code 3" in failed["soft_ones-inverse-seed0"]


@pytest.mark.parametrize("teacher", ["None", "Soft ones"])
def test_a_teacher_has_to_be_a_row_without_one(teacher: str, tmp_path) -> None:
    axes = {"Labels": {**TAUGHT["axes"]["Labels"], "Soft ones": {"teacher": teacher, "soft_label_share": 1.0}}}
    with pytest.raises(UserError, match="teacher: '.*' is no cell, or has a teacher itself"):
        load_table(save(tmp_path, **(TAUGHT | {"axes": axes})), "smoke", {})
