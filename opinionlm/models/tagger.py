"""The tagger: the classifier's backbone and head, with the head applied to every token."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.modeling_outputs import TokenClassifierOutput

from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.classifier_config import OpinionClassifierConfig


@strict
class OpinionTaggerConfig(OpinionClassifierConfig):
    """Configuration of `OpinionTagger`; ``id2label`` holds the tags in IOB2, ``pooling`` and the tree go unused."""

    model_type = "opinionlm_tagger"


class OpinionTagger(OpinionClassifier):
    """Backbone → head per token.

    Loading, saving, freezing and 4-bit storage are the classifier's; only what the head reads differs.
    """

    config_class = OpinionTaggerConfig
    pools = False
    output_class = TokenClassifierOutput


def register_auto_classes() -> None:
    """Register the model types of this package with transformers' Auto classes; safe to call twice."""
    AutoConfig.register(OpinionClassifierConfig.model_type, OpinionClassifierConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(OpinionClassifierConfig, OpinionClassifier, exist_ok=True)
    AutoConfig.register(OpinionTaggerConfig.model_type, OpinionTaggerConfig, exist_ok=True)
    AutoModelForTokenClassification.register(OpinionTaggerConfig, OpinionTagger, exist_ok=True)
