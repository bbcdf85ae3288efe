"""The hierarchical metrics as the evaluate library loads them from the repository."""

from __future__ import annotations

from pathlib import Path

import evaluate
import numpy as np
import pytest

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.hierarchical import hierarchical_scores, mistake_severity

MODULE = Path(__file__).resolve().parents[2] / "metrics" / "hierarchical_f1"
TREE = {"noise": None, "subjective": {"neutral": ["question", "other"], "positive": None}}


@pytest.fixture(scope="module")
def metric(tmp_path_factory, module_patch):
    return evaluate.load(str(MODULE), cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def module_patch(tmp_path_factory):
    """Modules are copied to a folder of this test and not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield patch


def test_values_by_hand(metric) -> None:
    # {subjective, neutral, question} against {subjective, positive}: 1 of 3 and 1 of 2; and one right {noise}.
    found = metric.compute(predictions=["question", "noise"], references=["positive", "noise"], label_tree=TREE)
    assert found["hierarchical_precision"] == pytest.approx(2 / 4)
    assert found["hierarchical_recall"] == pytest.approx(2 / 3)
    assert found["hierarchical_f1"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert found["mistake_severity"] == 2 and found["accuracy"] == 0.5 and found["level1_accuracy"] == 1


def test_equals_our_own_scores(metric) -> None:
    taxonomy = Taxonomy.from_tree(TREE)
    gold, predicted = np.random.default_rng(0).integers(0, len(taxonomy.leaves), (2, 200))
    names = np.array(taxonomy.leaves)
    found = metric.compute(predictions=names[predicted], references=names[gold], label_tree=TREE)
    assert hierarchical_scores(gold, predicted, taxonomy).items() <= found.items()
    assert found["mistake_severity"] == mistake_severity(gold, predicted, taxonomy)


def test_unknown_names_are_named(metric) -> None:
    with pytest.raises(UserError, match="'subjective' is no leaf of label_tree; the leaves are noise, question"):
        metric.compute(predictions=["subjective"], references=["noise"], label_tree=TREE)
