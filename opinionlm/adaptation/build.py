"""Load what an adaptation starts from: the backbone of a classifier, or a whole language model."""

from __future__ import annotations

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from opinionlm.adaptation.compatibility import check_family, check_length, check_vocabulary
from opinionlm.adaptation.merging import with_plain_weights
from opinionlm.adaptation.methods import adapt_generative, trained_blocks
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import BackboneConfig, ModelConfig
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.tokenizers import entries_of_texts
from opinionlm.errors import UserError
from opinionlm.models.backbones import (
    load_backbone,
    load_what_is_there,
    read_model_config,
    require_pooler,
)
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.generative import count_blocks, load_generative
from opinionlm.models.precision import torch_dtype
from opinionlm.models.tagger import OpinionTagger, OpinionTaggerConfig
from opinionlm.utils.command_line import command


def check_fit(
    backbone: BackboneConfig,
    method: MethodConfig,
    max_length: int,
    model_config: PreTrainedConfig,
    vocabulary: int,
    generative: bool,
) -> None:
    """Whether model, tokenizer and adaptation fit each other, before weights are loaded.

    Args:
        backbone: which model.
        method: what trains.
        max_length: tokens that a text may have.
        model_config: the pretrained model's own configuration.
        vocabulary: entries of the tokenizer, which the embedding must have rows for.
        generative: whether a language model is trained, or a head on a backbone.

    Raises:
        UserError: they do not.
    """
    check_vocabulary(backbone, model_config, vocabulary)
    check_family(method, model_config, generative)
    check_length(method, model_config, max_length)


def load_checked_backbone(
    backbone: ModelConfig, method: MethodConfig, max_length: int, model_config: PreTrainedConfig, vocabulary: int
) -> PreTrainedModel:
    """The backbone, once it is known to fit the tokenizer and the adaptation; arguments as in `check_fit`.

    Raises:
        UserError: the model cannot be loaded, has fewer blocks than are to train, or belongs to another tokenizer.
    """
    check_fit(backbone, method, max_length, model_config, vocabulary, generative=False)
    if isinstance(model_config, OpinionClassifierConfig):
        return saved_backbone(backbone, model_config)
    blocks = trained_blocks(method, model_config.get_text_config().num_hidden_layers)
    return load_backbone(backbone, trained_blocks=blocks, config=model_config)


def build_generative(
    backbone: ModelConfig, method: MethodConfig, max_length: int, encoder: PromptEncoder, total_steps: int
) -> PreTrainedModel | PeftModel:
    """Load a language model, choose what trains, and have it end its answers as the prompts say.

    Raises:
        UserError: the model cannot be loaded or adapted, is encoder-only, or belongs to another tokenizer.
    """
    model_config = read_model_config(backbone)
    check_fit(backbone, method, max_length, model_config, entries_of_texts(encoder.tokenizer), generative=True)
    blocks = trained_blocks(method, count_blocks(model_config))
    model = load_generative(backbone, blocks, model_config)
    # A saved model does not tell in which folder of which machine its weights lay.
    model.config.name_or_path = ""
    settings = model.generation_config
    settings.pad_token_id = encoder.tokenizer.pad_token_id
    settings.eos_token_id = sorted({encoder.tokenizer.eos_token_id, *encoder.end_ids})
    return adapt_generative(model, method, total_steps)


def saved_backbone(model: ModelConfig, config: OpinionClassifierConfig) -> PreTrainedModel:
    """The backbone of ``best/`` of a finished run: training on one task before the task that counts.

    What a model learns from a larger data set of a kindred task helps where the own one is small (Phang et al. 2018).

    Raises:
        UserError: if the weights are missing or damaged; or adapters or task tokens were added to the backbone; or a
            pooler is asked for that it lacks.
    """
    name = model.model_name_or_path
    if config.adapter is not None:
        raise UserError(
            f"model_name_or_path: the backbone of '{name}' carries an adapter; merge it first: "
            f"{command('predict')} --model {name} --merge <new folder>"
        )
    if config.task_tokens:
        raise UserError(
            f"model_name_or_path: the backbone of '{name}' has {config.task_tokens:,} task tokens of its own data; "
            "train it with task_tokens: off to go on from it"
        )
    if model.load_in_4bit or model.random_weights:
        raise UserError(
            f"load_in_4bit, random_weights: neither suits '{name}', a trained classifier; set them to false"
        )
    if model.attn_implementation is not None:
        config._attn_implementation = model.attn_implementation
    model_class = OpinionTagger if isinstance(config, OpinionTaggerConfig) else OpinionClassifier
    loaded, missing = load_what_is_there(model_class, model, config, torch_dtype(model.dtype), {})
    if missing:
        raise UserError(f"model_name_or_path: the weights in '{name}' are incomplete (no {missing[0]}); copy it anew")
    # What trains on is not stored in 4 bits, however it was trained before.
    backbone = with_plain_weights(loaded).backbone
    if model.pooling == "pooler":
        require_pooler(backbone.config)
        if backbone.pooler is None:
            raise UserError(
                f"pooling: pooler: '{name}' was trained with pooling: {config.pooling} and kept no pooler; use mean"
            )
    elif config.pooling == "pooler":
        # An unused trainable layer would stop distributed training.
        backbone.pooler = None
    return backbone
