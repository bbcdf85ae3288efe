"""Make a data set from raw files: clean, remove copies, split, report.

    python preprocess.py --config configs/datasets/cryptoqa.yaml
    python preprocess.py --config configs/datasets/cryptoqa.yaml --suspects

The dataset YAML says where the data are, what the labels mean and how to clean; every cleaning step can also be given
here and then wins over the YAML.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from opinionlm.data.cleaning import PROFILES, Cleaning
from opinionlm.data.spec_parsing import load_spec
from opinionlm.utils.command_line import Parser, whole_number


def build_parser() -> Parser:
    """The command line; cleaning steps come from the fields of `Cleaning`, so none can be forgotten."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--config", required=True, metavar="YAML", help="dataset YAML, e.g. configs/datasets/cryptoqa.yaml"
    )
    parser.add_argument("--data_dir", default="data", metavar="FOLDER", help="where its files lie (default: data)")
    parser.add_argument("--output_dir", metavar="FOLDER", help="the folder to make (default: outputs/data/<name>)")
    parser.add_argument("--tokenizer_name_or_path", metavar="NAME", help="instead of the YAML's: lengths, equal posts")
    parser.add_argument("--num_proc", type=whole_number, metavar="N", help="at most N processes (default: all cores)")
    parser.add_argument("--force", action="store_true", help="prepare again even if nothing changed")
    parser.add_argument(
        "--suspects", action="store_true", help="also list training rows that look mislabelled: label_suspects.csv"
    )
    steps = parser.add_argument_group(
        "cleaning steps", "default profile, paper profile; without an option the dataset YAML decides"
    )
    steps.add_argument("--profile", choices=list(PROFILES), help="the choice of all steps that are not given singly")
    hints = get_type_hints(Cleaning)
    for item in fields(Cleaning):
        default, paper = getattr(PROFILES["default"], item.name), getattr(PROFILES["paper"], item.name)
        shown = _shown(default) if default == paper else f"{_shown(default)}, paper: {_shown(paper)}"
        help_text = f"{item.metadata['help']} (default: {shown})".replace("%", "%%")
        steps.add_argument(f"--{item.name}", help=help_text, default=None, **_argument(hints[item.name]))
    return parser


def _argument(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is tuple:
        return {"nargs": "*", "metavar": "WORD"}
    if kind is bool:
        return {"type": _boolean, "metavar": "true|false"}
    return {"type": kind, "metavar": kind.__name__.upper()}


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return text.lower() == "true"


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value).lower()


def main(argv: list[str] | None = None) -> None:
    """Prepare one data set and say what came of it."""
    arguments = build_parser().parse(argv)
    cleaning = {item.name: getattr(arguments, item.name) for item in fields(Cleaning)}
    spec = load_spec(arguments.config, {"profile": arguments.profile, **cleaning}, arguments.tokenizer_name_or_path)
    output_dir = Path(arguments.output_dir or Path("outputs/data") / spec.name)

    print(f"{arguments.config}, files in {arguments.data_dir} → {output_dir}", flush=True)
    # Imported here, so that --help and mistakes in the YAML are answered at once.
    from opinionlm.data.accounting import warning_lines
    from opinionlm.data.preparation.pipeline import fingerprint_of, prepare
    from opinionlm.data.preparation.report import summary
    from opinionlm.data.prepared import is_current

    started = time.perf_counter()
    data_dir = Path(arguments.data_dir)
    unchanged = not arguments.force and is_current(output_dir, fingerprint_of(spec, data_dir))
    if not unchanged:
        prepare(spec, data_dir, output_dir, arguments.num_proc, arguments.force)
    report = json.loads((output_dir / "report.json").read_text(encoding="utf-8"))
    print(summary(report))
    print("\n".join(warning_lines(report)), end="\n" * bool(report["warnings"]))
    if unchanged:
        print(f"\nnothing changed since {output_dir} was made, so it was left as it is (--force makes it again)")
    else:
        seconds = time.perf_counter() - started
        print(f"\n{output_dir}: data set, report.md, rejects.csv, token_lengths.png ({seconds:.1f} s)")
    if arguments.suspects:
        from opinionlm.data.prepared import load_prepared
        from opinionlm.experiments.label_suspects import write_training_suspects

        print(f"\n{write_training_suspects(load_prepared(output_dir))}")
