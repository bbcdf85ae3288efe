"""The dashboard without a browser: what is collected, what is compared, what is refused, what the page may hold."""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from opinionlm.config.chosen_metric import direction
from opinionlm.errors import UserError, run_script
from opinionlm.evaluation.significance import Difference
from opinionlm.experiments.dashboard import methods as methods_module
from opinionlm.experiments.dashboard import payload as payload_module
from opinionlm.experiments.dashboard.__main__ import main
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.experiments.dashboard.page import ASSETS, SCRIPTS, embedded_json, render
from opinionlm.experiments.dashboard.payload import build_payload
from opinionlm.experiments.dashboard.predictions import read_predictions
from opinionlm.utils.files import write_csv
from tests.experiments.run_folders import (
    LEAVES,
    posts,
    write,
    write_answering_run,
    write_prepared,
    write_run,
    write_similarity_run,
)


def embedded(page: str) -> dict:
    """The data inside a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1))


def test_a_run_is_read_whole(tmp_path) -> None:
    write_run(tmp_path / "grid" / "cell", seed=3, macro_f1=0.5)
    write_prepared(tmp_path / "data" / "tiny-ffff")
    [group] = build_payload(collect(tmp_path))["groups"]
    [run] = group["runs"]
    assert (run["name"], group["dataset"], group["task"]) == ("grid/cell", "tiny", "sequence")
    assert group["labels"] == ["noise", "negative", "question"]
    assert run["metrics"]["test.macro_f1"] == 0.5 and run["metrics"]["cost.train_seconds"] == 30
    assert run["intervals"]["test.macro_f1"] == pytest.approx([0.45, 0.54])
    assert "test.macro_f1_ci95" not in run["metrics"]
    assert len(run["curves"]["loss"]) == 30 and [step for step, _ in run["curves"]["eval_macro_f1"]] == [10, 20, 30]
    split = run["splits"]["test"]
    confusion = split["confusion"]
    assert sum(map(sum, confusion)) == split["rows"] == 60
    assert sum(confusion[i][i] for i in range(3)) == 60 - split["wrong"]
    confidences = [confidence for _, _, confidence in split["mistakes"]]
    assert confidences == sorted(confidences, reverse=True) and len(confidences) == split["wrong"]
    rows = group["rows"]["test"]
    assert all(rows[place]["gold"] != predicted for place, predicted, _ in split["mistakes"])
    [report] = group["reports"]
    assert report["totals"] == {"in": 230, "kept": 220, "rejected": 10}
    assert report["steps"] == [("copies", 230, 3, 0, 10, 220)]
    assert report["rejected"][0][1] == "a copy of an earlier post"


def test_one_run_folder_alone(tmp_path) -> None:
    [run] = collect(write_run(tmp_path / "alone")).runs
    assert run.name == "alone"


def test_different_data_and_tasks_are_never_compared(tmp_path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    write_run(tmp_path / "other-posts", rows=posts(30))
    write_run(tmp_path / "other-name", dataset="configs/datasets/another.yaml")
    write_similarity_run(tmp_path / "pairs", pearson=0.8)
    groups = build_payload(collect(tmp_path))["groups"]
    members = [{run["name"] for run in group["runs"]} for group in groups]
    assert members[0] == {"a", "b"}
    assert sorted(map(sorted, members[1:])) == [["other-name"], ["other-posts"], ["pairs"]]
    pairs = next(group for group in groups if group["task"] == "similarity")
    assert pairs["main"] == "pearson" and pairs["runs"][0]["splits"]["test"]["confusion"] is None
    rows, mistakes = pairs["rows"]["test"], pairs["runs"][0]["splits"]["test"]["mistakes"]
    assert [rows[place]["id"] for place, _, _ in mistakes] == ["a", "b"], "the furthest off comes first"


def test_written_answers_are_shown_as_predictions(tmp_path) -> None:
    write_answering_run(tmp_path / "answers")
    collection = collect(tmp_path)
    [group] = build_payload(collection)["groups"]
    assert not collection.runs[0].warnings
    assert (group["task"], group["main"]) == ("qa", "f1")
    [(place, predicted, _)] = group["runs"][0]["splits"]["test"]["mistakes"]
    assert (group["rows"]["test"][place]["gold"], predicted) == ("coins", "")


def test_an_answer_that_is_no_list_is_never_shown_as_right(tmp_path) -> None:
    table = tmp_path / "test.csv"
    table.write_text('id,gold,predicted\na,[],\nb,[],[]\nc,"[""noise""]","[""noise""]"\n')
    found = read_predictions(table, ["noise"])
    assert found.wrong == {"a"}
    # The page calls right what reads alike.
    assert [row.gold == row.predicted for row in found.sample] == [False, True, True]


def test_an_ensemble_is_no_seed_and_an_older_run_lacks_its_total(tmp_path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"many-seed{seed}", seed=seed, macro_f1=0.5 + seed / 10)
    folder = write_run(tmp_path / "many-ensemble", seed=42, macro_f1=0.9)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["train"] = {"members": 2, "steps": 60}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    newer = write_run(tmp_path / "newer", seed=3, learning_rate=0.1)
    cost = {"train_seconds": 5.0, "cache_seconds": 0.0, "cache_splits_reused": 3, "total_seconds": 6.0}
    (newer / "metrics.json").write_text(json.dumps(json.loads((newer / "metrics.json").read_text()) | {"cost": cost}))
    [group] = build_payload(collect(tmp_path))["groups"]
    family = next(method for method in group["methods"] if len(method["runs"]) > 1)
    assert family["seeds"] == [1, 2] and family["metrics"]["test.macro_f1"][0] == pytest.approx(0.65)
    ensemble = next(method for method in group["methods"] if method["members"] == 2)
    assert ensemble["runs"] == ["many-ensemble"] and ensemble["metrics"]["test.macro_f1"] == [0.9, None, None]
    runs = {run["name"]: run for run in group["runs"]}
    assert [runs[name]["members"] for name in ("many-seed1", "many-ensemble")] == [None, 2]
    # What an older run does not know is not there, so that the page shows a blank and no 0.
    assert "cost.total_seconds" not in runs["many-seed1"]["metrics"]
    assert runs["newer"]["metrics"]["cost.total_seconds"] == 6.0


def test_runs_that_differ_by_seed_only(tmp_path) -> None:
    values = {1: 0.5, 2: 0.6, 3: 0.64}
    for seed, value in values.items():
        write_run(tmp_path / f"lora-seed{seed}", seed=seed, macro_f1=value, output_dir=f"out{seed}")
    write_run(tmp_path / "lora-seed3-again", seed=3, macro_f1=0.64)
    write_run(tmp_path / "other", seed=4, macro_f1=0.9, learning_rate=0.1)
    [group] = build_payload(collect(tmp_path))["groups"]
    family, other = group["methods"]
    assert (family["name"], family["seeds"], family["best"]) == ("lora", [1, 2, 3], "lora-seed3")
    assert (other["runs"], other["metrics"]["test.macro_f1"]) == (["other"], [0.9, None, None])
    mean, deviation, interval = family["metrics"]["test.macro_f1"]
    assert mean == pytest.approx(statistics.mean(values.values()))
    assert deviation == pytest.approx(statistics.stdev(values.values()), rel=1e-5)
    half = 4.302653 * statistics.stdev(values.values()) / 3**0.5
    assert interval == pytest.approx([mean - half, mean + half], rel=1e-4)
    assert group["varying"] == ["learning_rate", "seed"]


def test_methods_are_tested_against_the_best_on_the_same_texts(tmp_path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"good-seed{seed}", seed=seed, macro_f1=0.9, share_right=0.95)
        write_run(tmp_path / f"bad-seed{seed}", seed=seed, macro_f1=0.3, share_right=0.4, adaptation="lora")
    write_run(tmp_path / "elsewhere", rows=posts(30), macro_f1=0.99)
    collection = collect(tmp_path)
    group = build_payload(collection)["groups"][0]
    good, bad = sorted(group["methods"], key=lambda method: -method["metrics"]["test.macro_f1"][0])
    assert good["difference"] is None and [method["name"] for method in (good, bad)] == ["good", "bad"]
    value, low, high, p_value = bad["difference"]
    scores = {}
    for run in collection.runs:
        summary = run.predictions["test"]
        scores[run.name] = f1_score(summary.gold, summary.predicted, average="macro")
    expected = [(scores[f"{name}-seed1"] + scores[f"{name}-seed2"]) / 2 for name in ("bad", "good")]
    assert value == pytest.approx(expected[0] - expected[1], abs=1e-5)
    assert low < value < high < 0 and p_value < 0.01


def test_scorers_of_pairs_are_tested_against_the_best(tmp_path) -> None:
    draw = np.random.default_rng(3)
    gold = draw.uniform(0, 5, 200)
    header, scores = ["id", "platform", "text", "text_pair", "gold", "predicted"], {}
    for noise, name in ((0.5, "good"), (3.0, "bad")):
        folder = write_similarity_run(tmp_path / name, 0.0)
        predicted = gold + draw.normal(0, noise, 200)
        rows = [[row, "", "a", "b", gold[row], predicted[row]] for row in range(200)]
        write_csv(folder / "predictions" / "test.csv", header, rows)
        scores[name] = float(np.corrcoef(gold, predicted)[0, 1])
        metrics = {"test": {"pearson": scores[name]}, "cost": {"train_seconds": 3.0}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "config.yaml").write_text(
            f"task: similarity\ndataset: pairs.yaml\nseed: 1\nlearning_rate: {noise}\n"
        )
    [group] = build_payload(collect(tmp_path))["groups"]
    found = {method["name"]: method["difference"] for method in group["methods"]}
    assert group["main"] == "pearson" and found["good"] is None
    value, low, high, p_value = found["bad"]
    assert value == pytest.approx(scores["bad"] - scores["good"], abs=1e-5) and low < value < high < 0 < 0.05 - p_value
    (tmp_path / "bad" / "predictions" / "test.csv").write_text(
        "id,platform,text,text_pair,gold,predicted\na,,b,c,x,y\n"
    )
    with open(tmp_path / "good" / "predictions" / "test.csv", "a") as file:
        file.write("b,,x")
    [*groups] = build_payload(collect(tmp_path))["groups"]
    assert all(method["difference"] is None for group in groups for method in group["methods"])


def test_p_values_are_corrected_for_the_number_of_methods(tmp_path, monkeypatch) -> None:
    raw = {"second": 0.02, "third": 0.03}
    for number, name in enumerate(["first", *raw]):
        write_run(tmp_path / name, macro_f1=0.9 - number / 10, learning_rate=number + 1.0)
    values = iter(raw.values())
    monkeypatch.setattr(methods_module, "score_difference", lambda *given: Difference(-0.1, -0.2, 0.0, next(values)))
    [group] = build_payload(collect(tmp_path))["groups"]
    found = {method["name"]: method["difference"] for method in group["methods"]}
    assert found["first"] is None
    # Holm: the smaller one twice, and the larger one no less than that.
    assert [found[name][3] for name in raw] == [0.04, 0.04]


def test_answers_tell_what_flipped(tmp_path, monkeypatch) -> None:
    write_run(tmp_path / "a", share_right=0.5)
    write_run(tmp_path / "b", share_right=0.8, seed=2)
    [group] = build_payload(collect(tmp_path))["groups"]
    for run in group["runs"]:
        split = run["splits"]["test"]
        assert (
            sum(answer != gold for answer, gold in zip(split["answers"], group["gold"], strict=True)) == split["wrong"]
        )
        for place, predicted, _ in split["mistakes"]:
            at = group["rows"]["test"][place]["at"]
            assert group["labels"][split["answers"][at]] == predicted
            assert group["labels"][group["gold"][at]] == group["rows"]["test"][place]["gold"]
    monkeypatch.setattr(payload_module, "MOST_ANSWERS", 100)
    [group] = build_payload(collect(tmp_path))["groups"]
    assert group["gold"] is None and "answers" not in group["runs"][0]["splits"]["test"]


def test_a_flat_label_set_has_no_levels(tmp_path) -> None:
    flat = write_run(tmp_path / "flat")
    (flat / "labels.json").write_text(json.dumps(LEAVES))
    write_run(tmp_path / "tree", dataset="configs/datasets/another.yaml")
    groups = {group["runs"][0]["name"]: group for group in build_payload(collect(tmp_path))["groups"]}
    assert not [name for name in groups["flat"]["runs"][0]["metrics"] if "level" in name]
    assert groups["flat"]["runs"][0]["metrics"]["test.macro_f1"] == 0.6 and groups["flat"]["parents"] == []
    assert groups["tree"]["runs"][0]["metrics"]["test.level1_macro_f1"] == pytest.approx(0.7)
    assert groups["tree"]["parents"] == [[], ["subjective"], ["subjective"]]


def test_mistakes_that_runs_share(tmp_path) -> None:
    write_run(tmp_path / "right", share_right=1.0)
    write_run(tmp_path / "wrong", share_right=0.0)
    write_run(tmp_path / "wrong-too", share_right=0.0, seed=2)
    [group] = build_payload(collect(tmp_path))["groups"]
    assert {tuple(row["wrongRuns"]) for row in group["rows"]["test"]} == {(2, 3)}


@pytest.mark.parametrize(
    ("file", "content", "state", "reason"),
    [
        ("metrics.json", None, "unfinished", "still running, or stopped"),
        ("metrics.json", b'{"test": {"macro', "damaged", "metrics.json cannot be read"),
        ("metrics.json", b"[1, 2]", "damaged", "holds no mapping"),
        ("metrics.json", b'{"test": {"macro_f1": NaN}}', "damaged", "holds no numbers"),
        ("metrics.json", b'{"a":' * 100_000, "damaged", "metrics.json cannot be read"),
        ("config.yaml", None, "damaged", "config.yaml cannot be read"),
        ("config.yaml", b"\xff\xfe\x00a", "damaged", "config.yaml cannot be read"),
        ("config.yaml", b"a: [1", "damaged", "config.yaml cannot be read"),
        ("environment.json", b"{", "damaged", "environment.json cannot be read"),
        ("history.json", b"{}", "warned", "history.json holds no list"),
        ("labels.json", b"[[]]", "warned", "labels.json cannot be read"),
        ("predictions/test.csv", b"id,text\na,b\n", "warned", "the columns gold and predicted are missing"),
        ("predictions/test.csv", b"id,gold,predicted\na,noise", "warned", "row 1 is cut off"),
        ("predictions/test.csv", b"id,gold,predicted\n", "warned", "holds no rows"),
        ("predictions/test.csv", b"gold,predicted\n\xff\xff,a\n", "warned", "cannot be read"),
        ("predictions/test.csv", b"gold,predicted\nnowhere,noise\n", "warned", "is not in the label tree"),
        ("predictions/test.csv", b"gold,predicted,confidence\nnoise,noise,x\n", "warned", "cannot be read"),
    ],
)
def test_damage_is_named_and_stops_nothing(tmp_path, capsys, file, content, state, reason) -> None:
    write_run(tmp_path / "whole")
    damaged = write_run(tmp_path / "hurt") / file
    damaged.unlink() if content is None else damaged.write_bytes(content)
    main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert reason in printed and "hurt" in printed
    data = embedded((tmp_path / "dashboard.html").read_text(encoding="utf-8"))
    runs = {run["name"]: run for group in data["groups"] for run in group["runs"]}
    if state == "warned":
        assert reason in runs["hurt"]["warnings"][0] and not data["unusable"]
    else:
        assert set(runs) == {"whole"}
        [entry] = data["unusable"]
        assert (entry["name"], entry["state"]) == ("hurt", state) and reason in entry["reason"]


def test_odd_content_is_shown_all_the_same(tmp_path) -> None:
    run = write_run(tmp_path / "odd")
    (run / "config.yaml").write_text("a: &a [*a]\nb: {1: x, y: 2}\nc: 2026-01-01\nd: .nan\nseed: null\n")
    metrics = '{"accuracy": 0.5, "deep": {"er": {"f1": 0.25}}, "flag": true, "note": "x", "huge": 1%s, "inf": 1e999}'
    (run / "metrics.json").write_text(metrics % ("0" * 400))
    write(
        run / "history.json", [{"step": "x", "loss": 1}, {"step": 1, "loss": None}, {"step": 2, "loss": float("nan")}]
    )
    write_run(tmp_path / "plain")
    data = embedded(render(build_payload(collect(tmp_path))))
    [odd] = [run for group in data["groups"] for run in group["runs"] if run["name"] == "odd"]
    assert odd["metrics"] == {"accuracy": 0.5, "deep.er.f1": 0.25}
    assert odd["curves"] == {} and len(odd["warnings"]) == 2


def test_only_damaged_folders_still_give_a_page(tmp_path) -> None:
    (write_run(tmp_path / "hurt") / "metrics.json").unlink()
    main([str(tmp_path)])
    assert embedded((tmp_path / "dashboard.html").read_text())["groups"] == []


def test_folders_of_others_are_no_runs(tmp_path) -> None:
    write_run(tmp_path / "run")
    for place in ("wandb/offline-run-1/files", ".hidden", "run/best", "grid/cell"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").write_text("a: 1")
    write_prepared(tmp_path / "data" / "tiny")
    found = collect(tmp_path)
    assert [run.name for run in found.runs] == ["run"] and [entry.name for entry in found.unusable] == ["grid/cell"]


@pytest.mark.parametrize("damage", ["report", "manifest", "none"])
def test_data_report_may_be_damaged_or_elsewhere(tmp_path, damage) -> None:
    elsewhere = tmp_path / "elsewhere" / ("tiny-" + "f" * 12)
    write_prepared(elsewhere)
    write_run(tmp_path / "outputs" / "run", prepared_dir=str(elsewhere.parent))
    if damage == "report":
        (elsewhere / "report.json").write_text('{"totals": 3}')
    if damage == "manifest":
        (elsewhere / "dataset.json").write_text("{")
    [group] = build_payload(collect(tmp_path / "outputs"))["groups"]
    if damage == "manifest":
        assert group["reports"] == []
    else:
        assert ("cannot be read" in group["reports"][0]["warnings"][0]) == (damage == "report")
        assert group["reports"][0]["rows"]["test"] == 60


def test_nothing_to_show_ends_with_one_line(tmp_path, capsys, monkeypatch) -> None:
    for arguments, reason in (
        ([str(tmp_path)], "holds no run folder"),
        ([str(tmp_path / "absent")], "no such folder"),
        ([], "command line"),
    ):
        monkeypatch.setattr(sys, "argv", ["dashboard", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run_script(main)
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_old_page_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch) -> None:
    write_run(tmp_path / "runs" / "a")
    page = tmp_path / "new" / "page.html"
    main([str(tmp_path / "runs"), "--output", str(page)])
    first = page.read_bytes()
    write_run(tmp_path / "runs" / "b")

    def no_replace(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", no_replace)
        with pytest.raises(UserError, match="cannot write"):
            main([str(tmp_path / "runs"), "--output", str(page)])
    assert page.read_bytes() == first
    main([str(tmp_path / "runs"), "--output", str(page)])
    assert page.read_bytes() != first
    with pytest.raises(UserError, match="is a folder"):
        main([str(tmp_path / "runs"), "--output", str(tmp_path)])


def test_equal_folders_give_equal_pages(tmp_path) -> None:
    for name in ("b", "a", "c"):
        write_run(tmp_path / name, seed=ord(name))
    assert render(build_payload(collect(tmp_path))) == render(build_payload(collect(tmp_path)))


HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> \u2028 & {{script}} {{data}}"


def test_nothing_in_the_data_becomes_markup(tmp_path) -> None:
    rows = [("</script>", HOSTILE, HOSTILE, "noise"), *posts(9)]
    write_run(tmp_path / "<b>run", rows=rows, share_right=0.0, model_name_or_path=HOSTILE)
    page = render(build_payload(collect(tmp_path)))
    assert page.count("</script") == 2 and page.count("<script") == 2 and "<img" not in page and "<b>" not in page
    [group] = embedded(page)["groups"]
    assert group["common"]["model_name_or_path"] == HOSTILE
    assert any(row["text"] == HOSTILE and row["platform"] == HOSTILE for row in group["rows"]["test"])
    assert group["runs"][0]["name"] == "<b>run"


def test_text_that_utf8_cannot_hold() -> None:
    assert json.loads(embedded_json({"text": "a\ud800\x00b"})) == {"text": "a?\x00b"}


def test_many_runs_stay_small(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(payload_module, "MOST_PREDICTIONS", 400)
    long = [(identity, platform, f"{text} " + "word " * 400, gold) for identity, platform, text, gold in posts(300)]
    for number in range(20):
        write_run(tmp_path / f"run{number}", seed=number, rows=long, share_right=0.3)
    payload = build_payload(collect(tmp_path))
    [group] = payload["groups"]
    splits = [split for run in group["runs"] for split in run["splits"].values()]
    assert sum(len(split["mistakes"]) + len(split["sample"]) for split in splits) <= 400
    assert all(split["mistakes"] and split["sample"] for split in splits)
    assert max(len(row["text"]) for row in group["rows"]["test"]) <= payload["limits"]["characters"]
    assert len(embedded_json(payload)) < 400_000


def test_runs_are_shown_by_the_score_that_chose_their_checkpoints(tmp_path) -> None:
    for seed, name in ((1, "eval_accuracy"), (2, "accuracy")):
        write_run(tmp_path / f"run-seed{seed}", seed=seed, metric_for_best_model=name)
    [group] = build_payload(collect(tmp_path))["groups"]
    assert group["main"] == "accuracy"
    write_run(tmp_path / "other", seed=3, metric_for_best_model=None)
    [group] = build_payload(collect(tmp_path))["groups"]
    assert group["main"] == "macro_f1", "chosen by different scores"


def test_long_curves_are_thinned() -> None:
    points = payload_module.curves([{"step": step, "loss": float(step)} for step in range(5000)])["loss"]
    assert len(points) == payload_module.MOST_POINTS and points[0] == [0, 0.0] and points[-1] == [4999, 4999.0]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("macro_f1", "higher"),
        ("entity_f1", "higher"),
        ("exact_match", "higher"),
        ("rougeL", "higher"),
        ("tokens_per_second", "higher"),
        ("pearson", "higher"),
        ("loss", "lower"),
        ("ece", "lower"),
        ("mistake_severity", "lower"),
        ("perplexity", "lower"),
        ("invalid_rate", "lower"),
        ("train_seconds", "lower"),
        ("trainable_parameters", "lower"),
        ("total_parameters", ""),
        ("epochs", ""),
        ("level1_macro_f1", "higher"),
        ("f1_loss", "higher"),
        ("recall_human error", "higher"),
    ],
)
def test_which_way_is_better(metric, expected) -> None:
    assert direction(metric) == expected


def test_assets_build_no_markup_and_ask_for_nothing() -> None:
    assert {path.name for path in ASSETS.glob("*.js")} == set(SCRIPTS)
    for name in SCRIPTS:
        script = (ASSETS / name).read_text()
        assert len(script.splitlines()) < 400
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|fetch\(|XMLHttp|import\b", script
        )
        assert set(re.findall(r"https?://[^\"' ]*", script)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(|@import|https?:", (ASSETS / "page.css").read_text())
    assert not re.search(r"https?:|src=", (ASSETS / "page.html").read_text())


# Simulated vision on linear sRGB, after Machado, Oliveira and Fernandes (2009), full severity.
VISIONS = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> np.ndarray:
    """Linear sRGB of ``rrggbb``."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_stay_apart(vision) -> None:
    pairs = re.findall(r"--series-\d: light-dark\(#(\w+), #(\w+)\)", (ASSETS / "page.css").read_text())
    assert len(pairs) == 8
    for colours in zip(*pairs, strict=True):
        seen = [lab(np.array(VISIONS[vision]) @ linear(colour)) for colour in colours]
        assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) >= 25
