"""A model that saw a text while it was pretrained is not evaluated on that text."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from opinionlm.config.options import ModelConfig
from opinionlm.data.contamination import SEEN_TEXTS, plain_texts, refuse_seen_texts, save_seen_texts, seen_among
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError


def prepared(**splits: list[str]) -> PreparedDataset:
    data = DatasetDict({name: Dataset.from_dict({"text": texts}) for name, texts in splits.items()})
    return PreparedDataset(data, None, "posts", "f" * 64, Path("posts"))


SAME = prepared(train=["one", "two"], validation=["three"], test=["four", "five"])
OTHER = prepared(train=["one", "four"], validation=["three"], test=["two", "five"])


def test_the_same_split_is_fine_and_another_one_is_not(tmp_path) -> None:
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path="somewhere/else"), ["one", "two"])
    refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path)), SAME)
    with pytest.raises(UserError, match="trained on 1 of the 2 texts of posts's test split"):
        refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path)), OTHER)
    refuse_seen_texts(ModelConfig(model_name_or_path="google/gemma-3-1b-pt"), OTHER)
    assert seen_among(ModelConfig(model_name_or_path=str(tmp_path)), ["two", "three", "one", "one"]) == 2
    assert seen_among(ModelConfig(model_name_or_path="google/gemma-3-1b-pt"), ["one"]) == 0


def test_what_an_earlier_round_saw_counts(tmp_path) -> None:
    for name, source, texts in (("first", "hub/model", ["four"]), ("second", str(tmp_path / "first"), ["one"])):
        (tmp_path / name).mkdir()
        save_seen_texts(tmp_path / name, ModelConfig(model_name_or_path=source), texts)
    with pytest.raises(UserError, match="1 of the 2 texts"):
        refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path / "second")), SAME)


def test_texts_that_the_training_split_holds_too_are_no_leak(tmp_path) -> None:
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path=""), ["yes"])
    refuse_seen_texts(
        ModelConfig(model_name_or_path=str(tmp_path)), prepared(train=["yes", "one"], validation=["yes"], test=["yes"])
    )


def test_a_damaged_note_is_named(tmp_path) -> None:
    (tmp_path / SEEN_TEXTS).write_bytes(b"not an array")
    with pytest.raises(UserError, match="seen_texts.npy cannot be read"):
        refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path)), SAME)


def test_the_note_stays_readable_by_other_versions(tmp_path) -> None:
    """Eight bytes of BLAKE2b, most significant first, sorted: notes lie beside models that were saved long ago."""
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path=""), ["two", "é", "two", "one"])
    digests = [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in ("one", "two", "é")]
    found = np.load(tmp_path / SEEN_TEXTS)
    assert found.dtype == np.uint64 and found.tolist() == sorted(int(digest, 16) for digest in digests)


def test_texts_of_every_task() -> None:
    pairs = Dataset.from_dict({"text": ["a", "b"], "text_pair": ["c", "d"]})
    assert plain_texts(pairs, "similarity") == ["a", "b", "c", "d"]
    assert plain_texts(pairs.remove_columns("text_pair"), "sequence") == ["a", "b"]
    assert plain_texts(Dataset.from_dict({"tokens": [["a", "b"], ["c"]]}), "token") == ["a b", "c"]
    with pytest.raises(UserError, match="text to text"):
        plain_texts(pairs, "summarization")


def test_validation_texts_count_as_well_as_test_texts(tmp_path) -> None:
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path=""), ["three"])
    with pytest.raises(UserError, match="trained on 1 of the 1 texts of posts's validation split"):
        refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path)), SAME)
    # A fold's test split holds training rows, its validation split does not.
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path=""), ["four"])
    refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path)), replace(SAME, is_fold=True))
    with pytest.raises(UserError, match="test split"):
        refuse_seen_texts(ModelConfig(model_name_or_path=str(tmp_path)), SAME)
