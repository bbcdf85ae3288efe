"""How sensitive each attention and feed-forward sub-layer is to a task (AdaPT, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from opinionlm.errors import UserError
from opinionlm.models.sublayers import Sublayer

Example = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sensitivity:
    """What one pass over a sample measured, per sub-layer.

    Attributes:
        dispersion: ``(sub-layers,)`` index of dispersion of the output (equation 3).
        gradient_norm: ``(sub-layers,)`` mean norm of the gradient of one example's loss (equation 5).
        examples: number of examples.
    """

    dispersion: np.ndarray
    gradient_norm: np.ndarray
    examples: int

    def scores(self, beta: float, standardise: bool = True) -> np.ndarray:
        """Dispersion + beta · gradient norm (equation 6), by default each standardised across the sub-layers first.

        Args:
            beta: weight of the gradient norm.
            standardise: mean 0 and variance 1, so that beta weighs like with like; False sums the raw values.
        """
        if not standardise:
            return self.dispersion + beta * self.gradient_norm
        return standardised(self.dispersion) + beta * standardised(self.gradient_norm)


def standardised(values: np.ndarray) -> np.ndarray:
    """Values with mean 0 and variance 1; zeros where all are equal."""
    spread = values.std()
    # Equal values have the spread of their mean's rounding.
    varies = spread > 1e-13 * np.abs(values).max()
    return (values - values.mean()) / spread if varies else np.zeros_like(values)


def measure_sensitivity(
    model: PreTrainedModel,
    sublayers: Sequence[Sublayer],
    examples: Iterable[Example],
    loss_of: Callable[[PreTrainedModel, Example], torch.Tensor],
    epsilon: float = 1e-3,
) -> Sensitivity:
    """Measure dispersion and gradient norms in one pass, one example at a time.

    A gradient norm per example needs a gradient per example. Taken one by one they are exact for every family, no
    memory grows with a batch and nothing is padded; no dropout is applied, and no weight changes.

    The output of a sub-layer is read before the residual addition and averaged over an example's tokens. Its variance
    over the examples is divided by its absolute mean + epsilon, per dimension, and these are averaged.

    Args:
        model: whose ``loss_of`` an example gives the loss; the head should be warmed up.
        sublayers: what to measure.
        examples: batches of one example without padding.
        loss_of: scalar loss of an example.
        epsilon: keeps dimensions with a mean near 0 from deciding alone.

    Raises:
        UserError: if there are fewer than two examples.
    """
    outputs: dict[int, torch.Tensor] = {}

    def keep_mean(index: int) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            outputs[index] = output.detach().double().flatten(0, -2).mean(dim=0)

        return hook

    handles = [one.output.register_forward_hook(keep_mean(index)) for index, one in enumerate(sublayers)]
    mean = squares = norms = torch.zeros(())
    count = 0
    try:
        with gradients_of(model, [parameter for one in sublayers for parameter in one.parameters()]):
            for example in examples:
                loss_of(model, example).backward()
                count += 1
                norm = torch.stack([_gradient_norm(one) for one in sublayers])
                norms = norms + (norm - norms) / count if count > 1 else norm
                output = torch.stack([outputs[index] for index in range(len(sublayers))])
                # Welford's running mean and sum of squares: sums of squares alone would cancel.
                change = output - mean if count > 1 else output
                mean = mean + change / count if count > 1 else output
                squares = squares + change * (output - mean) if count > 1 else torch.zeros_like(output)
                model.zero_grad(set_to_none=True)
    finally:
        for handle in handles:
            handle.remove()
    if count < 2:
        raise UserError(f"sensitivity: a variance needs at least 2 training texts, found {count}")
    dispersion = (squares / count / (mean.abs() + epsilon)).mean(dim=1)
    return Sensitivity(dispersion.cpu().numpy(), norms.cpu().numpy(), count)


def _gradient_norm(sublayer: Sublayer) -> torch.Tensor:
    """Norm of all gradients of a sub-layer together, float64."""
    gradients = [parameter.grad for parameter in sublayer.parameters() if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients).double()


@contextmanager
def gradients_of(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode with gradients for these parameters alone; afterwards everything is as before."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    training = model.training
    model.eval()
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        for parameter, required in before.items():
            parameter.requires_grad_(required)
        model.train(training)


def warm_up_head(
    model: nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    steps: int = 100,
    learning_rate: float = 1e-3,
) -> float:
    """Train a head on fixed features: gradients through a random head would say nothing about the task.

    Args:
        model: the head; changed in place, its mode and ``requires_grad`` are left as they were.
        features: ``(texts, hidden)`` what the head gets.
        labels: ``(texts,)``.
        loss: of logits and labels.
        steps: of AdamW over all texts at once, without dropout.
        learning_rate: of these steps.

    Returns:
        The last loss.
    """
    with gradients_of(model, list(model.parameters())), torch.enable_grad():
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
        for _ in range(steps):
            optimizer.zero_grad()
            value = loss(model(features).float(), labels)
            value.backward()
            optimizer.step()
    return float(value.detach())
