"""Runs side by side: shares and F1 by platform and level, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.experiments.answers import read_run
from opinionlm.experiments.changed_texts import read_texts
from opinionlm.experiments.compare import compare_folders, main
from opinionlm.experiments.run_numbers import class_score
from tests.experiments.run_folders import write_run, write_similarity_run

TREE = {"noise": None, "subjective": {"neutral": ["question", "advertisement"], "positive": None}}
GOLD = ["noise", "question", "advertisement", "positive", "noise", "positive", "question", "question"]
PLATFORMS = ["reddit"] * 4 + ["twitter"] * 4


def save_run(folder: Path, predicted: list[str], gold: list[str] = GOLD, finished: bool = True) -> Path:
    (folder / "predictions").mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(Taxonomy.from_tree(TREE).to_lists()))
    with open(folder / "predictions" / "test.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "platform", "text", "gold", "predicted"])
        for index, row in enumerate(zip(PLATFORMS, gold, predicted, strict=True)):
            writer.writerow([f"p{index}", row[0], "text", row[1], row[2]])
    if finished:
        (folder / "metrics.json").write_text("{}")
    return folder


def test_shares_and_scores_by_hand(tmp_path, capsys) -> None:
    one = save_run(tmp_path / "run1", ["noise"] * 4 + ["noise", "positive", "noise", "question"])
    two = save_run(tmp_path / "run2", [*GOLD[:-1], "nonsense"])
    main([str(one), str(two), "--output", str(tmp_path / "both" / "table")])
    printed = capsys.readouterr().out
    assert (tmp_path / "both" / "table.md").read_text() in printed
    with open(tmp_path / "both" / "table.csv", newline="") as file:
        rows = {(row["platform"], row["level"], row["class"]): row for row in csv.DictReader(file)}
    noise = rows["all", "1", "noise"]
    assert float(noise["gold"]) == pytest.approx(2 / 8)
    assert float(noise["run1_share"]) == pytest.approx(6 / 8)
    assert float(noise["run1_f1"]) == pytest.approx(2 * 2 / (6 + 2))
    # Level 2 is among the subjective posts: run 1 calls two posts subjective, one of them positive.
    assert float(rows["all", "2", "positive"]["run1_share"]) == pytest.approx(1 / 2)
    assert float(rows["all", "2", "positive"]["gold"]) == pytest.approx(2 / 6)
    # The answer that is no label counts as a missed question.
    question = rows["twitter", "3", "question"]
    assert float(question["run2_share"]) == 1 and float(question["run2_f1"]) == pytest.approx(2 * 1 / (1 + 2))
    assert rows["reddit", "1", "noise"]["posts"] == "4"
    assert "1 answers that are no label" in printed
    assert "only the first is right on 1 posts, only the second on 4" in printed


def test_other_posts_are_refused(tmp_path) -> None:
    one = save_run(tmp_path / "run1", GOLD)
    two = save_run(tmp_path / "run2", GOLD, gold=GOLD[::-1])
    with pytest.raises(UserError, match="different posts"):
        main([str(one), str(two)])
    with pytest.raises(UserError, match=r"metrics\.json is missing"):
        main([str(one), str(save_run(tmp_path / "run3", GOLD, finished=False))])
    with pytest.raises(UserError, match="at least two"):
        main([str(one)])


def test_a_text_may_be_longer_than_csv_fields_are_by_default(tmp_path) -> None:
    folder = save_run(tmp_path / "run1", GOLD)
    path = folder / "predictions" / "test.csv"
    header, rows = path.read_text().split("\n", 1)
    path.write_text(header + "\n" + rows.replace(",text,", f",{'long ' * 40_000},"))
    limit = csv.field_size_limit(131_072)
    try:
        assert len(read_run(folder, "test").ids) == len(GOLD)
        assert class_score(folder, "recall", "macro") == 1.0 and len(read_texts(folder)[0]["text"]) == 200_000
    finally:
        csv.field_size_limit(limit)


def test_an_answer_that_is_no_list_is_not_right_where_a_text_has_no_label(tmp_path) -> None:
    gold = ["[]", '["noise"]', "[]", '["question"]'] * 2
    written = save_run(tmp_path / "run1", ["", '["noise"]', "[]", ""] * 2, gold)
    other = save_run(tmp_path / "run2", gold, gold)
    text, *_ = compare_folders([written, other], "test")
    line = next(line for line in text.splitlines() if line.startswith("- run1:"))
    assert (
        "samples-F1 0.500" in line and "subset accuracy 0.500" in line.lower() and "4 answers that are no list" in line
    )
    assert "only the first is right on 0 posts, only the second on 4 (" in text
    assert "no list" not in next(line for line in text.splitlines() if line.startswith("- run2:"))


def test_folders_of_one_name_in_several_places_are_several_ways(tmp_path) -> None:
    """Three ways of two seeds, and a single run with the name that theirs have without the seed."""
    folders = []
    for place, rate, right in (("a", 1e-4, 0.9), ("b", 2e-4, 0.6), ("c", 3e-4, 0.3)):
        for seed in (0, 1):
            folder = tmp_path / place / f"run-seed{seed}"
            folders.append(write_run(folder, seed=seed, share_right=right, learning_rate=rate))
    text, columns, _ = compare_folders(folders, "test")
    assert columns[5:] == [f"{place}/run_{kind}" for place in "abc" for kind in ("share", "f1")]
    assert "Left out" not in text and "Holm over 3 pairs" in text
    single = write_run(tmp_path / "a" / "run", seed=7, learning_rate=4e-4)
    columns = compare_folders([*folders[:2], single], "test")[1]
    assert columns[5:] == [f"{name}_{kind}" for name in ("run-seed0", "run") for kind in ("share", "f1")]
    copy = write_run(tmp_path / "d" / "run-seed0", seed=0, share_right=0.9, learning_rate=1e-4)
    assert (
        "Left out, since another run is of the same trained model: d/run-seed0.\n"
        in compare_folders([*folders, copy], "test")[0]
    )


def test_a_run_from_before_an_option_has_its_default(tmp_path) -> None:
    """Seeds of two versions are one way; another value is another way, and so is another script."""
    old = write_run(tmp_path / "mine-seed0", seed=0)
    new = write_run(tmp_path / "mine-seed1", seed=1, head_lr_factor=1.0, many_labels_lr_factor=1)
    other = write_run(tmp_path / "other", seed=1, head_lr_factor=10.0)
    written = write_run(tmp_path / "written", seed=1, prompt_template="x.yaml")
    _, columns, _ = compare_folders([old, new, other, written], "test")
    assert columns[5::2] == ["mine_share", "other_share", "written_share"]


def test_a_run_without_labels_is_told_from_an_unfinished_one(tmp_path) -> None:
    with pytest.raises(UserError, match="pairs: has no labels.json, since its task gives texts no labels"):
        read_run(write_similarity_run(tmp_path / "pairs", pearson=0.8), "test")
