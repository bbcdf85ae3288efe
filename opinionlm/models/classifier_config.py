"""The configuration of a saved classifier; no value of another kind than its own is ever taken.

``from __future__ import annotations`` is left out: the types have to be there when the class is made.
"""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from opinionlm.config.method_options import DecisionKind, SetScore
from opinionlm.models.heads import Pooling

# JSON has one kind of them.
Number = float | int


@strict
class OpinionClassifierConfig(PreTrainedConfig):
    r"""Configuration of `OpinionClassifier`.

    Args:
        text_config: configuration of the text backbone.
        head: ``native`` for the head of the family's own class (`opinionlm.models.native_heads`), which the next two
            say nothing about.
        head_hidden_sizes: widths of the head's hidden layers, empty for a linear head.
        head_bias: whether the last linear layer of the head has a bias.
        pooling: ``first``, ``last``, ``mean``, ``pooler`` (BERT's own dense layer over the first token), or ``auto``:
            last for causal backbones, mean for the others.
        classifier_dropout: dropout before every linear layer of the head.
        label_tree: the nested label tree, as in the dataset YAML; ``id2label`` holds its leaves in the tree's order.
        max_length: number of tokens a text was cut to in training; prediction does the same.
        chunk_overlap: longer texts are read in chunks of ``max_length`` that share so many tokens; None cuts them.
        chunk_pooling: how the vectors of a text's chunks become one, ``mean`` or ``max``.
        read_ends: of longer texts the first and the last half of ``max_length`` tokens are read
            (`opinionlm.data.encoding.ends`); by default the first ``max_length`` are.
        text_pairs: whether the model was trained on pairs of texts.
        cleaning: what was done to the training texts (`opinionlm.data.cleaning.text_options`), None for nothing;
            `predict.py` does the same to new ones, a pipeline does not.
        platforms: those of the training texts, where the model reads a platform in front of every text; else None.
        features: columns that the model reads in front of every text (`opinionlm.data.encoding.features`), else None.
        task_tokens: rows that were added to the embedding, for the ids behind the tokenizer's own.
        adapter: what was added to the backbone, as `opinionlm.models.adapters.add_adapter` reads it.
        temperature, calibration_biases: divide the logits, which are the model's own, and are added to them, where
            calibrated probabilities are wanted; no biases are None.
        decision, decision_offsets: how a leaf is decided, see `opinionlm.evaluation.decisions.AnswerRule`.
        label_thresholds: of the leaves where each is decided by itself, see
            `opinionlm.evaluation.multi_label_rules.MultiLabelRule`.
        word_share: share of TF-IDF (`opinionlm.models.linear.interpolation`), 0 without any.
            They are no part of its logits: `predict.py` mixes them in.
        label_set_score, label_set_thresholds: see `opinionlm.evaluation.conformal.LabelSets`; None without them.
        precision: that `predict.py` computes in, ``float32`` or ``bfloat16``, chosen at the end of training; None for
            that of the weights.

    With ``problem_type="regression"`` and one label the logit is a score, of a pair of texts for instance; with
    ``multi_label_classification`` the sigmoid of every logit is the probability of its leaf.
    """

    model_type = "opinionlm_classifier"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="gemma3_text")}

    text_config: PreTrainedConfig | dict | None = None
    head: Literal["standard", "native"] = "standard"
    head_hidden_sizes: list[int] | None = None
    head_bias: bool = True
    pooling: Pooling = "auto"
    classifier_dropout: Number = 0.1
    label_tree: dict | list | None = None
    max_length: int | None = None
    chunk_overlap: int | None = None
    chunk_pooling: Literal["mean", "max"] = "mean"
    read_ends: bool = False
    text_pairs: bool = False
    cleaning: dict | None = None
    platforms: list[str] | None = None
    features: list[dict] | None = None
    task_tokens: int = 0
    adapter: dict | None = None
    temperature: Number = 1.0
    calibration_biases: list[Number] | None = None
    word_share: Number = 0.0
    decision: DecisionKind = "argmax"
    decision_offsets: list[Number] | None = None
    label_thresholds: list[Number] | None = None
    label_set_score: SetScore | None = None
    label_set_thresholds: list[Number] | None = None
    precision: Literal["float32", "bfloat16"] | None = None

    def validate_ranges(self) -> None:
        """Called by `strict` when all values are there.

        Raises:
            ValueError: one is out of its range.
        """
        lowest = {"max_length": 1, "chunk_overlap": 0, "task_tokens": 0}
        wrong = [name for name, low in lowest.items() if (value := getattr(self, name)) is not None and value < low]
        wrong += [name for name in ("classifier_dropout", "word_share") if not 0 <= getattr(self, name) <= 1]
        if wrong:
            raise ValueError(f"{wrong[0]}: {getattr(self, wrong[0])} is out of range")
