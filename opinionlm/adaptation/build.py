"""Load what an adaptation starts from: the backbone of a classifier, or a whole language model."""

from __future__ import annotations

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from opinionlm.adaptation.compatibility import check_family, check_length
from opinionlm.adaptation.methods import adapt_generative, trained_blocks
from opinionlm.config.config import Config
from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.tokenizers import entries_of_texts
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone, read_model_config
from opinionlm.models.classifier import OpinionClassifierConfig
from opinionlm.models.generative import count_blocks, load_generative
from opinionlm.models.saved_backbone import saved_backbone


def check_fit(config: Config, model_config: PreTrainedConfig, vocabulary: int, generative: bool) -> None:
    """Whether model, tokenizer and adaptation fit each other, before weights are loaded.

    Args:
        config: the run's options.
        model_config: the pretrained model's own configuration.
        vocabulary: entries of the tokenizer, which the embedding must have rows for.
        generative: whether a language model is trained, or a head on a backbone.

    Raises:
        UserError: they do not.
    """
    check_vocabulary(config.model, model_config, vocabulary)
    check_family(config.method, model_config, generative)
    check_length(config.method, model_config, config.data.max_length)


def check_vocabulary(model: ModelConfig, model_config: PreTrainedConfig, vocabulary: int) -> None:
    """Whether the embedding has a row for every entry that a text can hold.

    Args:
        model: its name is told in the message.
        model_config: the pretrained model's own configuration.
        vocabulary: from `entries_of_texts`.

    Raises:
        UserError: it has not.
    """
    rows = model_config.get_text_config().vocab_size
    if vocabulary > rows:
        raise UserError(
            f"tokenizer_name_or_path: the tokenizer has {vocabulary:,} entries, the embedding of "
            f"'{model.model_name_or_path}' {rows:,} rows; give the model's own tokenizer"
        )


def load_checked_backbone(config: Config, model_config: PreTrainedConfig, vocabulary: int) -> PreTrainedModel:
    """The backbone, once it is known to fit the tokenizer and the adaptation.

    Args:
        config: the run's options.
        model_config: the pretrained model's own configuration, from `read_model_config`.
        vocabulary: entries of the tokenizer.

    Raises:
        UserError: the model cannot be loaded, has fewer blocks than are to train, or belongs to another tokenizer.
    """
    check_fit(config, model_config, vocabulary, generative=False)
    if isinstance(model_config, OpinionClassifierConfig):
        return saved_backbone(config.model, model_config)
    blocks = trained_blocks(config.method, model_config.get_text_config().num_hidden_layers)
    return load_backbone(config.model, trained_blocks=blocks, config=model_config)


def build_generative(config: Config, encoder: PromptEncoder, total_steps: int) -> PreTrainedModel | PeftModel:
    """Load a language model, choose what trains, and have it end its answers as the prompts say.

    Args:
        config: the run's options.
        encoder: of the prompts; its tokenizer's padding and the answers' end become the model's.
        total_steps: optimizer steps of the run.

    Raises:
        UserError: the model cannot be loaded or adapted, is encoder-only, or belongs to another tokenizer.
    """
    model_config = read_model_config(config.model)
    check_fit(config, model_config, entries_of_texts(encoder.tokenizer), generative=True)
    blocks = trained_blocks(config.method, count_blocks(model_config))
    model = load_generative(config.model, blocks, model_config)
    # A saved model does not tell in which folder of which machine its weights lay.
    model.config.name_or_path = ""
    settings = model.generation_config
    settings.pad_token_id = encoder.tokenizer.pad_token_id
    settings.eos_token_id = sorted({encoder.tokenizer.eos_token_id, *encoder.end_ids})
    return adapt_generative(model, config.method, total_steps)
