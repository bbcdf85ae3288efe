"""The GoEmotions subsets at paper scale hold the labels that the original's author drew."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from opinionlm.data.spec_parsing import load_spec

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "goemotions"
SUBSETS = ROOT / "configs" / "datasets" / "goemotions_subsets"


def labels_of(count: int) -> tuple[str, ...]:
    return load_spec(SUBSETS / f"drawn{count}_rows800.yaml").labels.leaves


def test_sizes_are_the_grids() -> None:
    for count in (2, 4, 8, 16):
        for rows in (800, 1600, 2400):
            spec = load_spec(SUBSETS / f"drawn{count}_rows{rows}.yaml")
            assert len(spec.labels.leaves) == count and spec.labels.leaves == labels_of(count)
            assert (spec.balance.train, spec.balance.validation, spec.balance.test) == (rows, rows // 10, rows // 10)
    assert "neutral" in labels_of(16) and set(labels_of(2)) == {"love", "curiosity"}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/goemotions")
def test_the_rule_of_the_draw() -> None:
    """Labels with more than 800 comments of their own, most frequent first, drawn in turn with seed 11."""
    names = (DATA / "emotions.txt").read_text(encoding="utf-8").split()
    counts: Counter[str] = Counter()
    for split in ("train", "dev", "test"):
        for line in (DATA / f"{split}.tsv").read_text(encoding="utf-8").splitlines():
            numbers = line.split("\t")[1].split(",")
            counts.update([names[int(numbers[0])]] if len(numbers) == 1 else [])
    frequent = [name for name, count in counts.most_common() if count > 800]
    draw = random.Random(11)
    drawn = {count: draw.sample(frequent, count) for count in (2, 4, 8, 16)}
    assert len(frequent) == 17
    for count in (4, 8, 16):
        assert tuple(drawn[count]) == labels_of(count)
