"""Tiny models of every family and a tokenizer trained in-process: nothing here is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.models.backbones import new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.families import family_of
from opinionlm.models.generative import generative_class
from opinionlm.models.tagger import OpinionTagger

VOCABULARY = 320
LABELS = ("noise", "objective", "positive", "negative")
TAGS = ("O", "B-coin", "I-coin", "B-person", "I-person")

DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
    "pad_token_id": 0,
}
GEMMA3 = DECODER | {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}

FAMILIES: dict[str, dict] = {
    "bert": ENCODER,
    "electra": ENCODER | {"embedding_size": 32},
    "roberta": ENCODER,
    "xlm-roberta": ENCODER,
    "mpnet": ENCODER,
    # As version 3 of DeBERTa is: relative positions only, one table for all blocks.
    "deberta-v2": ENCODER
    | {
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "distilbert": {
        "vocab_size": VOCABULARY,
        "dim": 64,
        "hidden_dim": 96,
        "n_layers": 4,
        "n_heads": 4,
        "max_position_embeddings": 128,
    },
    "modernbert": ENCODER
    | {"layer_types": ["full_attention"] + ["sliding_attention"] * 2 + ["full_attention"], "local_attention": 8},
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": 64,
        "n_layer": 4,
        "n_head": 4,
        "n_positions": 128,
        "eos_token_id": 1,
        "bos_token_id": 2,
    },
    "llama": DECODER,
    "mistral": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER | {"head_dim": 16},
    "phi3": DECODER,
    "gemma": DECODER | {"head_dim": 16},
    "gemma2": DECODER | {"head_dim": 16, "sliding_window": 8},
    "gemma3_text": GEMMA3,
    "gemma3": {
        "text_config": GEMMA3,
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
    },
    "t5": {
        "vocab_size": VOCABULARY,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 96,
        "num_layers": 4,
        "num_heads": 4,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    },
}


def tiny_config(family: str, single: bool = False) -> PreTrainedConfig:
    """A configuration of a family with four blocks of width 64; with the last one only for what trains many steps."""
    options = dict(FAMILIES[family])
    if single:
        options |= {"num_hidden_layers": 1}
        options |= {"layer_types": options["layer_types"][-1:]} if "layer_types" in options else {}
    return AutoConfig.for_model(family, **options)


# Those that cannot write.
ENCODERS = [name for name in FAMILIES if not (kind := family_of(tiny_config(name))).causal and kind.decoder is None]


def tiny_classifier(family: str = "gemma3_text", seed: int = 0, single: bool = False, **options) -> OpinionClassifier:
    """A classifier with random weights on a tiny backbone, in evaluation mode; see `tiny_config`."""
    torch.manual_seed(seed)
    backbone = new_backbone(tiny_config(family, single), with_pooler=options.get("pooling") == "pooler")
    labels, head = options.pop("labels", LABELS), head_of(options)
    return OpinionClassifier.from_backbone(backbone, labels, head, **options).eval()


def head_of(options: dict) -> HeadConfig:
    """The options of a head, which are taken out."""
    return HeadConfig(**{one.name: options.pop(one.name) for one in fields(HeadConfig) if one.name in options})


def tiny_tagger(family: str = "gemma3_text", seed: int = 0, **options) -> OpinionTagger:
    """The same with the head on every token."""
    torch.manual_seed(seed)
    return OpinionTagger.from_backbone(new_backbone(tiny_config(family)), TAGS, head_of(options), **options).eval()


def tiny_scorer(family: str = "bert", seed: int = 0, **options) -> OpinionClassifier:
    """The same with one output that is a score."""
    return tiny_classifier(family, seed, labels=["score"], problem_type="regression", **options)


def tiny_tokenizer(special: Sequence[str] = ("<pad>", "<eos>", "<bos>", "<unk>")) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that adds a begin token, like Gemma's; ``<bos>`` is the third of the special ones."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(special), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["is this coin any good ?", "buy now", "the price fell again"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer with segments for the texts of a pair, like BERT's."""
    # Written down: WordPiece training gives another vocabulary every time.
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?#$%'"
    words = ["is", "this", "coin", "any", "good", "buy", "now", "the", "price", "fell", "again", "##ing", "##s"]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_pretrained_model(
    folder: Path, family: str = "gemma3_text", dtype: torch.dtype = torch.float32, single: bool = False
) -> ModelConfig:
    """Write a tiny pretrained model with its tokenizer, as a hub download would look; returns how to load it."""
    from transformers import AutoModel, AutoModelForTextEncoding

    torch.manual_seed(1)
    auto_class = AutoModelForTextEncoding if family == "t5" else AutoModel
    auto_class.from_config(tiny_config(family, single)).to(dtype).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelConfig(model_name_or_path=str(folder))


def padded(rows: list[list[int]], length: int, side: str) -> dict[str, torch.Tensor]:
    """A batch padded to a length on one side, with values at the padding that must not matter."""
    ids = torch.full((len(rows), length), 7)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[index, place] = torch.tensor(row)
        mask[index, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def save_generative_model(folder: Path, family: str = "gemma3_text", single: bool = False) -> ModelConfig:
    """The same with its output layer, for models that write."""
    torch.manual_seed(1)
    config = tiny_config(family, single)
    generative_class(config).from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelConfig(model_name_or_path=str(folder))
