"""Going on from a model that was trained here: its backbone, without its head."""

from __future__ import annotations

from transformers import PreTrainedModel

from opinionlm.config.options import ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_what_is_there, require_pooler
from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig
from opinionlm.models.precision import torch_dtype
from opinionlm.models.tagger import OpinionTagger, OpinionTaggerConfig


def saved_backbone(model: ModelConfig, config: OpinionClassifierConfig) -> PreTrainedModel:
    """The backbone of ``best/`` of a finished run: training on one task before the task that counts.

    What a model learns from a larger data set of a kindred task helps where the own one is small (Phang et al. 2018).

    Args:
        model: ``model_name_or_path`` is the folder.
        config: its configuration.

    Raises:
        UserError: if the weights are missing or damaged; or the backbone is not a plain one: adapters, task tokens or
            4-bit weights were added to it; or a pooler is asked for that it lacks.
    """
    name = model.model_name_or_path
    if config.adapter is not None:
        raise UserError(
            f"model_name_or_path: the backbone of '{name}' carries an adapter; merge it first: python predict.py "
            f"--model {name} --merge <new folder>"
        )
    if config.task_tokens:
        raise UserError(
            f"model_name_or_path: the backbone of '{name}' has {config.task_tokens:,} task tokens of its own data; "
            "train it with task_tokens: off to go on from it"
        )
    if model.load_in_4bit or model.random_weights:
        raise UserError(
            f"load_in_4bit, random_weights: neither suits '{name}', a trained classifier; set them to false"
        )
    if model.attn_implementation is not None:
        config._attn_implementation = model.attn_implementation
    model_class = OpinionTagger if isinstance(config, OpinionTaggerConfig) else OpinionClassifier
    loaded, missing = load_what_is_there(model_class, model, config, torch_dtype(model.dtype), {})
    if missing:
        raise UserError(f"model_name_or_path: the weights in '{name}' are incomplete (no {missing[0]}); copy it anew")
    backbone = loaded.backbone
    if model.pooling == "pooler":
        require_pooler(backbone.config)
        if backbone.pooler is None:
            raise UserError(
                f"pooling: pooler: '{name}' was trained with pooling: {config.pooling} and kept no pooler; use mean"
            )
    elif config.pooling == "pooler":
        # An unused trainable layer would stop distributed training.
        backbone.pooler = None
    return backbone
