"""Make the Auto classes and the pipelines of transformers know our models."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig
from opinionlm.models.tagger import OpinionTagger, OpinionTaggerConfig


def register_auto_classes() -> None:
    """Register the model types of this package with transformers' Auto classes; safe to call twice."""
    AutoConfig.register(OpinionClassifierConfig.model_type, OpinionClassifierConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(OpinionClassifierConfig, OpinionClassifier, exist_ok=True)
    AutoConfig.register(OpinionTaggerConfig.model_type, OpinionTaggerConfig, exist_ok=True)
    AutoModelForTokenClassification.register(OpinionTaggerConfig, OpinionTagger, exist_ok=True)
