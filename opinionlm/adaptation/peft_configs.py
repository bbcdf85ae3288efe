"""Descriptions of adapters: a method's options put together with what the model's family needs.

The presets of ``target_modules`` are the papers' where they name them, else PEFT's; docs/methods.md lists them.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from opinionlm.config.method_options import MethodConfig
from opinionlm.models.families import family_of
from opinionlm.models.family import Family


def ia3_layers(method: MethodConfig, family: Family) -> dict[str, Any]:
    """Layers whose keys, values and feed-forward activations IA3 rescales, and which are the latter."""
    if method.target_modules is not None:
        feed_forward = [name for name in method.target_modules if name == family.feed_forward_layer]
        return {"target_modules": method.target_modules, "feedforward_modules": feed_forward}
    if family.feed_forward_pattern is not None:
        targets = rf".*\.({'|'.join(family.key_value_layers)})|{family.feed_forward_pattern}"
        return {"target_modules": targets, "feedforward_modules": family.feed_forward_pattern}
    names = [*family.key_value_layers, family.feed_forward_layer]
    return {"target_modules": names, "feedforward_modules": [family.feed_forward_layer]}


def describe_adapter(
    method: MethodConfig, model_config: PreTrainedConfig, total_steps: int | None = None
) -> dict[str, Any]:
    """The adapter of a method on a model, as `opinionlm.models.adapters.add_adapter` reads it.

    Args:
        method: one of the methods that add parameters, with its options.
        model_config: the model's configuration; of a wrapper its text part counts.
        total_steps: optimizer steps of the run, which AdaLoRA's schedule is stretched over.

    Raises:
        UserError: if the family is not known.
        ValueError: if AdaLoRA lacks ``total_steps``, or the method adds nothing.
    """
    config = model_config.get_text_config()
    family = family_of(config)
    match method.adaptation:
        case "lora" | "qlora" | "dora":
            options: dict[str, Any] = low_rank_options(method, family) | {"r": method.lora_r}
            if method.adaptation == "dora":
                options["use_dora"] = True
        case "adalora":
            if total_steps is None:
                raise ValueError("adalora needs the number of optimizer steps")
            options = low_rank_options(method, family) | {
                "init_r": method.adalora_init_r,
                "target_r": method.adalora_target_r,
                **allocation_schedule(total_steps),
            }
        case "ia3":
            options = ia3_layers(method, family) | {"fan_in_fan_out": family.transposed_weights}
        case "houlsby" | "pfeiffer":
            options = {"size": method.adapter_size}
        case "prefix" | "p_tuning_v2":
            options = prefix_options(method, config)
        case "prompt":
            # Real words' vectors as the start, better than noise (Lester et al. 2021, figure 3b).
            options = virtual_token_options(method, config) | {"prompt_tuning_init": "SAMPLE_VOCAB"}
        case "p_tuning":
            options = virtual_token_options(method, config) | {"encoder_hidden_size": config.hidden_size}
        case other:
            raise ValueError(f"{other} adds no adapter")
    return {"method": method.adaptation, "options": options}


def low_rank_options(method: MethodConfig, family: Family) -> dict[str, Any]:
    """What LoRA, DoRA and AdaLoRA have in common."""
    targets: list[str] | str = method.target_modules or list(family.low_rank_layers)
    return {
        "target_modules": "all-linear" if targets == ["all-linear"] else targets,
        "lora_alpha": method.lora_alpha,
        "lora_dropout": method.lora_dropout,
        "fan_in_fan_out": family.transposed_weights,
    }


def allocation_schedule(total_steps: int) -> dict[str, int]:
    """When AdaLoRA prunes: not in the first tenth of the steps, nor in the last three tenths.

    In between the budget falls by a cubic schedule; ranks are set a hundred times at most (Zhang et al. 2023,
    section 4.2, give the three numbers per task in their appendix).
    """
    return {
        "tinit": total_steps // 10,
        "tfinal": total_steps * 3 // 10,
        "deltaT": max(1, total_steps // 100),
        "total_step": total_steps,
    }


def virtual_token_options(method: MethodConfig, config: PreTrainedConfig) -> dict[str, Any]:
    """Number and width of virtual tokens, written out: PEFT finds them in some families' configurations only."""
    return {
        "num_virtual_tokens": method.num_virtual_tokens,
        "token_dim": family_of(config).embedding_width or config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
    }


def prefix_options(method: MethodConfig, config: PreTrainedConfig) -> dict[str, Any]:
    """The same for keys and values of every block, whose heads may be fewer and of another width."""
    family = family_of(config)
    if family.key_values is None:
        raise ValueError("attention takes no keys and values from outside")
    heads, width = family.key_values
    projected = method.adaptation == "prefix" and method.prefix_projection
    return virtual_token_options(method, config) | {
        "token_dim": heads * width,
        "num_attention_heads": heads,
        "prefix_projection": projected,
        "encoder_hidden_size": config.hidden_size,
    }
