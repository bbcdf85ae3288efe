"""A backbone with the output layer it was pretrained with, to go on with that pretraining."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding.tokenizers import write_tokenizer
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_what_is_there
from opinionlm.models.families import family_of
from opinionlm.models.generative import is_multimodal, load_generative
from opinionlm.models.precision import torch_dtype


def fills_gaps(config: PreTrainedConfig) -> bool:
    """Whether a model was pretrained on masked words (BERT and its like), not on next words.

    Raises:
        UserError: if it is an encoder-decoder, whose pretraining is neither.
    """
    family = family_of(config)
    if family.decoder is not None:
        raise UserError(
            f"model_name_or_path: '{config.model_type}' was pretrained on spans, which is not done here; give an "
            "encoder (bert, roberta, mpnet, modernbert) or a causal model (gpt2, llama, gemma)"
        )
    return not family.causal and not is_multimodal(config)


def load_language_model(model: ModelConfig, config: PreTrainedConfig) -> tuple[PreTrainedModel, bool]:
    """Load a model with the output layer of its pretraining.

    Folders of sentence encoders (MiniLM) hold no such layer. A new one is drawn then, its decoder tied to the input
    embedding; what is new in it, a dense layer, a norm and a bias, trains along.

    Returns:
        The model, and whether its output layer is new.

    Raises:
        UserError: if the weights, or some of the backbone's, are missing.
    """
    if not fills_gaps(config):
        return load_generative(model, 0, config), False
    if model.attn_implementation is not None:
        config._attn_implementation = model.attn_implementation
    loaded, missing = load_what_is_there(AutoModelForMaskedLM, model, config, torch_dtype(model.dtype), {})
    inside = [name for name in missing if name.startswith(f"{loaded.base_model_prefix}.")]
    if inside:
        raise UserError(
            f"model_name_or_path: '{model.model_name_or_path}' lacks weights of its backbone (for instance "
            f"{inside[0]}); copy the folder anew"
        )
    return loaded, bool(missing)


def save_language_model(
    trained: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: ModelConfig, folder: Path
) -> None:
    """Write a model folder that ``model_name_or_path`` takes, output layer included.

    The class for masked words has no pooler; BERT's, where the source has one, goes along untouched, so that
    ``pooling: pooler`` still works.
    """
    state = trained.state_dict()
    if fills_gaps(trained.config):
        backbone, missing = load_what_is_there(AutoModel, source, trained.config, trained.dtype, {})
        kept = trained.base_model.state_dict().keys() | set(missing)
        extra: dict[str, torch.Tensor] = {
            f"{trained.base_model_prefix}.{name}": value
            for name, value in backbone.state_dict().items()
            if name not in kept
        }
        state |= extra
    trained.save_pretrained(folder, state_dict=state)
    write_tokenizer(tokenizer, folder)
