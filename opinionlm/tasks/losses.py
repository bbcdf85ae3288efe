"""From a config to the loss that training minimises, and to what changes it on the way."""

from __future__ import annotations

from collections.abc import Sequence

from opinionlm.config.config import Config
from opinionlm.config.task_checks import TREE_LOSSES
from opinionlm.config.unread import ADJUSTING_LOSSES, choice
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.training.losses.base import ExampleLoss, MeanSquaredError, SoftTargetCrossEntropy, WeightedCrossEntropy
from opinionlm.training.losses.hierarchical import (
    ConditionalTreeCrossEntropy,
    MarginalTreeCrossEntropy,
    SoftTreeCrossEntropy,
)
from opinionlm.training.losses.imbalance import (
    FocalLoss,
    LogitAdjustedCrossEntropy,
    MarginLoss,
    SmoothedCrossEntropy,
    WeightKind,
    class_weights_of,
)
from opinionlm.training.splits import Split, label_counts


def loss_for(train: Split, prepared: PreparedDataset, config: Config) -> ExampleLoss:
    """The loss that the config asks for, with its class weights.

    Raises:
        UserError: a loss over a label tree where there is none, or ``class_counts`` that do not name every class.
    """
    match prepared.task:
        case "sequence":
            return sequence_loss(train, prepared, config)
        case "token":
            counts = class_counts(train, prepared, prepared.tags, config)
            return WeightedCrossEntropy(class_weights_of(weight_kind(prepared, config), counts, config.method))
        case _:
            return MeanSquaredError()


def sequence_loss(train: Split, prepared: PreparedDataset, config: Config) -> ExampleLoss:
    """The loss over the leaves of a label tree.

    Raises:
        UserError: see `loss_for`.
    """
    method, taxonomy = config.method, prepared.taxonomy
    if method.loss in TREE_LOSSES and taxonomy.depth == 1:
        raise UserError(
            f"{config.source}: loss: {method.loss!r} needs a label tree, and the labels of {prepared.name} are flat; "
            "use cross_entropy or logit_adjusted"
        )
    counts = class_counts(train, prepared, taxonomy.leaves, config)
    weights = class_weights_of(weight_kind(prepared, config), counts, method)
    match method.loss:
        case "cross_entropy" if config.robust.soft_labels is not None:
            return SoftTargetCrossEntropy(weights)
        case "cross_entropy" if method.label_smoothing > 0:
            return SmoothedCrossEntropy(weights, method.label_smoothing)
        case "cross_entropy":
            return WeightedCrossEntropy(weights)
        case "logit_adjusted":
            return LogitAdjustedCrossEntropy(weights, counts, method.logit_adjustment_tau)
        case "focal":
            return FocalLoss(weights, method.focal_gamma)
        case "ldam":
            return MarginLoss(weights, counts, method.ldam_margin, method.ldam_scale)
        case "tree_conditional":
            return ConditionalTreeCrossEntropy(weights, taxonomy, counts, method.logit_adjustment_tau)
        case "tree_marginal":
            return MarginalTreeCrossEntropy(weights, taxonomy)
        case "tree_soft":
            return SoftTreeCrossEntropy(weights, taxonomy, method.tree_beta)


def weight_kind(prepared: PreparedDataset, config: Config) -> WeightKind:
    """How classes are weighed, with ``class_weights: auto`` decided."""
    return choice(config, "class_weights", {"task": prepared.task})


def is_balanced(prepared: PreparedDataset, config: Config) -> bool:
    """Whether a model is trained to treat rare classes as frequent ones, by weights or by its loss."""
    return weight_kind(prepared, config) != "none" or config.method.loss in ADJUSTING_LOSSES


def class_counts(train: Split, prepared: PreparedDataset, names: Sequence[str], config: Config) -> list[int]:
    """Training examples per class: those of the config, or else of the training split.

    Raises:
        UserError: ``class_counts`` does not name every class.
    """
    given = config.method.class_counts
    if given is None:
        found = label_counts(train, prepared)
        return [found[label] for label in range(len(names))]
    if len(given) != len(names):
        raise UserError(
            f"{config.source}: class_counts: {len(given)} numbers for {len(names)} labels; give one per label in the "
            f"order {', '.join(names)}"
        )
    return given
