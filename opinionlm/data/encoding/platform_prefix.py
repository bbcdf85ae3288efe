"""The platform a post is from, as part of what a model reads."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

from opinionlm.data.encoding.fingerprints import result_name
from opinionlm.errors import UserError


def platform_text(platform: str, text: str) -> str:
    """A text with its platform in front; a post from nowhere in particular stays as it is."""
    return f"{platform}: {text}" if platform else text


def platform_of(text: str, platforms: Sequence[str]) -> str:
    """The platform that `platform_text` put in front of a text; blank where none of these stands there."""
    return next((name for name in platforms if text.startswith(f"{name}: ")), "")


def with_platforms(texts: Dataset) -> Dataset:
    """The rows of a split with the platform in front of every text (of a pair, of the first)."""

    def prefix(batch: dict[str, list[str]]) -> dict[str, list[str]]:
        return {"text": [platform_text(*pair) for pair in zip(batch["platform"], batch["text"], strict=True)]}

    return texts.map(prefix, batched=True, new_fingerprint=result_name("platforms", texts, {}), desc="Platforms")


def platforms_of(train: Dataset, source: str) -> list[str]:
    """The platforms of a training split, sorted.

    Args:
        train: the prepared rows.
        source: of the data, for the message.

    Raises:
        UserError: no row has one.
    """
    found = sorted(set(train["platform"]) - {""})
    if not found:
        raise UserError(
            f"platform_prefix: {source} names no platforms; add them to the files of the dataset YAML, or leave it out"
        )
    return found
