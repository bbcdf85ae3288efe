"""Write a trained model in a form that loads where opinionlm is absent.

    opinionlm export outputs/<run>                        # transformers' own class; refused where none holds the model
    opinionlm export outputs/<run> --format remote_code   # any classifier or tagger, with one Python file beside it
    opinionlm export outputs/<run> --format onnx          # a graph of texts' labels for predict.py --backend onnx
    opinionlm export outputs/<run> --format onnx_int8     # the same with weights in int8

Adapters are merged. In the first two, temperature and decision become part of the last layer and weights are float32;
they appear only after a process without opinionlm has loaded them and answered like the model. Graphs appear after
they have answered the validation texts, and lost no more than --max_f1_loss.
"""

from __future__ import annotations

import sys
from pathlib import Path

from opinionlm.utils.command_line import Parser
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> None:
    """Export a model and say where it is."""
    parser = Parser(__doc__)
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a finished run, or of a saved model")
    parser.add_argument(
        "--format",
        choices=["transformers", "remote_code", "onnx", "onnx_int8"],
        default="transformers",
        help="the family's own class; our code beside it; a graph for predict.py --backend onnx [transformers]",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="a new one [beside best/, named by the format]")
    parser.add_argument("--max_f1_loss", type=float, help="of a graph on validation, else it is not kept [0.01]")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export by a complete new one")
    arguments = parser.parse(argv)
    if arguments.max_f1_loss is not None:
        if not arguments.format.startswith("onnx"):
            parser.error(f"--max_f1_loss: {arguments.format} is no graph and loses nothing; leave it out")
        if not arguments.max_f1_loss >= 0:
            parser.error(f"--max_f1_loss: {arguments.max_f1_loss} must be at least 0")
    with libraries_loading():
        from opinionlm.inference.export.folder import MAX_F1_LOSS, export_model

    loss = MAX_F1_LOSS if arguments.max_f1_loss is None else arguments.max_f1_loss
    target = export_model(arguments.model, arguments.output, arguments.format, loss, arguments.overwrite)
    print(f"exported {arguments.model} → {target} ({arguments.format})", file=sys.stderr)
