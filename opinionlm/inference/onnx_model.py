"""A saved model whose graph ONNX Runtime computes: the answers, columns and decision rule of predict.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from opinionlm.errors import UserError, one_line
from opinionlm.inference.loading import predictor_of
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.predictors import Predictor
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.saved import saved_config, saved_tokenizer
from opinionlm.utils.command_line import command

GRAPH = "model.onnx"


def require_packages(*names: str) -> None:
    """Refuse to go on without the packages of the extra ``onnx``.

    Raises:
        UserError: one of them is not installed.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UserError(
            f"onnx: needs the package {missing[0]}: pip install -r requirements-onnx.txt, or pip install "
            "'opinionlm[onnx]'"
        )


class OnnxModel:
    """What a `Predictor` calls in a model's place; logits are the model's own, its rule stands in ``config``.

    Args:
        folder: with the graph.
        config: of the model that it was made of.

    Raises:
        UserError: the graph cannot be loaded, or is that of other labels.
    """

    def __init__(self, folder: Path, config: OpinionClassifierConfig) -> None:
        require_packages("onnxruntime")
        import onnxruntime

        self.config, self.device = config, torch.device("cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(
                f"--backend onnx: {folder / GRAPH} cannot be loaded by onnxruntime {onnxruntime.__version__} "
                f"({one_line(error)}); export the model again with the versions of requirements-onnx.txt"
            ) from error
        self.inputs = [one.name for one in self.session.get_inputs()]
        if (outputs := self.session.get_outputs()[0].shape[-1]) != config.num_labels:
            raise UserError(
                f"--backend onnx: {folder / GRAPH} gives {outputs} logits for the {config.num_labels} labels of "
                "config.json; export the model again"
            )

    def __call__(self, **batch: torch.Tensor) -> SequenceClassifierOutput:
        """Logits ``(texts, labels)``, of a tagger ``(texts, length, tags)``, of a batch on the CPU."""
        feeds = {name: batch[name].numpy() for name in self.inputs}
        return SequenceClassifierOutput(logits=torch.from_numpy(self.session.run(None, feeds)[0]))


def load_onnx_predictor(folder: Path, options: PredictionOptions) -> Predictor:
    """Load what ``opinionlm export --format onnx`` wrote; arguments as of `loading.load_predictor`.

    Raises:
        UserError: there is no graph, or it, its configuration or its tokenizer cannot be loaded.
    """
    if not (folder / GRAPH).is_file():
        raise UserError(
            f"--backend onnx: {folder} has no {GRAPH}; write one: {command('export')} <run> --format onnx, and give "
            "the folder that it names"
        )
    model = OnnxModel(folder, saved_config(folder))
    return predictor_of(model, saved_tokenizer(folder), folder, options)
