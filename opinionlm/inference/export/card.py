"""The card of an export: that of the model, whose examples work with the export and say what it does."""

from __future__ import annotations

import re
from typing import Literal

from opinionlm.evaluation.multi_label_rules import MultiLabelRule
from opinionlm.inference.export.source import Source
from opinionlm.utils.names import CARD

Format = Literal["transformers", "remote_code", "onnx", "onnx_int8"]
# Stands in every export, and tells one from other models.
EXPORTED = "Written by `opinionlm export"
# The parts of a card that `opinionlm.reporting.model_card` has written, and had before this version.
IMPORT = "import opinionlm  # makes the model type known to transformers\n"
PIPELINE = re.compile(r"```python\n.*?```\n", re.DOTALL)
PIPELINE_MODEL = re.compile(r'(pipeline\("[a-z-]+", )model="[^"\n]*"')
COMMAND = re.compile(
    r"or for files of any size:\n`python (-m opinionlm predict|predict\.py) --model ('[^'\n]*'|\S+) ([^`\n]*)`\n"
)
RAW_LABELS = "# probabilities before calibration; opinionlm gives labels"
RAW_ANSWERS = re.compile(r"\nA pipeline over this folder gives [^\n]*\n")
READS_LESS = re.compile(r"; a pipeline (with truncation=True )?reads their first [\d,]+( alone)?\.")

FOLDED = (
    "Weights are float32, and nothing needs opinionlm. Temperature and offsets of the decision are part of the last "
    "layer: the largest logit is the label that opinionlm gives. Where a decision has offsets, softmax gives its "
    "scores and not calibrated probabilities."
)
FOLDED_LABELS = (
    "Weights are float32, and nothing needs opinionlm. Temperature and thresholds are part of the last layer: the "
    "labels that opinionlm gives are those whose score (the sigmoid of a logit) is at least 0.5, and scores are not "
    "calibrated probabilities."
)


def exported_card(source: Source, kind: Format) -> str:
    """The model's card, without what needs this package and with what was changed."""
    path = source.folder / CARD
    card = path.read_text(encoding="utf-8") if path.is_file() else "# A model of opinionlm\n"
    lines = ["", "## Exported", "", f"{EXPORTED} --format {kind}` from `{source.folder.name}/`."]
    folded = FOLDED_LABELS if isinstance(source.rule, MultiLabelRule) else FOLDED
    match kind:
        case "transformers":
            card = pipeline_card(card, 'model="."')
            lines.append(folded)
        case "remote_code":
            card = pipeline_card(card, 'model=".", trust_remote_code=True')
            lines += [folded, "Load it with `trust_remote_code=True`; its code is the one Python file here."]
            if source.predictor.model.config.chunk_overlap is not None:
                lines.append("In a pipeline, too, it reads long texts whole, in chunks.")
            if source.predictor.model.config.read_ends:
                lines.append("In a pipeline, too, it reads both ends of long texts.")
        case "onnx" | "onnx_int8":
            card = graph_card(card)
            lines.append(
                "`opinionlm predict --backend onnx` answers with it; the graph gives raw logits, and config.json has "
                "the rule."
            )
    return card + "\n".join(lines) + "\n"


def pipeline_card(card: str, arguments: str) -> str:
    """A card for a pipeline alone: predict.py takes no such export.

    Args:
        card: of the model.
        arguments: of the pipeline that load the export.
    """
    card = PIPELINE_MODEL.sub(lambda found: found[1] + arguments, card.replace(IMPORT, ""))
    card = card.replace(RAW_LABELS, "# a label is given where its score is at least 0.5")
    for sentence in (COMMAND, RAW_ANSWERS):
        card = sentence.sub("", card)
    return READS_LESS.sub("; so does a pipeline.", card)


def graph_card(card: str) -> str:
    """A card for predict.py alone: no pipeline takes a graph."""
    card = RAW_ANSWERS.sub("", PIPELINE.sub("", card, count=1))
    return COMMAND.sub(lambda found: f"`python -m opinionlm predict --model . --backend onnx {found[3]}`\n", card)
