"""The text model that an adaptation works on, inside a classifier or a language model, wrapped by PEFT or not."""

from __future__ import annotations

from peft import PeftModel
from transformers import PreTrainedModel

from opinionlm.models.backbones import plain_backbone
from opinionlm.models.classifier import OpinionClassifier


def adapted_part(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The backbone of a classifier or tagger, or the language model itself, without PEFT's wrapper."""
    return plain_backbone(model.backbone if isinstance(model, OpinionClassifier) else model)


def peft_part(model: PreTrainedModel | PeftModel) -> PeftModel | None:
    """PEFT's wrapper in or around a model, None where no PEFT method is at work."""
    part = model.backbone if isinstance(model, OpinionClassifier) else model
    return part if isinstance(part, PeftModel) else None
