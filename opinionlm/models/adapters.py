"""Add an adapter to a model from a description that a model's configuration can hold.

`opinionlm.adaptation.peft_configs` writes the description when a run starts; ``from_pretrained`` reads it to build
the same structure again before the weights are loaded.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from transformers import PreTrainedModel

from opinionlm.errors import UserError, one_line
from opinionlm.models.bottleneck import insert_bottlenecks


def add_adapter(
    model: PreTrainedModel, adapter: dict[str, Any], task: TaskType = TaskType.FEATURE_EXTRACTION
) -> PreTrainedModel | PeftModel:
    """Add the described adapter; its new parameters are the only ones of the model that train.

    Args:
        model: plain backbone or language model; changed in place.
        adapter: ``method`` and its ``options``, plain JSON values.
        task: ``FEATURE_EXTRACTION`` for backbones of our own models, else the kind of language model.

    Returns:
        The model itself with bottleneck adapters inside, or wrapped by PEFT. New parameters have the model's data
        type, like the head.

    Raises:
        UserError: if the model has no such layers.
    """
    model.requires_grad_(False)
    if adapter["method"] in ("houlsby", "pfeiffer"):
        for bottleneck in insert_bottlenecks(model, adapter["method"], adapter["options"]["size"]):
            bottleneck.requires_grad_(True)
        return model
    config = peft_config(adapter, task)
    with warnings.catch_warnings():
        # PEFT warns of tied embeddings among the targets even where the output layer is not part of the model.
        warnings.filterwarnings("ignore", message="Model with `tie_word_embeddings=True`")
        try:
            wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
        except ValueError as error:
            raise UserError(
                f"target_modules: PEFT cannot adapt {adapter['options'].get('target_modules')} in a "
                f"'{model.config.model_type}' model ({one_line(error)}); leave the option out for "
                "the family's preset"
            ) from error
    if config.is_prompt_learning:
        # The numbers of the virtual tokens are no buffer: made on the meta device, they would stay there.
        numbers = torch.arange(config.num_virtual_tokens * config.num_transformer_submodules, device="cpu")
        wrapped.prompt_tokens[wrapped.active_adapter] = numbers
        wrapped.prompt_encoder.to(model.device, model.dtype)
        if task == TaskType.FEATURE_EXTRACTION:
            # A second name for the embedding, which saving would take for another weight. Only PEFT's own forward
            # reads it; `opinionlm.models.forward` asks the base model.
            del wrapped.word_embeddings
    return wrapped


def peft_config(adapter: dict[str, Any], task: TaskType) -> PeftConfig:
    """PEFT's configuration of a described adapter; ``options`` are its arguments."""
    options = adapter["options"]
    match adapter["method"]:
        case "lora" | "qlora" | "dora":
            return LoraConfig(task_type=task, **options)
        case "adalora":
            return AdaLoraConfig(task_type=task, **options)
        case "ia3":
            return IA3Config(task_type=task, **options)
        case "prefix" | "p_tuning_v2":
            return PrefixTuningConfig(task_type=task, **options)
        case "prompt":
            return PromptTuningConfig(task_type=task, **options)
        case "p_tuning":
            return PromptEncoderConfig(task_type=task, **options)
        case other:
            raise ValueError(f"no adapter is called {other!r}")
