"""Label posts, tag words or score pairs with a trained model: any number of them, in constant memory.

    python predict.py --model outputs/<run>/best --input posts.csv --output labels.csv
    cat posts.txt | python predict.py --model outputs/<run>/best --input - --output - > labels.csv
    python predict.py --model outputs/<run>/best --input pairs.tsv --pair_column other --output scores.csv
    python predict.py --model outputs/<run>/best --input sentences.txt --output entities.conll
    python predict.py --model outputs/<run>/best --input posts.csv --output labels.csv --label_sets 0.9
    python predict.py --model outputs/<a>/best outputs/<b>/best --input posts.csv --output labels.csv
    python predict.py --model user/model --revision v1 --input posts.csv --output labels.csv
    python predict.py --model outputs/<run>/best --merge merged

The output has one row per post: its id (or its number), the text, and the model's answer: label, calibrated
confidence, the label at every level of the label tree and the probability of every label; or a score; or tags and
entities of words, which blanks separate. A job that was interrupted goes on when the same command is given again.
Other columns of the input follow. Records that cannot be read go to <output>.rejects.csv with line and reason, and so
do empty posts, whose answer is blank. Files are read as training read its own; --encoding and its kin win.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.errors import UserError, stopped
from opinionlm.inference.arguments import parse_arguments
from opinionlm.inference.options import PredictionOptions, TrustOptions
from opinionlm.utils.loading import libraries_loading
from opinionlm.utils.names import HUB_NAME, closest

if TYPE_CHECKING:
    from opinionlm.inference.files import Request


def main(argv: list[str] | None = None) -> None:
    """Merge the adapter where that is asked for, and label the input where there is one."""
    arguments = parse_arguments(argv, __doc__)
    if arguments.merge is not None:
        if len(arguments.model) > 1:
            raise UserError("--merge: takes the adapter of one model; give a single --model")
        from opinionlm.inference.hub import fetched

        merge(fetched(arguments.model[0], arguments.revision), arguments.merge)
    if arguments.input is not None:
        predict(arguments)


def merge(model: Path, folder: Path) -> None:
    """Write a model with its adapter merged into its weights."""
    from opinionlm.adaptation.merging import merge_model_folder
    from opinionlm.inference.generative import is_generative, merge_generative_folder
    from opinionlm.inference.loading import check_model_folder, require_weights

    check_model_folder(model)
    require_weights(model, "merge the model that the graph was made of")
    if is_generative(model):
        merge_generative_folder(model, folder)
    else:
        merge_model_folder(model, folder)
    print(f"merged {model} → {folder}", file=sys.stderr)


def predict(arguments: argparse.Namespace) -> None:
    """Label the input."""
    trust = TrustOptions(arguments.label_sets, arguments.abstain_below)
    limits = (arguments.batch_size, arguments.max_tokens_per_batch)
    options = PredictionOptions(arguments.device, arguments.precision, *limits, trust, arguments.backend)
    require_input_and_models(arguments)
    models = ", ".join(map(str, arguments.model))
    print(f"{arguments.input} → {models} → {arguments.output} (loading libraries)", file=sys.stderr, flush=True)
    # The imports take seconds; help and a wrong command line need not wait for them.
    with libraries_loading():
        from opinionlm.inference.ensemble import load_models
        from opinionlm.inference.files import predict_file
        from opinionlm.inference.hub import fetched

    arguments.model = [fetched(model, arguments.revision) for model in arguments.model]
    request = request_of(arguments, options)
    try:
        summary = predict_file(request, lambda: load_models(arguments.model, options))
    except BrokenPipeError:
        # The reader of a pipe, `head` for instance, has seen enough. What is still buffered must not be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt as interruption:
        again = "" if "-" in (arguments.input, arguments.output) else "; the same command goes on where it stopped"
        raise stopped(interruption, again) from None
    print(summary.describe(arguments.output), file=sys.stderr)


def require_input_and_models(arguments: argparse.Namespace) -> None:
    """Refuse files and folders that are not there, before anything is loaded.

    Raises:
        UserError: the first of them.
    """
    if arguments.input != "-":
        if not Path(arguments.input).is_file():
            raise UserError(f"--input: no such file: {arguments.input}")
        if Path(arguments.input).stat().st_size == 0:
            raise UserError(f"--input: {arguments.input}: the file is empty; expected texts")
    for folder in arguments.model:
        if folder.is_dir():
            continue
        if not HUB_NAME.fullmatch(str(folder)):
            raise UserError(f"--model: no such folder: {folder}; give the folder of a finished run, or its best/")
        # Named like a model of the hub, beside folders of this machine.
        if (owner := folder.parent).is_dir():
            near = closest(folder.name, [path.name for path in owner.iterdir() if path.is_dir()])
            hint = "" if near is None else f", did you mean {owner / near}?"
            raise UserError(
                f"--model: no such folder: {folder}{hint} (for a model of the hub, call it where there is no {owner}/)"
            )


def request_of(arguments: argparse.Namespace, options: PredictionOptions) -> Request:
    """What to label, with a fingerprint of all that decides the answers.

    Raises:
        UserError: no saved model, or the input cannot be read so.
    """
    from opinionlm.inference.ensemble import member_folders
    from opinionlm.inference.files import Request
    from opinionlm.inference.input_files import input_form
    from opinionlm.inference.loading import model_fingerprint

    folders = list(dict.fromkeys([*arguments.model, *member_folders(arguments.model)[0]]))
    # In the form, columns have the names of its fields.
    columns = {"text": arguments.text_column, "pair": arguments.pair_column, "id": arguments.id_column}
    columns |= {"platform": arguments.platform_column}
    written = {"encoding": arguments.encoding, "delimiter": arguments.delimiter, "quoting": arguments.quoting}
    asked = {name: value for name, value in {**columns, **written}.items() if value is not None}
    if arguments.platform:
        # It holds for all records: the column of platforms that training read is not looked for.
        asked.setdefault("platform", None)
    form = input_form(folders, arguments.input, arguments.format, asked)
    precision = "own precision" if options.precision == "auto" else options.precision
    graph = "--backend onnx " * (options.backend == "onnx")
    formulas = "--neutralise_formulas " * arguments.neutralise_formulas
    return Request(
        input=arguments.input,
        output=arguments.output,
        format=arguments.format,
        form=form,
        platform=arguments.platform,
        window=arguments.window,
        overwrite=arguments.overwrite,
        neutralise_formulas=arguments.neutralise_formulas,
        identity=" ".join(
            [*map(model_fingerprint, folders), f"{precision} {graph}{formulas}{options.trust.given}"]
        ).strip(),
    )
