"""Labels without training from an entailment model: which hypothesis does the text support (Yin et al. 2019)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.errors import UserError


def entailment_id(config: PreTrainedConfig) -> int:
    """The class of an entailment model that says the text supports the hypothesis.

    Raises:
        UserError: no class, or several, of that name.
    """
    names = {int(index): name for index, name in config.id2label.items()}
    found = [index for index, name in names.items() if name.casefold() == "entailment"]
    if len(found) != 1:
        raise UserError(
            f"model_name_or_path: its classes are {', '.join(names.values())}, none of which is `entailment`; method: "
            "entailment needs a model trained on natural language inference, such as facebook/bart-large-mnli"
        )
    return found[0]


@torch.inference_mode()
def entailment_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    hypotheses: Sequence[str],
    max_length: int,
    batch_size_tokens: int = 8192,
) -> np.ndarray:
    """Entailment logits of every text with every hypothesis.

    Their softmax over the hypotheses is what `pipeline("zero-shot-classification")` gives for one label per text.

    Args:
        model: a sequence classifier with a class ``entailment``, in evaluation mode, on its device.
        tokenizer: encodes pairs.
        texts: the premises; cut where a pair is too long, never the hypothesis.
        hypotheses: one per label.
        max_length: tokens of a pair.
        batch_size_tokens: at most so many tokens at once, padding included; one pair always is.

    Returns:
        float64 ``(texts, hypotheses)``.

    Raises:
        UserError: the model knows no entailment, or a hypothesis leaves no room for a text.
    """
    column = entailment_id(model.config)
    longest = max(len(tokenizer("", hypothesis)["input_ids"]) for hypothesis in hypotheses)
    if longest >= max_length:
        raise UserError(
            f"max_length: {max_length} tokens leave no room for a text beside a hypothesis of {longest}; raise it"
        )
    if not texts:
        return np.zeros((0, len(hypotheses)))
    premises = [text for text in texts for _ in hypotheses]
    pairs = tokenizer(
        premises, list(hypotheses) * len(texts), truncation="only_first", max_length=max_length, verbose=False
    )
    order = sorted(range(len(premises)), key=lambda pair: len(pairs["input_ids"][pair]), reverse=True)
    scores = np.zeros(len(premises))
    start = 0
    while start < len(order):
        width = len(pairs["input_ids"][order[start]])
        batch = order[start : start + max(1, batch_size_tokens // width)]
        rows = [{name: pairs[name][pair] for name in pairs} for pair in batch]
        padded = tokenizer.pad(rows, return_tensors="pt").to(model.device)
        scores[batch] = model(**padded).logits[:, column].double().cpu().numpy()
        start += len(batch)
    return scores.reshape(len(texts), len(hypotheses))
