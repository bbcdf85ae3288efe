"""A model as an ONNX graph in float32 or int8, accepted only after it has answered the validation texts.

transformers' own exporter and quantiser make both (`transformers.exporters`, 5.23). The graph gives the model's own
logits; tokenizer, labels, calibration and decision rule lie beside it as they do beside the model.
"""

from __future__ import annotations

from pathlib import Path

from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.errors import UserError, one_line
from opinionlm.inference.export.comparison import Comparison, compare_answers, measured, validation_of
from opinionlm.inference.export.source import Source, merged_model
from opinionlm.inference.onnx_model import GRAPH, load_onnx_predictor, require_packages
from opinionlm.inference.options import PredictionOptions
from opinionlm.models.classifier import WORD_FILES, OpinionClassifier
from opinionlm.utils.files import copy_files, write_json
from opinionlm.utils.names import INPUT_FORMS


def write_onnx(source: Source, folder: Path, int8: bool, max_f1_loss: float) -> Comparison:
    """Write a graph with all that predict.py needs beside it, and compare it.

    Args:
        source: a model of a run with predictions of its validation split; used up.
        folder: that is there.
        int8: weights in int8 per channel, activations quantised as they come.
        max_f1_loss: refuse a graph that loses more macro-F1 on validation, of taggers entity F1, of scorers Pearson's
            correlation.

    Raises:
        UserError: packages or the run's predictions are missing, the model reads texts in chunks, the exporter cannot
            make a graph of it, or the graph loses more than is allowed.
    """
    require_packages("onnx", "onnxscript", "onnxruntime")
    predictor = source.predictor
    if predictor.model.config.chunk_overlap is not None:
        raise UserError(
            "export: no graph reads long texts in chunks; use --format remote_code, or train with long_texts: truncate"
        )
    items, gold = validation_of(source.folder.parent, predictor)
    before = measured(predictor, items)
    model = merged_model(source)
    save_graph(model, source, folder / GRAPH, int8)
    model.config.save_pretrained(folder)
    save_tokenizer(predictor.tokenizer, folder, predictor.max_length, pads_right=True)
    copy_files(source.folder, folder, (*WORD_FILES, INPUT_FORMS))
    after = measured(load_onnx_predictor(folder, PredictionOptions()), items)
    comparison = compare_answers(predictor, before, after, gold)
    if comparison.loss > max_f1_loss:
        other = "--format onnx, which is float32" if int8 else "--format transformers"
        raise UserError(
            f"export: the graph loses {comparison.loss:.4f} ({comparison.describe()}), more than --max_f1_loss "
            f"{max_f1_loss:g}; nothing is kept. Use {other}, or allow more"
        )
    write_json(folder / "comparison.json", comparison.facts() | {"max_f1_loss": max_f1_loss})
    return comparison


def save_graph(model: OpinionClassifier, source: Source, path: Path, int8: bool) -> None:
    """Write the graph of a model, weights beside it in a file of their own.

    Raises:
        UserError: the exporter cannot make one.
    """
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    # Two texts of different lengths, as predict.py batches them: number and length of texts stay free.
    rows = [row for item in source.probes()[:2] for row in source.encoded(item)]
    sample = PadCollator(source.predictor.tokenizer.pad_token_id)(rows)
    quantizer = OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig(per_channel=True)) if int8 else None
    try:
        exported = OnnxExporter().export(model, dict(sample), config=OnnxConfig(dynamic=True, quantizer=quantizer))
        OnnxExporter.save_program(exported.program, path)
    except Exception as error:
        name = model.config.text_config.model_type
        raise UserError(
            f"export: transformers' exporter makes no ONNX graph of this '{name}' model ({one_line(error)}); use "
            "--format transformers or remote_code"
        ) from error
