"""Which sub-layers train: the most sensitive ones that a budget of parameters allows (AdaPT, section 3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from opinionlm.adaptation.adapt.sensitivity import Sensitivity
from opinionlm.errors import UserError
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import weight_count
from opinionlm.models.sublayers import Kind, Sublayer, sublayers_of
from opinionlm.models.task_embedding import task_rows


@dataclass(frozen=True)
class ScoredModule:
    """A sub-layer, what was measured and what came of it.

    Attributes:
        block: index of its block, lowest first.
        kind: attention or feed_forward.
        parameters: number of its weights.
        dispersion: index of dispersion of its output.
        gradient_norm: mean gradient norm per example.
        score: the combination.
        rank: 1 for the highest score.
        selected: whether it trains.
    """

    block: int
    kind: Kind
    parameters: int
    dispersion: float
    gradient_norm: float
    score: float
    rank: int
    selected: bool


@dataclass(frozen=True)
class Selection:
    """The sub-layers that train, and why.

    Attributes:
        modules: all sub-layers, lowest first.
        total_parameters: of the backbone, task-token rows not counted.
        task_parameters: in the rows of task tokens, which train beside the budget.
        budget: share of ``total_parameters`` that the selected sub-layers may have.
        beta: weight of the gradient norm in the score.
        standardise: whether both measures were standardised before.
        examples: that were measured.
    """

    modules: tuple[ScoredModule, ...]
    total_parameters: int
    task_parameters: int
    budget: float
    beta: float
    standardise: bool
    examples: int

    @property
    def selected_parameters(self) -> int:
        """Weights of the selected sub-layers."""
        return sum(module.parameters for module in self.modules if module.selected)

    @property
    def share(self) -> float:
        """Of the backbone's parameters that the selected sub-layers have."""
        return self.selected_parameters / self.total_parameters

    @property
    def share_with_task_tokens(self) -> float:
        """The same with the rows of task tokens counted as trained and as part of the model."""
        return (self.selected_parameters + self.task_parameters) / (self.total_parameters + self.task_parameters)

    @property
    def lowest_block(self) -> int:
        """Index of the lowest block with a selected sub-layer."""
        return min(module.block for module in self.modules if module.selected)

    def table(self) -> str:
        """All sub-layers by rank, as lines to read."""
        lines = [f"{'rank':>4}  {'module':16}  {'parameters':>11}  {'dispersion':>10}  {'gradient':>9}  {'score':>7}"]
        for module in sorted(self.modules, key=lambda one: one.rank):
            lines.append(
                f"{module.rank:4}  {f'{module.block}.{module.kind}':16}  {module.parameters:11,}  "
                f"{module.dispersion:10.4g}  {module.gradient_norm:9.4g}  {module.score:7.3f}"
                + ("  selected" if module.selected else "")
            )
        lines.append(
            f"{self.selected_parameters:,} of {self.total_parameters:,} parameters train: {self.share:.1%}, budget "
            f"{self.budget:.0%}; {self.share_with_task_tokens:.1%} with {self.task_parameters:,} of task tokens"
        )
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        content = asdict(self) | {
            "selected_parameters": self.selected_parameters,
            "share": self.share,
            "share_with_task_tokens": self.share_with_task_tokens,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Selection:
        """Read what `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        modules = tuple(ScoredModule(**module) for module in content["modules"])
        names = ("total_parameters", "task_parameters", "budget", "beta", "standardise", "examples")
        return cls(modules, *(content[name] for name in names))


def select_modules(
    model: OpinionClassifier,
    sensitivity: Sensitivity,
    budget: float,
    beta: float = 1.0,
    standardise: bool = True,
) -> Selection:
    """Take sub-layers by falling score as long as they fit: one that does not is passed over for smaller ones.

    Equal scores go to the lower block, attention first, so that equal measurements give equal selections.

    Args:
        model: whose sub-layers were measured.
        sensitivity: from `measure_sensitivity` over `sublayers_of` the backbone.
        budget: share of the backbone's parameters, above 0 and at most 1; 1 takes every sub-layer.
        beta: weight of the gradient norm.
        standardise: whether the two measures are standardised first.

    Raises:
        UserError: if the budget is out of range, or below the smallest sub-layer.
    """
    if not 0 < budget <= 1:
        raise UserError(
            f"sensitivity_budget: {budget} must be above 0 and at most 1; 0.2 trains 20 % of the parameters"
        )
    sublayers = sublayers_of(model.backbone)
    rows = task_rows(model.backbone)
    added = 0 if rows is None else rows.numel()
    total = sum(weight_count(parameter) for parameter in model.backbone.parameters()) - added
    sizes, scores = [one.size() for one in sublayers], sensitivity.scores(beta, standardise)
    order = sorted(range(len(sublayers)), key=lambda index: (-scores[index], index))
    chosen = affordable(sizes, order, budget * total)
    if not chosen:
        raise UserError(
            f"sensitivity_budget: {budget:.2%} of {total:,} parameters is less than the smallest sub-layer has "
            f"({min(sizes):,}); give at least {min(sizes) / total:.2%}"
        )
    modules = tuple(
        ScoredModule(
            one.block,
            one.kind,
            sizes[index],
            float(sensitivity.dispersion[index]),
            float(sensitivity.gradient_norm[index]),
            float(scores[index]),
            order.index(index) + 1,
            index in chosen,
        )
        for index, one in enumerate(sublayers)
    )
    return Selection(modules, total, added, budget, beta, standardise, sensitivity.examples)


def affordable(sizes: Sequence[int], order: Sequence[int], left: float) -> set[int]:
    """Which of some parts a budget allows, asked in an order: one that no longer fits is passed over."""
    chosen = set()
    for index in order:
        if sizes[index] <= left:
            chosen.add(index)
            left -= sizes[index]
    return chosen


def selected_sublayers(model: OpinionClassifier, selection: Selection) -> list[Sublayer]:
    """The sub-layers of a model that a selection names."""
    wanted = {(module.block, module.kind) for module in selection.modules if module.selected}
    return [one for one in sublayers_of(model.backbone) if (one.block, one.kind) in wanted]


def apply_selection(model: OpinionClassifier, selection: Selection) -> None:
    """Let the selected sub-layers, the head and the rows of task tokens train, and nothing else.

    Without task tokens everything below the lowest selected sub-layer runs without gradients, the blocks below its
    block as a frozen prefix. Rows of task tokens lie below all blocks: with them the gradient has to come through.
    """
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    trained: Sequence[Sublayer] = selected_sublayers(model, selection)
    for parameter in (parameter for one in trained for parameter in one.parameters()):
        parameter.requires_grad_(True)
    rows = task_rows(model.backbone)
    if rows is not None:
        rows.requires_grad_(True)
    model.freeze_prefix(selection.lowest_block if rows is None else 0)
