"""Descriptions of adapters: a method's options put together with what the model's family needs.

The presets of ``target_modules`` are the papers' where they name them, else PEFT's; docs/methods.md lists them.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError


def low_rank_targets(family: str) -> list[str]:
    """Layers that low-rank updates adapt by default (lora, qlora, dora, adalora).

    BERT and its kin: query, key, value, as the methods paper (section 6.1; the GoEmotions grid takes query, value).
    GPT-2: c_attn as the grid (the methods paper's tagging adds c_fc). Llama: q_proj, v_proj and Qwen: q_proj, k_proj,
    v_proj, as the grid. ModernBERT and Phi-3: the one layer that is all three. The others: query and value, as the
    LoRA paper.
    """
    match family:
        case "bert" | "roberta" | "xlm-roberta":
            return ["query", "key", "value"]
        case "deberta-v2":
            return ["query_proj", "key_proj", "value_proj"]
        case "mpnet":
            return ["q", "k", "v"]
        case "distilbert":
            return ["q_lin", "v_lin"]
        case "modernbert":
            # Query, key and value are one layer.
            return ["Wqkv"]
        case "gpt2":
            return ["c_attn"]
        case "qwen2" | "qwen3":
            return ["q_proj", "k_proj", "v_proj"]
        case "llama" | "mistral" | "gemma2" | "gemma3_text":
            return ["q_proj", "v_proj"]
        case "phi3":
            # Query, key and value are one layer.
            return ["qkv_proj"]
        case "t5":
            return ["q", "v"]
        case _:
            raise UserError(f"target_modules: no preset for the family '{family}'; name the layers to adapt")


def ia3_targets(family: str) -> tuple[list[str] | str, list[str] | str]:
    """Layers whose keys, values and feed-forward activations IA3 rescales (Liu et al. 2022), and which are the latter.

    A feed-forward layer is rescaled at its input: the activation in front of the second projection.
    """
    match family:
        case "bert" | "roberta" | "xlm-roberta":
            # As expressions: the name "output.dense" alone would also match the attention's output.
            feed_forward = r".*\.layer\.\d+\.output\.dense"
            return rf".*\.(key|value)|{feed_forward}", feed_forward
        case "deberta-v2":
            feed_forward = r".*\.layer\.\d+\.output\.dense"
            return rf".*\.(key_proj|value_proj)|{feed_forward}", feed_forward
        case "mpnet":
            return ["k", "v", "output.dense"], ["output.dense"]
        case "distilbert":
            return ["k_lin", "v_lin", "lin2"], ["lin2"]
        case "modernbert":
            return ["Wqkv", "mlp.Wo"], ["mlp.Wo"]
        case "gpt2":
            # Query, key and value are one layer.
            return ["c_attn", "mlp.c_proj"], ["mlp.c_proj"]
        case "llama" | "mistral" | "qwen2" | "qwen3" | "gemma2" | "gemma3_text":
            return ["k_proj", "v_proj", "down_proj"], ["down_proj"]
        case "phi3":
            return ["qkv_proj", "down_proj"], ["down_proj"]
        case "t5":
            return ["k", "v", "wo"], ["wo"]
        case _:
            raise UserError(f"target_modules: no preset for the family '{family}'; name the layers to adapt")


def describe_adapter(
    method: MethodConfig, model_config: PreTrainedConfig, total_steps: int | None = None
) -> dict[str, Any]:
    """The adapter of a method on a model, as `opinionlm.models.adapters.add_adapter` reads it.

    Args:
        method: one of the methods that add parameters, with its options.
        model_config: the model's configuration; of a wrapper its text part counts.
        total_steps: optimizer steps of the run, which AdaLoRA's schedule is stretched over.

    Raises:
        UserError: no preset for this family.
        ValueError: AdaLoRA without ``total_steps``, or a method that adds nothing.
    """
    config = model_config.get_text_config()
    family = config.model_type
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
            targets, feed_forward = ia3_targets(family)
            if method.target_modules is not None:
                names = feed_forward if isinstance(feed_forward, list) else ["output.dense"]
                targets = method.target_modules
                feed_forward = [name for name in method.target_modules if name in names]
            options = {"target_modules": targets, "feedforward_modules": feed_forward}
            options["fan_in_fan_out"] = family == "gpt2"
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


def low_rank_options(method: MethodConfig, family: str) -> dict[str, Any]:
    """What LoRA, DoRA and AdaLoRA have in common."""
    targets: list[str] | str = method.target_modules or low_rank_targets(family)
    return {
        "target_modules": "all-linear" if targets == ["all-linear"] else targets,
        "lora_alpha": method.lora_alpha,
        "lora_dropout": method.lora_dropout,
        # GPT-2 stores its weights the other way round.
        "fan_in_fan_out": family == "gpt2",
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
        "token_dim": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
    }


def prefix_options(method: MethodConfig, config: PreTrainedConfig) -> dict[str, Any]:
    """The same for keys and values of every block, whose heads may be fewer and of another width."""
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    match config.model_type:
        case "llama" | "mistral" | "qwen2" | "qwen3" | "phi3" | "gemma2" | "gemma3_text":
            heads = config.num_key_value_heads
            width = config.to_dict().get("head_dim") or width
        case "t5":
            width = config.d_kv
    projected = method.adaptation == "prefix" and method.prefix_projection
    return virtual_token_options(method, config) | {
        "token_dim": heads * width,
        "num_attention_heads": heads,
        "prefix_projection": projected,
        "encoder_hidden_size": config.hidden_size,
    }
