"""A model as the family's own class of transformers: ``AutoModelForSequenceClassification`` and its like load it."""

from __future__ import annotations

import copy

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from opinionlm.errors import UserError
from opinionlm.models.backbones import plain_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.families import family_of
from opinionlm.models.heads import NativeForm
from opinionlm.models.native_heads import native_form

REMEDY = "or use --format remote_code"


def require_plain(model: OpinionClassifier, tokenizer: PreTrainedTokenizerBase) -> NativeForm:
    """The form of the family's own class, once it is known to hold the model.

    Args:
        model: with its adapters merged where they can be.
        tokenizer: of the model.

    Raises:
        UserError: it does not, with the option that would make it so.
    """
    config, name = model.config, model.config.text_config.model_type
    form = native_form(config, model.pools)
    if form is None:
        kind = "texts" if model.pools else "words"
        raise UserError(
            f"export: transformers has no class for labels of {kind} that a '{name}' backbone fills; {REMEDY[3:]}"
        )
    if config.adapter is not None:
        raise UserError(
            f"export: adaptation {config.adapter['method']!r} adds layers or tokens that the own class of '{name}' "
            f"lacks; train with adaptation: lora, {REMEDY}"
        )
    if config.chunk_overlap is not None:
        raise UserError(
            f"export: the own class of '{name}' reads no text in chunks; train with long_texts: truncate, {REMEDY}"
        )
    if config.read_ends:
        raise UserError(
            f"export: the own class of '{name}' reads no text by both its ends; train with long_texts: truncate, "
            f"{REMEDY}"
        )
    if config.head != "native":
        require_native_shape(model, form)
    # These count positions from behind the padding token that their configuration names.
    first = family_of(config).first_position
    if first and tokenizer.pad_token_id != first - 1:
        raise UserError(
            f"export: the own class of '{name}' counts positions by the padding token {first - 1}, and the tokenizer "
            f"pads with {tokenizer.pad_token_id}; train with the model's own tokenizer, {REMEDY}"
        )
    return form


def require_native_shape(model: OpinionClassifier, form: NativeForm) -> None:
    """Whether a head of our own has the form of the family's.

    Raises:
        UserError: it has not.
    """
    config, name = model.config, model.config.text_config.model_type
    start = f"export: the own class of '{name}'"
    if config.head_hidden_sizes:
        raise UserError(f"{start} has no head of hidden layers; train with head: native, {REMEDY}")
    if form.dense is not None:
        raise UserError(f"{start} has a dense layer in its head; train with head: native, {REMEDY}")
    if model.pools and model.pooling != form.pooling:
        raise UserError(
            f"{start} reads pooling: {form.pooling}, and this model {model.pooling}; train with pooling: "
            f"{form.pooling}, or head: native, {REMEDY}"
        )
    if config.head_bias and not form.bias:
        raise UserError(
            f"{start} has no bias in its last layer; train with head_bias: false, or head: native, {REMEDY}"
        )


def plain_model(model: OpinionClassifier, form: NativeForm, pad_token_id: int) -> PreTrainedModel:
    """The same weights in the family's own class.

    Args:
        model: ready (`opinionlm.inference.export.source.ready_model`), of the form.
        form: from `require_plain`.
        pad_token_id: of the tokenizer; the decoders' classes look for the last token that is another.
    """
    backbone = plain_backbone(model.backbone)
    settings = copy.deepcopy(backbone.config)
    settings.pad_token_id = pad_token_id
    settings.id2label, settings.label2id = model.config.id2label, model.config.label2id
    settings.problem_type = model.config.problem_type or ("single_label_classification" if model.pools else None)
    settings.dtype = torch.float32
    auto_class = AutoModelForSequenceClassification if model.pools else AutoModelForTokenClassification
    own = auto_class.from_config(settings).float().eval()
    weights = {f"{own.base_model_prefix}.{name}": value for name, value in backbone.state_dict().items()}
    own.load_state_dict(weights | head_weights(model, form), strict=True)
    return own


def head_weights(model: OpinionClassifier, form: NativeForm) -> dict[str, torch.Tensor]:
    """The weights of the head by the names of the family's own class."""
    head = model.head
    parts = {form.output: head.output}
    if form.dense is not None:
        parts[form.dense] = head.dense
    if form.norm is not None:
        parts[form.norm] = head.norm
    weights = {f"{path}.{name}": value for path, part in parts.items() for name, value in part.state_dict().items()}
    if form.bias and head.output.bias is None:
        weights[f"{form.output}.bias"] = torch.zeros(head.output.out_features)
    return weights
