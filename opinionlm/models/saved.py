"""Parts of a saved classifier or tagger, loaded whole or refused: no weight of it stays random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from opinionlm.data.cleaning import saved_steps
from opinionlm.data.encoding.features import saved_features
from opinionlm.errors import UserError, one_line
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.tagger import OpinionTagger, OpinionTaggerConfig


@contextmanager
def damage_in(folder: Path) -> Iterator[None]:
    """Say in one line that a folder cannot be loaded: the libraries raise whatever theirs raise.

    Raises:
        UserError: in the place of whatever the block raises.
    """
    try:
        yield
    except Exception as error:
        raise UserError(
            f"--model: {folder} cannot be loaded ({one_line(error)}); train again, or copy the folder anew"
        ) from error


def saved_config(folder: Path) -> OpinionClassifierConfig:
    """The configuration of a saved model.

    Raises:
        UserError: it is missing or damaged.
    """
    with damage_in(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # Read when the first text comes; damage is told before.
        saved_steps(config.cleaning)
        saved_features(config.platforms, config.features)
        return config


def saved_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a saved model, as it was saved.

    Raises:
        UserError: it is missing or damaged.
    """
    with damage_in(folder):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def saved_weights(folder: Path, config: OpinionClassifierConfig, dtype: torch.dtype | str) -> OpinionClassifier:
    """A saved model with all of its weights.

    Args:
        folder: with weights in safetensors.
        config: from `saved_config`.
        dtype: data type of the parameters; ``auto`` for that of the weights.

    Raises:
        UserError: weights are damaged, some are missing, or the configuration has no place for some.
    """
    model_class = OpinionTagger if isinstance(config, OpinionTaggerConfig) else OpinionClassifier
    with damage_in(folder):
        model, loading = model_class.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, use_safetensors=True
        )
    if broken := [*loading["missing_keys"], *loading["mismatched_keys"]]:
        raise UserError(f"--model: the weights in {folder} are incomplete (no {broken[0]!s}); copy the folder anew")
    if left_over := sorted(loading["unexpected_keys"]):
        raise UserError(f"--model: config.json in {folder} has no place for {left_over[0]}; copy the folder anew")
    return model
