"""A classifier of a few thousand parameters, with a tokenizer that is made in-process."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, Gemma3TextConfig, PreTrainedTokenizerFast

from opinionlm.models.classifier import OpinionClassifier

TREE = {"noise": None, "opinion": {"objective": None, "subjective": {"positive": None, "negative": None}}}
LEAVES = ["noise", "objective", "positive", "negative"]
WORDS = ["buy", "sell", "hold", "the", "coin", "to", "moon", "now", "never", "again", "pump", "dump", "good", "bad"]
WORDS += ["price", "news", "!", "?", ".", ","]


def save_tiny_classifier(folder: Path, max_length: int = 24) -> Path:
    """Write a randomly weighted classifier and its tokenizer to a folder."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    config = Gemma3TextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=8,
    )
    torch.manual_seed(0)
    model = OpinionClassifier.from_backbone(
        AutoModel.from_config(config), LEAVES, label_tree=TREE, max_length=max_length
    )
    with torch.no_grad():  # large weights, so that texts get clearly different answers
        for parameter in model.head.parameters():
            parameter.normal_(std=2.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
