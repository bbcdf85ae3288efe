"""JSON values as text: one rule for all readers, tasks and columns."""

import json

import numpy as np
import pytest

from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.readers.json_values import value_text
from opinionlm.data.readers.records import Record, SourceNotes, read_file
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_parsing import spec_from_dict


def read(tmp_path, line: str, columns: dict[str, str]):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    (found,) = read_file(tmp_path / "x.jsonl", FileSpec("x.jsonl", columns), SourceNotes())
    return found


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"a"', "a"),
        ('"NaN"', "NaN"),
        ("null", ""),
        ("NaN", ""),
        ("Infinity", ""),
        ("-Infinity", ""),
        ("1", "1"),
        ("-0", "-0"),
        ("1.0", "1.0"),
        ("1.50", "1.50"),
        ("1e400", "1e400"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_a_value_is_its_text_as_written_or_nothing(written, text, tmp_path):
    for name in ("text", "text_pair", "context", "label", "level1", "id", "score", "answers", "time"):
        assert read(tmp_path, f'{{"v": {written}}}', {name: "v"}).fields == {name: text}
    for name in ("tokens", "answers"):
        assert read(tmp_path, f'{{"v": [{written}]}}', {name: "v"}).lists == {name: [text]}


@pytest.mark.parametrize("written", ["true", "false", '{"a": 1}', "[1]", "[]"])
def test_what_is_no_text_is_refused_with_the_reason(written, tmp_path):
    for name in ("text", "text_pair", "id", "score", "context"):
        found = read(tmp_path, f'{{"v": {written}}}', {name: "v"})
        assert found.reason == "not_text" and found.detail.startswith("v: expected text, found ")
    assert read(tmp_path, f'{{"v": [{written}]}}', {"answers": "v"}).reason == "not_text"


@pytest.mark.parametrize("line", ['{"v": "one", "v": "other"}', '{"v": "one", "more": {"a": 1, "a": 1}}'])
def test_a_key_that_stands_twice_is_refused(line, tmp_path):
    found = read(tmp_path, line, {"text": "v"})
    assert found.reason == "invalid_json" and "is there twice" in found.detail


def test_true_and_false_are_labels_as_json_spells_them(tmp_path):
    for name in ("label", "level1"):
        assert read(tmp_path, '{"v": true}', {name: "v"}).fields == {name: "true"}
    assert read(tmp_path, '{"v": [true, 1]}', {"label": "v"}).lists == {"label": ["true", "1"]}
    assert isinstance(read(tmp_path, '{"v": [true]}', {"level1": "v"}).detail, str)
    # So they are in a column beside the text, whatever it is called.
    assert read(tmp_path, '{"v": false}', {"verified": "v"}).fields == {"verified": "false"}


def test_numbers_of_numpy_are_numbers():
    values = [np.float64(4), np.float32(0.1), np.int64(7), np.float64("nan")]
    assert [value_text(value) for value in values] == ["4.0", "0.1", "7", ""]


def instruction(tokenizer_folder, tmp_path, rows: list[str]):
    filler = [json.dumps({"instruction": f"say {at}", "input": "", "output": f"number {at}"}) for at in range(30)]
    (tmp_path / "x.jsonl").write_text("\n".join([*rows, *filler]) + "\n")
    raw = {"name": "d", "task": "instruction", "tokenizer_name_or_path": str(tokenizer_folder)}
    raw["files"] = [
        {"path": "x.jsonl", "columns": {"text": "instruction", "context": "input", "answers": "output"}},
    ]
    folder = prepare(spec_from_dict(raw, "x.yaml"), tmp_path, tmp_path / "out")
    rows = [row for split in load_prepared(folder).dataset.values() for row in split]
    return rows, json.loads((folder / "report.json").read_text()), (folder / "rejects.csv").read_text()


def test_nan_is_no_context_no_answer_and_no_text(tokenizer_folder, tmp_path):
    rows, _, rejects = instruction(
        tokenizer_folder,
        tmp_path,
        [
            '{"instruction": "three in words", "input": NaN, "output": "three"}',
            '{"instruction": "four in words", "input": "", "output": NaN}',
            '{"instruction": NaN, "input": "", "output": "five"}',
            '{"instruction": "six in words", "input": "", "output": [NaN, "six"]}',
            '{"instruction": true, "input": "", "output": "seven"}',
        ],
    )
    found = {row["text"]: row for row in rows}
    assert found["three in words"]["context"] == ""
    assert found["six in words"]["answers"] == ["six"]
    assert not any("nan" in json.dumps(row).lower() for row in rows)
    assert {"four in words", "True", "true"}.isdisjoint(found)
    for reason in ("no_answer", "empty_text", "not_text"):
        assert rejects.count(reason) == 1


def test_nan_is_no_post_no_label_and_no_score(tokenizer_folder, tmp_path):
    lines = [json.dumps({"t": f"post {at}", "p": f"other {at}", "s": at % 5}) for at in range(30)]
    lines += ['{"t": NaN, "p": "a", "s": 1}', '{"t": "b", "p": "c", "s": NaN}', '{"t": "d", "p": "e", "s": true}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    raw = {"name": "d", "task": "similarity", "score_range": [0, 5], "tokenizer_name_or_path": str(tokenizer_folder)}
    raw["files"] = [{"path": "x.jsonl", "columns": {"text": "t", "text_pair": "p", "score": "s"}}]
    folder = prepare(spec_from_dict(raw, "x.yaml"), tmp_path, tmp_path / "out")
    assert sum(map(len, load_prepared(folder).dataset.values())) == 30
    rejects = (folder / "rejects.csv").read_text()
    assert all(rejects.count(reason) == 1 for reason in ("empty_text", "bad_score", "not_text"))


def test_records_are_the_same_whatever_the_reader_of_predictions_asks(tmp_path):
    found = read(tmp_path, '{"text": 1.0, "id": 7}', {"text": "text", "id": "id"})
    assert isinstance(found, Record) and found.fields == {"text": "1.0", "id": "7"}
