"""The tagger: the classifier's backbone and head, with the head applied to every token."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.modeling_outputs import TokenClassifierOutput

from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig


class OpinionTaggerConfig(OpinionClassifierConfig):
    """Configuration of `OpinionTagger`; ``id2label`` holds the tags in IOB2, ``pooling`` and the tree go unused."""

    model_type = "opinionlm_tagger"


class OpinionTagger(OpinionClassifier):
    """Backbone → head per token.

    Loading, saving, freezing and 4-bit storage are the classifier's; only what the head reads differs.

    Args:
        config: the tagger's configuration.
        backbone: as in `OpinionClassifier`.
    """

    config_class = OpinionTaggerConfig
    pools = False

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        prefix_states: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[torch.Tensor, ...]:
        """Tag a batch of texts.

        Args:
            input_ids: token ids ``(batch, length)``, padded on either side.
            attention_mask: ``(batch, length)``; without it every position counts as a token.
            labels: tag ids ``(batch, length)``, -100 where none counts. With them the output carries the plain mean
                cross entropy over the labelled tokens.
            token_type_ids: see `opinionlm.models.forward.hidden_states`.
            prefix_states: stored output of the frozen prefix, see `OpinionClassifier.token_states`.
            return_dict: as in every transformers model.

        Returns:
            Logits ``(batch, length, num_labels)`` in float32, and the loss when labels are given.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        logits = self.head(self.token_states(input_ids, attention_mask, prefix_states, token_type_ids)).float()
        loss = None if labels is None else nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return TokenClassifierOutput(loss=loss, logits=logits)


def register_auto_classes() -> None:
    """Register the model types of this package with transformers' Auto classes; safe to call twice."""
    AutoConfig.register(OpinionClassifierConfig.model_type, OpinionClassifierConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(OpinionClassifierConfig, OpinionClassifier, exist_ok=True)
    AutoConfig.register(OpinionTaggerConfig.model_type, OpinionTaggerConfig, exist_ok=True)
    AutoModelForTokenClassification.register(OpinionTaggerConfig, OpinionTagger, exist_ok=True)
