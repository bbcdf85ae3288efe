"""``head: native``: the heads of the families' own classes, against those classes themselves."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, DistilBertForSequenceClassification

from opinionlm.config.options import ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.native_heads import native_form, with_native_pooling
from tests.tiny import FAMILIES, LABELS, padded, tiny_config

ROWS = [[2, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21], [2, 30, 31], [2, 40, 41, 42, 43, 44, 45]]


def test_distilbert_learns_what_its_own_class_learns() -> None:
    """The published head, weight by weight: equal logits, and equal gradients of the loss."""
    torch.manual_seed(0)
    config = tiny_config("distilbert")
    config.num_labels = len(LABELS)
    own = DistilBertForSequenceClassification(config).eval()
    head = ModelConfig(head="native", pooling="first")
    ours = OpinionClassifier.from_backbone(new_backbone(tiny_config("distilbert")), LABELS, head).eval()
    ours.backbone.load_state_dict(own.distilbert.state_dict())
    ours.head.dense.load_state_dict(own.pre_classifier.state_dict())
    ours.head.output.load_state_dict(own.classifier.state_dict())
    batch, labels = padded(ROWS, 12, "right"), torch.tensor([0, 3, 1])
    ours_out, own_out = ours(**batch, labels=labels), own(**batch, labels=labels)
    torch.testing.assert_close(ours_out.logits, own_out.logits)
    ours_out.loss.backward()
    own_out.loss.backward()
    torch.testing.assert_close(ours.head.dense.weight.grad, own.pre_classifier.weight.grad)
    assert ours.head.dense.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("pools", [True, False], ids=["texts", "words"])
@pytest.mark.parametrize("family", FAMILIES)
def test_forms_name_the_layers_of_the_own_class(family: str, pools: bool) -> None:
    form = native_form(tiny_config(family), pools)
    without = ("t5",) if pools else ("gemma3_text", "gemma3")
    assert (form is None) == (family in without), "name it in `without`, or give its form"
    if form is None:
        return
    from transformers import AutoModelForTokenClassification

    config = tiny_config(family).get_text_config()
    config.num_labels = 7
    auto_class = AutoModelForSequenceClassification if pools else AutoModelForTokenClassification
    with torch.device("meta"):
        own = auto_class.from_config(config)
    output = own.get_submodule(form.output)
    assert output.out_features == 7
    assert (output.bias is not None) == form.bias
    assert form.dense is None or own.get_submodule(form.dense).weight.shape == (64, 64)
    # Nothing outside of the backbone is left out.
    outside = {name for name, _ in own.named_parameters() if not name.startswith(f"{own.base_model_prefix}.")}
    named = tuple(f"{name}." for name in (form.output, form.dense, form.norm) if name is not None)
    assert all(name.startswith(named) for name in outside)


def test_family_without_a_class_is_named() -> None:
    with pytest.raises(UserError, match="'native'.*labels of texts.*'t5'.*head: standard"):
        with_native_pooling(ModelConfig(head="native"), tiny_config("t5"), pools=True)
    with pytest.raises(UserError, match="labels of words.*'gemma3_text'"):
        with_native_pooling(ModelConfig(head="native"), tiny_config("gemma3"), pools=False)
