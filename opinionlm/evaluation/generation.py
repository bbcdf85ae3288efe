"""Answers written by the model, read strictly, and scores that count what cannot be read as wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from opinionlm.data.encoding.columns import multi_hot
from opinionlm.data.encoding.label_lists import NO_LABEL, SEPARATOR
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import normalised
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.metrics import (
    classification_scores,
    confusion_matrix,
    f1_from_confusion,
    gold_classes,
    squared,
)
from opinionlm.models.backbones import plain_backbone

# The prediction of a row whose answer is no label.
INVALID = -1


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel | PeftModel,
    encoder: PromptEncoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    num_beams: int = 1,
    batch_size_tokens: int = 8192,
) -> list[str]:
    """Let the model write: the likeliest answer that the search finds, without sampling and without penalties.

    Prompts of similar length share a batch, longest first, padded on the left.

    Args:
        model: a causal or an encoder-decoder language model; it generates in evaluation mode.
        encoder: wrote the prompts. An answer ends where the encoder's do, or at an end token of the model's own.
        prompts: token ids, special tokens included.
        max_new_tokens: longest answer.
        num_beams: width of the beam search; 1 takes the likeliest token each time.
        batch_size_tokens: prompt and answer tokens of a batch, beams and padding included; one prompt always runs.

    Returns:
        One answer per prompt, in their order: without special tokens, without what the template writes around an
        answer, and without blanks around it.

    Raises:
        UserError: an empty prompt.
    """
    if not all(len(prompt) for prompt in prompts):
        raise UserError("prompt: a prompt has no tokens; give the template's prompt some text")
    device = model.get_input_embeddings().weight.device
    settings = search_settings(model, encoder, max_new_tokens, num_beams)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True)
    answers = [""] * len(prompts)
    was_training = model.training
    model.eval()
    start = 0
    while start < len(order):
        width = len(prompts[order[start]])
        batch = order[start : start + max(1, batch_size_tokens // ((width + max_new_tokens) * num_beams))]
        ids, mask = padded_on_the_left([prompts[row] for row in batch], settings.pad_token_id)
        with searching_by(model, settings):
            written = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
        # An encoder-decoder returns its start token and the answer, a causal model the prompt and the answer.
        skipped = 1 if model.config.is_encoder_decoder else width
        for row, tokens in zip(batch, written[:, skipped:].tolist(), strict=True):
            answers[row] = answer_in(tokens, encoder)
        start += len(batch)
    model.train(was_training)
    return answers


def search_settings(
    model: PreTrainedModel | PeftModel, encoder: PromptEncoder, max_new_tokens: int, num_beams: int
) -> GenerationConfig:
    """How answers are searched for: of what a pretrained model brings only its tokens.

    It may also bring sampling, penalties on repeated words (the labels in a prompt are repeated by an answer), least
    lengths and tokens that are forced or forbidden, of which nothing is kept.
    """
    own = model.generation_config
    named = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    ends = {encoder.tokenizer.eos_token_id, *encoder.end_ids, *named} - {None}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        use_cache=True,
        eos_token_id=sorted(ends),
        pad_token_id=encoder.tokenizer.pad_token_id,
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )


@contextmanager
def searching_by(model: PreTrainedModel | PeftModel, settings: GenerationConfig) -> Iterator[None]:
    """Within it these are the model's settings; what they leave open would else be filled with its own."""
    base = plain_backbone(model)
    own, base.generation_config = base.generation_config, settings
    try:
        yield
    finally:
        base.generation_config = own


def answer_in(tokens: Sequence[int], encoder: PromptEncoder) -> str:
    """The answer that written tokens hold."""
    return encoder.template.read_answer(encoder.tokenizer.decode(tokens, skip_special_tokens=True))


def require_readable(encoder: PromptEncoder) -> None:
    """Whether a model that writes a label exactly as it is taught is read to have written that label.

    Raises:
        UserError: a label whose words the vocabulary cannot write, or writes otherwise.
    """
    for label, word in enumerate(encoder.words):
        written = answer_in(encoder.answer_ids(word), encoder)
        if parse_label(written, encoder.words) != label:
            raise UserError(
                f"{encoder.template.source}: labels: {word!r} is {written!r} once this vocabulary has written it, "
                "which is not read as that label; give it other words under `labels`, or use decode: score"
            )


def padded_on_the_left(prompts: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask ``(prompts, tokens)`` of prompts, the longest first."""
    ids = torch.full((len(prompts), len(prompts[0])), padding)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, -len(prompt) :] = torch.tensor(prompt)
        mask[row, -len(prompt) :] = 1
    return ids, mask


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
