"""What became of the records is told by every script, and nothing goes without a word."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import preprocess
import reproduce
from opinionlm.data.accounting import account_lines
from opinionlm.data.preparation.declared_labels import describe_undeclared
from opinionlm.data.preparation.label_parsing import LabelUse
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from tests.classifier_runs import train

WORDS = {"positive": "good fine nice", "negative": "bad awful poor", "neutral": "plain usual common"}


def write_reviews(folder: Path, rows: int = 90, name: str = "reviews", **changes: Any) -> Path:
    """Reviews of three labels in ``<name>.csv``, and a YAML about them; keywords replace its keys."""
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in range(rows):
            label = list(WORDS)[index % 3]
            writer.writerow([f"{WORDS[label]} number {index}", label])
    return write_yaml(folder, name, **changes)


def write_yaml(folder: Path, name: str = "reviews", **changes: Any) -> Path:
    """A dataset YAML about ``<name>.csv`` with columns text and label."""
    raw = {
        "name": name,
        "files": [{"path": f"{name}.csv", "columns": {"text": "text", "label": "label"}}],
        "labels": list(WORDS),
        "cleaning": {"profile": "exact"},
    } | changes
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def prepared(folder: Path, path: Path):
    return load_prepared(prepare(load_spec(path), folder, folder / "out"))


def warnings_of(folder: Path, path: Path) -> list[str]:
    return json.loads((prepared(folder, path).path / "report.json").read_text(encoding="utf-8"))["warnings"]


def refusal(folder: Path, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        prepared(folder, path)
    assert "\n" not in str(caught.value) and not (folder / "out").exists()
    return str(caught.value)


# Declared labels -----------------------------------------------------------------------------------------------------


def test_a_misspelt_label_is_an_error(tmp_path) -> None:
    message = refusal(tmp_path, write_reviews(tmp_path, labels=["positive", "negativ", "neutral"]))
    assert "label 'negativ' never occurs in the files" in message
    assert "label holds 'negative' (30 records, nearest: 'negativ')" in message
    assert "labels_may_be_absent: [negativ]" in message


def test_labels_may_be_absent_allows_it_and_counts_the_rest(tmp_path) -> None:
    labels = ["positive", "negativ", "neutral"]
    path = write_reviews(tmp_path, labels=labels, labels_may_be_absent=["negativ"])
    data = prepared(tmp_path, path)
    report = json.loads((data.path / "report.json").read_text(encoding="utf-8"))
    assert report["rejected"] == {"unknown_code": 30}
    assert [line for line in report["warnings"] if "not declared" in line and "'negative' (30 records" in line]
    assert data.taxonomy.leaves == tuple(labels)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"labels": [*WORDS, "mixed"]}, "no record of the files is labelled mixed"),
        (
            {"labels": ["positive", "negative"]},
            "30 records are rejected for labels that are not declared: label ",
        ),
    ],
)
def test_absent_labels_or_undeclared_values_alone_are_warnings(tmp_path, changes, warning) -> None:
    assert [line for line in warnings_of(tmp_path, write_reviews(tmp_path, **changes)) if line.startswith(warning)]


@pytest.mark.parametrize(
    ("labels", "codes", "message"),
    [
        (
            ["positive", "Negative", "neutral"],
            None,
            "label holds 'negative' (30 records, nearest: 'Negative', the",
        ),
        (["positive", "negative ", "neutral"], None, "nearest: 'negative '"),
        (["p", "n"], {"positive": "p", "negative": "n", "nuetral": "n"}, "code 'nuetral' of label never occurs"),
        ([*WORDS, "café"], None, None),
    ],
)
def test_case_blanks_and_codes(tmp_path, labels, codes, message) -> None:
    path = write_reviews(tmp_path, labels=labels, **({"codes": {"label": codes}} if codes else {}))
    if message is None:
        assert len(prepared(tmp_path, path).dataset["train"]) > 0
    else:
        assert message in refusal(tmp_path, path)


def test_levels_of_a_tree(tmp_path) -> None:
    rows = [["noise", ""], ["opinion", "good"], ["opinion", "bad"]] * 20
    lines = [f"post {index} of many,{one},{two}" for index, (one, two) in enumerate(rows)]
    (tmp_path / "reviews.csv").write_text("text,level1,level2\n" + "\n".join(lines), encoding="utf-8")
    columns = {name: name for name in ("text", "level1", "level2")}
    path = write_yaml(
        tmp_path,
        labels={"noise": None, "opinion": ["good", "badd"]},
        files=[{"path": "reviews.csv", "columns": columns}],
    )
    message = refusal(tmp_path, path)
    assert "label 'badd' never occurs" in message and "level2 holds 'bad' (20 records, nearest: 'badd')" in message


def test_a_value_at_the_wrong_place_of_the_tree_is_called_that(tmp_path) -> None:
    spec = load_spec(write_reviews(tmp_path, labels={"noise": None, "opinion": ["good", "bad"]}))
    use = LabelUse(undeclared=Counter({("level2", "good"): 2}))
    expected = "level2 holds 'good' (2 records, which is declared, but not below the label above it)"
    assert describe_undeclared(spec, use) == expected


def test_a_file_of_which_nothing_fits_names_its_values(tmp_path) -> None:
    message = refusal(tmp_path, write_reviews(tmp_path, labels=["yes", "no"]))
    assert "none of the 90 records can be used" in message and "label holds 'positive' (30 records)" in message


def test_repeated_ids_and_absent_names_in_labels_may_be_absent(tmp_path) -> None:
    with pytest.raises(UserError, match="'negatve' is no label and no code, did you mean 'negative'"):
        load_spec(write_reviews(tmp_path, labels_may_be_absent=["negatve"]))
    columns = {"text": "text", "label": "label", "id": "label"}
    path = write_yaml(tmp_path, files=[{"path": "reviews.csv", "columns": columns}])
    assert "87 records have the id of an earlier one" in warnings_of(tmp_path, path)[0]


# Empty splits --------------------------------------------------------------------------------------------------------


def test_a_validation_split_that_is_a_copy_of_test(tmp_path) -> None:
    lines = [f"{WORDS[label]} {index},{label}" for index in range(20) for label in ("positive", "negative")]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    for name in ("val", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(f"post {i},positive" for i in range(6)))
    columns = {"text": "text", "label": "label"}
    files = [
        {"path": f"{name}.csv", "split": split, "columns": columns}
        for name, split in (("train", "train"), ("val", "validation"), ("test", "test"))
    ]
    path = write_yaml(tmp_path, labels=["positive", "negative"], files=files)
    message = refusal(tmp_path, path)
    assert "the validation split would be empty: all 6 records of val.csv went: 6 in_another_split" in message
    # The same through a training script: one line, before anything is tokenised.
    setting = {"dataset": str(path), "data_dir": str(tmp_path), "prepared_dir": str(tmp_path / "p"), "engine": "tfidf"}
    with pytest.raises(UserError, match="the validation split would be empty"):
        train(setting, output_dir=tmp_path, run_name="x", report_to="none")


def test_an_empty_file_names_its_split(tmp_path) -> None:
    write_reviews(tmp_path)
    (tmp_path / "none.csv").write_text("text,label\n")
    columns = {"text": "text", "label": "label"}
    files = [{"path": f"{n}.csv", "split": s, "columns": columns} for n, s in (("reviews", "train"), ("none", "test"))]
    assert "none.csv (the test split): there are no records" in refusal(tmp_path, write_yaml(tmp_path, files=files))


def test_one_row_per_label_cannot_fill_three_splits(tmp_path) -> None:
    message = refusal(tmp_path, write_reviews(tmp_path, rows=3))
    assert "the validation split would be empty: 3 of 3 records are left for all splits" in message
    assert "too few for 3 splits" in message


def test_text_tasks_refuse_empty_splits_too(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "one", "a": "x"}\n{"q": "two", "a": "y"}\n')
    raw = {
        "name": "a",
        "task": "instruction",
        "files": [{"path": "a.jsonl", "columns": {"text": "q", "answers": "a"}}],
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(raw))
    assert "the test split would be empty" in refusal(tmp_path, tmp_path / "a.yaml")


# Delimiters and encodings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["text;label", '"text";"label"', "\ufefftext;label", " text ; label ", "sep=;\ntext;label"],
)
def test_another_delimiter_is_found_and_told(tmp_path, header: str) -> None:
    lines = [f"{WORDS[label]}, {index};{label}" for index in range(10) for label in WORDS]
    (tmp_path / "reviews.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    path = write_yaml(tmp_path)
    assert 'reviews.csv: read with delimiter: ";"' in warnings_of(tmp_path, path)[0]
    assert "nice, 0" in " ".join(t for s in prepared(tmp_path, path).dataset.values() for t in s["text"])


@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_a_tab_file_called_csv(tmp_path, delimiter: str) -> None:
    lines = [delimiter.join((f"{WORDS[label]}, {index}", label)) for index in range(10) for label in WORDS]
    (tmp_path / "reviews.csv").write_text("\n".join([f"text{delimiter}label", *lines]), encoding="utf-8")
    assert f"delimiter: {json.dumps(delimiter)}" in warnings_of(tmp_path, write_yaml(tmp_path))[0]
    # The same without a header.
    (tmp_path / "reviews.csv").write_text("\n".join(lines).replace(", ", " "), encoding="utf-8")
    file = {"path": "reviews.csv", "field_names": ["text", "label"], "columns": {"text": "text", "label": "label"}}
    assert f"delimiter: {json.dumps(delimiter)}" in warnings_of(tmp_path, write_yaml(tmp_path, files=[file]))[0]


def test_a_delimiter_that_the_yaml_names_wrongly_is_refused(tmp_path) -> None:
    (tmp_path / "reviews.csv").write_text("text;label\na;positive\n")
    file = {"path": "reviews.csv", "delimiter": ",", "columns": {"text": "text", "label": "label"}}
    assert 'set delimiter: ";"' in refusal(tmp_path, write_yaml(tmp_path, files=[file]))
    file = {"path": "reviews.csv", "columns": {"text": "comment", "label": "sentiment"}}
    message = refusal(tmp_path, write_yaml(tmp_path, files=[file]))
    assert "correct `columns`" in message and 'set delimiter: ";"' in message


def test_the_case_of_a_column_is_named(tmp_path) -> None:
    (tmp_path / "reviews.csv").write_text("TEXT,Label\na,positive\n")
    assert "'text' (for text) is not there, did you mean 'TEXT'?" in refusal(tmp_path, write_yaml(tmp_path))


def test_signs_of_a_wrong_encoding(tmp_path) -> None:
    lines = "text,label\n" + "\n".join(f"café n° {i} bien €{i} {label},{label}" for i in range(20) for label in WORDS)

    def warned(content: bytes, **file: Any) -> str:
        (tmp_path / "reviews.csv").write_bytes(content)
        file = {"path": "reviews.csv", "columns": {"text": "text", "label": "label"}} | file
        return " ".join(warnings_of(tmp_path, write_yaml(tmp_path, files=[file])))

    assert (
        "60 records hold bytes that are not valid" in (found := warned(lines.encode("cp1252"))) and "encoding" in found
    )
    assert warned(lines.encode("cp1252"), encoding="cp1252") == ""
    assert "60 of 60 records hold what looks like UTF-8 read in another" in warned(lines.encode(), encoding="latin-1")
    assert "1 records hold NUL characters" in warned(lines.encode().replace(b"bien", b"bi\0en", 1))
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le"):
        with pytest.raises(UserError, match=f"set encoding: {codec}"):
            warned(lines.encode(codec))
        assert warned(lines.encode(codec), encoding=codec) == ""
    assert warned(lines.encode("utf-16"), encoding="utf-16") == ""
    assert warned(("\ufeff" + lines).encode("utf-16-le"), encoding="utf-16-le") == ""
    with pytest.raises(UserError, match="set encoding: utf-16"):
        warned(lines.encode("utf-16"))
    with pytest.raises(UserError, match="set encoding: utf-8 instead of cp1252"):
        warned(("\ufeff" + lines).encode(), encoding="cp1252")


# Every script says it ------------------------------------------------------------------------------------------------


def expected_lines(folder: Path) -> list[str]:
    lines = account_lines(folder)
    assert lines[0].startswith("records 92 in = 90 kept + 2 rejected: missing_label 1, duplicate_raw 1 (")
    assert lines[0].endswith("rejects.csv)") and lines[1].startswith("splits  train 6")
    assert [line for line in lines[2:] if line.startswith("warning: ") and "U+FFFD" in line]
    return lines


def write_flawed(folder: Path) -> Path:
    """Reviews of which two go, and one that is damaged."""
    path = write_reviews(folder, 90, cleaning={"profile": "default"})
    content = (folder / "reviews.csv").read_bytes()
    flaws = b"nothing,\r\ngood fine nice number 0,positive\r\n"
    (folder / "reviews.csv").write_bytes(content.replace(b"number 89", b"n\xb0 89") + flaws)
    return path


def test_training_says_it_also_when_the_folder_is_reused(tmp_path, capsys) -> None:
    path = write_flawed(tmp_path)
    setting = {"dataset": path, "data_dir": tmp_path, "prepared_dir": tmp_path / "p", "output_dir": tmp_path}
    setting = {name: str(value) for name, value in setting.items()} | {"engine": "tfidf", "report_to": "none"}
    for name in ("one", "two"):
        train(setting, run_name=name)
        lines = expected_lines(next((tmp_path / "p").iterdir()))
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in printed if line in lines] == lines


def test_data_tables_and_preprocess_say_it(tmp_path, capsys) -> None:
    path = write_flawed(tmp_path)
    table = {"kind": "data", "title": "t", "source": "s", "scales": {"small": {"dataset": str(path)}}}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    options = ["--data_dir", str(tmp_path), "--prepared_dir", str(tmp_path / "p"), "--output_dir", str(tmp_path / "t")]
    assert reproduce.main([str(tmp_path / "table.yaml"), *options]) == 0
    lines = expected_lines(next((tmp_path / "p").iterdir()))
    assert set(lines) <= set(capsys.readouterr().out.splitlines())
    preprocess.main(["--config", str(path), "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    assert set(lines[2:]) <= set(capsys.readouterr().out.splitlines())


def test_a_prepared_folder_with_an_empty_split_is_named(tmp_path) -> None:
    from datasets import DatasetDict

    data = prepared(tmp_path, write_reviews(tmp_path))
    old = tmp_path / "old"
    dataset = DatasetDict(data.dataset | {"test": data.dataset["test"].select([])})
    dataset.save_to_disk(str(old), num_shards={"train": 1, "validation": 1, "test": 1})
    manifest = json.loads((data.path / "dataset.json").read_text())
    (old / "dataset.json").write_text(json.dumps(manifest | {"rows": manifest["rows"] | {"test": 0}}))
    with pytest.raises(UserError, match="the test split of .* is empty"):
        train({"dataset": str(old), "engine": "tfidf"}, output_dir=tmp_path, run_name="x", report_to="none")
