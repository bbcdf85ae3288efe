"""Tiny language models for the tests of scoring and generation."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from opinionlm.models.families import family_of
from tests.tiny import FAMILIES, VOCABULARY, tiny_config

# Of the two Gemmas 3 the one without images.
CAUSAL = [name for name in FAMILIES if name != "gemma3" and family_of(tiny_config(name)).causal]
GENERATIVE = [*CAUSAL, "t5"]


def tiny_language_model(family: str, seed: int = 0, **options) -> PreTrainedModel:
    """A language model with four blocks and weights large enough to prefer some tokens clearly."""
    torch.manual_seed(seed)
    config = tiny_config(family)
    for name, value in options.items():
        setattr(config, name, value)
    model = (AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return model.eval()


def random_prompts(count: int, longest: int, shared: int = 0, seed: int = 0) -> list[list[int]]:
    """Prompts of different lengths, which begin with the same tokens."""
    draw = random.Random(seed)
    beginning = [draw.randrange(3, VOCABULARY) for _ in range(shared)]
    return [
        [*beginning, *[draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, longest))]] for _ in range(count)
    ]


@torch.no_grad()
def full_sequence_score(model: PreTrainedModel, prompt: list[int], label: list[int]) -> float:
    """A label's log-probability from one pass over prompt and label, without any cache: the definition."""
    if model.config.is_encoder_decoder:
        start = [model.config.decoder_start_token_id, *label[:-1]]
        logits = model(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            decoder_input_ids=torch.tensor([start]),
        ).logits[0]
    else:
        ids = torch.tensor([[*prompt, *label]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(label) - 1 : -1]
    return token_sum(logits, label)


def token_sum(logits: Tensor, label: list[int]) -> float:
    """Sum of the log-probabilities of a label's tokens."""
    return float(logits.double().log_softmax(dim=-1)[range(len(label)), label].sum())
