"""Upload a trained model to the Hugging Face hub, private unless --public.

    opinionlm push outputs/<run> user/model              # best/ with its card
    opinionlm push outputs/<run>/transformers user/model # an export, which loads where opinionlm is absent

The model appears whole or not at all; the same command goes on where an upload broke off. Others load it by its name:
opinionlm predict --model user/model, opinionlm.load("user/model"). The token is that of `hf auth login`, or HF_TOKEN.
"""

from __future__ import annotations

import sys
from pathlib import Path

from opinionlm.errors import run_script
from opinionlm.utils.command_line import Parser
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> None:
    """Upload a model and say where it is."""
    parser = Parser(__doc__)
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a finished run, a saved model or an export")
    parser.add_argument("name", metavar="NAME", help="of the repository: user/model")
    parser.add_argument("--public", action="store_true", help="everybody may read it [only you and your organisation]")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that is there by a new commit")
    arguments = parser.parse(argv)
    with libraries_loading():
        from opinionlm.inference.hub import push_model

    address = push_model(arguments.model, arguments.name, arguments.public, arguments.overwrite)
    print(f"pushed {arguments.model} → {address}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
