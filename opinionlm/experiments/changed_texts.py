"""Scores of a finished run under controlled changes of its test texts: how much hangs on spelling, case and emoji?

    python -m opinionlm.experiments.changed_texts outputs/quickstart-seed42
    python -m opinionlm.experiments.changed_texts outputs/quickstart-seed42 --typos 0.2 --output changed.md

The texts of ``predictions/test.csv`` are answered by ``best/`` as they are and in every changed form, which is cleaned
as new texts are. Each form's macro-F1 has a 95 % interval over the texts, and so has its difference from the texts as
they are, on the same texts each time (paired bootstrap). Nothing is trained and nothing in the run folder changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opinionlm.errors import UserError, run_script
from opinionlm.evaluation.metrics import bootstrap_intervals
from opinionlm.evaluation.significance import paired_bootstrap
from opinionlm.experiments.answers import read_rows, read_run
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import write_text
from opinionlm.utils.markdown import pipe_table

if TYPE_CHECKING:
    from opinionlm.inference.predictions import LoadedModel

COLUMNS = ["texts", "changed", "macro-F1", "95 %", "accuracy", "difference in macro-F1", "95 % of it", "p"]


def changed_forms(typos: float, seed: int) -> dict[str, Callable[[str], str]]:
    """Name → what becomes of a text.

    Args:
        typos: share of the words, at least one, that get a neighbouring key in the place of a letter.
        seed: with the text it decides which.
    """
    from dataclasses import replace

    from opinionlm.data.cleaning import PROFILES, text_steps  # loads ftfy

    emoji = dict(text_steps(replace(PROFILES["none"], emoji="remove")))["emoji"]
    return {
        f"typos in {typos:.0%} of the words": lambda text: with_typos(text, typos, seed),
        "lower case": str.lower,
        "upper case": str.upper,
        "without emoji": emoji,
    }


def with_typos(text: str, share: float, seed: int) -> str:
    """A text of which a share of the words, at least one, has a typo; white space stays as it is."""
    from opinionlm.data.encoding.augmentation import mistyped  # loads datasets

    random = np.random.default_rng([seed, *text.encode()])
    words = text.split(" ")
    places = [at for at, word in enumerate(words) if word]
    for at in random.permutation(places)[: max(1, round(share * len(places)))]:
        words[at] = mistyped(words[at], random)
    return " ".join(words)


def read_texts(folder: Path) -> list[dict[str, str]]:
    """Rows of ``predictions/test.csv``, in its order: texts, and what a model reads in front of them.

    Raises:
        UserError: pairs of texts, or texts with any number of labels.
    """
    rows = read_rows(folder, "test")
    if "text_pair" in rows[0] or "text" not in rows[0] or read_run(folder, "test").has_sets:
        path = folder / "predictions" / "test.csv"
        raise UserError(
            f"{path}: holds no single texts with one label each; only runs that give them can be asked again"
        )
    return rows


def saved_predictor(folder: Path) -> LoadedModel:
    """The model that a run saved.

    Raises:
        UserError: there is none.
    """
    # Loaded late: a mistyped option is answered without torch.
    from opinionlm.inference.ensemble import load_models
    from opinionlm.inference.options import PredictionOptions
    from opinionlm.inference.predictions import LoadedModel

    return LoadedModel(load_models([folder / "best"], PredictionOptions()))


def form_row(gold: np.ndarray, original: np.ndarray, answered: np.ndarray, classes: int) -> list[str]:
    """Scores of one form beside those of the texts as they are; see `COLUMNS` from the third on.

    Args:
        gold: leaf ids ``(rows,)``.
        original: answers to the texts as they are, `INVALID` where there is none ``(rows,)``.
        answered: answers to the changed texts.
        classes: number of leaves.
    """
    from opinionlm.evaluation.generation import INVALID, macro_f1_and_accuracy  # loads torch

    macro, accuracy = macro_f1_and_accuracy(gold, answered, classes)
    low, high = bootstrap_intervals(gold, answered, classes)["macro_f1_ci95"]
    cells = [f"{macro:.3f}", f"{low:.3f} to {high:.3f}", f"{accuracy:.3f}"]
    if answered is original:
        return [*cells, "", "", ""]
    # There the number of classes stands for no answer.
    first, second = (np.where(one == INVALID, classes, one) for one in (original, answered))
    found = paired_bootstrap(gold, first, second, classes)
    return [*cells, f"{found.value:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}", f"{found.p_value:.3f}"]


def changed_table(folder: Path, forms: Mapping[str, Callable[[str], str]]) -> list[list[str]]:
    """A row for the texts as they are and one for every form; see `COLUMNS`.

    A text of which nothing is left has no answer, and counts as wrong.

    Args:
        folder: of a finished run that labels single texts.
        forms: name → what becomes of a text.

    Raises:
        UserError: no such run, or no saved model.
    """
    from opinionlm.data.cleaning import without_case_name  # loads ftfy
    from opinionlm.evaluation.generation import INVALID

    run, read = read_run(folder, "test"), read_texts(folder)
    predictor, texts = saved_predictor(folder), [row["text"] for row in read]
    number = {leaf: at for at, leaf in enumerate(run.taxonomy.leaves)}

    def answers(asked: Sequence[str], are_prepared: bool) -> np.ndarray:
        rows = [row | {"text": text} for row, text in zip(read, asked, strict=True)]
        found = predictor.predict(rows, are_prepared=are_prepared)
        return np.array([number.get(str(getattr(one, "label", "")), INVALID) for one in found])

    original = answers(texts, are_prepared=True)
    # What cleaning wrote in front of a text is not part of what people write; it will be written anew.
    if (predictor.predictor.cleaning or {}).get("letter_case") == "named":
        texts = [without_case_name(text) for text in texts]
    rows = [["as they are", "", *form_row(run.gold, original, original, len(number))]]
    for name, change in forms.items():
        changed = [change(text) for text in texts]
        count = sum(new != old for new, old in zip(changed, texts, strict=True))
        cells = form_row(run.gold, original, answers(changed, are_prepared=False), len(number))
        rows.append([name, f"{count:,} of {len(texts):,}", *cells])
    return rows


def main(argv: list[str] | None = None) -> None:
    """Answer the test texts in every form, and print the table."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--typos", type=float, default=0.1, metavar="SHARE", help="of the words [0.1]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the typos [0]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the Markdown here too")
    arguments = parser.parse(argv)
    if not 0 < arguments.typos <= 1:
        raise UserError(f"--typos: {arguments.typos} must lie above 0 and be at most 1")
    if arguments.seed < 0:
        raise UserError(f"--seed: {arguments.seed} must not be negative")
    rows = changed_table(arguments.folder, changed_forms(arguments.typos, arguments.seed))
    lines = [f"## {arguments.folder.name}: scores under controlled changes of the test texts", ""]
    text = "\n".join([*lines, *pipe_table(COLUMNS, rows)]) + "\n"
    print(text, end="")
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.output, text)


if __name__ == "__main__":
    run_script(main)
