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
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.predictors import TagPredictor
from opinionlm.models.backbones import new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.native_heads import with_native_pooling
from opinionlm.models.tagger import OpinionTagger
from opinionlm.utils.files import write_csv
from tests.adaptation.matrix import method_config
from tests.tiny import LABELS, TAGS, tiny_config, tiny_tokenizer

MAX_LENGTH = 32
TEXTS = ["buy now", "the price fell again", "is this coin any good ?", "again again again", "good", "? ? ? is it"]


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
        task: sequence, multi_label, token or similarity.
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
        case "multi_label":
            problem = "multi_label_classification"
            return OpinionClassifier.from_backbone(backbone, LABELS, head, max_length=MAX_LENGTH, problem_type=problem)
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


def write_validation(run: Path) -> None:
    """The predictions of a run on validation, as far as a graph is compared by them: the model is always right."""
    predictor = load_predictor(run / "best", PredictionOptions("cpu"))
    match predictor:
        case TagPredictor():
            rows = [{"tokens": text, "gold": predictor.answers([tuple(text.split())])[0][0]} for text in TEXTS]
        case _ if predictor.reads == "pair":
            pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
            answers = predictor.answers(pairs)
            rows = [
                {"text": one, "text_pair": two, "gold": row[0]} for (one, two), row in zip(pairs, answers, strict=True)
            ]
        case _:
            rows = [{"text": text, "gold": row[0]} for text, row in zip(TEXTS, predictor.answers(TEXTS), strict=True)]
    write_csv(run / "predictions" / "validation.csv", list(rows[0]), [list(row.values()) for row in rows])
