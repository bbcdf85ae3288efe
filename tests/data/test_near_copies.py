"""Evaluation texts that are nearly training texts."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opinionlm.data import near_copies as module
from opinionlm.data.near_copies import largest_cosines, near_copies, near_copy_groups, texts_of
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from tests.task_data import write_prepared


def plain_cosine(one: str, other: str) -> float:
    def runs(text: str) -> Counter:
        # As scikit-learn: small letters, one blank for several.
        text = " ".join(text.lower().split()) if text.strip() else text.lower()
        return Counter(text[at : at + size] for size in (3, 4, 5) for at in range(len(text) - size + 1))

    first, second = runs(one), runs(other)
    product = sum(first[run] * second[run] for run in first)
    norms = sum(n * n for n in first.values()) * sum(n * n for n in second.values())
    return product / norms**0.5 if norms else 0.0


WORDS = st.lists(st.sampled_from(["moon", "btc", "sell", "now", "hold", "xrp", "why"]), min_size=1, max_size=8)


@settings(max_examples=25)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=4), st.lists(WORDS.map(" ".join), min_size=1, max_size=4))
def test_the_largest_cosine_is_that_of_counts_written_out(texts: list[str], references: list[str]) -> None:
    expected = [max(plain_cosine(text, other) for other in references) for text in texts]
    assert largest_cosines(texts, references) == pytest.approx(np.array(expected), abs=1e-6)


def test_copies_are_found_once_and_kept(tmp_path: Path, monkeypatch) -> None:
    write_prepared(tmp_path / "data", "sequence")
    prepared = load_prepared(tmp_path / "data")
    monkeypatch.setattr(module, "MOST_PAIRS", 10)
    assert near_copies(prepared) is None and not (tmp_path / "data" / "near_copies.json").exists()
    monkeypatch.undo()
    found = near_copies(prepared)
    assert "text_pair" in prepared.dataset["train"].column_names
    train = texts_of(prepared.dataset["train"].to_dict())
    assert "\n" in train[0]
    for split in ("validation", "test"):
        rows = prepared.dataset[split]
        cosines = [largest_cosines([text], train)[0] for text in texts_of(rows.to_dict())]
        assert found[split] == {row for row, cosine in zip(rows["id"], cosines, strict=True) if cosine >= 0.7}
    assert found["validation"] | found["test"], "or nothing was tested"
    # Kept: not looked for again.
    (tmp_path / "data" / "near_copies.json").write_text(json.dumps({"validation": [], "test": ["x"]}))
    assert near_copies(prepared) == {"validation": frozenset(), "test": frozenset({"x"})}


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=8))
def test_groups_are_what_comparing_every_two_texts_gives(texts: list[str]) -> None:
    # Joined one pair after the other, each cosine written out.
    groups = list(range(len(texts)))
    for one, first in enumerate(texts):
        for other, second in enumerate(texts[:one]):
            cosine = plain_cosine(first, second)
            if abs(cosine - 0.7) < 1e-6:
                return
            if cosine > 0.7:
                groups = [groups[one] if group == groups[other] else group for group in groups]
    found = near_copy_groups(texts, "x.yaml")
    assert len(set(zip(groups, found, strict=True))) == len(set(groups)) == len(set(found))


def posts(rows: int, seed: int = 0) -> list[str]:
    """Texts of drawn words, a third of them earlier ones with a word changed."""
    rng, made = np.random.default_rng(seed), []
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuvwy"), size=rng.integers(2, 9))) for _ in range(4000)]
    weights = 1 / np.arange(1, len(words) + 1)
    for _ in range(rows):
        own = list(rng.choice(words, size=12, p=weights / weights.sum()))
        if made and rng.random() < 0.33:
            own = made[rng.integers(len(made))].split()
            own[rng.integers(12)] = words[rng.integers(len(words))]
        made.append(" ".join(own))
    return made


@pytest.fixture
def own_data(tmp_path: Path, tokenizer_folder) -> Path:
    with open(tmp_path / "posts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([text, "aab"[number % 3]] for number, text in enumerate(posts(400)))
    content = {
        "name": "posts",
        "labels": ["a", "b"],
        "files": [{"path": "posts.csv", "columns": {"text": "text", "label": "label"}}],
        "cleaning": {"profile": "none", "duplicates": "text"},
        "split": {"near_copies": "together"},
        "tokenizer_name_or_path": str(tokenizer_folder),
    }
    (tmp_path / "posts.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_near_copies_stay_together(own_data: Path) -> None:
    spec = load_spec(own_data / "posts.yaml")
    prepared = load_prepared(prepare(spec, own_data, own_data / "one", num_proc=1))
    # By the search that runs use, which compares with every training text.
    assert near_copies(prepared) == {"validation": frozenset(), "test": frozenset()}
    splits = {name: texts_of(rows.to_dict()) for name, rows in prepared.dataset.items()}
    assert largest_cosines(splits["test"], splits["validation"]).max() < 0.7
    # The shares hold, over all rows and within a label.
    total = sum(map(len, splits.values()))
    for name, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
        assert len(splits[name]) / total == pytest.approx(share, abs=0.02)
        assert np.mean(np.array(prepared.dataset[name]["label"]) == 0) == pytest.approx(2 / 3, abs=0.05)
    again = load_prepared(prepare(spec, own_data, own_data / "again", num_proc=1))
    assert all(again.dataset[name]["text"] == prepared.dataset[name]["text"] for name in splits)
    report = (own_data / "one" / "report.md").read_text(encoding="utf-8")
    assert "rows are near-copies of others, in" in report
    # Without the option some are on both sides.
    content = yaml.safe_load((own_data / "posts.yaml").read_text()) | {"split": {}}
    (own_data / "posts.yaml").write_text(yaml.safe_dump(content))
    plain = load_prepared(prepare(load_spec(own_data / "posts.yaml"), own_data, own_data / "plain", num_proc=1))
    assert near_copies(plain)["test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"near_copies": "together", "by": "time"}}, "contradicts split.by: time"),
        ({"split": {"near_copies": "apart"}}, "near_copies"),
    ],
)
def test_what_contradicts_it_is_refused(own_data: Path, changes: dict, message: str) -> None:
    content = yaml.safe_load((own_data / "posts.yaml").read_text()) | changes
    (own_data / "posts.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        load_spec(own_data / "posts.yaml")


def test_too_many_texts_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_PRODUCTS", 10)
    with pytest.raises(UserError, match="x.yaml: split.near_copies: comparing 40 texts"):
        near_copy_groups(posts(40), "x.yaml")


@pytest.mark.slow
def test_sixty_thousand_texts_are_grouped_in_minutes() -> None:
    texts = posts(60_000)
    started = time.process_time()
    groups = near_copy_groups(texts, "x.yaml")
    assert time.process_time() - started < 900
    assert 20_000 < len(np.unique(groups)) < 45_000
