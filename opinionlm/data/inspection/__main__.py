"""Look at a file of your own and write the two YAML files that train on it.

    opinionlm init posts.csv
    opinionlm init posts.csv --text comment --label sentiment
    opinionlm init posts.xlsx --text title body --label topic subtopic

Formats: CSV and TSV (delimiter, encoding and header are found), JSON lines (nested objects by dotted path, as in
user.text), CoNLL (.conll, .txt: a word and its tag per line), Excel (.xlsx) and parquet. Without --text and --label
the columns are guessed, and the guess is shown. NAME.yaml says what the data are, NAME_run.yaml what is trained.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from opinionlm.data.inspection.columns import Column
from opinionlm.data.inspection.forms import FileForm, look_at
from opinionlm.data.inspection.roles import Roles, find_roles
from opinionlm.data.inspection.yaml_files import (
    TASK_COMMENTS,
    dataset_keys,
    dataset_text,
    run_text,
)
from opinionlm.data.taxonomy import PATH_MARK, Taxonomy
from opinionlm.errors import UserError, run_script
from opinionlm.utils.command_line import Parser, command
from opinionlm.utils.names import counted, is_folder_name

MINIATURE = "models/gemma3-mini"
SHOWN_LABELS, SHOWN_CHARACTERS, FEW_TEXTS = 12, 60, 10


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the file with texts and labels")
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="COLUMN", help="column of the texts; two columns are a pair"
    )
    parser.add_argument(
        "--label", nargs="+", default=[], metavar="COLUMN", help="column of the labels; several are levels, top first"
    )
    parser.add_argument("--name", metavar="NAME", help="of the data set [the file's name]")
    parser.add_argument("--output_dir", type=Path, default=Path(), metavar="FOLDER", help="for the YAML files [.]")
    parser.add_argument("--model_name_or_path", default=MINIATURE, metavar="MODEL", help=f"to train [{MINIATURE}]")
    parser.add_argument("--overwrite", action="store_true", help="replace YAML files of that name")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the files and say what was found and what to type next."""
    arguments = build_parser().parse(argv)
    if len(arguments.text) > 2:
        raise UserError(f"--text: {len(arguments.text)} columns; one holds the texts, or two the texts of pairs")
    if arguments.file.is_dir():
        raise UserError(f"{arguments.file}: it is a folder; name the file in it that holds the texts")
    name = arguments.name or Path(arguments.file.name.removesuffix(".gz")).stem.replace(" ", "_")
    if not is_folder_name(name):
        raise UserError(f"--name: {name!r} has to be a plain name, it becomes a folder")
    targets = [arguments.output_dir / f"{name}.yaml", arguments.output_dir / f"{name}_run.yaml"]
    if there := [str(path) for path in targets if path.exists() and not arguments.overwrite]:
        raise UserError(f"{there[0]} is there already; give --overwrite to replace it, or another --name")

    form = look_at(arguments.file, [*arguments.text, *arguments.label])
    roles = find_roles(form, arguments.text, arguments.label)
    labels, counts = label_counts(form, roles, name)
    print("\n".join(describe(form, roles, counts)))
    run_name = f"{name}-{Path(arguments.model_name_or_path).name}-full"
    commands = next_commands(form, targets, run_name)
    keys = dataset_keys(form, roles, name)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    targets[0].write_text(dataset_text(form, roles, keys, labels, commands[0]), encoding="utf-8")
    run = run_text(form, roles, targets[0], run_name, arguments.model_name_or_path, commands[1:])
    targets[1].write_text(run, encoding="utf-8")
    print(f"wrote {targets[0]} (the data) and {targets[1]} (the run)\n\nnext:\n  {commands[1]}\n  {commands[2]}")


def label_counts(form: FileForm, roles: Roles, name: str) -> tuple[Taxonomy | None, Counter[str]]:
    """The label tree of single-label data, and records per label, tag or (none) score.

    Raises:
        UserError: as for a dataset YAML with these keys, or labels that make no tree.
    """
    # Imported late, so that --help answers at once.
    from opinionlm.data.preparation.found_labels import count_labels, label_tree
    from opinionlm.data.spec_parsing import spec_from_dict

    spec = spec_from_dict(dataset_keys(form, roles, name), str(form.path))
    match roles.task:
        case "sequence" | "multi_label":
            paths = count_labels(spec, form.path.parent)
            return label_tree(list(paths), str(form.path)), Counter(
                {PATH_MARK.join(path): number for path, number in paths.items()}
            )
        case "token" | "similarity":
            return None, Counter()


