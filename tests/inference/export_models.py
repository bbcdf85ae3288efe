"""Small saved models that exports are tried on, and the check of an export without a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.inference.export import check
from opinionlm.inference.export.folder import ANSWERS, Format, Written, compare, write_export
from opinionlm.inference.export.source import load_source
from opinionlm.models.backbones import new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.native_heads import with_native_pooling
from opinionlm.models.tagger import OpinionTagger
from tests.adaptation.matrix import method_config
from tests.tiny import LABELS, TAGS, tiny_config, tiny_tokenizer

MAX_LENGTH = 32


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, padding as the family's own does where the family counts on it."""
    return tiny_tokenizer(("<eos>", "<pad>", "<bos>", "<unk>")) if family == "mpnet" else tiny_tokenizer()


def save_model(
    folder: Path, family: str, task: str = "sequence", method: str = "", seed: int = 0, rule=None, **head
) -> Path:
    """Write a model with random weights, large enough that texts get clearly different answers.

    Args:
        folder: to be made.
        family: of the backbone.
        task: sequence, token or similarity.
        method: an adaptation that adds parameters; none by default.
        seed: of the weights.
        rule: entries of the configuration that decide answers.
        head: options of the head.
    """
    torch.manual_seed(seed)
    config = tiny_config(family)
    options = with_native_pooling(ModelConfig(**head), config, pools=task != "token")
    backbone = new_backbone(config, with_pooler=options.pooling == "pooler")
    model = new_model(backbone, task, options)
    if method:
        apply_adaptation(model, method_config(method), 10)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head."):
                parameter.normal_(std=0.5)
            elif method and parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.config.update(rule or {})
    model.save_pretrained(folder)
    tokenizer = tokenizer_of(family)
    tokenizer.model_max_length = MAX_LENGTH
    tokenizer.save_pretrained(folder)
    return folder


def new_model(backbone, task: str, head: HeadConfig) -> OpinionClassifier:
    match task:
        case "sequence":
            return OpinionClassifier.from_backbone(backbone, LABELS, head, max_length=MAX_LENGTH)
        case "token":
            return OpinionTagger.from_backbone(backbone, TAGS, head, max_length=MAX_LENGTH)
        case "similarity":
            model = OpinionClassifier.from_backbone(
                backbone, ("score",), head, max_length=MAX_LENGTH, problem_type="regression"
            )
            model.config.text_pairs = True
            return model


def exported(source: Path, folder: Path, kind: Format) -> Written:
    """An export that is written and not yet checked."""
    folder.mkdir()
    return write_export(load_source(source), folder, kind)


def check_here(written: Written) -> None:
    """What `check_written` does, in this process, which spares the start of another."""
    job = {
        "folder": str(written.folder),
        "is_tagger": written.is_tagger,
        "remote_code": written.remote_code,
        "items": written.items,
    }
    np.savez(written.folder / ANSWERS, *check.answers(job))
    compare(written)
