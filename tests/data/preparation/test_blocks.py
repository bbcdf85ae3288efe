"""Preparing block by block, in whatever order, keeps the rows that preparing at once keeps."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import opinionlm
from opinionlm import UserError
from opinionlm.data.preparation.blocks import BlockPreparation


def by_blocks(config: Path | str, folder: Path | str) -> list[dict]:
    """What an engine does, with the blocks in random order."""
    preparation = opinionlm.prepare_blocks(config, folder)
    blocks = [preparation.clean(block) for file in preparation.files for block in preparation.read(file)]
    random.Random(0).shuffle(blocks)
    rows = grouped(pa.concat_tables(blocks), "raw_bucket", preparation.drop_raw_copies)
    return sorted(grouped(rows, "bucket", preparation.drop_copies).to_pylist(), key=itemgetter("id"))


def grouped(rows: pa.Table, bucket: str, step: Callable[[pa.Table], pa.Table]) -> pa.Table:
    found = set(rows[bucket].to_pylist())
    return pa.concat_tables([step(rows.filter(pa.compute.equal(rows[bucket], number))) for number in found])


def at_once(config: Path | str, folder: Path | str, output: Path) -> list[dict]:
    splits = opinionlm.prepare(config, folder, output).dataset
    return sorted((row for split in splits.values() for row in split), key=itemgetter("id"))


def test_the_bundled_posts(tmp_path) -> None:
    assert by_blocks("sample", "data") == at_once("sample", "data", tmp_path / "sample")


@pytest.mark.parametrize("conflicts", ["drop", "keep_first", "majority", "keep"])
@pytest.mark.parametrize("duplicates", ["tokens", "text"])
def test_copies_and_contradictions(conflicts: str, duplicates: str, tmp_path, monkeypatch) -> None:
    """Posts of two files, equal before or after cleaning, of labels that agree or not, some dropped, some noise."""
    monkeypatch.setattr("opinionlm.data.preparation.blocks.BLOCK_ROWS", 7)
    draw = random.Random(1)
    words = [
        "buy",
        "buy ",
        "BUY",
        "buy @ann",
        "sell &amp; hold",
        "sell & hold",
        "sell  & hold",
        "up",
        "hahahahaha",
        "…",
    ]
    files = []
    for name, count in (("one", 60), ("two", 40)):
        with open(tmp_path / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            posts = [(draw.choice(words) * draw.randint(1, 2), draw.choice("aab")) for _ in range(count)]
            posts += [(f"{name} {number}", "ab"[number % 2]) for number in range(40)]
            csv.writer(file).writerows([["text", "label"], *posts, ["", "a"], ["no label", "z"]])
        files.append({"path": f"{name}.csv", "platform": name, "columns": {"text": "text", "label": "label"}})
    cleaning = {"mentions": "remove", "lowercase": True, "repeats": "noise", "require_letters": True}
    cleaning |= {"conflicts": conflicts, "duplicates": duplicates}
    spec = {"name": "posts", "files": files, "labels": {"a": None, "b": None, "noise": None}, "cleaning": cleaning}
    (tmp_path / "posts.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    rows = at_once(tmp_path / "posts.yaml", tmp_path, tmp_path / "out")
    assert by_blocks(tmp_path / "posts.yaml", tmp_path) == rows
    labels = {row["label"] for row in rows}
    assert labels == {0, 1, 2} if conflicts == "keep" else {0, 1} <= labels


@pytest.mark.parametrize("change", [{"labels": None}, {"split of its own": True}])
def test_other_data_sets_stay_on_one_machine(change: dict, tmp_path) -> None:
    (tmp_path / "posts.csv").write_text("text,label\nup,a\ndown,b\n")
    file = {"path": "posts.csv", "columns": {"text": "text", "label": "label"}}
    spec = {"name": "posts", "labels": {"a": None, "b": None}}
    if "labels" in change:
        del spec["labels"]
    else:
        file["split"] = "train"
    (tmp_path / "posts.yaml").write_text(yaml.safe_dump(spec | {"files": [file]}, sort_keys=False))
    with pytest.raises(UserError, match="can be prepared block by block; use preprocess.py"):
        BlockPreparation(tmp_path / "posts.yaml", tmp_path)
