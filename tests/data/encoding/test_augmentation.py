"""Copies of the texts of rare labels: how many, of what, never of other splits, the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.augmentation import (
    MOST_COPIES,
    NEIGHBOURS,
    copies_per_label,
    mistyped,
    oversampled,
    perturbed,
    with_copies,
)
from opinionlm.errors import UserError
from tests.classifier_runs import train

COUNTS = {0: 30, 1: 20, 2: 12, 3: 3, 4: 25}


def rows() -> Dataset:
    labels = [label for label, count in COUNTS.items() for _ in range(count)]
    texts = [f"the coin number {number} fell today and nobody knows why" for number in range(len(labels))]
    ids = [f"post-{number}" for number in range(len(labels))]
    return Dataset.from_dict({"id": ids, "text": texts, "label": labels, "platform": ["reddit"] * len(labels)})


def test_counts_by_hand() -> None:
    # The median of 30, 20, 12, 3, 25 is 20: label 2 needs 8, label 3 needs 17 and gets no more than four per text.
    made = with_copies(rows(), 1.0, seed=1)
    assert Counter(made["label"]) == {0: 30, 1: 20, 2: 20, 3: 3 + 3 * MOST_COPIES, 4: 25}
    assert copies_per_label(made["id"], made["label"]) == {2: 8, 3: 12}
    # Three quarters of the median are 15.
    assert copies_per_label(*(with_copies(rows(), 0.75, seed=1)[name] for name in ("id", "label"))) == {2: 3, 3: 12}
    even = rows().select([row for row, label in enumerate(rows()["label"]) if label == 0])
    assert with_copies(even, 1.0, seed=1) is even


def test_oversampling_by_hand() -> None:
    texts = Dataset.from_dict({"id": list("abcdefg"), "label": [0, 0, 0, 0, 1, 1, 2]})
    again = oversampled(texts, 3, seed=5)
    assert again["id"][:7] == texts["id"]
    # Label 0 has enough; the others' rows are taken in turn.
    assert Counter(again["label"]) == {0: 4, 1: 3, 2: 3}
    assert Counter(again["id"])["g"] == 3 and sorted(Counter(again["id"])[name] for name in "ef") == [1, 2]
    assert oversampled(texts, 3, seed=5)["id"] == again["id"]


def test_copies_are_marked_and_of_their_texts() -> None:
    original, made = rows(), with_copies(rows(), 1.0, seed=1)
    assert made.features == original.features
    for name in original.column_names:
        assert list(made[name])[: len(original)] == list(original[name]), "the texts themselves come first, unchanged"
    of = dict(zip(original["id"], original, strict=True))
    copies = made.select(range(len(original), len(made)))
    for copy in copies:
        source = of[copy["id"].split("~copy")[0]]
        assert copy["label"] == source["label"] and copy["platform"] == source["platform"]
        assert copy["text"] != source["text"]
    assert len(set(copies["id"])) == len(copies)


def test_the_seed_decides() -> None:
    first, again, other = (list(with_copies(rows(), 1.0, seed)["text"]) for seed in (1, 1, 2))
    assert first == again != other


@given(st.text(max_size=60), st.integers(0, 1000))
def test_a_copy_stays_close(text: str, seed: int) -> None:
    words, changed = text.split(), perturbed(text, np.random.default_rng(seed)).split()
    times = max(1, round(0.1 * len(words)))
    assert len(words) - times <= len(changed) <= len(words)
    kept = Counter(words) & Counter(changed)
    assert sum(kept.values()) >= len(words) - times


def test_typos_are_of_neighbouring_keys() -> None:
    assert set(NEIGHBOURS["q"]) == {"w"} and set(NEIGHBOURS["g"]) == {"f", "h"} and set(NEIGHBOURS["m"]) == {"n"}
    random = np.random.default_rng(0)
    for _ in range(50):
        found = mistyped("Hodl2", random)
        (place,) = [at for at in range(5) if found[at] != "Hodl2"[at]]
        assert found[place].lower() in NEIGHBOURS["Hodl2"[place].lower()]
        assert found[place].isupper() == (place == 0)
    for word in ("$btc", "#moon", "@elon", "https://x.com", "123", ""):
        assert mistyped(word, random) == word


def test_a_run_says_what_it_copied(setting, tmp_path, capsys) -> None:
    # Forty texts drawn at random are of labels that are not equally frequent.
    options = {"output_dir": tmp_path, "num_train_epochs": "1", "max_train_samples": "40"}
    plain = train(setting, **options, run_name="plain")
    metrics = train(setting, **options, run_name="copied", augment_rare="1")
    copies = metrics["train"]["copies"]
    assert copies and set(copies) <= {"noise", "objective", "positive", "negative"} and "copies" not in plain["train"]
    assert f"; {sum(copies.values())} of train are copies, of" in capsys.readouterr().out
    tables = [(tmp_path / name / "predictions" / "test.csv").read_text() for name in ("plain", "copied")]
    assert tables[0].count("\n") == tables[1].count("\n") and "~copy" not in tables[1]
    assert json.loads((tmp_path / "copied" / "metrics.json").read_text()) == metrics


def test_what_makes_no_sense_is_refused() -> None:
    for arguments, message in (
        (["--augment_rare", "2"], "augment_rare: 2.0 must be from 0"),
        (["--augment_rare", "1", "--task", "token"], "augment_rare: 1.0 is not read by task: token"),
        (["--augment_rare", "1", "--engine", "tfidf"], "augment_rare: 1.0 is not read by engine: tfidf"),
    ):
        with pytest.raises(UserError, match=message):
            parse_config(arguments, "test")
