"""The same content gives the same records under `files` and under `hub`, whatever pandas would make of it."""

import csv
import gzip
import io
import json
from datetime import date
from decimal import Decimal

import pytest

from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.readers.hub import read_hub
from opinionlm.data.readers.records import Record, Reject, SourceNotes, read_file
from opinionlm.data.spec import FileSpec, HubSpec
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.errors import UserError

COLUMNS = {"id": "key", "text": "post", "label": "stance"}
# Empty cells, what pandas takes for missing, codes with zeros, numbers beyond 64 bits, dates, mixed columns.
ROWS = [
    ("00001", "null", "None"),
    ("00002", "NA", "Agree"),
    ("00003", "nan", "Disagree"),
    ("00004", "None", "01"),
    ("00005", "1.0", "02"),
    ("00006", "123456789012345678901234567890", "1"),
    ("00007", "2020-01-01", "N/A"),
    ("1e5", "True", "NULL"),
    ("-0", "<NA>", "2.50"),
    ("#N/A", 'quoted, "text"\nover lines', ""),
    ("n/a", " blanks ", "inf"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


def csv_text(rows, delimiter=",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("key", "post", "stance"), *rows])
    return text.getvalue().encode()


def jsonl_text(rows) -> bytes:
    return "".join(json.dumps(dict(zip(("key", "post", "stance"), row, strict=True))) + "\n" for row in rows).encode()


def fields(items) -> list:
    return [(item.number, item.fields) if isinstance(item, Record) else (item.number, item.reason) for item in items]


def from_hub(folder, split="train", columns=COLUMNS, **options) -> list[Record | Reject]:
    return list(read_hub(HubSpec(str(folder), columns, **options), split, SourceNotes()))


@pytest.mark.parametrize(
    "name",
    ["train.csv", "data/train.csv", "train.tsv", "train.jsonl", "train.csv.gz", "train.jsonl.gz", "train/part.csv"],
)
def test_a_local_folder_gives_what_its_file_gives(name, tmp_path):
    path = tmp_path / "hub" / name
    path.parent.mkdir(parents=True)
    content = jsonl_text(ROWS) if "jsonl" in name else csv_text(ROWS, "\t" if "tsv" in name else ",")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = from_hub(tmp_path / "hub")
    assert fields(found) == fields(read_file(path, FileSpec(name, COLUMNS), SourceNotes()))
    assert [tuple(item.fields.values()) for item in found] == ROWS


def test_several_files_are_one_split_and_other_splits_have_their_own(tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "train-00000-of-00002.csv").write_bytes(csv_text(ROWS[:4]))
    (hub / "train-00001-of-00002.csv").write_bytes(csv_text(ROWS[4:]))
    (hub / "test.csv").write_bytes(csv_text(ROWS[:2]))
    found = from_hub(hub)
    assert [item.number for item in found] == list(range(1, len(ROWS) + 1))
    assert [tuple(item.fields.values()) for item in found] == ROWS
    assert len(from_hub(hub, "test")) == 2
    with pytest.raises(UserError, match="validation"):
        from_hub(hub, "validation")


def test_what_a_card_says_of_files_and_classes_holds(tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    card = """---
configs:
- config_name: default
  data_files: posts.csv
  sep: ";"
dataset_info:
  features:
  - {name: key, dtype: string}
  - {name: post, dtype: string}
  - name: stance
    dtype: {class_label: {names: {'0': against, '1': for}}}
---
"""
    (hub / "README.md").write_text(card)
    (hub / "posts.csv").write_text("key;post;stance\n007;null;1\n008;NA;0\n")
    assert [tuple(item.fields.values()) for item in from_hub(hub)] == [
        ("007", "null", "for"),
        ("008", "NA", "against"),
    ]


def test_a_part_of_a_split_guesses_no_types_either(tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.csv").write_bytes(csv_text(ROWS))
    found = from_hub(tmp_path / "hub", "train[:5]")
    assert [tuple(item.fields.values()) for item in found] == ROWS[:5]


def test_values_of_typed_tables_follow_the_rule_of_json(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "hub").mkdir()
    table = pa.table(
        {
            "text": ["a", "b", None],
            "small": pa.array([0.1, 1.0, float("nan")], pa.float32()),
            "big": pa.array([2**62, 1, None], pa.int64()),
            "day": [date(2020, 1, 1), None, None],
            "money": [Decimal("1.50"), None, None],
            "flag": [True, False, None],
        }
    )
    pq.write_table(table, tmp_path / "hub" / "train.parquet")
    for column, expected in {
        "text": ["a", "b", ""],
        "small": ["0.1", "1.0", ""],
        "big": [str(2**62), "1", ""],
        "day": ["2020-01-01", "", ""],
        "money": ["1.50", "", ""],
    }.items():
        found = from_hub(tmp_path / "hub", columns={"text": column})
        assert [item.fields["text"] for item in found] == expected
    found = from_hub(tmp_path / "hub", columns={"text": "flag"})
    assert [isinstance(item, Reject) and item.reason for item in found] == ["not_text", "not_text", False]
    found = from_hub(tmp_path / "hub", columns={"text": "text", "label": "flag"})
    assert [item.fields["label"] for item in found] == ["true", "false", ""]


def test_both_sources_are_one_data_set(tokenizer_folder, tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    labels = ["None", "Agree", "01"]
    rows = [(f"{at:05}", f"post number {at}", labels[at % 3]) for at in range(60)]
    (hub / "train.csv").write_bytes(csv_text(rows))
    raw = {"name": "d", "labels": labels, "tokenizer_name_or_path": str(tokenizer_folder)}
    sources = {
        "files": {"files": [{"path": "hub/train.csv", "columns": COLUMNS}]},
        "hub": {"hub": {"path": str(hub), "columns": COLUMNS}},
    }
    found = {}
    for name, source in sources.items():
        folder = prepare(spec_from_dict(raw | source, "x.yaml"), tmp_path, tmp_path / f"out-{name}")
        found[name] = {split: rows.to_list() for split, rows in load_prepared(folder).dataset.items()}
    assert found["files"] == found["hub"]
    assert sum(map(len, found["hub"].values())) == 60
