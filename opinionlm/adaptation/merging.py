"""Fold an adapter into the weights it adapts, so that the model runs without PEFT and as fast as before.

4-bit weights are expanded first, into the model's own data type: an update merged into 4-bit weights would be rounded
to their 16 levels (peft #2321).
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from opinionlm.data.contamination import SEEN_TEXTS
from opinionlm.data.encoding.tokenizers import write_tokenizer
from opinionlm.errors import UserError
from opinionlm.models.backbones import plain_backbone
from opinionlm.models.classifier import WORD_FILES, OpinionClassifier
from opinionlm.models.families import family_of
from opinionlm.models.precision import cast_parameters
from opinionlm.models.quantization import fits_expanded, quantized_modules
from opinionlm.models.saved import saved_config, saved_tokenizer, saved_weights
from opinionlm.utils.files import copy_files, partial_folder, publish, require_new_folder, write_text
from opinionlm.utils.names import CARD, INPUT_FORMS

MERGED = "`opinionlm predict --merge` has made the adapter part of the weights: they load and answer without PEFT."
MERGEABLE = ("lora", "qlora", "dora", "adalora", "ia3")


@torch.no_grad()
def merge_adapters(model: OpinionClassifier) -> OpinionClassifier:
    """Merge the adapter of a classifier or tagger into its backbone; the given model is used up.

    Returns:
        A plain model without adapter and without 4-bit weights, in evaluation mode.

    Raises:
        UserError: if there is no adapter, or one that is no change of weights.
    """
    adapter = model.config.adapter
    if adapter is None:
        raise UserError("--merge: the model has no adapter; it can be used as it is")
    if adapter["method"] not in MERGEABLE:
        raise UserError(
            f"--merge: adaptation {adapter['method']!r} adds layers or tokens, which no weights can stand for; only "
            f"{', '.join(MERGEABLE)} can be merged"
        )
    model = with_plain_weights(model)
    wrapped: PeftModel = model.backbone
    model.backbone = wrapped.merge_and_unload()
    model.config.adapter = None
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    return model.eval()


@torch.no_grad()
def with_plain_weights(model: OpinionClassifier) -> OpinionClassifier:
    """The same classifier or tagger, adapter and all, without 4-bit weights; the given model is used up.

    Returns:
        A model whose layers are all in the data type that the 4-bit ones computed in; the given one where it has none.
    """
    if not quantized_modules(model):
        return model
    base = plain_backbone(model.backbone)
    expand_quantized(base, base.dtype)
    given = model.state_dict(keep_vars=True)
    weights = {name: tensor.data for name, tensor in given.items()}
    del model.config.quantization_config
    # PEFT wraps 4-bit layers in classes of their own, and transformers refuses to change the data type of such models.
    with no_init_weights():
        plain = type(model)(model.config).to(base.device)
    for name, tensor in plain.state_dict(keep_vars=True).items():
        tensor.data = weights.pop(name)
    if weights:
        raise ValueError(f"a model without 4-bit weights has no place for {', '.join(weights)}")
    # Whoever still holds the given model shall not hold its weights: two models would set the peak of a run.
    for tensor in given.values():
        tensor.data = tensor.new_empty(0)
    cast_parameters(plain, base.dtype)
    return plain.train(model.training)


def expanded_on_cpu(model: OpinionClassifier) -> OpinionClassifier:
    """A classifier or tagger as it answers on its device: on a processor with plain weights, where these fit.

    A processor expands 4-bit weights at every call; once is enough. The given model is used up.
    """
    return with_plain_weights(model) if model.device.type == "cpu" and fits_expanded(model) else model


def expand_quantized(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Replace every 4-bit layer of a backbone by a plain one with the same weights.

    Args:
        model: changed in place.
        dtype: data type of the plain layers.
    """
    for name in quantized_modules(model):
        model.set_submodule(name, plain_layer(model, name, dtype))


def plain_layer(model: PreTrainedModel, name: str, dtype: torch.dtype) -> nn.Module:
    """A plain layer with the weights of a backbone's 4-bit one, for computing alone: nothing of it trains.

    Args:
        model: the backbone, unchanged.
        name: of the 4-bit layer.
        dtype: data type of the weights.
    """
    layer, conv = model.get_submodule(name), family_of(model.config).transposed_weights
    weight = dequantize_module_weight(layer).to(dtype)
    # Without values, which would be drawn for nothing and from everyone's random numbers.
    with torch.device("meta"):
        if conv:
            plain: nn.Module = Conv1D(layer.out_features, layer.in_features)
        else:
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    # Conv1D stores its weights as (in, out).
    plain.weight = nn.Parameter((weight.T if conv else weight).contiguous(), requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.to(dtype), requires_grad=False)
    return plain.train(layer.training)


def merge_model_folder(source: Path, target: Path) -> None:
    """Merge a saved classifier or tagger and write it, tokenizer included, to another folder.

    Raises:
        UserError: if the target exists, the model is damaged, or it cannot be merged.
    """
    require_new_folder(target)
    merged, tokenizer = merge_adapters(saved_weights(source, saved_config(source), "auto")), saved_tokenizer(source)
    with partial_folder(target) as folder:
        merged.save_pretrained(folder)
        write_tokenizer(tokenizer, folder)
        copy_beside(source, folder)
        publish(folder, target, is_current=lambda: False)


def copy_beside(source: Path, folder: Path) -> None:
    """Copy what lies beside a model and is as true of the merged one, with its card, which holds the licence.

    Args:
        source: of the model with an adapter.
        folder: of the merged one.
    """
    copy_files(source, folder, (*WORD_FILES, SEEN_TEXTS, INPUT_FORMS))
    if (source / CARD).is_file():
        card = (source / CARD).read_text(encoding="utf-8")
        write_text(folder / CARD, f"{card}\n{MERGED}\n")
