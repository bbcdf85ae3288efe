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
import signal
import sys
from pathlib import Path

from opinionlm.errors import Interrupted, UserError
from opinionlm.inference.arguments import parse_arguments
from opinionlm.utils.loading import libraries_loading
from opinionlm.utils.names import HUB_NAME


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
    from opinionlm.inference.loading import check_model_folder

    check_model_folder(model)
    if is_generative(model):
        merge_generative_folder(model, folder)
    else:
        merge_model_folder(model, folder)
    print(f"merged {model} → {folder}", file=sys.stderr)


def predict(arguments: argparse.Namespace) -> None:
    """Label the input."""
    if arguments.input != "-" and not Path(arguments.input).is_file():
        raise UserError(f"--input: no such file: {arguments.input}")
    for folder in arguments.model:
        if not folder.is_dir() and not HUB_NAME.fullmatch(str(folder)):
            raise UserError(f"--model: no such folder: {folder}; give the folder of a finished run, or its best/")
    models = ", ".join(map(str, arguments.model))
    print(f"{arguments.input} → {models} → {arguments.output} (loading libraries)", file=sys.stderr, flush=True)
    # The imports take seconds; help and a wrong command line need not wait for them.
    with libraries_loading():
        from opinionlm.inference.ensemble import load_models, member_folders
        from opinionlm.inference.files import Request, predict_file
        from opinionlm.inference.hub import fetched
        from opinionlm.inference.input_files import input_form
        from opinionlm.inference.loading import TrustOptions, model_fingerprint

    arguments.model = [fetched(model, arguments.revision) for model in arguments.model]
    members, _ = member_folders(arguments.model)
    trust = TrustOptions(arguments.label_sets, arguments.abstain_below)
    fingerprints = map(model_fingerprint, dict.fromkeys([*arguments.model, *members]))
    formulas = "--neutralise_formulas " * arguments.neutralise_formulas
    precision = "own precision" if arguments.precision == "auto" else arguments.precision
    # In the form, columns have the names of its fields.
    columns = {"text": arguments.text_column, "pair": arguments.pair_column, "id": arguments.id_column}
    columns |= {"platform": arguments.platform_column}
    written = {"encoding": arguments.encoding, "delimiter": arguments.delimiter, "quoting": arguments.quoting}
    asked = {name: value for name, value in {**columns, **written}.items() if value is not None}
    form = input_form([*arguments.model, *members], arguments.input, arguments.format, asked)
    request = Request(
        input=arguments.input,
        output=arguments.output,
        format=arguments.format,
        text_column=form.text or "text",
        pair_column=form.pair,
        id_column=form.id,
        platform_column=arguments.platform_column if arguments.platform else form.platform,
        platform=arguments.platform,
        form=form,
        window=arguments.window,
        overwrite=arguments.overwrite,
        neutralise_formulas=arguments.neutralise_formulas,
        identity=" ".join([*fingerprints, f"{precision} {formulas}{trust.given}"]).strip(),
    )
    try:
        summary = predict_file(
            request,
            lambda: load_models(
                arguments.model,
                arguments.device,
                arguments.precision,
                arguments.batch_size,
                arguments.max_tokens_per_batch,
                trust,
                arguments.backend,
            ),
        )
    except BrokenPipeError:
        # The reader of a pipe, `head` for instance, has seen enough. What is still buffered must not be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt as interruption:
        again = "" if "-" in (arguments.input, arguments.output) else "; the same command goes on where it stopped"
        number = interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT
        raise Interrupted(number, f"stopped by {signal.Signals(number).name}{again}") from None
    print(summary.describe(arguments.output), file=sys.stderr)
