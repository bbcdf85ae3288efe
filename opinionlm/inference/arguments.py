"""The command line of predict.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from opinionlm.inference.options import Backend, Device, Precision
from opinionlm.utils.command_line import Parser, whole_number


def parse_arguments(argv: list[str] | None, description: str) -> argparse.Namespace:
    """Read the command line; leaves the program where it is wrong.

    Args:
        argv: without the program's name; None for that of the process.
        description: what ``--help`` shows.
    """
    parser = Parser(description)
    add_model(parser)
    add_input(parser)
    add_output(parser)
    add_answers(parser)
    arguments = parser.parse(argv)
    if arguments.merge is not None and arguments.input is None and arguments.output is None:
        given = [name for name, value in vars(arguments).items() if value != parser.get_default(name)]
        if unread := [f"--{name}" for name in given if name not in ("model", "revision", "merge")]:
            parser.error(
                f"--merge alone does not read {', '.join(unread)}; leave it out, or give --input and --output"
            )
    arguments.model = list(map(best_of, arguments.model))
    if arguments.bf16 and arguments.precision not in (None, "bfloat16"):
        parser.error(f"--bf16: is short for --precision bfloat16, and --precision {arguments.precision} is given too")
    arguments.precision = "bfloat16" if arguments.bf16 else arguments.precision or "auto"
    if arguments.delimiter is not None:
        # A shell passes on backslash and t where a tab is meant.
        arguments.delimiter = {"\\t": "\t", "tab": "\t"}.get(arguments.delimiter, arguments.delimiter)
        if len(arguments.delimiter) != 1 or arguments.delimiter in '"\r\n':
            parser.error(f"--delimiter: {arguments.delimiter!r} is no single character, such as ';' or tab")
    if (arguments.input is None) != (arguments.output is None) or (arguments.input is arguments.merge is None):
        parser.error("give --input and --output, or --merge, or all three")
    return arguments


def add_model(parser: Parser) -> None:
    """Which model."""
    group = parser.add_argument_group("model")
    model_help = "folder of a run, its best/, or user/model of the hub; of several, their probabilities are averaged"
    group.add_argument("--model", required=True, type=Path, nargs="+", metavar="FOLDER", help=model_help)
    group.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a model of the hub [the newest]")
    group.add_argument("--merge", type=Path, metavar="FOLDER", help="write the model there with its adapter merged")


def add_input(parser: Parser) -> None:
    """What is read, and how."""
    group = parser.add_argument_group("input")
    group.add_argument("--input", metavar="FILE", help=".csv, .tsv, .jsonl, .txt, .conll (also .gz), or -")
    formats = ["csv", "tsv", "jsonl", "lines", "conll"]
    group.add_argument("--format", choices=formats, help="of the input [by its ending; lines for standard input]")
    group.add_argument("--text_column", metavar="NAME", help="column or key of the texts [as in training, else text]")
    group.add_argument("--pair_column", metavar="NAME", help="column or key of second texts: of pairs, or contexts")
    group.add_argument("--id_column", metavar="NAME", help="column or key of the ids [id, where there is one]")
    group.add_argument("--platform_column", metavar="NAME", help="column of the platforms, if the model reads them")
    group.add_argument("--platform", default="", metavar="NAME", help="that of the whole input, instead of a column")
    group.add_argument("--encoding", metavar="NAME", help="of the input [as in training, else utf-8]")
    group.add_argument("--delimiter", metavar="CHARACTER", help="that parts fields [as in training, else , or a tab]")
    quoting_help = "none: quotes are characters like others [as in training]"
    group.add_argument("--quoting", choices=["minimal", "none"], help=quoting_help)


def add_output(parser: Parser) -> None:
    """What is written, and where."""
    group = parser.add_argument_group("output")
    group.add_argument("--output", metavar="FILE", help=".csv, .jsonl, .conll (tags), or - for standard output")
    overwrite_help = "replace the output, and drop an unfinished one of another job"
    group.add_argument("--overwrite", action="store_true", help=overwrite_help)
    group.add_argument("--neutralise_formulas", action="store_true", help="CSV: no cell that a spreadsheet computes")


def add_answers(parser: Parser) -> None:
    """What is asked for, and how it is computed."""
    group = parser.add_argument_group("answers")
    add_common(group)
    backend_help = "onnx: what opinionlm export wrote [torch]"
    group.add_argument("--backend", choices=get_args(Backend), default="torch", help=backend_help)
    precision_help = (
        "that the model computes in [auto: what training found fastest at equal labels, else the weights' own]"
    )
    group.add_argument("--precision", choices=get_args(Precision), help=precision_help)
    group.add_argument("--bf16", action="store_true", help="short for --precision bfloat16")
    group.add_argument("--batch_size", type=whole_number, default=64, help="at most so many texts at once [64]")
    tokens_help = "at most so many tokens at once [4096]"
    group.add_argument("--max_tokens_per_batch", type=whole_number, default=4096, help=tokens_help)
    group.add_argument("--window", type=whole_number, default=8192, help="rows sorted and saved together [8192]")


def add_common(parser: argparse._ActionsContainer) -> None:
    """What predict.py and the page to try a model both ask."""
    parser.add_argument("--label_sets", type=float, metavar="0.9", help="also sets that hold the right label so often")
    parser.add_argument("--abstain_below", type=float, metavar="0.6", help="no label where it is less probable")
    device_help = "[auto: a GPU if there is one]"
    parser.add_argument("--device", choices=get_args(Device), default="auto", help=device_help)


def best_of(folder: Path) -> Path:
    """The model of a run: ``best/`` where a run's folder is given, every other folder itself."""
    is_run = (folder / "best").is_dir() and not (folder / "config.json").is_file()
    return folder / "best" if is_run else folder
