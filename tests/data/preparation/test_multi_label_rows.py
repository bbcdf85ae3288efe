"""Rows with several labels: how they are written, what is refused and counted, what a tree implies, how they split."""

import json
from pathlib import Path

import numpy as np
import pytest

from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import PreparedDataset, load_prepared
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.errors import UserError

TREE = {"good": ["joy", "love"], "bad": ["anger", "fear"], "calm": None}
LEAVES = ["joy", "love", "anger", "fear", "calm"]


def spec(path: str, task: str = "multi_label", **more):
    file = {"path": path, "columns": {"text": "text", "label": "labels"}} | more.pop("file", {})
    raw = {"name": "several", "task": task, "labels": TREE, "files": [file], "cleaning": {"profile": "exact"}}
    return spec_from_dict(raw | more, "several.yaml")


def prepared(folder: Path, rows: list[tuple[str, object]], task: str = "multi_label", **more) -> PreparedDataset:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": t, "labels": labels}) + "\n" for t, labels in rows), "utf-8")
    return load_prepared(prepare(spec("rows.jsonl", task, **more), folder, folder / "out"))


def many(number: int = 40) -> list[tuple[str, object]]:
    return [(f"text number {i}", LEAVES[i % 3 : i % 3 + i % 2 + 1]) for i in range(number)]


def report(data: PreparedDataset) -> dict:
    return json.loads((data.path / "report.json").read_text("utf-8"))


def all_rows(data: PreparedDataset) -> dict[str, dict]:
    return {row["text"]: row for split in data.dataset.values() for row in split}


def test_ancestors_follow_from_leaves_and_may_be_named(tmp_path):
    rows = [*many(), ("with its ancestor", ["bad", "anger", "joy"]), ("none", [])]
    data = prepared(tmp_path, rows)
    found = all_rows(data)
    assert found["with its ancestor"]["labels"] == [0, 2]
    assert found["with its ancestor"]["level1"] == ["good", "bad"]
    assert found["with its ancestor"]["level2"] == ["joy", "anger"]
    assert found["none"]["labels"] == found["none"]["level1"] == []
    assert data.task == "multi_label" and data.taxonomy.leaves == tuple(LEAVES)
    assert report(data)["totals"] == {"in": 42, "kept": 42, "rejected": 0}


@pytest.mark.parametrize(
    ("labels", "reason", "said"),
    [
        (["joy", "glee"], "unknown_code", "glee"),
        (["joy", "joy"], "repeated_label", "2 times"),
        (["bad"], "incomplete_label", "anger, fear"),
        (["good", "anger"], "incomplete_label", "joy, love"),
        ("", "missing_label", "[] stands for"),
        ('["joy"', "bad_label_list", "no JSON list"),
        ('[["joy"]]', "bad_label_list", "no JSON list"),
        (["joy", ""], "missing_label", "a blank name stands among"),
        ({"joy": 1}, "not_text", "an object"),
    ],
)
def test_labels_that_mean_nothing_are_counted(tmp_path, labels, reason, said):
    data = prepared(tmp_path, [*many(), ("odd one", labels)], labels_may_be_absent=["calm"])
    assert report(data)["rejected"] == {reason: 1}
    assert said in (data.path / "rejects.csv").read_text("utf-8")
    assert "odd one" not in all_rows(data)


def test_a_field_is_cut_at_the_separator_and_read_through_codes(tmp_path):
    lines = [f"text number {i}\t{'0|2' if i % 2 else '4'}" for i in range(30)]
    lines += ["empty\t[]", "json\t[1, 3]", "spaced\t 3 | 0 ", "doubled\t0|0.0"]
    (tmp_path / "rows.tsv").write_text("text\tlabels\n" + "\n".join(lines) + "\n", "utf-8")
    codes = {"label": dict(enumerate(LEAVES))}
    made = spec("rows.tsv", codes=codes, file={"label_separator": "|"})
    data = load_prepared(prepare(made, tmp_path, tmp_path / "out"))
    found = all_rows(data)
    assert [found[name]["labels"] for name in ("empty", "json", "spaced", "text number 1")] == [
        [],
        [1, 3],
        [0, 3],
        [0, 2],
    ]
    # 0 and 0.0 are one code.
    assert report(data)["rejected"] == {"repeated_label": 1}


