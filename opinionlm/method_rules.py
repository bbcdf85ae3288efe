"""Rules for the options of an adaptation, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opinionlm.method_options import FREEZING, LOW_RANK

if TYPE_CHECKING:
    from opinionlm.config import Config


def method_problems(config: Config) -> list[str]:
    """What is wrong with the options of the adaptation, as far as no model has to be known for it."""
    model, method, training = config.model, config.method, config.training
    name = method.adaptation
    problems: list[str] = []

    def require(holds: bool, option_name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{option_name}: {value!r} {reason}")

    match name:
        case "top_blocks":
            require(method.trainable_blocks >= 1, "trainable_blocks", method.trainable_blocks, "must be at least 1")
        case "bottom_frozen":
            require(
                method.frozen_blocks >= 1,
                "frozen_blocks",
                method.frozen_blocks,
                "must be at least 1; adaptation: full freezes none",
            )
        case "layerwise_lr":
            decay = method.layerwise_lr_decay
            require(0 < decay <= 1, "layerwise_lr_decay", decay, "must be above 0 and at most 1")
        case "lisa":
            require(method.lisa_blocks >= 1, "lisa_blocks", method.lisa_blocks, "must be at least 1")
            require(method.lisa_interval >= 1, "lisa_interval", method.lisa_interval, "must be at least 1 step")
        case "lora" | "qlora" | "dora":
            require(method.lora_r >= 1, "lora_r", method.lora_r, "must be at least 1")
        case "adalora":
            require(method.adalora_target_r >= 1, "adalora_target_r", method.adalora_target_r, "must be at least 1")
            require(
                method.adalora_target_r < method.adalora_init_r,
                "adalora_target_r",
                method.adalora_target_r,
                f"must be below adalora_init_r ({method.adalora_init_r}), or no rank ever falls; lower it, or use "
                "adaptation: lora",
            )
        case "houlsby" | "pfeiffer":
            require(method.adapter_size >= 1, "adapter_size", method.adapter_size, "must be at least 1")
        case "prefix" | "p_tuning_v2" | "prompt" | "p_tuning":
            tokens = method.num_virtual_tokens
            require(tokens >= 1, "num_virtual_tokens", tokens, "must be at least 1")
    if name in LOW_RANK:
        require(method.lora_alpha > 0, "lora_alpha", method.lora_alpha, "must be positive")
        require(0 <= method.lora_dropout < 1, "lora_dropout", method.lora_dropout, "must be in [0, 1)")
    require(
        method.target_modules != [],
        "target_modules",
        method.target_modules,
        "leave nothing to adapt; name layers, or leave the option out for the family's preset",
    )
    require(
        not (model.load_in_4bit and name in ("full", "layerwise_lr", "lisa", "adapt")),
        "adaptation",
        name,
        "cannot train 4-bit weights; use qlora, top_blocks or head_only, or set load_in_4bit: false",
    )
    require(
        model.load_in_4bit or name != "qlora",
        "load_in_4bit",
        model.load_in_4bit,
        "contradicts adaptation: qlora; leave it out, or use adaptation: lora",
    )
    require(
        not (training.activation_checkpointing and name in ("prefix", "p_tuning_v2")),
        "activation_checkpointing",
        training.activation_checkpointing,
        f"recomputes blocks without the keys and values of adaptation: {name}; set it to false, or use prompt or lora",
    )
    require(
        method.cache_frozen != "on" or name in FREEZING,
        "cache_frozen",
        method.cache_frozen,
        f"needs blocks that stay as they are, and adaptation: {name} changes what the lowest computes; use auto",
    )
    return problems


def engine_problems(config: Config) -> list[str]:
    """What the engines cannot do: logistic regression trains nothing but a linear head on a frozen backbone."""
    engine, method = config.training.engine, config.method
    problems = []
    if engine == "sklearn":
        if method.adaptation != "head_only":
            problems.append(
                f"adaptation: {method.adaptation!r} trains more than logistic regression can; set adaptation: "
                "head_only, or engine: trainer"
            )
        if method.cache_frozen == "off":
            problems.append("cache_frozen: 'off' leaves engine: sklearn without features; set it to auto")
    return problems
