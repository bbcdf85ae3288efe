"""Every loss that a config can ask for: which one it is, exact under accumulation, refused where it has no effect."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainerState

from opinionlm.config.config import Config
from opinionlm.config.method_options import Loss, MethodConfig
from opinionlm.config.parser import parse_config
from opinionlm.config.unread import refuse_unread
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.tasks import task_for
from opinionlm.training.losses import base as losses
from opinionlm.training.losses import hierarchical as tree_losses
from opinionlm.training.losses import imbalance
from opinionlm.training.losses.base import split_loss
from opinionlm.training.losses.imbalance import DeferredWeighting, loss_callbacks
from opinionlm.training.splits import Split
from tests.saved_classifier import LEAVES, TREE
from tests.tiny import tiny_classifier
from tests.training.test_exact_loss import assert_same, examples, first_step
from tests.training.test_loop import engine, of

COUNTS = [40, 20, 30, 2]
CLASSES = {
    "cross_entropy": losses.WeightedCrossEntropy,
    "logit_adjusted": imbalance.LogitAdjustedCrossEntropy,
    "focal": imbalance.FocalLoss,
    "ldam": imbalance.MarginLoss,
    "tree_conditional": tree_losses.ConditionalTreeCrossEntropy,
    "tree_marginal": tree_losses.MarginalTreeCrossEntropy,
    "tree_soft": tree_losses.SoftTreeCrossEntropy,
}


def prepared_tree(tree: object = TREE) -> PreparedDataset:
    return PreparedDataset(
        dataset=None, taxonomy=Taxonomy.from_tree(tree), name="posts", fingerprint="0" * 64, path=Path("posts")
    )


def train_split() -> Split:
    labels = [label for label, count in enumerate(COUNTS) for _ in range(count)]
    rows = Dataset.from_dict({"labels": labels, "length": [3] * len(labels)})
    return Split(rows, rows, np.arange(len(labels)))


def chosen(prepared: PreparedDataset | None = None, **options) -> losses.ExampleLoss:
    return task_for(prepared or prepared_tree(), Config(method=MethodConfig(**options))).loss(train_split())


def parse(*arguments: str) -> Config:
    return parse_config(list(arguments), "test")


@pytest.mark.parametrize("name", [name for name in get_args(Loss) if name != "asymmetric"])
def test_each_name_is_its_loss_and_trains_exactly(name: str, tmp_path) -> None:
    assert name in CLASSES, "a new loss: add its class to CLASSES above, and its tests to tests/training/losses"
    loss = chosen(loss=name)
    assert type(loss) is CLASSES[name]
    if name == "ldam":
        loss.start_weighting()
    model = tiny_classifier(single=True, classifier_dropout=0.0, head_hidden_sizes=[32]).train()
    batch = PadCollator(pad_token_id=0)(list(examples()))
    value = loss(model(**{key: tensor for key, tensor in batch.items() if key != "labels"}).logits, batch["labels"])
    value.backward()
    reference = value.item(), {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert_same(first_step(tmp_path, 4, 4, loss=loss), reference)


def test_parameters_reach_their_loss() -> None:
    assert type(chosen(label_smoothing=0.1)) is imbalance.SmoothedCrossEntropy
    assert chosen(label_smoothing=0.1).smoothing == 0.1 and chosen(loss="focal", focal_gamma=1.0).gamma == 1.0
    halved, whole = (chosen(loss="logit_adjusted", logit_adjustment_tau=tau).adjustment for tau in (0.5, 1.0))
    torch.testing.assert_close(2 * halved, whole)
    torch.testing.assert_close(whole.exp(), torch.tensor(COUNTS) / sum(COUNTS))
    assert chosen(loss="ldam", ldam_scale=30.0).scale == 30.0 and chosen(loss="ldam").scale == 1.0
    assert chosen(loss="ldam", ldam_margin=0.3).margins.max().item() == pytest.approx(0.3)
    assert chosen(loss="tree_soft", tree_beta=1.0).targets.max() < chosen(loss="tree_soft").targets.max()
    # class_counts stand in for the training split's, for priors as for weights.
    counted = chosen(loss="logit_adjusted", class_counts=[1, 1, 1, 1]).adjustment
    assert counted.exp().tolist() == pytest.approx([0.25] * 4)


def test_class_weights() -> None:
    inverse = losses.inverse_frequency_weights(COUNTS)
    for name in ("cross_entropy", "focal", "tree_marginal", "tree_soft"):
        torch.testing.assert_close(chosen(loss=name).class_weights, inverse)
    for name in ("logit_adjusted", "tree_conditional"):
        assert chosen(loss=name).class_weights.tolist() == [1, 1, 1, 1], "adjusting is the whole medicine"
        torch.testing.assert_close(chosen(loss=name, class_weights="inverse_frequency").class_weights, inverse)
    effective = chosen(class_weights="effective_number", effective_number_beta=0.9).class_weights
    torch.testing.assert_close(effective, imbalance.effective_number_weights(COUNTS, 0.9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--focal_gamma", "1"], "focal_gamma: 1.0 is not read by loss: cross_entropy"),
        (["--loss", "focal", "--label_smoothing", "0.1"], "label_smoothing: 0.1 is not read by loss: focal"),
        (["--loss", "focal", "--tree_beta", "1"], "tree_beta: 1.0 is not read"),
        (["--effective_number_beta", "0.9"], "is not read by class_weights: auto (inverse_frequency)"),
        (["--class_weights", "effective_number", "--effective_number_beta", "1"], "below 1"),
        (["--loss", "ldam", "--class_weights", "none"], "leaves nothing to count by"),
        (["--loss", "ldam", "--class_weights", "inverse_frequency", "--ldam_reweight_from", "1"], "never count"),
        (["--loss", "focal", "--task", "token"], "loss: 'focal' is not read by task: token"),
        (
            ["--decision", "thresholds", "--task", "similarity"],
            "decision: 'thresholds' is not read by task: sim",
        ),
        (["--loss", "focal", "--engine", "tfidf"], "loss: 'focal' is not read by engine: tfidf"),
        (["--label_set_coverage", "1"], "label_set_coverage: 1.0 must be from 0.5 to 0.99"),
        (["--loss", "dice"], "'dice' is not one of cross_entropy"),
    ],
)
def test_options_without_effect_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_only_the_data_tell_is_refused() -> None:
    with pytest.raises(UserError, match="needs a label tree, and the labels of posts are flat"):
        chosen(prepared_tree(LEAVES), loss="tree_marginal")
    unread = parse("--loss", "focal", "--class_counts", "1", "2", "--dataset", "nowhere.yaml")
    with pytest.raises(UserError, match=r"class_counts: \[1, 2\], loss: 'focal' are not read by task: similarity"):
        refuse_unread(unread, task="similarity")
    with pytest.raises(UserError, match="class_counts: 2 numbers for 4 labels"):
        chosen(class_counts=[1, 2])
    with pytest.raises(UserError, match="loss: 'ldam' is not read by task: token; leave it out$"):
        refuse_unread(parse("--loss", "ldam", "--dataset", "nowhere.yaml"), task="token")
    with pytest.raises(UserError, match="--loss: unknown option"):
        parse_config(["--loss", "focal"], "test", "train_instruct")


def test_split_loss_is_the_weighted_mean() -> None:
    loss = chosen(loss="focal")
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 4
    assert split_loss(loss, logits, labels) == pytest.approx(loss(logits, labels).item(), abs=1e-6)


def test_counts_of_several_labels_are_of_the_texts_that_train() -> None:
    rows = Dataset.from_dict({"labels": [[1.0, 0.0, 0.0, 1.0]] * 3 + [[0.0, 1.0, 1.0, 0.0]] * 7, "length": [3] * 10})
    train, posts = Split(rows, rows, np.arange(10)), replace(prepared_tree(), task="multi_label")

    def loss(counts: list[int]) -> losses.ExampleLoss:
        method = MethodConfig(class_weights="inverse_frequency", class_counts=counts)
        return task_for(posts, Config(method=method)).loss(train)

    assert loss([1, 2, 5, 10]).weights.tolist() == pytest.approx([9, 4, 1, 0.1])
    with pytest.raises(UserError, match=f"class_counts: 11 for {LEAVES[2]}, and training reads 10 texts, .*leave"):
        loss([1, 2, 11, 5000])


def test_a_split_is_scored_by_one_loss_however_far_training_is() -> None:
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 4
    for name in CLASSES:
        loss = chosen(loss=name)
        before = split_loss(loss, logits, labels)
        for callback in loss_callbacks(loss, MethodConfig(ldam_reweight_from=0)):
            assert torch.equal(loss.example_weights(labels), torch.ones(50)), "evaluating is no start"
            callback.on_train_begin(None, TrainerState(max_steps=4), None)
            assert not torch.equal(loss.example_weights(labels), torch.ones(50))
        assert split_loss(loss, logits, labels) == before, name
    never = chosen(loss="ldam", ldam_reweight_from=1)
    assert split_loss(never, logits, labels) == pytest.approx(never(logits, labels).item(), abs=1e-6)


class Witness(DeferredWeighting):
    """Also notes after every step whether weights count."""

    def __init__(self, loss: imbalance.MarginLoss, share: float) -> None:
        super().__init__(loss, share)
        self.counted: list[bool] = []

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.counted.append(bool((self.loss.class_weights != 1).any()))


def margin_run(kind: str, folder: Path):
    """An engine over LDAM with deferred weights: nine steps, of which those from the sixth on are weighted."""
    # The examples are of the first two classes; they have to differ in weight.
    loss = chosen(loss="ldam", ldam_margin=0.5)
    witness = Witness(loss, 0.6)
    steps = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    return engine(kind, folder, [witness], loss=loss, save_total_limit=9, **(steps)), witness


@pytest.mark.parametrize("kind", ["trainer", "loop"])
def test_deferred_weights_start_on_time_and_resume_exactly(kind: str, tmp_path) -> None:
    whole, witness = margin_run(kind, tmp_path)
    whole.train()
    assert Counter(witness.counted) == {False: 6, True: 3} and witness.counted == sorted(witness.counted)
    for step, where in ((4, "before they start"), (8, "after")):
        again, _ = margin_run(kind, tmp_path)
        again.train(resume_from_checkpoint=str(tmp_path / kind / f"checkpoint-{step}"))
        assert of(again, "loss") == of(whole, "loss"), where
        for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
            assert torch.equal(one, other), where


def test_callbacks() -> None:
    assert loss_callbacks(chosen(), Config().method) == []
    config = Config(method=MethodConfig(loss="ldam", ldam_reweight_from=0.5))
    (callback,) = loss_callbacks(chosen(loss="ldam"), config.method)
    assert callback.share == 0.5
