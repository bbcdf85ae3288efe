"""Make ``AutoModelForSequenceClassification`` and the pipelines know our models."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForSequenceClassification

from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig


def register_auto_classes() -> None:
    """Register the model types of this package with transformers' Auto classes; safe to call twice."""
    AutoConfig.register(OpinionClassifierConfig.model_type, OpinionClassifierConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(OpinionClassifierConfig, OpinionClassifier, exist_ok=True)
