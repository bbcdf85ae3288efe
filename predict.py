"""Label posts, tag words or score pairs with a trained model: any number of them, in constant memory.

    python predict.py --model outputs/<run>/best --input posts.csv --output labels.csv
    cat posts.txt | python predict.py --model outputs/<run>/best --input - --output - > labels.csv
    python predict.py --model outputs/<run>/best --input pairs.tsv --pair_column other --output scores.csv
    python predict.py --model outputs/<run>/best --input sentences.txt --output entities.conll
    python predict.py --model outputs/<run>/best --input posts.csv --output labels.csv --label_sets 0.9
    python predict.py --model outputs/<run>/best --merge merged

The output has one row per post: its id (or its number), the text, and the model's answer: label, calibrated
confidence, the label at every level of the label tree and the probability of every label; or a score; or tags and
entities of words, which blanks separate. A job that was interrupted goes on when the same command is given again.
Records that cannot be read go to <output>.rejects.csv with line and reason.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from opinionlm.errors import UserError, run_script


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, type=Path, metavar="FOLDER", help="best/ of a finished run")
    parser.add_argument("--input", metavar="FILE", help=".csv, .tsv, .jsonl, .txt, .conll (also .gz), or -")
    parser.add_argument("--output", metavar="FILE", help=".csv, .jsonl, .conll (tags), or - for standard output")
    parser.add_argument("--merge", type=Path, metavar="FOLDER", help="write the model there with its adapter merged")
    parser.add_argument("--text_column", default="text", metavar="NAME", help="column or key of the texts [text]")
    parser.add_argument("--pair_column", metavar="NAME", help="column or key of second texts: of pairs, or contexts")
    parser.add_argument("--id_column", metavar="NAME", help="column or key of the ids [id, where there is one]")
    parser.add_argument(
        "--format",
        choices=["csv", "tsv", "jsonl", "lines", "conll"],
        help="of the input [by its ending; lines for standard input]",
    )
    parser.add_argument("--label_sets", type=float, metavar="0.9", help="also sets that hold the right label so often")
    parser.add_argument("--neutralise_formulas", action="store_true", help="CSV: no cell that a spreadsheet computes")
    parser.add_argument("--abstain_below", type=float, metavar="0.6", help="no label where it is less probable")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="[auto: a GPU if there is one]"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="compute in bfloat16: faster, probabilities differ slightly"
    )
    parser.add_argument("--batch_size", type=positive, default=64, help="at most so many texts at once [64]")
    parser.add_argument(
        "--max_tokens_per_batch", type=positive, default=4096, help="at most so many tokens at once [4096]"
    )
    parser.add_argument("--window", type=positive, default=8192, help="rows that are sorted and saved together [8192]")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output, and drop an unfinished one of another job"
    )
    arguments = parser.parse_args(argv)
    if (arguments.input is None) != (arguments.output is None) or (arguments.input is arguments.merge is None):
        parser.error("give --input and --output, or --merge, or all three")
    return arguments


def positive(text: str) -> int:
    """A whole number above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def main(argv: list[str] | None = None) -> None:
    """Merge the adapter where that is asked for, and label the input where there is one."""
    arguments = parse_arguments(argv)
    if arguments.merge is not None:
        merge(arguments.model, arguments.merge)
    if arguments.input is not None:
        predict(arguments)


def merge(model: Path, folder: Path) -> None:
    """Write a model with its adapter merged into its weights."""
    from opinionlm.adaptation.merging import merge_model_folder
    from opinionlm.experiments.prediction import check_model_folder

    check_model_folder(model)
    merge_model_folder(model, folder)
    print(f"merged {model} → {folder}", file=sys.stderr)


def predict(arguments: argparse.Namespace) -> None:
    """Label the input."""
    if arguments.input != "-" and not Path(arguments.input).is_file():
        raise UserError(f"--input: no such file: {arguments.input}")
    # The imports take seconds; help and a wrong command line need not wait for them.
    from opinionlm.experiments.prediction import TrustOptions, check_model_folder, load_labeller, model_fingerprint
    from opinionlm.experiments.prediction_files import Request, predict_file

    check_model_folder(arguments.model)
    trust = TrustOptions(arguments.label_sets, arguments.abstain_below)
    formulas = "--neutralise_formulas " * arguments.neutralise_formulas
    precision = "bfloat16" if arguments.bf16 else "own precision"
    request = Request(
        input=arguments.input,
        output=arguments.output,
        format=arguments.format,
        text_column=arguments.text_column,
        pair_column=arguments.pair_column,
        id_column=arguments.id_column,
        window=arguments.window,
        overwrite=arguments.overwrite,
        neutralise_formulas=arguments.neutralise_formulas,
        identity=f"{model_fingerprint(arguments.model)} {precision} {formulas}{trust.given}".strip(),
    )
    try:
        summary = predict_file(
            request,
            lambda: load_labeller(
                arguments.model,
                arguments.device,
                arguments.bf16,
                arguments.batch_size,
                arguments.max_tokens_per_batch,
                trust,
            ),
        )
    except BrokenPipeError:
        # The reader of a pipe, `head` for instance, has seen enough. What is still buffered must not be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        if "-" in (arguments.input, arguments.output):
            print("interrupted", file=sys.stderr)
        else:
            print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    print(summary.describe(arguments.output), file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
