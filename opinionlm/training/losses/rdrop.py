"""R-Drop: two passes over each example, with different dropout, should say the same (Liang et al. 2021)."""

from __future__ import annotations

import torch
from torch import nn
from transformers.modeling_outputs import ModelOutput

from opinionlm.errors import UserError
from opinionlm.training.losses.base import ExampleLoss


def divergences(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Symmetric divergence ½ (KL(P₁‖P₂) + KL(P₂‖P₁)) of two predictions per item, in nats (the paper's eq. 1).

    Args:
        first: logits of one pass ``(…, classes)``.
        second: logits of the other pass.

    Returns:
        float32 ``(…,)``.
    """
    one, other = first.float().log_softmax(dim=-1), second.float().log_softmax(dim=-1)
    # KL(P‖Q) + KL(Q‖P) = Σ (P − Q)(log P − log Q)
    return 0.5 * ((one.exp() - other.exp()) * (one - other)).sum(dim=-1)


def batch_sum(
    model: nn.Module, inputs: dict[str, torch.Tensor], labels: torch.Tensor, loss: ExampleLoss, alpha: float = 0.0
) -> tuple[torch.Tensor, ModelOutput]:
    """Sum over a batch of weight times loss, the numerator of a step's weighted mean, with R-Drop for α above 0.

    R-Drop reads the batch twice in one doubled batch. An item's loss is then the mean of its two losses plus α times
    the divergence of its two predictions, and counts by the item's weight like any loss; so the mean over the step
    stays exact under accumulation. The paper's eq. 3 has the sum of the two losses: its α is twice ours. The mean is
    what the authors' code shows, and leaves the size of the loss, and with it the learning rate, as it is without.

    Args:
        model: the classifier, possibly wrapped for distribution.
        inputs: a batch without labels, every tensor with one row per text.
        labels: ids ``(batch,)`` or ``(batch, length)``, or scores.
        loss: of one item.
        alpha: weight of the divergence; 0 reads the batch once.

    Returns:
        A float32 scalar and the model's outputs (of the doubled batch under R-Drop).
    """
    if alpha == 0:
        outputs = model(**inputs)
        return loss.weighted_sum(outputs.logits, labels), outputs
    outputs = model(**{name: torch.cat([value, value]) for name, value in inputs.items()})
    first, second = outputs.logits.chunk(2)
    mean = 0.5 * (loss.weighted_sum(first, labels) + loss.weighted_sum(second, labels))
    return mean + alpha * (loss.example_weights(labels) * divergences(first, second)).sum(), outputs


def require_dropout(model: nn.Module, batch: dict[str, torch.Tensor], source: str) -> None:
    """Refuse R-Drop where both passes would be the same.

    Args:
        model: its adaptation applied; a frozen prefix and stored states have no dropout.
        batch: as the collator makes it, on any device.
        source: of the options, for the message.

    Raises:
        UserError: nothing in the model is dropped.
    """
    mode = model.training
    model.train()
    try:
        if any(isinstance(module, nn.Dropout) and module.training and module.p > 0 for module in model.modules()):
            return
        # Some families drop attention by a function, which leaves no module to be found.
        device = next(model.parameters()).device
        inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
        with torch.random.fork_rng(), torch.no_grad():
            first, second = (model(**inputs).logits for _ in range(2))
    finally:
        model.train(mode)
    if torch.equal(first, second):
        raise UserError(
            f"{source}: rdrop_alpha: nothing in what trains has dropout, so both passes are the same; set "
            "classifier_dropout above 0, or leave rdrop_alpha out"
        )
