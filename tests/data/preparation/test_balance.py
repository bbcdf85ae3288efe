"""Balanced subsets: equal numbers of every label, nested, always the same; and the shipped ones on the real data."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import yaml

from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError

BASE = {
    "name": "words",
    "labels": ["a", "b", "c"],
    "files": [
        {"path": f"{split}.csv", "split": split, "columns": {"id": "id", "text": "text", "label": "label"}}
        for split in ("train", "validation", "test")
    ],
    "cleaning": {"profile": "none"},
}


@pytest.fixture
def data(tmp_path: Path, tokenizer_folder) -> Path:
    for split, rows in (("train", 60), ("validation", 15), ("test", 15)):
        with open(tmp_path / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "label"])
            # Twice as many of a as of b and c together.
            writer.writerows(
                [f"{split}{i}", f"{split} text {i}", "abac"[i % 4] if i % 3 else "a"] for i in range(rows)
            )
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE | {"tokenizer_name_or_path": str(tokenizer_folder)}))
    return tmp_path


def subset(data: Path, **changes) -> Path:
    balance = {"train": 12, "validation": 3, "test": 3} | changes.pop("balance", {})
    path = data / "subset.yaml"
    path.write_text(yaml.safe_dump({"base": "base.yaml", "balance": balance} | changes))
    return path


def drawn(data: Path, name: str, **changes) -> dict[str, list[str]]:
    prepared = load_prepared(prepare(load_spec(subset(data, **changes)), data, data / name, num_proc=1))
    for split, wanted in (("train", None), ("validation", 1), ("test", 1)):
        counts = set(Counter(prepared.dataset[split]["label"]).values())
        assert len(counts) == 1 and (wanted is None or counts == {wanted})
    return {split: list(prepared.dataset[split]["id"]) for split in prepared.dataset}


def test_equal_nested_and_repeatable(data) -> None:
    small, large = drawn(data, "small"), drawn(data, "large", balance={"train": 18})
    assert len(small["train"]) == 12 and len(large["train"]) == 18
    assert set(small["train"]) < set(large["train"]) and small["test"] == large["test"]
    assert drawn(data, "again") == small
    assert drawn(data, "other", balance={"seed": 1}) != small
    with open(data / "small" / "rejects.csv", newline="") as file:
        assert Counter(row["reason"] for row in csv.DictReader(file)) == {"not_drawn": 90 - 18}


def test_all_rows_of_the_rarest_label_can_be_asked_for(data) -> None:
    with open(data / "train.csv", newline="") as file:
        rarest = min(Counter(row["label"] for row in csv.DictReader(file)).values())
    assert len(drawn(data, "all", balance={"train": 3 * rarest})["train"]) == 3 * rarest
    with pytest.raises(UserError, match=f"and {rarest + 1} are asked for"):
        drawn(data, "more", balance={"train": 3 * rarest + 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": {"train": 10}}, "balance.train: 10 has to be a positive multiple of the 3 labels"),
        ({"balance": {"test": 0}}, "balance.test: 0 has to be"),
        ({"balance": {"train": 300}}, "balance: train has .* rows of 'a' and 100 are asked for"),
        ({"balance": {"rows": 3}}, "unknown key 'rows'"),
        ({"base": "subset.yaml"}, "base: subset.yaml has a base itself"),
        ({"base": "none.yaml"}, "none.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_drawn(data, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        prepare(load_spec(subset(data, **changes)), data, data / "out", num_proc=1)


def test_an_unbalanced_data_set_keeps_its_fingerprint(data) -> None:
    assert "balance" not in load_spec(data / "base.yaml").to_dict()


@pytest.mark.parametrize(("labels", "rows"), [pytest.param(16, 2400, marks=pytest.mark.slow), (2, 800)])
def test_goemotions(labels, rows, shared_data, repository, tokenizer_folder, tmp_path) -> None:
    path = repository / "configs" / "datasets" / "goemotions_subsets" / f"labels{labels}_rows{rows}.yaml"
    spec = load_spec(path, tokenizer_name_or_path=str(tokenizer_folder))
    data = load_prepared(prepare(spec, shared_data, tmp_path / "out", num_proc=1))
    totals = {"train": rows, "validation": rows // 10, "test": {16: 1280, 2: 400}[labels]}
    for split, total in totals.items():
        counts = Counter(data.dataset[split]["label"])
        assert len(counts) == labels and set(counts.values()) == {total // labels}
    texts = [text for split in data.dataset.values() for text in split["text"]]
    assert len(texts) == sum(totals.values()) and "neutral" not in data.taxonomy.leaves
