"""Soft labels: the loss by hand and by torch, exact under accumulation, the file, no change where nothing is soft."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.soft_labels import mixed_targets, read_soft_labels
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.training.losses.base import SoftTargetCrossEntropy, WeightedCrossEntropy
from tests.classifier_runs import train, write_setting
from tests.tiny import tiny_classifier
from tests.training.test_exact_loss import WEIGHTS, assert_same, examples, first_step

LEAVES = ["noise", "objective", "positive", "negative"]
TREE = Taxonomy.from_tree({"noise": None, "objective": None, "subjective": ["positive", "negative"]})


def drawn_targets(count: int) -> np.ndarray:
    return np.random.default_rng(2).dirichlet(np.ones(4), count).astype(np.float32)


def test_loss_by_hand() -> None:
    loss = SoftTargetCrossEntropy(torch.tensor([1.0, 3.0]))
    logits, targets = torch.tensor([[math.log(4), 0.0]]), torch.tensor([[0.25, 0.75]])
    # p = (4/5, 1/5); the weighted target is (1 · 1/4, 3 · 3/4).
    total = -(0.25 * math.log(0.8) + 2.25 * math.log(0.2))
    assert loss.example_weights(targets).item() == pytest.approx(2.5)
    assert loss.example_losses(logits, targets).item() == pytest.approx(total / 2.5)
    assert loss.weighted_sum(logits, targets).item() == pytest.approx(total)


def test_torch_agrees_and_label_ids_count_as_ever() -> None:
    logits, targets = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.tensor(drawn_targets(6))
    loss = SoftTargetCrossEntropy(WEIGHTS)
    expected = torch.nn.functional.cross_entropy(logits, targets, weight=WEIGHTS, reduction="sum")
    torch.testing.assert_close(loss.weighted_sum(logits, targets), expected)
    labels = torch.tensor([0, 3, -100, 2, 1, 1])
    torch.testing.assert_close(loss(logits, labels), WeightedCrossEntropy(WEIGHTS)(logits, labels))
    hard = torch.nn.functional.one_hot(labels.clamp(min=0), 4).float() * (labels >= 0).float()[:, None]
    torch.testing.assert_close(loss(logits, hard), loss(logits, labels))
    filler = torch.zeros(1, 4)
    assert loss.example_weights(filler).item() == loss.weighted_sum(logits[:1], filler).item() == 0


# With two texts per batch and 13 texts the last batch is smaller.
@pytest.mark.parametrize(("batch", "accumulation", "count"), [(16, 1, 16), (4, 4, 13), (2, 8, 13)])
def test_accumulation_equals_one_big_batch(batch: int, accumulation: int, count: int, tmp_path) -> None:
    targets = drawn_targets(count)
    model = tiny_classifier(single=True, classifier_dropout=0.0, head_hidden_sizes=[32]).train()
    inputs = PadCollator(pad_token_id=0)(list(examples(count)))
    inputs.pop("labels")
    soft = torch.tensor(targets)
    total = torch.nn.functional.cross_entropy(model(**inputs).logits, soft, weight=WEIGHTS, reduction="sum")
    loss = total / (soft @ WEIGHTS).sum()
    loss.backward()
    reference = loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    soft_loss = SoftTargetCrossEntropy(WEIGHTS)
    assert_same(first_step(tmp_path, batch, accumulation, count, soft_loss, targets=targets), reference)


def write_soft(path: Path, rows: dict[str, list[float]], names: list[str] = LEAVES) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *(f"probability_{name}" for name in names)])
        writer.writerows([name, "whatever", *values] for name, values in rows.items())
    return path


def test_file_is_read_by_id_and_mixed(tmp_path) -> None:
    # The columns stand in another order, and a text that nobody asked for is passed over.
    path = write_soft(tmp_path / "soft.csv", {"b": [0, 0.5, 0, 0.5], "x": [1, 0, 0, 0], "a": [0.25] * 4}, LEAVES[::-1])
    soft = read_soft_labels(path, ["a", "b"], TREE)
    assert soft.tolist() == [[0.25] * 4, [0.5, 0, 0.5, 0]]
    targets = mixed_targets(np.array([3, 0]), soft, 0.4)
    np.testing.assert_allclose(targets, [[0.1, 0.1, 0.1, 0.7], [0.8, 0, 0.2, 0]], atol=1e-7)
    assert targets.dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ({"a": [0.25] * 3}, LEAVES[:3], "has no column probability_negative"),
        ({"a": [0.25] * 4}, LEAVES, "has none for 1 of the 2 training texts, the first one 'b'"),
        ({"a": [0.5, 0.6, 0, 0], "b": [1, 0, 0, 0]}, LEAVES, "soft.csv:2: 0.5, 0.6, 0, 0 are no probabilities"),
        ({"a": ["nan", 1, 0, 0], "b": [1, 0, 0, 0]}, LEAVES, "soft.csv:2: nan, 1, 0, 0 are no probabilities"),
        ({"a": [1.5, -0.5, 0, 0], "b": [1, 0, 0, 0]}, LEAVES, "are no probabilities"),
        ({"a": ["", 1, 0, 0], "b": [1, 0, 0, 0]}, LEAVES, "are no probabilities"),
        ({"a": [1, 0, 0], "b": [1, 0, 0, 0]}, LEAVES, "are no probabilities"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(rows: dict, names: list[str], message: str, tmp_path) -> None:
    with pytest.raises(UserError) as caught:
        read_soft_labels(write_soft(tmp_path / "soft.csv", rows, names), ["a", "b"], TREE)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path) -> None:
    with pytest.raises(UserError, match="soft_labels: .*absent.csv cannot be read"):
        read_soft_labels(tmp_path / "absent.csv", ["a"], TREE)
    path = write_soft(tmp_path / "soft.csv", {"a": [0.25] * 4})
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(UserError, match="soft.csv:3: id 'a' stands there twice"):
        read_soft_labels(path, ["a"], TREE)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="has no column id"):
        read_soft_labels(tmp_path / "empty.csv", ["a"], TREE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--soft_label_share", "0.3"], "soft_label_share: 0.3 is not read without soft_labels"),
        (["--soft_labels", "a.csv", "--soft_label_share", "0"], "must be above 0 and at most 1"),
        (["--soft_labels", "a.csv", "--loss", "focal"], "are targets of plain cross entropy"),
        (["--soft_labels", "a.csv", "--label_smoothing", "0.1"], "are targets of plain cross entropy"),
        (["--soft_labels", "a.csv", "--engine", "tfidf"], "soft_labels: 'a.csv' is not read by engine: tfidf"),
        (["--soft_labels", "a.csv", "--augment_rare", "1"], "makes copies that soft_labels say nothing of"),
        (["--soft_labels", "a.csv", "--task", "token"], "soft_labels: 'a.csv' is not read by task: token"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(arguments, "test")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("soft")
    return write_setting(folder) | {"output_dir": str(folder / "outputs"), "num_train_epochs": "1"}


def training_rows(setting: dict[str, str]) -> Dataset:
    return prepare_or_load(setting["dataset"], Path(setting["data_dir"]), Path(setting["prepared_dir"])).dataset[
        "train"
    ]


def predictions(setting: dict[str, str], run: str) -> list[dict[str, str]]:
    with open(Path(setting["output_dir"]) / run / "predictions" / "test.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def plain(setting) -> dict:
    """A run without soft labels."""
    return train(setting, run_name="plain")


@pytest.mark.parametrize("engine", ["trainer", "loop"])
def test_soft_labels_that_repeat_the_labels_change_nothing(engine: str, setting, plain, tmp_path) -> None:
    rows = training_rows(setting)
    one_hot = {name: np.eye(4)[label].tolist() for name, label in zip(rows["id"], rows["label"], strict=True)}
    path = write_soft(tmp_path / "soft.csv", one_hot)
    soft = train(setting, run_name=f"soft-{engine}", engine=engine, soft_labels=path, soft_label_share=0.7)
    assert soft["validation"]["loss"] == pytest.approx(plain["validation"]["loss"], abs=1e-5)
    for one, other in zip(predictions(setting, "plain"), predictions(setting, f"soft-{engine}"), strict=True):
        assert one["predicted"] == other["predicted"]
        assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-4)


def test_soft_labels_alone_teach_what_they_say(setting, tmp_path) -> None:
    rows = training_rows(setting)
    path = write_soft(tmp_path / "soft.csv", {name: [0, 0, 1, 0] for name in rows["id"]})
    options = {"soft_labels": path, "soft_label_share": 1.0, "class_weights": "none", "learning_rate": "1e-2"}
    train(setting, run_name="positive", num_train_epochs=3, **options)
    assert {row["predicted"] for row in predictions(setting, "positive")} == {"positive"}
    stored = json.loads((Path(setting["output_dir"]) / "positive/metrics.json").read_text())
    assert stored["test"]["accuracy"] < 0.6
    card = (Path(setting["output_dir"]) / "positive/best/README.md").read_text()
    assert "| loss | cross_entropy, soft labels 100% of the target |" in card
