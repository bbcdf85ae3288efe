"""What AdaPT leaves in a run folder: the sequences that became tokens, and which sub-layers train and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from opinionlm.adaptation.adapt.mining import table, write_csv
from opinionlm.adaptation.adapt.vocabulary import TaskVocabulary
from opinionlm.data.encoding.columns import flat_lists
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import weight_count
from opinionlm.models.task_embedding import task_rows
from opinionlm.training.adapt_selection import SELECTION_FILE, Choice
from opinionlm.training.splits import Split

SHOWN_SEQUENCES = 5


def save_preparation(
    folder: Path, vocabulary: TaskVocabulary, choice: Choice, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write ``sequences.csv``, ``selection.json`` and the figure of the selection; print the heads of both lists."""
    if vocabulary.sequences:
        backend = tokenizer.backend_tokenizer
        write_csv(folder / "sequences.csv", vocabulary.sequences, backend)
        print(
            f"tokens  {len(vocabulary.sequences):,} for sequences of the training texts, mined in "
            f"{vocabulary.seconds:.1f} s; all of them are in {folder / 'sequences.csv'}"
        )
        print(table(vocabulary.sequences[:SHOWN_SEQUENCES], backend))
    if choice.selection is not None:
        choice.selection.save(folder / SELECTION_FILE)
        from opinionlm.reporting.figures import save_figure
        from opinionlm.reporting.sensitivity_figure import sensitivity_figure

        save_figure(sensitivity_figure(choice.selection), folder / "figures" / "sensitivity.png")
        texts = choice.selection.examples
        print(f"modules by sensitivity, measured on {texts:,} texts in {choice.seconds:.1f} s")
        print(choice.selection.table())


def adapt_parameters(model: OpinionClassifier, choice: Choice) -> dict[str, float]:
    """For ``metrics.json``: the rows of task tokens, and what was selected with and without them."""
    rows = task_rows(model.backbone)
    facts: dict[str, float] = {}
    if rows is not None:
        facts |= {"task_tokens": len(rows), "task_token_parameters": weight_count(rows)}
    if choice.selection is not None:
        selection = choice.selection
        facts |= {
            "sensitivity_budget": selection.budget,
            "selected_sublayers": sum(module.selected for module in selection.modules),
            "selected_parameters": selection.selected_parameters,
            "selected_share": selection.share,
            "selected_share_with_task_tokens": selection.share_with_task_tokens,
        }
    return facts


def tokens_per_text(model: OpinionClassifier, test: Split) -> dict[str, float]:
    """For ``metrics.json``: the tokens of a test text, which is what it costs to label one.

    ``task_tokens_per_text`` are among ``tokens_per_text``.
    """
    ids = flat_lists(test.encoded)[0]
    facts = {"tokens_per_text": len(ids) / len(test.encoded)}
    if task_rows(model.backbone) is not None:
        inserted = np.count_nonzero(ids >= model.get_input_embeddings().first_id)
        facts["task_tokens_per_text"] = inserted / len(test.encoded)
    return facts
