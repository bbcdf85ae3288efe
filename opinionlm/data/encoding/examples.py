"""Prompt and answer of every example as token ids, with the answer alone to be learned.

The opinion paper, section 9.4: the loss counts the answer's tokens only, and an example is used only when the
answer's tokens are found where they belong, behind the prompt's. Examples that fail are reported, never repaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from opinionlm.data.encoding.fingerprints import encode_rows, tokenizer_digest
from opinionlm.data.encoding.label_lists import ListEncoder, QuestionEncoder
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.errors import UserError


def encode_examples(examples: Dataset, encoder: PromptEncoder, identity: str | None = None) -> Dataset:
    """Tokenise the examples of a split.

    Args:
        examples: prepared rows of a task with text answers (``text``, ``context``, ``answers``; the first answer is
            learned), or with a closed label set (``text``, perhaps ``text_pair``, ``label`` or ``labels``).
        encoder: writes prompts and answers; it has ``words`` when the label set is closed.
        identity: `tokenizer_digest` of the encoder's tokenizer, where it was computed before.

    Returns:
        Rows in the given order with ``prompt_ids``, ``answer_ids`` (end token included), ``length`` (tokens of both),
        ``label`` (leaf id, 0 where there is not exactly one), ``shortened`` (whether text or context had to be cut)
        and ``reason``: why the row must not be learned from, else blank. Of a `QuestionEncoder` ``answer_ids`` are
        those of several answers, one after another, with ``answer_sizes``, and ``given``: how many tokens of each
        answer are its question, which is not learned.

    Raises:
        UserError: an answer longer than ``max_length``.
    """
    pairs = "text_pair" if "text_pair" in examples.column_names else None
    contexts = pairs if encoder.words else "context"
    asks = isinstance(encoder, QuestionEncoder)
    names = ["prompt_ids", "answer_ids", "length", "shortened", "reason", *(["answer_sizes", "given"] if asks else [])]

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = len(batch["text"])
        encoded: dict[str, list[Any]] = {name: [] for name in names}
        for row in range(rows):
            context = "" if contexts is None else batch[contexts][row] or ""
            prompt = encoder.written_prompt(batch["text"][row], context)
            if isinstance(encoder, QuestionEncoder):
                reason, answers, given = answered_questions(encoder, prompt, batch["labels"][row], batch["text"][row])
                encoded["answer_sizes"].append([len(answer) for answer in answers])
                encoded["given"].append(given)
                answer_ids = [token for answer in answers for token in answer]
            else:
                example = {name: values[row] for name, values in batch.items()}
                reason, answer_ids = supervision(encoder, prompt, answer_of(example, encoder))
            prompt_ids = encoder.text_ids(prompt)
            encoded["prompt_ids"].append(prompt_ids)
            encoded["answer_ids"].append(answer_ids)
            encoded["length"].append(len(prompt_ids) + len(answer_ids))
            encoded["shortened"].append(encoder.is_shortened(prompt, batch["text"][row], context))
            encoded["reason"].append(reason)
        return encoded | {"label": batch.get("label", [0] * rows) if encoder.words else [0] * rows}

    facts = {
        "tokenizer": identity or tokenizer_digest(encoder.tokenizer),
        "template": encoder.template.to_dict(),
        "max_length": encoder.max_length,
        "words": list(encoder.words),
        "answer_room": encoder.answer_room,
        "encoder_decoder": encoder.encoder_decoder,
        "answers": type(encoder).__name__,
    }
    return encode_rows(examples, encode, "prompts", facts)


def supervision(encoder: PromptEncoder, prompt: str, answer: str) -> tuple[str, list[int]]:
    """Why an answer cannot be learned behind a prompt (blank when it can), and its token ids.

    Raises:
        UserError: the answer is longer than ``max_length``.
    """
    try:
        ids = encoder.answer_ids(answer)
        aligned = encoder.is_aligned(prompt, answer)
    except UserError:
        return "prompt and answer share a token", []
    if len(ids) > encoder.max_length:
        raise UserError(
            f"max_length: {encoder.max_length} tokens are fewer than the answer {answer[:60]!r} has ({len(ids)}); "
            "answers are never cut, so raise it"
        )
    if len(ids) == len(encoder.end_ids):
        return "the answer is empty", []
    if len(ids) > encoder.room:
        return f"an answer of {len(ids)} tokens, where max_answer_length is {encoder.room}", []
    if not aligned:
        return "the answer's tokens are others behind this prompt", []
    return "", ids


def answer_of(example: Mapping[str, Any], encoder: PromptEncoder) -> str:
    """The answer of a prepared row in words; of several right ones the first."""
    if isinstance(encoder, ListEncoder):
        return encoder.written(example["labels"])
    return encoder.words[example["label"]] if encoder.words else example["answers"][0]


def answered_questions(
    encoder: QuestionEncoder, prompt: str, labels: Sequence[int], text: str
) -> tuple[str, list[list[int]], list[int]]:
    """Why the questions about a text cannot be learned from (blank when they can), their answers, and `given`."""
    answers, given = [], []
    for label in encoder.asked(labels, text):
        reason, ids = supervision(encoder, prompt, encoder.written(label, label in labels))
        if reason:
            return reason, [], []
        # Nothing is written behind yes and no, so that there is no end to be learned.
        answers.append(ids[: -len(encoder.end_ids)])
        given.append(encoder.questions[label].given)
    return "", answers, given
