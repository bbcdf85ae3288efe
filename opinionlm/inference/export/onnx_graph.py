"""A classifier as an ONNX graph in float32 or int8, accepted only after it has answered the validation texts.

transformers' own exporter and quantiser make both (`transformers.exporters`, 5.23). The graph gives the model's own
logits; tokenizer, labels, calibration and decision rule lie beside it as they do beside the model.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.features import in_words
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import macro_f1
from opinionlm.evaluation.metrics import expected_calibration_error
from opinionlm.evaluation.multi_label_rules import one_label
from opinionlm.inference.export.source import Source, merged_model
from opinionlm.inference.input_forms import FILE_NAME
from opinionlm.inference.onnx_model import GRAPH, load_onnx_predictor, require_packages
from opinionlm.inference.predictors import ClassPredictor
from opinionlm.models.classifier import WORD_FILES, OpinionClassifier
from opinionlm.utils.files import write_json


@dataclass(frozen=True)
class Comparison:
    """A model and its graph on the validation texts.

    Attributes:
        rows: number of texts.
        label_agreement: share with equal labels.
        macro_f1, ece: of the model and of the graph.
        largest_difference: of a probability.
    """

    rows: int
    label_agreement: float
    macro_f1: tuple[float, float]
    ece: tuple[float, float]
    largest_difference: float

    def describe(self) -> str:
        """One line for a person."""
        f1, ece = (f"{before:.4f} → {after:.4f}" for before, after in (self.macro_f1, self.ece))
        return f"{self.rows:,} validation texts: {self.label_agreement:.2%} equal labels; macro-F1 {f1}; ECE {ece}"


def write_onnx(source: Source, folder: Path, int8: bool, max_f1_loss: float) -> Comparison:
    """Write a graph with all that predict.py needs beside it, and compare it.

    Args:
        source: a model that labels texts, of a run with predictions of its validation split; used up.
        folder: that is there.
        int8: weights in int8 per channel, activations quantised as they come.
        max_f1_loss: refuse a graph that loses more macro-F1 on validation.

    Raises:
        UserError: packages or the run's predictions are missing, the model labels no texts, the exporter cannot make
            a graph of it, or the graph loses more than is allowed.
    """
    require_packages("onnx", "onnxscript", "onnxruntime")
    predictor = source.predictor
    if not isinstance(predictor, ClassPredictor):
        raise UserError(
            "export: --format onnx is for models that label texts or pairs of them; use --format transformers or "
            "remote_code"
        )
    items, gold = validation_texts(source.folder.parent, predictor)
    before = predictor.probabilities(items)
    model = merged_model(source)
    save_graph(model, source, folder / GRAPH, int8)
    model.config.save_pretrained(folder)
    save_tokenizer(predictor.tokenizer, folder, predictor.max_length)
    for name in (*WORD_FILES, FILE_NAME):
        if (source.folder / name).is_file():
            shutil.copy(source.folder / name, folder / name)
    comparison = compare_answers(predictor, before, load_onnx_predictor(folder).probabilities(items), gold)
    loss = comparison.macro_f1[0] - comparison.macro_f1[1]
    if loss > max_f1_loss:
        other = "--format onnx, which is float32" if int8 else "--format transformers"
        raise UserError(
            f"export: the graph loses {loss:.4f} of macro-F1 ({comparison.describe()}), more than --max_f1_loss "
            f"{max_f1_loss:g}; nothing is kept. Use {other}, or allow more"
        )
    write_json(folder / "comparison.json", vars(comparison) | {"max_f1_loss": max_f1_loss})
    return comparison


def validation_texts(folder: Path, predictor: ClassPredictor) -> tuple[list[Any], np.ndarray]:
    """What a model read of the validation split, and the leaf of every text ``(rows,)``.

    Args:
        folder: of the run.
        predictor: its model.

    Raises:
        UserError: the run's predictions are not beside the model, or lack a column that it reads.
    """
    path = folder / "predictions" / "validation.csv"
    if not path.is_file():
        raise UserError(
            f"export: {path} is missing, by which a graph is compared with the model; give the folder of the whole run"
        )
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and (absent := [feature.name for feature in predictor.features if feature.name not in rows[0]]):
        raise UserError(f"export: the model reads {', '.join(absent)} beside the text, and {path} does not hold it")
    texts = [in_words(predictor.features, row, row["text"]) for row in rows]
    items = list(zip(texts, [row["text_pair"] for row in rows], strict=True)) if predictor.reads == "pair" else texts
    leaves = predictor.labels.taxonomy.leaves
    return items, np.array([leaves.index(row["gold"]) for row in rows])


def save_graph(model: OpinionClassifier, source: Source, path: Path, int8: bool) -> None:
    """Write the graph of a model, weights beside it in a file of their own.

    Raises:
        UserError: the exporter cannot make one.
    """
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    # Two texts of different lengths, as predict.py batches them: number and length of texts stay free.
    rows = source.predictor.encode(source.probes()[:2])
    sample = PadCollator(source.predictor.tokenizer.pad_token_id)(rows)
    quantizer = OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig(per_channel=True)) if int8 else None
    try:
        exported = OnnxExporter().export(model, dict(sample), config=OnnxConfig(dynamic=True, quantizer=quantizer))
        OnnxExporter.save_program(exported.program, path)
    except Exception as error:
        reason, name = " ".join(str(error).split())[:200], model.config.text_config.model_type
        raise UserError(
            f"export: transformers' exporter makes no ONNX graph of this '{name}' model ({reason}); use --format "
            "transformers or remote_code"
        ) from error


def compare_answers(predictor: ClassPredictor, before: np.ndarray, after: np.ndarray, gold: np.ndarray) -> Comparison:
    """Compare calibrated probabilities ``(rows, leaves)`` of a model and of its graph."""
    answers, rule = predictor.labels, one_label(predictor.labels.rule)
    labels = [rule.decide(found, answers.taxonomy) for found in (before, after)]
    leaves = len(answers.taxonomy.leaves)
    scores = [macro_f1(gold, found, leaves) for found in labels]
    errors = [expected_calibration_error(gold, found) for found in (before, after)]
    return Comparison(
        rows=len(gold),
        label_agreement=float((labels[0] == labels[1]).mean()),
        macro_f1=(scores[0], scores[1]),
        ece=(errors[0], errors[1]),
        largest_difference=float(np.abs(before - after).max()),
    )
