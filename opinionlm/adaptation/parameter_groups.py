"""What learns how fast: rates of the head and of blocks, weight decay, optimizer and schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments, get_scheduler
from transformers.trainer_pt_utils import get_parameter_names
from transformers.trainer_utils import SchedulerType

from opinionlm.adaptation.methods import adapted_part
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import MANY_LABELS, HeadConfig
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError, one_line
from opinionlm.models.backbones import anatomy_of
from opinionlm.models.classifier import OpinionClassifier


def parameter_groups(
    model: PreTrainedModel, method: MethodConfig, training: TrainingConfig, options: HeadConfig
) -> list[dict[str, Any]] | None:
    """Groups for the optimizer where not everything learns at ``learning_rate``; None where it does.

    A classifier's head learns at ``learning_rate * head_lr_factor``: it starts from random weights, and needs other
    steps than what is pretrained. With `MANY_LABELS` or more everything learns ``many_labels_lr_factor`` times as
    fast. Under ``layerwise_lr`` the block k places below the head learns at ``learning_rate * decay**k`` (k = 1 for
    the topmost), the embedding one place below the lowest block (Howard and Ruder 2018, section 3.2). Whatever else
    stands above the blocks, such as the final norm, learns at ``learning_rate``. Biases and norms get no weight decay.

    Returns:
        ``{"params", "lr", "weight_decay"}`` each, lowest learning rate first.
    """
    factor = labels_factor(model.config.num_labels, options) if isinstance(model, OpinionClassifier) else 1.0
    if method.adaptation != "layerwise_lr" and options.head_lr_factor == factor == 1:
        return None
    head = set(model.head.parameters()) if isinstance(model, OpinionClassifier) else set()
    depth = depths(model) if method.adaptation == "layerwise_lr" else {}
    decaying = decaying_names(model)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = factor * training.learning_rate * method.layerwise_lr_decay ** depth.get(parameter, 0)
            rate *= options.head_lr_factor if parameter in head else 1.0
            groups.setdefault((rate, name in decaying), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": training.weight_decay if decays else 0.0}
        for (rate, decays), parameters in sorted(groups.items(), key=lambda group: (group[0][0], not group[0][1]))
    ]


def labels_factor(labels: int, options: HeadConfig) -> float:
    """What all rates are multiplied by for a head over so many labels."""
    return options.many_labels_lr_factor if labels >= MANY_LABELS else 1.0


def depths(model: PreTrainedModel) -> dict[nn.Parameter, int]:
    """Places below the head of the parameters of blocks and embedding: 1 in the topmost block."""
    anatomy = anatomy_of(adapted_part(model))
    depth: dict[nn.Parameter, int] = {}
    for place, block in enumerate(reversed(anatomy.blocks), start=1):
        depth |= dict.fromkeys(block.parameters(), place)
    for module in anatomy.before_blocks:
        depth |= dict.fromkeys(module.parameters(), len(anatomy.blocks) + 1)
    return depth


# Names of parameters that weight decay would only shrink towards a useless value; Trainer's own list.
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def decaying_names(model: nn.Module) -> set[str]:
    """Parameters that weight decay acts on: neither biases nor norms."""
    return set(get_parameter_names(model, [nn.LayerNorm], NO_DECAY))


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trained parameters in two groups: with weight decay, and biases and norms without."""
    decaying = decaying_names(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return [
        {"params": [p for name, p in trained.items() if name in decaying], "weight_decay": weight_decay},
        {"params": [p for name, p in trained.items() if name not in decaying], "weight_decay": 0.0},
    ]


# 8-bit optimizers keep the state of smaller tensors in full precision.
DUMMY_WIDTH = 64
# Steps of a schedule whose length the data decide.
NOMINAL_STEPS = 1000
# A schedule that follows a score steps at every evaluation.
PLATEAU = (SchedulerType.REDUCE_ON_PLATEAU,)


def check_optimizer(arguments: TrainingArguments, source: str) -> None:
    """Make the optimizer on a dummy layer and take a step.

    Raises:
        UserError: if a package, a processor or a valid value is missing.
    """
    layer = nn.Linear(DUMMY_WIDTH, DUMMY_WIDTH, device=arguments.device)
    try:
        optimizer = new_optimizer(arguments, layer, decay_groups(layer, arguments.weight_decay))
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    except Exception as error:
        raise UserError(
            f"{source}: optim: {arguments.optim.value!r} does not work with these options on this machine: "
            f"{one_line(error)}; use adamw_torch, or leave the options of the optimizer out"
        ) from error


def new_optimizer(arguments: TrainingArguments, model: nn.Module, groups: list[dict]) -> torch.optim.Optimizer:
    """The optimizer that ``optim`` names, with Trainer's own settings of it (8-bit and paged ones included).

    As in ``Trainer.create_optimizer``, which does so only where it makes the groups itself, 8-bit ones keep the state
    of embeddings in 32 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization").
    """
    optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    optimizer = optimizer_class(groups, **settings)
    if settings.get("optim_bits") == 8:
        from bitsandbytes.optim import GlobalOptimManager

        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight.requires_grad:
                GlobalOptimManager.get_instance().register_module_override(module, "weight", {"optim_bits": 32})
    return optimizer


def check_schedule(arguments: TrainingArguments, source: str, total_steps: int | None = None) -> None:
    """Make the schedule and run through it.

    Raises:
        UserError: if the schedule does not take the arguments, rates are no numbers, or a decay does not fit
            into the steps.
    """
    name = arguments.lr_scheduler_type
    known = total_steps or (arguments.max_steps if arguments.max_steps > 0 else None)
    total = known or NOMINAL_STEPS
    try:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
        schedule = new_schedule(arguments, optimizer, total)
        # torch warns of a schedule whose optimizer never steps; once is enough.
        optimizer.step()
        rates = []
        for _ in range(0 if name in PLATEAU else min(total, NOMINAL_STEPS)):
            rates.append(optimizer.param_groups[0]["lr"])
            schedule.step()
    except Exception as error:
        raise UserError(
            f"{source}: lr_scheduler_type: {name.value!r} does not work with lr_scheduler_kwargs "
            f"{arguments.lr_scheduler_kwargs or 'left out'}: {one_line(error)}"
        ) from error
    # A hair above the peak is rounding.
    if not all(0 <= rate <= arguments.learning_rate * (1 + 1e-6) for rate in rates):
        raise UserError(
            f"{source}: lr_scheduler_kwargs: {arguments.lr_scheduler_kwargs} gives learning rates outside of 0 to "
            f"learning_rate ({arguments.learning_rate:g}), for instance {max(rates):g}; correct them"
        )
    if known is not None:
        check_phases(arguments, source, known)


def check_phases(arguments: TrainingArguments, source: str, steps: int) -> None:
    """Refuse a warm-up, or a warm-up and a decay, that take more steps than a run has.

    Raises:
        UserError: they do.
    """
    decay = (arguments.lr_scheduler_kwargs or {}).get("num_decay_steps", 0)
    warmup = arguments.get_warmup_steps(steps)
    if decay and decay + warmup > steps:
        raise UserError(
            f"{source}: lr_scheduler_kwargs: num_decay_steps: {decay} and a warm-up of {warmup} steps do not fit into "
            f"the {steps} steps of this run; lower them, or use lr_scheduler_type: cosine"
        )
    if warmup > steps:
        raise UserError(
            f"{source}: warmup_steps: {warmup} steps of warm-up do not fit into the {steps} steps of this run, so "
            "that learning_rate would never be reached; lower it, or give a share of all steps, such as 0.1"
        )


def new_schedule(
    arguments: TrainingArguments, optimizer: torch.optim.Optimizer, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate schedule over so many optimizer steps, as Trainer makes it."""
    return get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(total_steps),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )


def check_compiler(arguments: TrainingArguments, source: str) -> None:
    """Compile a dummy layer where the model is to be compiled.

    Raises:
        UserError: if backend, mode or compiler are not there.
    """
    if not arguments.torch_compile:
        return
    layer = nn.Linear(DUMMY_WIDTH, DUMMY_WIDTH, device=arguments.device)
    backend, mode = arguments.torch_compile_backend, arguments.torch_compile_mode
    try:
        torch.compile(layer, backend=backend, mode=mode)(torch.ones(1, DUMMY_WIDTH, device=arguments.device))
    except Exception as error:
        raise UserError(
            f"{source}: torch_compile: backend {backend!r}, mode {mode!r} do not work on this machine: "
            f"{one_line(error)}; set torch_compile: false"
        ) from error
