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


def save_parquet(path, rows, names=("neg", "pos")) -> None:
    """A part as the hub's converter writes it: text, and a label whose class names are in the file's own schema."""
    from datasets import ClassLabel, Dataset, Features, Value

    path.parent.mkdir(parents=True, exist_ok=True)
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})
    texts, labels = zip(*rows, strict=True)
    Dataset.from_dict({"text": list(texts), "label": list(labels)}, features=features).to_parquet(path)


def test_the_layout_of_converted_data_sets_is_read_in_parts_and_by_class_names(tmp_path):
    folder = tmp_path / "hub" / "plain_text"
    save_parquet(folder / "train-00000-of-00002.parquet", [("a", 0), ("b", 1)])
    save_parquet(folder / "train-00001-of-00002.parquet", [("c", 1)])
    save_parquet(folder / "test-00000-of-00001.parquet", [("d", 0)])
    (tmp_path / "hub" / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain_text\n  data_files:\n"
        "  - {split: train, path: plain_text/train-*}\n  - {split: test, path: plain_text/test-*}\n---\n"
    )
    columns = {"text": "text", "label": "label"}
    train = from_hub(tmp_path / "hub", "train", columns, config="plain_text")
    assert [item.fields for item in train] == [
        {"text": "a", "label": "neg"},
        {"text": "b", "label": "pos"},
        {"text": "c", "label": "pos"},
    ]
    assert [item.fields["text"] for item in from_hub(tmp_path / "hub", "train+test", columns)] == list("abcd")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_configuration_has_its_own_folder(ending, tmp_path):
    hub = tmp_path / "hub"
    card = "---\nconfigs:\n"
    for name, rows in (("RCT", ROWS[:3]), ("Other", ROWS[3:])):
        (hub / name).mkdir(parents=True)
        (hub / name / f"train.{ending}").write_bytes(csv_text(rows) if ending == "csv" else jsonl_text(rows))
        card += f"- config_name: {name}\n  data_files: [{{split: train, path: {name}/train.{ending}}}]\n"
    (hub / "README.md").write_text(card + "---\n")
    assert [tuple(item.fields.values()) for item in from_hub(hub, config="RCT")] == ROWS[:3]
    with pytest.raises(UserError, match=r"hub data set .*Config name is missing.*RCT.*Other"):
        from_hub(hub)


def test_a_loading_script_is_refused_in_one_line(tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "hub.py").write_text("raise SystemExit('a loading script was run')\n")
    with pytest.raises(UserError, match=r"hub data set .*; check the name and the network") as caught:
        from_hub(hub)
    assert "\n" not in str(caught.value)


def test_the_split_of_the_imdb_report(tokenizer_folder, tmp_path):
    """The hub's two splits are one pool of 35 : 5 : 10, alike in both classes; a draw is balanced and its own."""
    from dataclasses import replace

    from opinionlm.data.spec import BalanceSpec
    from opinionlm.data.spec_parsing import load_spec

    rows = [(f"review number {at}", at % 2) for at in range(200)]
    save_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet", rows[:100])
    # One review is in both splits.
    save_parquet(tmp_path / "hub" / "test-00000-of-00001.parquet", [*rows[100:], rows[0]])

    def prepared(name: str, **changes) -> dict[str, list[dict]]:
        spec = load_spec(f"configs/datasets/{name}.yaml", tokenizer_name_or_path=str(tokenizer_folder))
        spec = replace(spec.read_from("hub"), hub=replace(spec.hub, path=str(tmp_path / "hub")), **changes)
        folder = prepare(spec, tmp_path, tmp_path / f"out-{spec.name}")
        return {split: part.to_list() for split, part in load_prepared(folder).dataset.items()}

    whole = prepared("imdb_report")
    assert {split: len(part) for split, part in whole.items()} == {"train": 140, "validation": 20, "test": 40}
    assert all(sum(row["label"] for row in part) == len(part) / 2 for part in whole.values())
    draws = [prepared(f"imdb_draws/execution{at}", balance=BalanceSpec(20, 10, 10, seed=at)) for at in (1, 2)]
    for draw in draws:
        assert [sum(row["label"] for row in draw[split]) for split in ("train", "validation", "test")] == [10, 5, 5]
        for split, part in draw.items():
            assert {row["text"] for row in part} <= {row["text"] for row in whole[split]}
    assert [row["text"] for row in draws[0]["test"]] != [row["text"] for row in draws[1]["test"]]
