"""What a language model makes of every label, as logits: of which label it is, or of whether each label is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from peft import PeftModel
from transformers import PreTrainedModel

from opinionlm.data.encoding.label_lists import QuestionEncoder
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.evaluation.decisions import log
from opinionlm.evaluation.label_scoring import score_labels, scored_ids
from opinionlm.evaluation.prompt_calibration import calibrated


def label_scores(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    encoder: PromptEncoder,
    normalisation: Literal["sum", "mean"],
    batch_size_tokens: int,
) -> np.ndarray:
    """Log-probability of every label, or, of a `QuestionEncoder`, log-odds of yes against no to every question.

    All questions stand behind one prompt, which runs once; what yes and no share, the question, runs once too.

    Args:
        model: see `score_labels`.
        prompts: token ids.
        encoder: wrote them; it has the labels.
        normalisation: see `score_labels`.
        batch_size_tokens: see `score_labels`.

    Returns:
        float64 ``(prompts, labels)``, in nats.
    """
    padding = encoder.tokenizer.pad_token_id
    if not isinstance(encoder, QuestionEncoder):
        return score_labels(model, prompts, scored_ids(encoder), padding, normalisation, batch_size_tokens)
    answers = [ids for question in encoder.questions for ids in (question.yes, question.no)]
    given = [question.given for question in encoder.questions for _ in range(2)]
    scores = score_labels(model, prompts, answers, padding, normalisation, batch_size_tokens, given)
    return scores[:, 0::2] - scores[:, 1::2]


def label_logits(
    scores: np.ndarray,
    encoder: PromptEncoder,
    calibration: str,
    content_free_scores: Callable[[], np.ndarray],
    batch_prior: Sequence[float] = (),
) -> np.ndarray:
    """The logits that a temperature divides ``(prompts, labels)``.

    Args:
        scores: from `label_scores`.
        encoder: wrote the prompts.
        calibration: which prior of the labels is taken out, see `calibrated`. Log-odds are fitted a bias for each
            label anyway, and are left as they are.
        content_free_scores: see `calibrated`.
        batch_prior: see `calibrated`.
    """
    if isinstance(encoder, QuestionEncoder):
        return scores
    return log(calibrated(scores, calibration, content_free_scores, batch_prior))
