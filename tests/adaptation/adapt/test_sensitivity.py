"""Sensitivity by hand and against plain backward passes; selections that keep to their budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from opinionlm.adaptation.adapt.selection import Selection, apply_selection, select_modules, selected_sublayers
from opinionlm.adaptation.adapt.sensitivity import Sensitivity, measure_sensitivity, warm_up_head
from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.sublayers import Sublayer, sublayers_of
from opinionlm.models.task_embedding import add_task_rows, task_rows
from opinionlm.reporting.figures import save_figure
from opinionlm.reporting.sensitivity_figure import sensitivity_figure
from opinionlm.training.cost import train_flops_per_token
from tests.tiny import FAMILIES, tiny_classifier, tiny_config

Example = dict[str, torch.Tensor]


def examples(count: int = 3, seed: int = 1) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(count):
        ids = torch.randint(4, 300, (1, 3 + index), generator=generator)
        rows.append({"input_ids": ids, "labels": torch.randint(0, 4, (1,), generator=generator)})
    return rows


def loss_of(model: nn.Module, example: Example) -> torch.Tensor:
    return model(**example).loss


def measured(model: OpinionClassifier) -> Sensitivity:
    return measure_sensitivity(model, sublayers_of(model.backbone), examples(), loss_of)


def test_dispersion_and_gradient_norm_by_hand() -> None:
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    # Token means (1, 4) and (3, 8): means 2 and 6, variances 1 and 4.
    texts = [{"x": torch.tensor([[[0.0, 2.0], [2.0, 2.0]]])}, {"x": torch.tensor([[[3.0, 4.0]]])}]
    sublayer = Sublayer(0, "attention", (layer,), layer)
    result = measure_sensitivity(layer, [sublayer], texts, lambda model, text: model(text["x"]).sum(), epsilon=0.0)
    assert result.dispersion == pytest.approx([(1 / 2 + 4 / 6) / 2])
    # The gradient of the sum: both rows are the sum over tokens, (2, 4) and (3, 4).
    assert result.gradient_norm == pytest.approx([(np.sqrt(2 * (4 + 16)) + np.sqrt(2 * (9 + 16))) / 2])
    assert result.examples == 2
    wide = measure_sensitivity(layer, [sublayer], texts, lambda model, text: model(text["x"]).sum(), epsilon=2.0)
    assert wide.dispersion == pytest.approx([(1 / 4 + 4 / 8) / 2])


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_plain_backward_passes(family: str) -> None:
    model = tiny_classifier(family)
    sublayers = sublayers_of(model.backbone)
    result = measure_sensitivity(model, sublayers, examples(), loss_of)
    norms = []
    for example in examples():
        model.zero_grad()
        loss_of(model, example).backward()
        norms.append(
            [torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None]).norm() for one in sublayers]
        )
    assert result.gradient_norm == pytest.approx(np.mean(norms, axis=0), rel=1e-4)
    assert (result.gradient_norm > 0).all() and (result.dispersion > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_sublayers_share_out_the_blocks(family: str) -> None:
    backbone = new_backbone(tiny_config(family))
    sublayers = sublayers_of(backbone)
    assert [one.name for one in sublayers[:2]] == ["0.attention", "0.feed_forward"] and len(sublayers) == 8
    shared_out = [parameter for one in sublayers for parameter in one.parameters()]
    assert len(set(shared_out)) == len(shared_out)
    assert set(shared_out) == set(anatomy_of(backbone).blocks.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_output_is_what_the_residual_gets(family: str) -> None:
    # With nothing coming from it, a sub-layer changes nothing: the state before and after it are the same.
    model = tiny_classifier(family)
    states: dict[str, torch.Tensor] = {}

    def keep(module: nn.Module, inputs: tuple, named: dict, output: torch.Tensor | tuple) -> None:
        states["before"] = inputs[0] if inputs else named["hidden_states"]
        states["after"] = output[0] if isinstance(output, tuple) else output

    for sublayer in sublayers_of(model.backbone)[2:4]:
        sublayer.output.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    anatomy_of(model.backbone).blocks[1].register_forward_hook(keep, with_kwargs=True)
    model(**examples(1)[0])
    before = states["before"]
    if family in ("bert", "roberta", "xlm-roberta", "mpnet", "deberta-v2", "distilbert"):
        # These normalise after the residual; of a normalised state that changes nothing.
        before = nn.functional.layer_norm(before, before.shape[-1:], eps=1e-12)
    assert torch.allclose(states["after"], before, atol=1e-5)


def test_measuring_changes_nothing() -> None:
    model = tiny_classifier("bert").train()
    model.head.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    required = [parameter.requires_grad for parameter in model.parameters()]
    first, second = measured(model), measured(model)
    assert np.array_equal(first.dispersion, second.dispersion)
    assert np.array_equal(first.gradient_norm, second.gradient_norm)
    assert model.training and [parameter.requires_grad for parameter in model.parameters()] == required
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(one.output._forward_hooks for one in sublayers_of(model.backbone))


def test_one_text_has_no_variance() -> None:
    model = tiny_classifier("bert")
    with pytest.raises(UserError, match="at least 2 training texts, found 1"):
        measure_sensitivity(model, sublayers_of(model.backbone), examples(1), loss_of)


def test_scores_by_hand() -> None:
    sensitivity = Sensitivity(np.array([1.0, 2.0, 3.0]), np.array([10.0, 10.0, 40.0]), 2)
    z = np.array([-1.0, 0.0, 1.0]) / np.sqrt(2 / 3)
    g = np.array([-10.0, -10.0, 20.0]) / np.sqrt(200)
    assert sensitivity.scores(0.5) == pytest.approx(z + 0.5 * g)
    assert sensitivity.scores(0.5, standardise=False) == pytest.approx([6.0, 7.0, 23.0])
    flat = Sensitivity(np.ones(3), np.ones(3), 2)
    assert flat.scores(1.0) == pytest.approx(np.zeros(3))


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.15, 0.2, 0.5, 1.0])
def test_budget_is_kept_and_filled(budget: float) -> None:
    model = tiny_classifier("bert")
    model.backbone.embeddings.word_embeddings = nn.Embedding(16, 64)
    total = sum(parameter.numel() for parameter in model.backbone.parameters())
    sensitivity = measured_without_texts(model)
    smallest = min(one.size() for one in sublayers_of(model.backbone))
    if smallest > budget * total:
        with pytest.raises(UserError, match="less than the smallest sub-layer"):
            select_modules(model, sensitivity, budget)
        return
    selection = select_modules(model, sensitivity, budget)
    assert selection.selected_parameters <= budget * total == budget * selection.total_parameters
    left = budget * total - selection.selected_parameters
    assert all(module.selected or module.parameters > left for module in selection.modules)
    assert (budget < 1) or all(module.selected for module in selection.modules)
    best = min(selection.modules, key=lambda module: module.rank)
    assert best.selected or best.parameters > budget * total


def measured_without_texts(model: OpinionClassifier) -> Sensitivity:
    """Different values for every sub-layer."""
    generator, count = np.random.default_rng(0), len(sublayers_of(model.backbone))
    return Sensitivity(generator.random(count), generator.random(count), 100)


@pytest.mark.parametrize("budget", [0.0, -0.1, 1.1])
def test_budget_out_of_range(budget: float) -> None:
    model = tiny_classifier("bert")
    with pytest.raises(UserError, match="sensitivity_budget"):
        select_modules(model, measured_without_texts(model), budget)


def test_equal_scores_go_to_the_lower_block() -> None:
    model = tiny_classifier("bert")
    count = len(sublayers_of(model.backbone))
    selection = select_modules(model, Sensitivity(np.ones(count), np.ones(count), 2), 0.5)
    assert [module.rank for module in selection.modules] == list(range(1, count + 1))


@pytest.mark.usefixtures("drawn_figures")
def test_selection_is_reproducible_and_saved(tmp_path: Path) -> None:
    first, second = (
        select_modules(model, measured(model), 0.4) for model in (tiny_classifier("bert"), tiny_classifier("bert"))
    )
    assert first == second
    first.save(tmp_path / "new" / "selection.json")
    assert Selection.load(tmp_path / "new" / "selection.json") == first
    lines = first.table().splitlines()
    assert len(lines) == 10 and lines[1].startswith("   1") and "budget 40%" in lines[-1]
    save_figure(sensitivity_figure(first), tmp_path / "figure.png")
    names = [label.get_text() for label in sensitivity_figure(first).axes[0].get_yticklabels()]
    assert names[0] == "3 feed-forward" and names[-1] == "0 attention"


@pytest.mark.parametrize("family", ["bert", "gpt2", "gemma3_text", "t5"])
@pytest.mark.parametrize("with_task_tokens", [False, True])
def test_only_what_is_selected_trains(family: str, with_task_tokens: bool) -> None:
    model = tiny_classifier(family)
    if with_task_tokens:
        add_task_rows(model.backbone, 5)
    selection = select_modules(model, measured_without_texts(model), 0.3)
    assert selection.task_parameters == (5 * 64 if with_task_tokens else 0)
    apply_selection(model, selection)
    trained = {id(p) for one in selected_sublayers(model, selection) for p in one.parameters()}
    trained |= {id(parameter) for parameter in model.head.parameters()}
    if with_task_tokens:
        trained.add(id(task_rows(model.backbone)))
    assert {id(parameter) for parameter in model.parameters() if parameter.requires_grad} == trained
    # Below the lowest selected block nothing is kept for a backward pass, unless task tokens train there.
    assert model.prefix_blocks == (0 if with_task_tokens else selection.lowest_block)
    blocks, seen = anatomy_of(model.backbone).blocks, {}
    for index, block in enumerate(blocks):
        block.register_forward_hook(
            lambda module, inputs, output, index=index: seen.update(
                {index: (output[0] if isinstance(output, tuple) else output).requires_grad}
            )
        )
    example = examples(1)[0]
    if with_task_tokens:
        example["input_ids"][0, 0] = model.backbone.get_input_embeddings().first_id
    model(**example).loss.backward()
    lowest = 0 if with_task_tokens else selection.lowest_block
    assert seen == {index: index >= lowest for index in range(len(blocks))}
    assert all((parameter.grad is not None) <= parameter.requires_grad for parameter in model.parameters())


def test_warm_up_trains_the_head_alone() -> None:
    model = tiny_classifier("bert")
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(40, 64, generator=generator), torch.arange(40) % 4
    features[torch.arange(40), labels] += 4.0
    before = [parameter.detach().clone() for parameter in model.backbone.parameters()]
    start = nn.functional.cross_entropy(model.head(features), labels).item()
    end = warm_up_head(model.head, features, labels, nn.functional.cross_entropy)
    assert end < 0.7 * start
    assert all(torch.equal(a, b) for a, b in zip(before, model.backbone.parameters(), strict=True))
    assert not model.head.training and all(parameter.grad is None for parameter in model.head.parameters())


@pytest.mark.parametrize("with_task_tokens", [False, True])
def test_flops_by_hand(with_task_tokens: bool) -> None:
    model = tiny_classifier("bert")
    if with_task_tokens:
        add_task_rows(model.backbone, 5)
    chosen = select_modules(model, measured_without_texts(model), 0.3)
    wanted = {(1, "feed_forward"), (2, "attention")}
    modules = tuple(replace(one, selected=(one.block, one.kind) in wanted) for one in chosen.modules)
    apply_selection(model, replace(chosen, modules=modules))
    attention, feed_forward = (one.size() for one in sublayers_of(model.backbone)[:2])
    blocks = 4 * (attention + feed_forward)
    # Gradients reach the task tokens through everything, else block 1's feed-forward network and what is above it.
    through = blocks if with_task_tokens else feed_forward + blocks / 2
    expected = 2 * blocks + 2 * through + 2 * (attention + feed_forward)
    assert train_flops_per_token(model, MethodConfig(adaptation="adapt")) == expected
