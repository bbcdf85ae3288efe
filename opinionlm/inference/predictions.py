"""Answers of a loaded model to a list of texts, as Python values; the files of `predict.py` hold the same."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opinionlm.data.cleaning import saved_steps
from opinionlm.data.encoding.features import FeatureReader
from opinionlm.data.readers.json_values import TEXT_COLUMNS, NotTextError, value_text
from opinionlm.data.readers.records import Record
from opinionlm.errors import UserError
from opinionlm.inference.inputs import check_features, check_platform
from opinionlm.inference.predictors import Predictor
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
        labels: leaves of the label tree, perhaps none; None where a model wrote an answer that is no list of them.
        levels: of a tree, the labels at every level, the uppermost first.
        probabilities: calibrated, of every leaf; None where the model writes its answers.
        label_set: leaves that miss no more of the right ones than asked for; None where no sets were asked for.
        answer: what the model wrote; None where it scores labels.
    """

    labels: tuple[str, ...] | None
    levels: tuple[tuple[str, ...], ...]
    probabilities: dict[str, float] | None = None
    label_set: tuple[str, ...] | None = None
    answer: str | None = None


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
class LoadedModel:
    """A model that labels texts, tags words, scores pairs or writes answers.

    Attributes:
        predictor: the loaded model, or several as one.
    """

    predictor: Predictor

    def predict(
        self,
        texts: Sequence[str | Mapping[str, Any]],
        pairs: Sequence[str] | None = None,
        platforms: Sequence[str] | None = None,
        are_prepared: bool = False,
    ) -> list[Prediction | None]:
        """Answers in the order of the texts; texts are cleaned as those of training were.

        Args:
            texts: any number; for a tagger, sentences whose words blanks separate. Or records, with the keys ``text``,
                ``text_pair`` (or ``context``, which single records may lack) and ``platform`` where the model reads
                them, and those of its features; others are left alone. A value that no training text had is warned of.
            pairs: the second text of every pair, or the context of every question.
            platforms: of every text, for a model that was trained to read them.
            are_prepared: the texts are of a prepared split or of ``predictions/``: cleaned already, and not once more.

        Returns:
            One prediction per text; None for a text that is empty, or that cleaning leaves nothing of.

        Raises:
            UserError: one string instead of a list, as many pairs or platforms as there are no texts, or some where
                the model reads none, or none where it reads them; or a record lacks a key that the model reads.
        """
        found = self.cells(texts, pairs, platforms, are_prepared)
        return [None if cells is None else self.prediction(cells) for cells in found]

    def cells(
        self,
        texts: Sequence[str | Mapping[str, Any]],
        pairs: Sequence[str] | None = None,
        platforms: Sequence[str] | None = None,
        are_prepared: bool = False,
    ) -> list[list[str] | None]:
        """`predict`, each answer as the cells of a table whose columns are ``predictor.columns``."""
        if isinstance(texts, str):
            raise UserError("texts: one string was given; give a list of texts, [text]")
        rows = self.fields_of(texts)
        for name, column, others in (("pairs", "text_pair", pairs), ("platforms", "platform", platforms)):
            if others is None:
                continue
            if len(others) != len(rows):
                raise UserError(f"{name}: {len(others):,} for {len(rows):,} texts; give one for each")
            for row, other in zip(rows, others, strict=True):
                row[column] = other
        has_pairs = pairs is not None or (bool(rows) and all("text_pair" in row for row in rows))
        has_platforms = platforms is not None or (bool(rows) and all("platform" in row for row in rows))
        self.check_columns(has_pairs, {row["platform"] for row in rows} if has_platforms else None)
        steps = [] if are_prepared else saved_steps(self.predictor.cleaning)
        reader = FeatureReader(self.predictor.features, steps)
        records = [Record(number, number, row, row["text"]) for number, row in enumerate(rows, start=1)]
        items = [item_of(record, self.predictor, reader, has_pairs) for record in records]
        for line in reader.warnings():
            warnings.warn(line, stacklevel=3)
        answers = iter(self.predictor.answers([item for item in items if item is not None]))
        return [None if item is None else next(answers) for item in items]

    def check_columns(self, has_pairs: bool, platforms: Collection[str] | None) -> None:
        """Refuse second texts and platforms that the model does not read, or their absence.

        Args:
            has_pairs: whether there are second texts.
            platforms: those that there are; None for none.

        Raises:
            UserError: with what the model reads.
        """
        reads, known = self.predictor.reads, self.predictor.platforms
        if (not has_pairs and reads == "pair") or (has_pairs and reads not in ("pair", "context")):
            wanted = "reads single texts" if has_pairs else "reads pairs of texts; give the second ones"
            raise UserError(f"pairs: the model {wanted}")
        check_platform(self.predictor, None if platforms is None else "platforms", "")
        # A blank one is none, as in the training texts.
        for platform in sorted(set(platforms or ()) - {"", *(known or ())}):
            raise UserError(f"platforms: {platform!r} is none of {', '.join(known or ())}")

    def fields_of(self, texts: Sequence[str | Mapping[str, Any]]) -> list[dict[str, str]]:
        """What a model reads of every text or record, by canonical name.

        Raises:
            UserError: a record without a text or a feature, or with a value that is no text.
        """
        reads, platforms = self.predictor.reads, self.predictor.platforms
        features = [feature.name for feature in self.predictor.features]
        optional = [*(["text_pair"] if reads in ("pair", "context") else []), *(["platform"] if platforms else [])]
        rows = []
        for number, one in enumerate(texts):
            given = {"text": one} if isinstance(one, str) else one
            if not isinstance(given, Mapping):
                raise UserError(
                    f"texts[{number}]: expected a text or a record, found {type(one).__name__}; second texts of pairs "
                    "are given as pairs=[…], words of a sentence with blanks between them"
                )
            if reads == "context":
                given = {"text_pair": given["context"], **given} if "context" in given else given
            if "text" not in given:
                raise UserError(f"texts[{number}]: the record has no key 'text'")
            check_features(self.predictor, given, f"texts[{number}]")
            names = dict.fromkeys(["text", *(name for name in [*optional, *features] if name in given)])
            try:
                rows.append({name: value_text(given[name], name not in TEXT_COLUMNS) for name in names})
            except NotTextError as error:
                raise UserError(f"texts[{number}]: expected texts and numbers, found {error}") from None
        if reads == "context" and any("text_pair" in row for row in rows):
            rows = [{"text_pair": "", **row} for row in rows]
        return rows

    def prediction(self, cells: Sequence[str]) -> Prediction:
        """The cells of an answer as values."""
        columns = self.predictor.columns
        values = {name: self.predictor.json_value(name, cell) for name, cell in zip(columns, cells, strict=True)}
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
        if isinstance(values["predicted"], list) or ("answer" in values and values["predicted"] is None):
            levels = tuple(tuple(values[name] or ()) for name in columns if name.startswith("level"))
            labels = None if values["predicted"] is None else tuple(values["predicted"])
            return LabelsPrediction(labels, levels, probabilities or None, label_set, values.get("answer"))
        return LabelPrediction(
            label=values["predicted"] or None,
            levels=tuple(values[name] for name in columns if name.startswith("level") and values[name]),
            confidence=values.get("confidence"),
            probabilities=probabilities or None,
            label_set=label_set,
            answer=values.get("answer"),
        )
