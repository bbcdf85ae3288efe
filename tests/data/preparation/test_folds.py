"""A training split cut into folds, each a data set of its own that holds nothing of the test split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from opinionlm.config.options import ModelConfig
from opinionlm.data.contamination import refuse_seen_texts, save_seen_texts
from opinionlm.data.preparation.folds import fold_numbers, write_fold
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.prepared import MANIFEST, PreparedDataset, load_prepared
from opinionlm.errors import UserError


@pytest.fixture(scope="module")
def prepared(repository, tmp_path_factory) -> PreparedDataset:
    dataset, folder = repository / "configs" / "datasets" / "sample.yaml", tmp_path_factory.mktemp("prepared")
    return prepare_or_load(str(dataset), repository / "data", folder)


@pytest.mark.parametrize("number", [2, 5])
def test_folds_share_out_every_label(number: int) -> None:
    labels = np.random.default_rng(0).choice(4, 203, p=[0.7, 0.2, 0.08, 0.02])
    fold_of = fold_numbers(labels, number, seed=1)
    for label in range(4):
        counts = np.bincount(fold_of[labels == label], minlength=number)
        assert counts.max() - counts.min() <= 1
    assert (fold_of == fold_numbers(labels, number, seed=1)).all()
    assert (fold_of != fold_numbers(labels, number, seed=2)).any()


def test_a_fold_trains_on_the_others_and_has_its_rows_as_test(prepared, tmp_path) -> None:
    texts = prepared.dataset["train"]
    held_out = fold_numbers(np.asarray(texts["label"]), 3, 0) == 1
    write_fold(prepared, texts, held_out, tmp_path / "fold1")
    fold = load_prepared(tmp_path / "fold1")
    ids = {name: list(split["id"]) for name, split in fold.dataset.items()}
    everything = np.array(texts["id"])
    assert ids["train"] == everything[~held_out].tolist() and ids["test"] == everything[held_out].tolist()
    assert ids["validation"] == list(prepared.dataset["validation"]["id"])
    assert fold.is_fold and not prepared.is_fold
    assert replace(fold, dataset=None, fingerprint="", path=None, is_fold=False) == replace(
        prepared, dataset=None, fingerprint="", path=None
    )
    # The same rows leave it alone; others take its place.
    written = (tmp_path / "fold1" / MANIFEST).stat().st_mtime_ns
    write_fold(prepared, texts, held_out, tmp_path / "fold1")
    assert (tmp_path / "fold1" / MANIFEST).stat().st_mtime_ns == written
    write_fold(prepared, texts, ~held_out, tmp_path / "fold1")
    assert list(load_prepared(tmp_path / "fold1").dataset["test"]["id"]) == ids["train"]


def test_pretraining_may_have_read_a_fold_but_no_validation_text(prepared, tmp_path) -> None:
    texts = prepared.dataset["train"]
    write_fold(prepared, texts, np.arange(len(texts)) < 300, tmp_path / "fold")
    fold, model = load_prepared(tmp_path / "fold"), tmp_path / "model"
    model.mkdir()
    save_seen_texts(model, ModelConfig(model_name_or_path=""), texts["text"])
    refuse_seen_texts(ModelConfig(model_name_or_path=str(model)), fold)
    save_seen_texts(model, ModelConfig(model_name_or_path=""), fold.dataset["validation"]["text"])
    with pytest.raises(UserError, match="validation split"):
        refuse_seen_texts(ModelConfig(model_name_or_path=str(model)), fold)