def describe(form: FileForm, roles: Roles, counts: Counter[str]) -> list[str]:
    """What was found, line by line."""
    known = {
        "csv": "CSV",
        "tsv": "TSV",
        "jsonl": "JSON lines",
        "conll": "CoNLL",
        "xlsx": "Excel",
        "parquet": "parquet",
    }
    facts = [known[form.kind]]
    if form.kind in ("csv", "tsv"):
        delimiter = form.delimiter or ("\t" if form.kind == "tsv" else ",")
        names = {"\t": "a tab", ",": "a comma", ";": "a semicolon"}
        facts += [f"fields parted by {names.get(delimiter, delimiter)}"]
    if form.kind in ("csv", "tsv", "xlsx"):
        facts += ["no header line" if form.field_names else "a header line"]
    if form.kind not in ("xlsx", "parquet"):
        facts += [form.encoding.upper() + (" with a byte order mark" if form.has_mark else "")]
    facts += [f"{form.records:,} records"] + ([f"{form.broken:,} that cannot be read"] if form.broken else [])
    lines = [f"{form.path}: {', '.join(facts)}", f"task {roles.task}: {TASK_COMMENTS[roles.task]}"]
    width = max(map(len, form.columns))
    for name, column in form.columns.items():
        lines.append(f"  {name:<{width}}  {describe_column(name, column, roles, form.records)}".rstrip())
    if counts:
        lines.append(f"{len(counts)} labels: {first_labels(counts.most_common())}")
    if rare := [pair for pair in counts.most_common() if pair[1] < FEW_TEXTS][::-1]:
        found = counted(len(rare), "label")
        lines.append(f"{found} of fewer than {FEW_TEXTS} texts, hardly learned: {first_labels(rare)}")
    if roles.separator:
        lines.append(f"labels of one text are parted by {roles.separator}")
    if roles.task == "multi_label" and form.columns[roles.labels[0]].filled < form.records:
        lines.append("texts with a blank label are left out; write [] where it means none of the labels")
    if roles.guessed:
        lines.append(f"guessed: {' and '.join(roles.guessed)}; --text COLUMN and --label COLUMN say it otherwise")
    return lines


def first_labels(counts: Sequence[tuple[str, int]]) -> str:
    """The first labels with their numbers of texts, and how many more there are."""
    more = f", and {len(counts) - SHOWN_LABELS} more" if len(counts) > SHOWN_LABELS else ""
    return ", ".join(f"{label} {number:,}" for label, number in counts[:SHOWN_LABELS]) + more


def describe_column(name: str, column: Column, roles: Roles, records: int) -> str:
    """What a column is for, with an example and the records that have no text or no label."""
    blank = f"   (blank in {records - column.filled:,} of {records:,})" if column.filled < records else ""
    example = column.example.replace("\n", " ")
    short = example if len(example) <= SHOWN_CHARACTERS else f"{example[:SHOWN_CHARACTERS]}…"
    if name in roles.texts:
        which = "" if len(roles.texts) == 1 else f" {roles.texts.index(name) + 1}"
        return f"text{which}   {short}{blank}"
    if name in roles.labels:
        return ("label" if len(roles.labels) == 1 else f"level {roles.labels.index(name) + 1}") + blank
    return "id" if name == roles.id else f"not used   {short}"


def next_commands(form: FileForm, targets: list[Path], run_name: str) -> tuple[str, str, str]:
    """The commands that prepare, train, and label new texts, in the way that this one was called."""
    ending = "".join(form.path.suffixes[-2:] if form.path.suffix == ".gz" else form.path.suffixes[-1:])
    output = "labelled.jsonl" if form.kind == "jsonl" else "labelled.conll" if form.kind == "conll" else "labelled.csv"
    folder, dataset, run = (shlex.quote(str(path)) for path in (form.path.parent, *targets))
    return (
        f"{command('preprocess')} --config {dataset} --data_dir {folder}",
        f"{command('train_classifier')} --config {run}",
        f"{command('predict')} --model {shlex.quote(f'outputs/{run_name}')} --input new{ending} --output {output}",
    )


if __name__ == "__main__":
    run_script(main)
