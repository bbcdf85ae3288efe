"""Solved examples for prompts: drawn from train, balanced over classes, cut to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from opinionlm.data.encoding.columns import multi_hot
from opinionlm.data.encoding.examples import answer_of
from opinionlm.data.encoding.label_lists import QuestionEncoder
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import Example, normalised
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError

# Less than this says too little, of a demonstration as of the text in question.
LEAST_TEXT_TOKENS = 16


@dataclass(frozen=True)
class Demonstrations:
    """What every prompt of a run shows.

    Attributes:
        examples: in the order in which they are shown.
        ids: their rows in train.
        shortened: how many of them had to be cut.
    """

    examples: tuple[Example, ...] = ()
    ids: tuple[str, ...] = ()
    shortened: int = 0


def draw_rows(
    train: Dataset, evaluated: Sequence[Dataset], taxonomy: Taxonomy | None, shots: int, seed: int
) -> list[int]:
    """Rows of train to show, in random order.

    Every class gets as many as every other, or one more where the number does not divide; which classes get one more
    is drawn too. With fewer shots than classes each shot is of another class. Rows with free answers are drawn alike.

    Args:
        train: prepared rows; none of its texts that is also evaluated is drawn.
        evaluated: prepared rows of the splits that prompts are made of.
        taxonomy: the labels; None for free answers.
        shots: examples in all.
        seed: of the drawing.

    Raises:
        UserError: more shots than there are rows in train, or in a class of it.
    """
    if shots > len(train):
        raise UserError(f"shots: {shots} examples, but train has {len(train)} texts; show at most so many")
    draw = np.random.default_rng(seed)
    asked = {normalised(text) for split in evaluated for text in split["text"]}
    usable = np.array([normalised(text) not in asked for text in train["text"]], dtype=bool)
    classes = ["texts"] if taxonomy is None else list(taxonomy.leaves)
    if "labels" in train.column_names:
        sets = train["labels"]
    else:
        sets = [[label] for label in (train["label"] if taxonomy else [0] * len(train))]
    members = multi_hot(sets, len(classes)).astype(bool)
    counts = np.full(len(classes), shots // len(classes))
    counts[draw.permutation(len(classes))[: shots % len(classes)]] += 1
    chosen: list[int] = []
    for label, count in enumerate(counts.tolist()):
        rows = np.flatnonzero(members[:, label] & usable)
        if count > len(rows):
            raise UserError(
                f"shots: {shots} examples need {count} of {classes[label]!r}, of which train has {len(rows)} that are "
                "not evaluated; show fewer, or raise max_train_samples"
            )
        chosen += draw.choice(rows, count, replace=False).tolist()
        # A text of several labels stands for one of them.
        usable[chosen] = False
    return [chosen[place] for place in draw.permutation(len(chosen))]


def demonstrate(train: Dataset, rows: Sequence[int], words: Sequence[str], encoder: PromptEncoder) -> Demonstrations:
    """Rows of train as solved examples that fit into a prompt.

    Their number is never reduced. Where prompts would get too long, the longest texts are cut to one length, the
    greatest that leaves the evaluated text as many tokens as any demonstration has.

    Args:
        train: prepared rows.
        rows: from `draw_rows`.
        words: the labels' words; empty for free answers, of which the first gold one is shown. Of several labels of a
            text the list is shown, or, where labels are asked about one by one, yes to one or no to another.
        encoder: of the prompts.

    Raises:
        UserError: the template shows no examples, or so little room is left that texts would say nothing.
    """
    if not rows:
        return Demonstrations()
    if "{examples}" not in encoder.template.prompt:
        raise UserError(
            f"shots: {len(rows)}, but {encoder.template.source} has no place for them; write {{examples}} into its "
            "prompt, or set shots: 0"
        )
    full = []
    for number, row in enumerate(train.select(rows)):
        context = (row.get("text_pair") if words else row["context"]) or ""
        if isinstance(encoder, QuestionEncoder):
            answer = encoder.shown(row["labels"], number)
        else:
            answer = answer_of(row, encoder)
        full.append(Example(row["text"], answer, context))
    ids = tuple(str(row["id"]) for row in train.select(rows))
    cap = text_cap(full, encoder)
    shown = tuple(shortened(example, cap, encoder.tokenizer) for example in full)
    # Tokens at the seams are not those of the parts: give way until the promise to the evaluated text is kept.
    while (excess := encoder.prompt_length(shown) + cap - encoder.prompt_budget) > 0 and cap >= LEAST_TEXT_TOKENS:
        cap -= -(-excess // (len(full) + 1))
        shown = tuple(shortened(example, cap, encoder.tokenizer) for example in full)
    if cap < LEAST_TEXT_TOKENS:
        raise UserError(
            f"shots: {len(full)} examples leave each text {max(cap, 0)} of the {encoder.prompt_budget} tokens of a "
            f"prompt, and less than {LEAST_TEXT_TOKENS} say nothing; show fewer, or raise max_length"
        )
    return Demonstrations(shown, ids, sum(one != other for one, other in zip(shown, full, strict=True)))


def text_cap(examples: Sequence[Example], encoder: PromptEncoder) -> int:
    """The most tokens that every text, the evaluated one included, may have for a prompt to fit."""
    frame = encoder.prompt_length([replace(example, text="", context="") for example in examples])
    room = encoder.prompt_budget - frame
    lengths = [
        len(
            encoder.tokenizer(f"{example.text}{example.context}", add_special_tokens=False, verbose=False)["input_ids"]
        )
        for example in examples
    ]
    cap = room
    while cap > 0 and sum(min(length, cap) for length in lengths) + cap > room:
        cap -= 1
    return cap


def shortened(example: Example, tokens: int, tokenizer: PreTrainedTokenizerBase) -> Example:
    """An example whose text and context have no more than so many tokens; the context is cut first."""
    text = beginning(example.text, tokens, tokenizer)
    used = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return replace(example, text=text, context=beginning(example.context, max(tokens - used, 0), tokenizer))


def beginning(text: str, tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """The first tokens of a text, as text."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text if len(found) <= tokens else text[: found[max(tokens, 0)][0]]
