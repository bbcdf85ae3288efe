"""Turn a model into one of `opinionlm.inference.export.portable`, and write the file that its folder carries."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.data.encoding.ends import end_sizes
from opinionlm.data.encoding.special_tokens import surrounding_ids
from opinionlm.inference.export import portable
from opinionlm.models import bottleneck, heads
from opinionlm.models.backbones import plain_backbone
from opinionlm.models.bottleneck import Bottleneck
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.families import family_of
from opinionlm.models.forward import cache_arguments
from opinionlm.models.heads import ClassificationHead
from opinionlm.models.native_heads import require_native_form
from opinionlm.utils.files import write_text

FILE_NAME = "modeling_opinionlm.py"
HEADER = '''"""A classifier that opinionlm trained; needs torch and transformers alone.

Written by `opinionlm export --format remote_code`; equal to what opinionlm computes. Read it before you trust it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, DynamicCache
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

Pooling = Literal["auto", "first", "last", "mean", "pooler"]
'''
PARTS = (
    heads.last_token,
    heads.pool,
    heads.ClassificationHead,
    heads.NativeForm,
    heads.NativeHead,
    bottleneck.Bottleneck,
    bottleneck.adapt_output,
    portable.PortableConfig,
    portable.PortableClassifier,
    portable.PortableTagger,
)


def modelling_source() -> str:
    """The text of the modelling file."""
    return "\n\n".join([HEADER, *(inspect.getsource(part).rstrip() + "\n" for part in PARTS)])


def save_portable(model: OpinionClassifier, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model with its modelling file, which the Auto classes find by ``auto_map``.

    Args:
        model: ready (`opinionlm.inference.export.source.ready_model`).
        tokenizer: of the model.
        folder: that is there.
    """
    made = portable_model(model)
    made.config.chunks = chunk_fields(model.config, tokenizer)
    made.config.ends = list(end_sizes(model.config.max_length)) if model.config.read_ends else None
    auto_class = "AutoModelForSequenceClassification" if model.pools else "AutoModelForTokenClassification"
    module = FILE_NAME.removesuffix(".py")
    made.config.auto_map = {
        "AutoConfig": f"{module}.{portable.PortableConfig.__name__}",
        auto_class: f"{module}.{type(made).__name__}",
    }
    made.save_pretrained(folder)
    write_text(folder / FILE_NAME, modelling_source())


def portable_model(model: OpinionClassifier) -> PreTrainedModel:
    """The same weights in a portable class; learned virtual tokens become a tensor of their own."""
    backbone, config = plain_backbone(model.backbone), model.config
    virtual, kind = virtual_tokens(model.backbone)
    family = family_of(backbone.config)
    made_config = portable.PortableConfig(
        text_config=backbone.config,
        id2label=config.id2label,
        label2id=config.label2id,
        problem_type=config.problem_type,
        build_arguments={"add_pooling_layer": model.pooling == "pooler"} if family.pooler else None,
        encoder_only=family.decoder is not None,
        call_arguments=cache_arguments(backbone),
        first_position=family.first_position,
        segments=family.segments,
        pooling=model.pooling,
        **head_fields(model),
        classifier_dropout=config.classifier_dropout,
        bottlenecks=bottleneck_fields(backbone),
        virtual_kind=kind,
        virtual_shape=None if virtual is None else list(virtual.shape),
        cleaning=config.cleaning,
        attn_implementation=backbone.config._attn_implementation,
    )
    made = (portable.PortableClassifier if model.pools else portable.PortableTagger)(made_config)
    made.backbone.load_state_dict(backbone.state_dict(), strict=True)
    made.head.load_state_dict(model.head.state_dict(), strict=True)
    if virtual is not None:
        made.virtual.data.copy_(virtual)
    return made.eval()


def head_fields(model: OpinionClassifier) -> dict[str, Any]:
    """The fields of the configuration that describe the head as it is, with the bias that folding may have added."""
    bias = model.head.output.bias is not None
    if isinstance(model.head, ClassificationHead):
        return {"head_hidden_sizes": list(model.config.head_hidden_sizes or []), "head_bias": bias}
    return {"head_form": asdict(require_native_form(model.config, model.pools)) | {"bias": bias}}


def chunk_fields(config: OpinionClassifierConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """How long texts are cut, see `portable.PortableConfig`; None where they are truncated."""
    if config.chunk_overlap is None:
        return None
    before, after = surrounding_ids(tokenizer)
    return {
        "length": config.max_length,
        "overlap": config.chunk_overlap,
        "before": len(before),
        "after": len(after),
        "pooling": config.chunk_pooling,
    }


def bottleneck_fields(backbone: PreTrainedModel) -> list[dict[str, Any]]:
    """Where bottleneck adapters sit inside a backbone, and how they are made."""
    return [
        {
            "path": name.removesuffix(".adapter"),
            "size": module.down.out_features,
            "activation": type(module.activation).__name__,
        }
        for name, module in backbone.named_modules()
        if isinstance(module, Bottleneck)
    ]


@torch.no_grad()
def virtual_tokens(backbone: nn.Module) -> tuple[torch.Tensor | None, str | None]:
    """What prompt and prefix methods have learned, and which of them; None and None without.

    Returns:
        Vectors ``(1, tokens, hidden)`` and ``prompt``; or keys and values ``(blocks, 2, 1, heads, tokens, width)`` and
        ``prefix``.
    """
    if not isinstance(backbone, PeftModel) or not backbone.active_peft_config.is_prompt_learning:
        return None, None
    learned = backbone.get_prompt(1)
    if isinstance(learned, torch.Tensor):
        return learned.float(), "prompt"
    layers = getattr(learned, "self_attention_cache", learned).layers
    return torch.stack([torch.stack([layer.keys, layer.values]) for layer in layers]).float(), "prefix"
