"""What a model card says differently for every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.report import cell

ANNOTATORS = "carry the judgement of its annotators, its platforms, languages and time."
RARE = "Rare labels rest on few examples: look at their own F1 and at the intervals above before trusting them."


@dataclass(frozen=True)
class TaskWords:
    """The parts of a card that depend on the task.

    Attributes:
        pipeline: the pipeline of transformers that serves the model, as the hub names it.
        tag: a hub tag.
        purpose: what the model was fine-tuned to do.
        usage: Python lines that use it.
        options: of predict.py, behind ``--model``.
        outputs_title: heading of what it answers with.
        outputs: a Markdown list of that.
        labels: names whose F1 is listed.
        limits: what to be careful about.
    """

    pipeline: str
    tag: str
    purpose: str
    usage: str
    options: str
    outputs_title: str
    outputs: str
    labels: Sequence[str]
    limits: str


def task_words(prepared: PreparedDataset, folder: Path) -> TaskWords:
    """The words for a data set's task.

    Args:
        prepared: the training data.
        folder: where the model is.

    Raises:
        ValueError: a task of text to text.
    """
    match prepared.task:
        case "sequence":
            taxonomy = prepared.taxonomy
            pairs = "text_pair" in prepared.dataset["train"].column_names
            example = '{"text": "Gains.", "text_pair": "Why?"}' if pairs else '"Is this coin still worth holding?"'
            return TaskWords(
                pipeline="text-classification",
                tag="hierarchical-text-classification",
                purpose=f"label {'pairs of texts' if pairs else 'texts'} with the {len(taxonomy.leaves)} leaves of a "
                "label tree",
                usage=f'classify = pipeline("text-classification", model="{folder}")\n'
                f"classify({example}, truncation=True)",
                options=f"{'--pair_column text_pair ' if pairs else ''}--input posts.csv --output labels.csv",
                outputs_title="Labels",
                outputs="\n".join(f"- {cell(' › '.join(path))}" for path in taxonomy.paths),
                labels=taxonomy.leaves,
                limits=f"The labels are those of the training data and {ANNOTATORS} {RARE}",
            )
        case "token":
            types = [tag.removeprefix("B-") for tag in prepared.tags if tag.startswith("B-")]
            return TaskWords(
                pipeline="token-classification",
                tag="named-entity-recognition",
                purpose=f"tag words with {len(types)} types of entities (IOB2)",
                usage=f'tag = pipeline("token-classification", model="{folder}", aggregation_strategy="first")\n'
                'tag("Satoshi moved to Osaka .")',
                options="--input sentences.txt --output entities.csv",
                outputs_title="Entity types",
                outputs="\n".join(f"- {cell(name)}" for name in types),
                labels=types,
                limits=f"The entities are those of the training data and {ANNOTATORS} {RARE} An entity counts as "
                "found when its type, its first and its last word are right.",
            )
        case "similarity":
            low, high = prepared.score_range
            return TaskWords(
                pipeline="text-classification",
                tag="sentence-similarity",
                purpose="give pairs of texts a score",
                usage=f'score = pipeline("text-classification", model="{folder}")\n'
                'score({"text": "Prices fall.", "text_pair": "It gets cheaper."}, truncation=True)',
                options="--pair_column text_pair --input pairs.csv --output scores.csv",
                outputs_title="Scores",
                outputs=f"- from {low:g} to {high:g} in the training data; answers may lie slightly outside",
                labels=(),
                limits=f"The scores are those of the training data and {ANNOTATORS}",
            )
        case task:
            raise ValueError(f"no classifier is trained on task {task!r}")
