"""Answers written by the model, read strictly, and scores that count what cannot be read as wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.data.encoding.columns import multi_hot
from opinionlm.data.encoding.label_lists import NO_LABEL, SEPARATOR
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.metrics import (
    classification_scores,
    confusion_matrix,
    f1_from_confusion,
    gold_classes,
    squared,
)

# The prediction of a row whose answer is no label.
INVALID = -1
# Pretrained models bring sampling settings, of which nothing is kept.
GREEDY = {"use_cache": True, "do_sample": False, "top_k": None, "top_p": None}


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    num_beams: int = 1,
    batch_size_tokens: int = 8192,
) -> list[str]:
    """Let the model write, without sampling.

    Prompts of similar length share a batch, longest first, padded on the left.

    Args:
        model: a causal or an encoder-decoder language model; it generates in evaluation mode.
        tokenizer: decodes the answers; its end and padding tokens are used where the model names none.
        prompts: token ids, special tokens included.
        max_new_tokens: longest answer.
        num_beams: width of the beam search; 1 takes the likeliest token each time.
        batch_size_tokens: prompt and answer tokens of a batch, beams and padding included; one prompt always runs.

    Returns:
        One answer per prompt, in their order: without special tokens and without blanks around it.

    Raises:
        UserError: an empty prompt.
    """
    if not all(len(prompt) for prompt in prompts):
        raise UserError("prompt: a prompt has no tokens; give the template's prompt some text")
    device = model.get_input_embeddings().weight.device
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    # Pretrained models bring several end tokens.
    end = model.generation_config.eos_token_id
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True)
    answers = [""] * len(prompts)
    was_training = model.training
    model.eval()
    start = 0
    while start < len(order):
        width = len(prompts[order[start]])
        batch = order[start : start + max(1, batch_size_tokens // ((width + max_new_tokens) * num_beams))]
        ids, mask = padded_on_the_left([prompts[row] for row in batch], padding)
        written = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            eos_token_id=tokenizer.eos_token_id if end is None else end,
            pad_token_id=padding,
            **GREEDY,
        )
        # An encoder-decoder returns its start token and the answer, a causal model the prompt and the answer.
        skipped = 1 if model.config.is_encoder_decoder else width
        texts = tokenizer.batch_decode(written[:, skipped:], skip_special_tokens=True)
        for row, text in zip(batch, texts, strict=True):
            answers[row] = text.strip()
        start += len(batch)
    model.train(was_training)
    return answers


def padded_on_the_left(prompts: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask ``(prompts, tokens)`` of prompts, the longest first."""
    ids = torch.full((len(prompts), len(prompts[0])), padding)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, -len(prompt) :] = torch.tensor(prompt)
        mask[row, -len(prompt) :] = 1
    return ids, mask


def normalised(text: str) -> str:
    """Text without differences of case and of blanks."""
    return " ".join(text.casefold().split())


def parse_label(text: str, words: Sequence[str]) -> int | None:
    """Which answer a text is: the whole of it, up to case and blanks; None for anything else.

    "positive." or "positive, I think" is no answer: guessing what a model may have meant flatters it.

    Args:
        text: what the model wrote.
        words: the answers, in the order of the label ids.
    """
    found = normalised(text)
    matches = [index for index, word in enumerate(words) if normalised(word) == found]
    return matches[0] if len(matches) == 1 else None


def parsed_labels(texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """Label ids ``(texts,)``, `INVALID` where a text is no answer."""
    parsed = (parse_label(text, words) for text in texts)
    return np.array([INVALID if label is None else label for label in parsed], dtype=int)


def parse_list(text: str, words: Sequence[str]) -> tuple[int, ...] | None:
    """Which answers a list is made of, by `ListEncoder`: none of them twice, nothing else beside; None for no list.

    Args:
        text: what the model wrote; ``none`` is the empty list.
        words: the answers, in the order of the label ids.
    """
    if normalised(text) == NO_LABEL:
        return ()
    found = [parse_label(part, words) for part in text.split(SEPARATOR)]
    known = {label for label in found if label is not None}
    return tuple(sorted(known)) if len(known) == len(found) else None


def parsed_lists(texts: Sequence[str], words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which labels written lists hold, bool ``(texts, labels)``, and which texts are lists, bool ``(texts,)``."""
    parsed = [parse_list(text, words) for text in texts]
    is_list = np.array([labels is not None for labels in parsed], dtype=bool)
    return multi_hot([labels or () for labels in parsed], len(words)).astype(bool), is_list


def answer_confusion(gold: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``(gold, predicted)`` with one more column for answers that are no label: ``(classes, classes + 1)``."""
    columns = np.where(predicted == INVALID, classes, predicted)
    return confusion_matrix(gold, columns, classes + 1)[:classes]


def answer_scores(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """`classification_scores` where some answers are no label, and ``invalid_rate``.

    Args:
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids, `INVALID` for answers that are no label ``(rows,)``.
        taxonomy: the label tree.
    """
    invalid = predicted == INVALID
    scores = classification_scores(gold, np.where(invalid, len(taxonomy.leaves), predicted), taxonomy)
    return scores | {"invalid_rate": float(invalid.mean())}


def macro_f1_and_accuracy(gold: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """Macro-F1 over the gold classes, and accuracy; `INVALID` is wrong."""
    confusion = squared(answer_confusion(gold, predicted, classes))
    return float(f1_from_confusion(confusion)[gold_classes(confusion)].mean()), float((gold == predicted).mean())
