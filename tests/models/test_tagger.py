"""Taggers, scorers of pairs and BERT's pooler: saving, pipelines, padding, published sizes."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers import pipeline as transformers_pipeline

import opinionlm  # noqa: F401  (registers the model types)
from opinionlm.adaptation.methods import apply_adaptation, count_parameters
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone, new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules
from opinionlm.models.tagger import OpinionTagger
from tests.tiny import (
    FAMILIES,
    TAGS,
    padded,
    save_pretrained_model,
    tiny_classifier,
    tiny_scorer,
    tiny_tagger,
    tiny_tokenizer,
)

ROWS = [[2, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21], [2, 30, 31], [2, 40, 41, 42, 43, 44, 45]]


@pytest.mark.parametrize("family", FAMILIES)
def test_reload_and_padding(family: str, tmp_path) -> None:
    model = tiny_tagger(family, head_hidden_sizes=[32])
    model.save_pretrained(tmp_path)
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    assert type(loaded) is OpinionTagger and loaded.config.id2label == dict(enumerate(TAGS))
    with torch.no_grad():
        batch = padded(ROWS, 12, "right")
        logits = model(**batch).logits
        assert logits.shape == (3, 12, len(TAGS))
        assert torch.equal(loaded(**batch).logits, logits)
        for index, row in enumerate(ROWS):
            alone = model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(logits[index, : len(row)], alone, rtol=1e-4, atol=1e-5)


def test_loss_counts_labelled_tokens_only() -> None:
    model, batch = tiny_tagger(), padded(ROWS, 12, "right")
    labels = torch.full((3, 12), -100)
    labels[0, 3], labels[2, 1] = 2, 4
    output = model(**batch, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[[0, 2], [3, 1]], torch.tensor([2, 4]))
    torch.testing.assert_close(output.loss, expected)
    assert torch.equal(model(**batch, labels=labels, return_dict=False)[0], output.loss)


def test_four_bit_tagger_round_trip(tmp_path) -> None:
    save_pretrained_model(tmp_path / "base", "llama", torch.bfloat16)
    settings = ModelConfig(model_name_or_path=str(tmp_path / "base"), load_in_4bit=True, dtype="bfloat16")
    model = OpinionTagger.from_backbone(load_backbone(settings, trained_blocks=1), TAGS).eval()
    apply_adaptation(model, MethodConfig(adaptation="top_blocks"))
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path / "saved").eval()
    assert quantized_modules(loaded) == quantized_modules(model) and len(quantized_modules(model)) == 21
    with torch.no_grad():
        batch = padded(ROWS, 12, "right")
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("family", ["gemma3_text", "bert"])
def test_token_pipeline_with_aggregation(family: str, tmp_path) -> None:
    model = tiny_tagger(family)
    with torch.no_grad():
        model.head.layers[-1].bias[1] = 50.0  # every token begins a coin
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    tag = transformers_pipeline("token-classification", model=str(tmp_path), device="cpu")
    answer = tag("buy now", aggregation_strategy="first")
    assert answer and {entity["entity_group"] for entity in answer} == {"coin"}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_score_pipeline_on_pairs(family: str, tmp_path) -> None:
    model, tokenizer = tiny_scorer(family), tiny_tokenizer()
    with torch.no_grad():
        model.head.layers[-1].bias[0] = 3.5  # no probability: neither softmax nor sigmoid may touch it
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    score = transformers_pipeline("text-classification", model=str(tmp_path), device="cpu")
    answer = score({"text": "buy now", "text_pair": "the price"})
    with torch.no_grad():
        expected = model(**tokenizer("buy now", "the price", return_tensors="pt")).logits.item()
    assert answer["label"] == "score" and answer["score"] == pytest.approx(expected, abs=1e-5)
    assert expected > 2


def test_regression_loss_is_the_mean_square() -> None:
    model, batch = tiny_scorer(), padded(ROWS, 12, "right")
    output = model(**batch, labels=torch.tensor([1.0, 2.0, 3.0]))
    expected = ((output.logits[:, 0] - torch.tensor([1.0, 2.0, 3.0])) ** 2).mean()
    torch.testing.assert_close(output.loss, expected)


def test_segments_reach_bert_and_nobody_else() -> None:
    batch = padded(ROWS, 12, "right")
    segments = torch.zeros_like(batch["input_ids"])
    segments[:, 2:] = 1
    with torch.no_grad():
        for family in ("bert", "gpt2", "roberta", "llama"):
            model = tiny_classifier(family)
            same = torch.equal(model(**batch, token_type_ids=segments).logits, model(**batch).logits)
            assert same == (family != "bert")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pooler_is_the_pretrained_one(family: str, tmp_path) -> None:
    settings = save_pretrained_model(tmp_path / "base", family)
    settings.pooling = "pooler"
    backbone = load_backbone(settings, trained_blocks=4)
    model = OpinionClassifier.from_backbone(backbone, "ab", HeadConfig(pooling="pooler")).eval()
    whole = AutoModel.from_pretrained(tmp_path / "base").eval()
    ids = torch.tensor([ROWS[0]])
    with torch.no_grad():
        pooled = model.pooled(ids, torch.ones_like(ids))
        torch.testing.assert_close(pooled, whole(ids).pooler_output)
        # Read from the mask: the padding's side does not matter.
        left, right = (model(**padded(ROWS, 14, side)).logits for side in ("left", "right"))
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
        model.save_pretrained(tmp_path / "saved")
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
        assert torch.equal(loaded(**padded(ROWS, 14, "right")).logits, right)


def test_pooler_is_refused_where_there_is_none(tmp_path) -> None:
    settings = save_pretrained_model(tmp_path, "gpt2")
    settings.pooling = "pooler"
    with pytest.raises(UserError, match="pooling: 'pooler' .*'gpt2' does not have; use first, last or mean"):
        load_backbone(settings, trained_blocks=0)


def bert_base(vocabulary: int) -> AutoConfig:
    """The published configuration of BERT-base; only the vocabulary differs between cased and uncased."""
    return AutoConfig.for_model("bert", vocab_size=vocabulary)


def test_published_sizes_of_the_methods_paper() -> None:
    with torch.device("meta"):
        backbone = new_backbone(bert_base(30_522), with_pooler=True)
        emotion = OpinionClassifier.from_backbone(backbone, list("abcdef"), HeadConfig(pooling="pooler"))
        tagger = OpinionTagger.from_backbone(new_backbone(bert_base(28_996)), list("abcdefghi"))
    for model, full, head in ((emotion, 109_486_854, 4_614), (tagger, 107_726_601, 6_921)):
        apply_adaptation(model, MethodConfig(adaptation="full"))
        assert count_parameters(model) == {"total_parameters": full, "trainable_parameters": full}
        apply_adaptation(model, MethodConfig(adaptation="head_only"))
        assert count_parameters(model)["trainable_parameters"] == head  # the pooler is frozen
