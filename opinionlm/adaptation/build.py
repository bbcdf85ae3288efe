"""From a config to a classifier that is ready to train."""

from __future__ import annotations

from transformers import PreTrainedConfig

from opinionlm.adaptation.methods import apply_adaptation, trained_blocks
from opinionlm.config import Config
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.models.backbones import load_backbone
from opinionlm.models.classifier import OpinionClassifier


def build_classifier(config: Config, model_config: PreTrainedConfig, taxonomy: Taxonomy) -> OpinionClassifier:
    """Load the backbone, put a new head on it and freeze what the adaptation leaves alone.

    The head's weights come from torch's global generator: seed it first.

    Args:
        config: the run's options.
        model_config: the pretrained model's own configuration, from `read_model_config`.
        taxonomy: the label tree; the head has one output per leaf.

    Raises:
        UserError: the model cannot be loaded, or has fewer blocks than are to train.
    """
    blocks = trained_blocks(config.method, model_config.get_text_config().num_hidden_layers)
    backbone = load_backbone(config.model, trained_blocks=blocks, config=model_config)
    model = OpinionClassifier.from_backbone(
        backbone,
        taxonomy.leaves,
        head_hidden_sizes=config.model.head_hidden_sizes,
        pooling=config.model.pooling,
        classifier_dropout=config.model.classifier_dropout,
        label_tree=taxonomy.to_tree(),
        max_length=config.data.max_length,
    )
    apply_adaptation(model, config.method)
    return model
