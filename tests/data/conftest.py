"""A tokenizer trained on the spot, and a small hierarchical data set to prepare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

LABELS = {
    "noise": None,
    "objective": None,
    "subjective": {
        "positive": None,
        "negative": None,
        "neutral": ["neutral_sentiment", "question", "advertisement", "miscellaneous"],
    },
}
CODES = {
    "level1": {0: "noise", 1: "objective", 2: "subjective"},
    "level2": {0: "neutral", 1: "negative", 2: "positive"},
    "level3": {0: "neutral_sentiment", 1: "question", 2: "advertisement", 3: "miscellaneous"},
}
LEVELS = {"text": "Text", "level1": "Level 1", "level2": "Level 2", "level3": "Level 3"}


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level, so that nothing is outside its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["bitcoin to the moon, what do you think about this coin?"] * 20, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def raw_spec(tokenizer_folder: Path) -> Callable[..., dict[str, Any]]:
    """The content of a dataset YAML for files in the form of the real Twitter file; keywords replace keys."""

    def build(*paths: str, **changes: Any) -> dict[str, Any]:
        return {
            "name": "posts",
            "tokenizer_name_or_path": str(tokenizer_folder),
            "files": [{"path": path, "platform": Path(path).name.split(".")[0], "columns": LEVELS} for path in paths],
            "labels": LABELS,
            "codes": CODES,
        } | changes

    return build
