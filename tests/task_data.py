"""Small prepared data sets of every task of train_classifier.py, as preprocess.py would write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from opinionlm.data.prepared import MANIFEST

TAGS = ["O", "B-coin", "I-coin", "B-person", "I-person"]
SIZES = {"train": 48, "validation": 20, "test": 20}
FILLERS = ["the", "price", "of", "fell", "again", "today", "and", "nobody", "knows", "why", "it", "will"]


def sentence(generator: np.random.Generator) -> tuple[list[str], list[int]]:
    """Words with an entity of one or two words that its first letters give away."""
    words = generator.choice(FILLERS, generator.integers(3, 8)).tolist()
    tags = [0] * len(words)
    kind = int(generator.integers(2))
    entity = (["bit", "xrp"], ["ada", "lisa"])[kind][: int(generator.integers(1, 3))]
    place = int(generator.integers(len(words) + 1))
    inside = [1 + 2 * kind] + [2 + 2 * kind] * (len(entity) - 1)
    return words[:place] + entity + words[place:], tags[:place] + inside + tags[place:]


def token_rows(size: int, seed: int) -> Dataset:
    """Rows of task token."""
    generator = np.random.default_rng(seed)
    words, tags = zip(*(sentence(generator) for _ in range(size)), strict=True)
    rows = {"id": [f"s{seed}-{n}" for n in range(size)], "tokens": words, "tags": tags, "platform": [""] * size}
    features = Features(
        id=Value("string"), tokens=List(Value("string")), tags=List(ClassLabel(names=TAGS)), platform=Value("string")
    )
    return Dataset.from_dict(rows, features=features)


def pair_rows(size: int, seed: int, labelled: bool) -> Dataset:
    """Pairs of texts: with the share of words they have in common as score, or with a label."""
    generator = np.random.default_rng(seed)
    texts, pairs, scores = [], [], []
    for _ in range(size):
        words = generator.choice(FILLERS, 5, replace=False)
        common = int(generator.integers(6))
        other = [word for word in FILLERS if word not in words][: 5 - common]
        texts.append(" ".join(words))
        pairs.append(" ".join([*words[:common], *other]))
        scores.append(float(common))
    rows = {"id": [f"p{seed}-{n}" for n in range(size)], "text": texts, "text_pair": pairs, "platform": [""] * size}
    if not labelled:
        return Dataset.from_dict(rows | {"score": scores})
    data = Dataset.from_dict(rows | {"label": [int(score >= 3) for score in scores]})
    return data.cast_column("label", ClassLabel(names=["differ", "agree"]))


def write_prepared(folder: Path, task: str, named: str | None = None) -> Path:
    """Write a prepared data set: ``token``, ``similarity``, or ``sequence`` over pairs."""
    makers = {
        "token": token_rows,
        "similarity": lambda size, seed: pair_rows(size, seed, labelled=False),
        "sequence": lambda size, seed: pair_rows(size, seed, labelled=True),
    }
    data = DatasetDict({name: makers[task](size, seed) for seed, (name, size) in enumerate(SIZES.items())})
    data.save_to_disk(folder)
    manifest = {
        "fingerprint": "0" * 64,
        "name": f"tiny-{task}",
        "rows": SIZES,
        "task": named or task,
        "labels": ["differ", "agree"] if task == "sequence" else None,
        "tags": TAGS if task == "token" else [],
        "score_range": [0, 5] if task == "similarity" else None,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder
