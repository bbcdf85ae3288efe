"""Token ids from texts, and batches from token ids."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from opinionlm.config.options import EVALUATION_SEED
from opinionlm.data.encoding.columns import multi_hot, subset
from opinionlm.data.encoding.fingerprints import result_name, tokenizer_digest


def encode_texts(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    target: str = "label",
    identity: str | None = None,
) -> Dataset:
    """Tokenise the texts, or pairs of texts, of a split.

    Args:
        dataset: with columns ``text``, ``text_pair`` where the task is about pairs, and the target.
        tokenizer: a fast tokenizer.
        max_length: texts are truncated to this many tokens, special tokens included; of a pair the longer text first.
        target: column of the labels: ids, scores, or lists of ids, which become vectors of zeros and ones.
        identity: `tokenizer_digest` of the tokenizer, where it was computed before.

    Returns:
        Columns ``input_ids``, ``labels`` and ``length`` (tokens), rows in the given order; of pairs ``token_type_ids``
        too, where the tokenizer has them.
    """
    pairs = "text_pair" in dataset.column_names
    segments = pairs and "token_type_ids" in tokenizer.model_input_names

    several = dataset.features[target].feature.num_classes if isinstance(dataset.features[target], List) else None

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        second = batch["text_pair"] if pairs else None
        encoded = tokenizer(batch["text"], second, truncation="longest_first", max_length=max_length, verbose=False)
        ids = encoded["input_ids"]
        labels = batch[target] if several is None else multi_hot(batch[target], several)
        columns = {"input_ids": ids, "labels": labels, "length": [len(row) for row in ids]}
        return columns | ({"token_type_ids": encoded["token_type_ids"]} if segments else {})

    features = None
    if several is not None:
        # Said, or the vectors would become ids again: a new column keeps the type of an old one of its name.
        types = {"input_ids": List(Value("int32")), "labels": List(Value("float32")), "length": Value("int64")}
        features = Features(types | ({"token_type_ids": List(Value("int8"))} if segments else {}))
    facts = {"tokenizer": identity or tokenizer_digest(tokenizer), "max_length": max_length, "target": target}
    return dataset.map(
        encode,
        batched=True,
        remove_columns=dataset.column_names,
        features=features,
        new_fingerprint=result_name("texts", dataset, facts),
        desc="Tokenising",
    )


def evaluation_texts(dataset: Dataset, size: int | None) -> Dataset:
    """A part of validation or test under ``max_eval_samples``: the same one for every seed and every method.

    Drawn with the run's own seed, two runs would differ by their texts as well as by what is compared.
    """
    return subset(dataset, size, EVALUATION_SEED)
