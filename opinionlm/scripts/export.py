"""Write a trained model in a form that loads where opinionlm is absent.

    opinionlm export outputs/<run>                        # transformers' own class; refused where none holds the model
    opinionlm export outputs/<run> --format remote_code   # any classifier or tagger, with one Python file beside it

Adapters are merged, temperature and decision become part of the last layer, weights are float32. The export appears
only after a process without opinionlm has loaded it and answered like the model.
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
        choices=["transformers", "remote_code"],
        default="transformers",
        help="transformers: the family's own class; remote_code: needs trust_remote_code=True [transformers]",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="a new one [beside best/, named by the format]")
    arguments = parser.parse(argv)
    with libraries_loading():
        from opinionlm.inference.export.folder import export_model

    target = export_model(arguments.model, arguments.output, arguments.format)
    print(
        f"exported {arguments.model} → {target}; loaded without opinionlm, it answers alike",
        file=sys.stderr,
    )
