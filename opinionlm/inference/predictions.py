"""Answers of a loaded model to a list of texts, as Python values; the files of `predict.py` hold the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opinionlm.data.cleaning import saved_steps
from opinionlm.data.readers.records import Record
from opinionlm.errors import UserError
from opinionlm.inference.inputs import check_platform
from opinionlm.inference.predictors import Labeller
from opinionlm.inference.rows import item_of


@dataclass(frozen=True)
class LabelPrediction:
    """A label.

    Attributes:
        label: leaf of the label tree; None where the model abstains, or wrote an answer that is no label.
        levels: the label at every level, the uppermost first; empty without a label.
        confidence: calibrated probability of the label; None where the model writes its answers.
        probabilities: of every leaf; None where the model writes its answers.
        label_set: leaves that hold the right one as often as asked for; None where no sets were asked for.
        answer: what the model wrote; None where it scores labels.
    """

    label: str | None
    levels: tuple[str, ...]
    confidence: float | None = None
    probabilities: dict[str, float] | None = None
    label_set: tuple[str, ...] | None = None
    answer: str | None = None


@dataclass(frozen=True)
class LabelsPrediction:
    """Any number of labels.

    Attributes:
        labels: leaves of the label tree, perhaps none.
        levels: of a tree, the labels at every level, the uppermost first.
        probabilities: calibrated, of every leaf.
        label_set: leaves that miss no more of the right ones than asked for; None where no sets were asked for.
    """

    labels: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    probabilities: dict[str, float]
    label_set: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ScorePrediction:
    """A pair's score."""

    score: float


@dataclass(frozen=True)
class TagPrediction:
    """The tags of a sentence.

    Attributes:
        tags: in IOB2, one per word.
        entities: type, text, start, end (behind the last word) and mean confidence of every entity.
        unread_words: words beyond the model's ``max_length``, which are tagged ``O``.
    """

    tags: tuple[str, ...]
    entities: tuple[dict[str, Any], ...]
    unread_words: int


@dataclass(frozen=True)
class AnswerPrediction:
    """What a language model wrote."""

    answer: str


Prediction = LabelPrediction | LabelsPrediction | ScorePrediction | TagPrediction | AnswerPrediction
PROBABILITY = "probability_"


@dataclass(frozen=True)
class Predictor:
    """A model that labels texts, tags words, scores pairs or writes answers.

    Attributes:
        labeller: the loaded model, or several as one.
    """

    labeller: Labeller

    def predict(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, platforms: Sequence[str] | None = None
    ) -> list[Prediction | None]:
        """Answers in the order of the texts; texts are cleaned as those of training were.

        Args:
            texts: any number; for a tagger, sentences whose words blanks separate.
            pairs: the second text of every pair, or the context of every question.
            platforms: of every text, for a model that was trained to read them.

        Returns:
            One prediction per text; None for a text that is empty, or that cleaning leaves nothing of.

        Raises:
            UserError: one string instead of a list, as many pairs or platforms as there are no texts, or some where
                the model reads none, or none where it reads them.
        """
        if isinstance(texts, str):
            raise UserError("texts: one string was given; give a list of texts, [text]")
        reads = self.labeller.reads
        if (pairs is None and reads == "pair") or (pairs is not None and reads not in ("pair", "context")):
            wanted = "reads pairs of texts; give the second ones" if pairs is None else "reads single texts"
            raise UserError(f"pairs: the model {wanted}")
        for name, others in (("pairs", pairs), ("platforms", platforms)):
            if others is not None and len(others) != len(texts):
                raise UserError(f"{name}: {len(others):,} for {len(texts):,} texts; give one for each")
        check_platform(self.labeller, None if platforms is None else "platforms", "")
        for platform in {} if platforms is None else dict.fromkeys(platforms):
            if platform not in (self.labeller.platforms or ()):
                raise UserError(f"platforms: {platform!r} is none of {', '.join(self.labeller.platforms or ())}")
        steps = saved_steps(self.labeller.cleaning)
        items = []
        for row, text in enumerate(texts):
            fields = {"text": text}
            fields |= {} if pairs is None else {"text_pair": pairs[row]}
            fields |= {} if platforms is None else {"platform": platforms[row]}
            record = Record(line=row + 1, number=row + 1, fields=fields, raw=text)
            items.append(item_of(record, self.labeller, "", pairs is not None, steps))
        answers = iter(self.labeller.answers([item for item in items if item is not None]))
        return [None if item is None else self.prediction(next(answers)) for item in items]

    def prediction(self, cells: Sequence[str]) -> Prediction:
        """The cells of an answer as values."""
        columns = self.labeller.columns
        values = {name: self.labeller.json_value(name, cell) for name, cell in zip(columns, cells, strict=True)}
        if "score" in values:
            return ScorePrediction(values["score"])
        if "tags" in values:
            return TagPrediction(tuple(values["tags"]), tuple(values["entities"]), values["unread_words"])
        if "predicted" not in values:
            return AnswerPrediction(values["answer"])
        probabilities = {
            name.removeprefix(PROBABILITY): values[name] for name in columns if name.startswith(PROBABILITY)
        }
        label_set = tuple(values["label_set"]) if "label_set" in values else None
        if isinstance(values["predicted"], list):
            levels = tuple(tuple(values[name]) for name in columns if name.startswith("level"))
            return LabelsPrediction(tuple(values["predicted"]), levels, probabilities, label_set)
        return LabelPrediction(
            label=values["predicted"] or None,
            levels=tuple(values[name] for name in columns if name.startswith("level") and values[name]),
            confidence=values.get("confidence"),
            probabilities=probabilities or None,
            label_set=label_set,
            answer=values.get("answer"),
        )
