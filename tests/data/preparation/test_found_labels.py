"""Labels that the dataset YAML leaves out are those of the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opinionlm.data.preparation import found_labels
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.errors import UserError
from opinionlm.utils.names import WRITING


def write(folder: Path, header: str, rows: list[str]) -> None:
    (folder / "posts.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def prepared(folder: Path, tokenizer: Path, columns: dict[str, str], **changes: object):
    file = {"path": "posts.csv", "columns": columns} | changes
    raw = {"name": "posts", "tokenizer_name_or_path": str(tokenizer), "files": [file]}
    return load_prepared(prepare(spec_from_dict(raw, "posts.yaml"), folder, folder / "out"))


def warnings_of(data) -> list[str]:
    return json.loads((data.path / "report.json").read_text(encoding="utf-8"))["warnings"]


@pytest.mark.parametrize(
    ("values", "leaves"),
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        (["pos", "neg", "010", "No"], ["010", "No", "neg", "pos"]),
    ],
)
def test_a_flat_label_set(tmp_path, tokenizer_folder, values, leaves):
    write(tmp_path, "text,label", [f"post {i} of {value},{value}" for value in values for i in range(20)] + ["none,"])
    data = prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"})
    assert list(data.taxonomy.leaves) == leaves
    assert data.dataset["train"].features["label"].names == leaves
    (line,) = [one for one in warnings_of(data) if one.startswith("labels are taken from the data")]
    assert all(f"{leaf} 20" in line for leaf in leaves)
    rejected = json.loads((data.path / "report.json").read_text())["rejected"]
    assert rejected == {"missing_label": 1}


def test_levels_make_a_tree_and_equal_leaves_path_names(tmp_path, tokenizer_folder):
    paths = ["praise,product", "praise,service", "complaint,product", "complaint,service", "other,"]
    rows = [f"post {i} of {path.replace(',', ' ')},{path}" for path in paths for i in range(20)]
    write(tmp_path, "text,kind,about", [*rows, "unfinished post,praise,", "gap,,product"])
    data = prepared(tmp_path, tokenizer_folder, {"text": "text", "level1": "kind", "level2": "about"})
    leaves = ["complaint/product", "complaint/service", "other", "praise/product", "praise/service"]
    assert list(data.taxonomy.leaves) == leaves
    assert json.loads((data.path / "report.json").read_text())["rejected"] == {
        "incomplete_label": 1,
        "missing_label": 1,
    }
    manifest = json.loads((data.path / "dataset.json").read_text())
    assert manifest["labels"] == manifest["spec"]["labels"] == data.taxonomy.to_tree()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("Good", "good"), ("very  good", "very good"), ("caf\u00e9", "cafe\u0301"), ("bad", "bad\u200b")],
        *[("\u2764", "\u2764\ufe0f"), ("1", "1.0"), ("01", "1"), ("-0.50", "-0.5")],
    ],
)
def test_labels_that_look_like_one_are_named(tmp_path, tokenizer_folder, one, other):
    labels = enumerate((one, other, "no"))
    write(tmp_path, "text,label", [f"post {i} of {at},{label}" for at, label in labels for i in range(20)])
    warnings = warnings_of(prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"}))
    one, other = sorted((one, other))
    assert f"the labels {one!r} and {other!r} differ in {WRITING} alone; is it one?" in warnings


def test_labels_that_differ_in_more_are_not_named(tmp_path, tokenizer_folder):
    write(tmp_path, "text,label", [f"post {i} of {v},{v}" for v in ("1", "10", "-1", "1.5", "1e0") for i in range(20)])
    warnings = warnings_of(prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"}))
    assert not any(WRITING in line for line in warnings)


def test_several_labels_in_a_field_are_none(tmp_path, tokenizer_folder):
    rows = [f"post {i} of {value},{value}" for value in ("a", "b") for i in range(20)] + ["both,a;b"]
    write(tmp_path, "text,label", rows)
    data = prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"}, label_separator=";")
    assert list(data.taxonomy.leaves) == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([f"post {i},{i}" for i in range(6)], "posts.csv: more than 5 different labels .such as '0', '1', '2'"),
        (["post,", "other,"], "no record has one"),
        (["post,a", "other,a"], "labels: only 'a'; a classifier needs at least two classes"),
    ],
)
def test_what_is_no_label_column_is_refused(tmp_path, tokenizer_folder, monkeypatch, rows, message):
    monkeypatch.setattr(found_labels, "MOST_LABELS", 5)
    write(tmp_path, "text,label", rows)
    with pytest.raises(UserError, match=message) as caught:
        prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"})
    assert "\n" not in str(caught.value)


def test_labels_that_look_like_several_are_pointed_out(tmp_path, tokenizer_folder):
    values = ["joy", "joy|love", "love|calm", "calm"]
    write(tmp_path, "text,label", [f"post {i} of {value},{value}" for value in values for i in range(20)])
    data = prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"})
    assert any("parted by '|': task: multi_label with label_separator: '|'" in line for line in warnings_of(data))


def test_why_no_record_could_be_read_is_told(tmp_path, tokenizer_folder):
    write(tmp_path, "text,label", [f"post {i},joy," for i in range(20)])
    with pytest.raises(UserError, match=r"no record has one \(posts.csv:2: too_many_fields, 3 fields instead of 2\)"):
        prepared(tmp_path, tokenizer_folder, {"text": "text", "label": "label"})


def test_lists_that_cannot_be_read_are_told(tmp_path, tokenizer_folder):
    write(tmp_path, "text,label", [f"post {i},\"['joy', 'love']\"" for i in range(20)])
    raw = {"name": "posts", "task": "multi_label", "tokenizer_name_or_path": str(tokenizer_folder)}
    raw["files"] = [{"path": "posts.csv", "columns": {"text": "text", "label": "label"}}]
    with pytest.raises(UserError, match=r"no record has one \(posts.csv:2: .* is no JSON list of names\)"):
        prepare(spec_from_dict(raw, "posts.yaml"), tmp_path, tmp_path / "out")