def test_task_sequence_keeps_rejecting_and_says_what_would_keep_them(tmp_path):
    rows = [(f"text number {i}", LEAVES[i % 5]) for i in range(40)] + [("both", ["joy", "fear"]), ("list", ["joy"])]
    data = prepared(tmp_path, rows, task="sequence")
    assert report(data)["rejected"] == {"several_labels": 2}
    assert any("2 records" in line and "task: multi_label" in line for line in report(data)["warnings"])


def test_copies_contradict_each_other_when_their_sets_differ(tmp_path):
    copies = [
        ("same words", ["joy"]),
        ("same words", ["joy", "fear"]),
        ("twin", ["fear", "joy"]),
        ("twin", ["joy", "fear"]),
    ]
    data = prepared(tmp_path, [*many(), *copies])
    assert report(data)["rejected"] == {"conflicting_labels_raw": 2, "duplicate_raw": 1}
    assert report(data)["conflicts"] == [{"text": "same words", "labels": {"joy": 1, "joy, fear": 1}}]


def test_splits_hold_the_shares_within_the_rarest_label(tmp_path):
    rows = [(f"text number {i}", ["joy"] + ["anger"] * (i % 4 == 0) + ["calm"] * (i % 20 == 0)) for i in range(400)]
    data = prepared(tmp_path, rows, split={"train": 0.5, "validation": 0.25, "test": 0.25})
    sets = {name: [tuple(row) for row in split["labels"]] for name, split in data.dataset.items()}
    counts = {name: [sum(leaf in row for row in found) for leaf in (2, 4)] for name, found in sets.items()}
    assert counts == {"train": [50, 10], "validation": [25, 5], "test": [25, 5]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": {"label_separator": "o"}}, "'o' occurs in the label 'joy'"),
        ({"cleaning": {"short_posts": "noise"}}, "labels no post as noise"),
        ({"balance": {"train": 10, "validation": 5, "test": 5}}, "no single labels to balance"),
        ({"file": {"columns": {"text": "text", "level1": "labels"}}}, "unknown column 'level1'"),
    ],
)
def test_settings_that_contradict_several_labels(change, said):
    with pytest.raises(UserError, match="several.yaml") as error:
        spec("rows.jsonl", **change)
    assert said in str(error.value)


def test_training_texts_need_two_labels(tmp_path):
    with pytest.raises(UserError, match="only one label or none \\(joy\\)"):
        prepared(tmp_path, [(f"text number {i}", ["joy"] * (i % 2)) for i in range(40)])
    with pytest.raises(UserError, match="Rejected so far: missing_label 30; check"):
        prepared(tmp_path, [(f"text number {i}", ["joy", "love", ""] if i % 4 else []) for i in range(40)])


@pytest.mark.parametrize("name", ["goemotions_multi_label", "goemotions_multi_label_tree"])
def test_goemotions_is_kept_whole_but_for_texts_of_other_splits(name):
    from opinionlm.data.spec_parsing import load_spec

    found = load_spec(f"configs/datasets/{name}.yaml")
    assert found.task == "multi_label" and len(found.labels.leaves) == 28
    assert found.cleaning.duplicates == found.cleaning.conflicts == "keep"
    codes = found.codes["label"]
    assert [codes[str(number)] for number in (0, 16, 27)] == ["admiration", "grief", "neutral"]
    assert found.labels.depth == (3 if name.endswith("tree") else 1)


def test_rare_strata_are_named_by_their_label(tmp_path):
    data = prepared(tmp_path, [*many(), ("alone", ["calm"])])
    assert any("'calm' has 1 row" in line for line in report(data)["warnings"])
    assert np.sum([[4] in split["labels"] for split in data.dataset.values()]) == 1
