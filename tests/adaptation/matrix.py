"""Tries every method on every family and task and writes what works.

python -m tests.adaptation.matrix              # docs/methods_matrix.md, the whole of it
python -m tests.adaptation.matrix camembert    # a new column of it; the others stay
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

import opinionlm  # noqa: F401  (registers the model types)
from opinionlm.adaptation.callbacks import auxiliary_loss, training_callbacks
from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.method_options import Adaptation, MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.tagger import OpinionTagger
from tests.matrix_page import matrix_page, write_page
from tests.tiny import FAMILIES, LABELS, padded, tiny_config

# What trains under adapt is measured on data: tests/adaptation/adapt and tests/test_train_adapt.py.
METHODS = tuple(method for method in get_args(Adaptation) if method != "adapt")
TASKS = ("sequence", "multi_label", "token", "similarity")
TOTAL_STEPS = 10
ROWS = [[2, 11, 12, 13, 14, 15], [2, 30, 31]]


def method_config(method: str) -> MethodConfig:
    return MethodConfig(
        adaptation=method,
        lora_r=2,
        adalora_init_r=3,
        adalora_target_r=1,
        adapter_size=4,
        num_virtual_tokens=3,
        lisa_interval=1,
    )


def tiny_model(family: str, task: str) -> OpinionClassifier:
    torch.manual_seed(0)
    backbone = new_backbone(tiny_config(family))
    match task:
        case "sequence":
            return OpinionClassifier.from_backbone(backbone, LABELS)
        case "multi_label":
            return OpinionClassifier.from_backbone(backbone, LABELS, problem_type="multi_label_classification")
        case "token":
            return OpinionTagger.from_backbone(backbone, ("O", "B-x", "I-x"))
        case "similarity":
            return OpinionClassifier.from_backbone(backbone, ("score",), problem_type="regression")


def batch_of(task: str) -> dict[str, torch.Tensor]:
    batch = padded(ROWS, 7, "right")
    match task:
        case "sequence":
            batch["labels"] = torch.tensor([0, 3])
        case "multi_label":
            batch["labels"] = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
        case "token":
            batch["labels"] = torch.where(batch["attention_mask"].bool(), 1, -100)
        case "similarity":
            batch["labels"] = torch.tensor([0.5, 4.0])
            batch["token_type_ids"] = (torch.arange(7) > 2).long().expand(2, 7).contiguous()
    return batch


def expected_names(model: OpinionClassifier, method: str) -> set[str]:
    """Names of what must train, found another way than the code under test does it."""
    anatomy = anatomy_of(model.backbone)
    names = {name for name, _ in model.named_parameters()}
    norms = {
        f"{name}.{weight}"
        for name, module in model.backbone.named_modules(prefix="backbone")
        if "Norm" in type(module).__name__
        for weight, _ in module.named_parameters(recurse=False)
    }

    def inside(*modules: nn.Module | None) -> set[str]:
        wanted = {id(p) for module in modules if module is not None for p in module.parameters()}
        return {name for name, p in model.named_parameters() if id(p) in wanted}

    match method:
        case "full" | "layerwise_lr" | "lisa":
            chosen = names
        case "head_only":
            chosen = set()
        case "top_blocks":
            chosen = inside(anatomy.blocks[-1], anatomy.final_norm)
        case "bottom_frozen":
            chosen = inside(*anatomy.blocks[1:], anatomy.final_norm)
        case "bitfit":
            chosen = {name for name in names if name.endswith(".bias")}
        case "layernorm":
            chosen = norms
        case "lora" | "qlora" | "dora":
            chosen = {name for name in names if ".lora_" in name}
        case "adalora":
            chosen = {name for name in names if ".lora_" in name}
        case "ia3":
            chosen = {name for name in names if ".ia3_l." in name}
        case "pfeiffer":
            chosen = {name for name in names if ".adapter." in name}
        case "houlsby":
            chosen = norms | {name for name in names if ".adapter." in name}
        case _:
            chosen = {name for name in names if ".prompt_encoder." in name}
    return chosen | inside(model.head)


def run_cell(method: str, family: str, task: str) -> str:
    """Two optimizer steps, a save and a reload; ``works``, or the reason of a refusal."""
    model, options, batch = tiny_model(family, task), method_config(method), batch_of(task)
    try:
        apply_adaptation(model, options, TOTAL_STEPS)
    except UserError as refusal:
        return str(refusal)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained.keys() == expected_names(model, method), (method, family)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}

    state, control = TrainerState(), TrainerControl()
    arguments = TrainingArguments(use_cpu=True)
    callbacks = training_callbacks(model, options, TOTAL_STEPS)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    model.train()
    for _ in range(2):
        for callback in callbacks:
            callback.on_step_begin(arguments, state, control)
        loss = model(**batch).loss
        extra = auxiliary_loss(model)
        (loss if extra is None else loss + extra).backward()
        without = {name for name, p in trained.items() if p.requires_grad and p.grad is None}
        assert not without, f"no gradient: {sorted(without)[:3]}"
        optimizer.step()
        for callback in callbacks:
            callback.on_optimizer_step(arguments, state, control)
        optimizer.zero_grad()
        state.global_step += 1
        for callback in callbacks:
            callback.on_step_end(arguments, state, control)
    names = dict(model.named_parameters())
    assert all(torch.equal(names[name], before) for name, before in frozen.items())

    model.eval()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.save_pretrained(folder)
        assert (Path(folder) / "model.safetensors").is_file()
        loaded = type(model).from_pretrained(folder).eval()
        # Every weight to the bit, that of the trained head included (peft #310). A product with one output may end
        # in another last bit, by where its weights lie in memory.
        weights = loaded.state_dict()
        assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
        torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-6)
    return "works"


HEAD = (
    "# What works with what",
    "",
    "Written by `python -m tests.adaptation.matrix`: every cell is two optimizer steps, a save and a reload to",
    "equal weights and outputs of a tiny model, with the trained set compared name by name. A test keeps this",
    "page true. The weights are plain here, also under qlora; 4-bit ones are tested in test_merging.py.",
    "✓ works; a number is the reason of a refusal below.",
)


def whole_matrix(families: Iterable[str] = FAMILIES, known: Mapping[tuple, str] = MappingProxyType({})) -> str:
    """Try everything on these families; what is known of others is taken over."""
    cells = itertools.product(TASKS, METHODS, families)
    results = {**known} | {(task, method, family): run_cell(method, family, task) for task, method, family in cells}
    return matrix_page(HEAD, "method", TASKS, METHODS, results)


if __name__ == "__main__":
    write_page("methods_matrix.md", whole_matrix)
