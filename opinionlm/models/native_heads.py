"""The classification head of every family's own class in transformers: what ``head: native`` trains.

A model with such a head is one that ``AutoModelForSequenceClassification`` or ``AutoModelForTokenClassification`` can
hold to the last weight; `opinionlm.inference.export.plain` writes it as one.
"""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES

from opinionlm.config.options import ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.families import family_of
from opinionlm.models.heads import NativeForm


def native_form(config: PreTrainedConfig, pools: bool) -> NativeForm | None:
    """The head of a family's own class, None where the family has no class that a text backbone fills.

    Args:
        config: the backbone's configuration; of a multimodal wrapper its text part counts.
        pools: whether the head reads one vector per text (sequence classification), or every token.
    """
    text = config.get_text_config()
    match text.model_type:
        case "modernbert":
            return NativeForm(
                ("first" if text.classifier_pooling == "cls" else "mean") if pools else "auto",
                "classifier",
                dense="head.dense",
                dense_bias=text.classifier_bias,
                activation=text.classifier_activation,
                norm="head.norm",
                norm_eps=text.norm_eps,
                norm_bias=text.norm_bias,
            )
        case _ if not pools:
            return _tagging_form(text)
        case "bert":
            return NativeForm("pooler", "classifier")
        case "electra":
            return NativeForm(
                "first", "classifier.out_proj", dense="classifier.dense", activation="gelu", dropout_before=True
            )
        case "roberta" | "xlm-roberta" | "mpnet":
            return NativeForm("first", "classifier.out_proj", dense="classifier.dense", dropout_before=True)
        case "deberta-v2":
            activation = text.pooler_hidden_act
            return NativeForm("first", "classifier", dense="pooler.dense", activation=activation, dropout_before=True)
        case "distilbert":
            return NativeForm("first", "classifier", dense="pre_classifier", activation="relu")
        case _ if family_of(text).causal:
            return NativeForm("last", "score", bias=False)
        case _:
            # T5's own class runs the decoder, too.
            return None


def _tagging_form(text: PreTrainedConfig) -> NativeForm | None:
    """The same for tokens; Gemma 3 has no such class, and that of GPT-2 names its layer as encoders do."""
    if text.model_type not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES:
        return None
    return NativeForm("auto", "score" if family_of(text).causal and text.model_type != "gpt2" else "classifier")


def require_native_form(config: PreTrainedConfig, pools: bool) -> NativeForm:
    """The head of a family's own class.

    Raises:
        UserError: there is none.
    """
    form = native_form(config, pools)
    if form is None:
        kind, name = "texts" if pools else "words", config.get_text_config().model_type
        raise UserError(
            f"head: 'native': transformers has no class for labels of {kind} that a '{name}' backbone fills; use "
            "head: standard"
        )
    return form


def with_native_pooling(model: ModelConfig, config: PreTrainedConfig, pools: bool) -> ModelConfig:
    """The options of a model with the pooling of the family's own class in place where ``head: native`` asks for it.

    Raises:
        UserError: the family has no such class.
    """
    if model.head != "native":
        return model
    return replace(model, pooling=require_native_form(config, pools).pooling)
