"""From a config to a classifier that is ready to train."""

from __future__ import annotations

from transformers import PreTrainedConfig

from opinionlm.adaptation.methods import apply_adaptation, trained_blocks
from opinionlm.config import Config
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone
from opinionlm.models.classifier import OpinionClassifier


def build_classifier(
    config: Config, model_config: PreTrainedConfig, taxonomy: Taxonomy, vocabulary: int
) -> OpinionClassifier:
    """Load the backbone, put a new head on it and freeze what the adaptation leaves alone.

    The head's weights come from torch's global generator: seed it first.

    Args:
        config: the run's options.
        model_config: the pretrained model's own configuration, from `read_model_config`.
        taxonomy: the label tree; the head has one output per leaf.
        vocabulary: entries of the tokenizer, which the embedding must have rows for.

    Raises:
        UserError: the model cannot be loaded, has fewer blocks than are to train, or belongs to another tokenizer.
    """
    rows = model_config.get_text_config().vocab_size
    if vocabulary > rows:
        raise UserError(
            f"tokenizer_name_or_path: the tokenizer has {vocabulary:,} entries, the embedding of "
            f"'{config.model.model_name_or_path}' {rows:,} rows; give the model's own tokenizer"
        )
    blocks = trained_blocks(config.method, model_config.get_text_config().num_hidden_layers)
    backbone = load_backbone(config.model, trained_blocks=blocks, config=model_config)
    model = OpinionClassifier.from_backbone(
        backbone,
        taxonomy.leaves,
        head_hidden_sizes=config.model.head_hidden_sizes,
        pooling=config.model.pooling,
        classifier_dropout=config.model.classifier_dropout,
        # Not as a mapping: config.json is written with sorted keys.
        label_tree=taxonomy.to_lists(),
        max_length=config.data.max_length,
    )
    apply_adaptation(model, config.method)
    return model
