"""What a model reads in front of a text: columns of the data in words, and the platform a post is from.

``title: Which one?`` ``stars: 3.`` and then the text; the platform stands first and without a name: ``reddit: …``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from datasets import Dataset

from opinionlm.data.cleaning import Step, clean_text
from opinionlm.data.encoding.fingerprints import result_name
from opinionlm.data.spec import FeatureSpec
from opinionlm.errors import UserError
from opinionlm.utils.typed_values import build

PLATFORM = "platform"
# More values than this are no categories.
MOST_CATEGORIES = 1_000
# What `float` takes besides (underscores, digits of other scripts, nan, infinity) is no number.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Feature(FeatureSpec):
    """A column that a model reads, and what training knew of it.

    Attributes:
        known: the categories, sorted; of numbers the lowest and the highest; empty for texts.
    """

    known: tuple[str, ...] = ()

    def is_known(self, value: str) -> bool:
        """Whether training had such a value: this category, or a number in the range; a blank is none."""
        match self.kind:
            case "category":
                return not value or value in self.known
            case "number" if value and self.known:
                low, high = map(float, self.known)
                return NUMBER.fullmatch(value) is not None and low <= float(value) <= high
            case _:
                return True


def feature_text(spec: FeatureSpec, written: str, steps: list[Step]) -> str:
    """A value as it is written in front of a text; blank where there is none.

    Raises:
        ValueError: no number where one belongs.
    """
    value = written.strip()
    match spec.kind:
        case "text":
            return clean_text(value, steps)[0]
        case "number" if value:
            if not NUMBER.fullmatch(value) or not math.isfinite(float(value)):
                raise ValueError(f"{spec.name}: {value[:80]!r} is no number")
            # 3.0 and 3 are one number.
            return f"{float(value):.10g}"
        case _:
            return value


def in_words(features: Sequence[FeatureSpec], values: Mapping[str, str], text: str) -> str:
    """A text (of a pair, the first one) behind its features, in their order; those without a value are left out."""
    parts = []
    for feature in features:
        value = values[feature.name]
        if value and feature.name == PLATFORM:
            parts.append(f"{value}:")
        elif value:
            parts.append(f"{feature.name}: {value}{'' if value[-1] in '.!?…' else '.'}")
    return " ".join([*parts, text])


def platform_of(text: str, platforms: Sequence[str]) -> str:
    """The platform that stands in front of a text; blank where none of these does."""
    return next((name for name in platforms if text.startswith(f"{name}: ")), "")


def platforms_of(features: Sequence[Feature]) -> list[str]:
    """The platforms that a model reads; none where it reads no platform."""
    return [name for feature in features if feature.name == PLATFORM for name in feature.known]


def read_note(features: Sequence[Feature]) -> str:
    """What a model reads in front of every text, in a line for the terminal."""
    words = []
    for feature in features:
        match feature.kind:
            case "category":
                words.append(f"{feature.name} ({len(feature.known):,} values)")
            case "number":
                words.append(f"{feature.name} ({' to '.join(feature.known) or 'no number'})")
            case _:
                words.append(f"{feature.name} (text)")
    return f"reads   {', '.join(words)} in front of the text"


def with_features(texts: Dataset, features: Sequence[FeatureSpec]) -> Dataset:
    """The rows of a split with their features in front of every text (of a pair, of the first)."""
    if not features:
        return texts
    names = [feature.name for feature in features]

    def write(batch: dict[str, list[str]]) -> dict[str, list[str]]:
        rows = zip(*(batch[name] for name in names), strict=True)
        values = (dict(zip(names, row, strict=True)) for row in rows)
        return {"text": [in_words(features, *pair) for pair in zip(values, batch["text"], strict=True)]}

    name = result_name("features", texts, {"names": names})
    return texts.map(write, batched=True, new_fingerprint=name, desc="Features")


def known_features(train: Dataset, specs: Sequence[FeatureSpec], platform_prefix: bool, source: str) -> list[Feature]:
    """The features that a model reads, with what a training split knows of them; the platform first.

    Raises:
        UserError: no row has a platform, or a column has too many values for categories.
    """
    found = []
    if platform_prefix:
        platforms = sorted(set(train[PLATFORM]) - {""})
        if not platforms:
            raise UserError(
                f"platform_prefix: {source} names no platforms; add them to the files of the dataset YAML, or leave "
                "it out"
            )
        found.append(Feature(PLATFORM, "category", tuple(platforms)))
    for spec in specs:
        values = sorted(set(train[spec.name]) - {""}) if spec.kind != "text" else []
        if spec.kind == "number" and values:
            values = [min(values, key=float), max(values, key=float)]
        if len(values) > MOST_CATEGORIES:
            raise UserError(
                f"{source}: features.{spec.name}: {len(values):,} different values are no categories; make it a text"
            )
        found.append(Feature(spec.name, spec.kind, tuple(values)))
    return found


def stored_features(features: Sequence[Feature]) -> list[dict[str, Any]] | None:
    """Plain values for a model's configuration, the platform aside; None for none."""
    return [asdict(feature) for feature in features if feature.name != PLATFORM] or None


def saved_features(platforms: Sequence[str] | None, stored: Sequence[Mapping[str, Any]] | None) -> list[Feature]:
    """The features of a saved model, from ``platforms`` and ``features`` of its configuration.

    Raises:
        UserError: a feature is damaged.
    """
    platform = [] if platforms is None else [Feature(PLATFORM, "category", tuple(platforms))]
    return [*platform, *(build(Feature, one, "features") for one in stored or ())]


@dataclass
class FeatureReader:
    """Writes the features of new records in front of their texts, and counts values that training never had.

    Attributes:
        features: that the model reads.
        steps: of the cleaning of its texts.
        platform: of all records without one of their own.
        unseen: values, by feature and value.
    """

    features: Sequence[Feature]
    steps: list[Step]
    platform: str = ""
    unseen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def read(self, fields: Mapping[str, str]) -> str:
        """What a model reads of a record: the cleaned text, behind its features.

        Args:
            fields: ``text`` and the features, by their canonical names; ``platform`` may be absent.
        """
        values = {}
        for feature in self.features:
            written = fields.get(PLATFORM, self.platform) if feature.name == PLATFORM else fields[feature.name]
            try:
                values[feature.name] = feature_text(feature, written, self.steps)
            except ValueError:
                values[feature.name] = written.strip()
            if not feature.is_known(values[feature.name]):
                self.unseen[feature.name, values[feature.name]] += 1
        return in_words(self.features, values, clean_text(fields["text"], self.steps)[0])

    def warnings(self) -> list[str]:
        """One line for every feature with values that no training text had."""
        lines = []
        for name in dict.fromkeys(name for name, _ in self.unseen):
            values = {value: count for (one, value), count in self.unseen.items() if one == name}
            lines.append(
                f"{name}: {sum(values.values()):,} records have values that no training text had, for instance "
                f"{next(iter(values))[:80]!r}; the model reads them as they are"
            )
        return lines
