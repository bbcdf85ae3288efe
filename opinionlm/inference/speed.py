"""How fast a trained model answers, measured on validation texts, and the fastest precision that keeps its labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from datasets import Dataset

from opinionlm.adaptation.merging import expanded_on_cpu
from opinionlm.inference.predictions import LoadedModel
from opinionlm.inference.predictors import Predictor, ScorePredictor, TagPredictor
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.precision import cast_parameters, computes_in_bfloat16
from opinionlm.models.quantization import quantized_modules
from opinionlm.utils.memory import return_freed_memory
from opinionlm.utils.names import short

# Of labels in bfloat16 and in float32, above which they count as equal.
LEAST_AGREEMENT = 0.995
# Rounding has to gain more than two measurements of the same model differ by.
LEAST_GAIN = 1.2
# Limits of one measurement: texts one by one, texts in bulk, and seconds for each of the two.
SINGLE, BULK, SECONDS = 50, 512, 2.0

Rows = list[list[str] | None]


@dataclass(frozen=True)
class Speed:
    """How fast a model answers, cleaning and tokenising included.

    Attributes:
        posts_per_second: of many posts at once.
        p50_ms, p95_ms: milliseconds of a post alone, the median and what 95 % stay below.
    """

    posts_per_second: float
    p50_ms: float
    p95_ms: float

    def describe(self) -> str:
        """For a line of the terminal."""
        rate, p50, p95 = map(short, (self.posts_per_second, self.p50_ms, self.p95_ms))
        return f"{rate} posts/s, one in {p50} ms (95 % within {p95})"


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision that predict.py computes in.

    Attributes:
        precision: None for that of the weights.
        speed: in it.
        reason: why, for people.
    """

    precision: Literal["float32", "bfloat16"] | None
    speed: Speed
    reason: str

    @property
    def facts(self) -> dict[str, Any]:
        """For ``cost.predict`` of ``metrics.json``."""
        return asdict(self.speed)

    def describe(self) -> str:
        """One line."""
        return f"predict {self.precision or 'in the precision of the weights'}: {self.speed.describe()}; {self.reason}"


def choose_precision(predictor: Predictor, texts: Dataset) -> PrecisionChoice:
    """Measure a trained model on some of its validation texts, in bfloat16 too where the processor computes in it.

    bfloat16 is chosen where it is `LEAST_GAIN` times as fast, measured twice, and `LEAST_AGREEMENT` of the labels, or
    of a tagger's tags, are those of float32. Scores of pairs have no labels to compare, and 4-bit weights their own
    precision.

    Args:
        predictor: whose model is in the precision of its weights. The model is used up: rounded and expanded in place,
            since copies of it would set the peak of a training.
        texts: prepared validation rows.
    """
    model = predictor.model
    assert isinstance(model, OpinionClassifier)
    # Accelerate leaves the autocast of training around the forward pass.
    extract_model_from_parallel(model, keep_fp32_wrapper=False)
    model.eval()
    rows = rows_of(texts)
    return_freed_memory()
    if quantized_modules(model):
        # As predict.py loads it.
        model = expanded_on_cpu(model)
        predictor = replace(predictor, model=model)
    if isinstance(predictor, ScorePredictor):
        return PrecisionChoice(None, measure(predictor, rows)[0], "bfloat16 not tried, as it changes scores")
    if quantized_modules(model):
        return PrecisionChoice(None, measure(predictor, rows)[0], "bfloat16 not tried, as weights are in 4 bits")
    if not computes_in_bfloat16():
        cast_parameters(model, torch.float32)
        speed = measure(predictor, rows)[0]
        return PrecisionChoice("float32", speed, "bfloat16 not tried, as the processor has no instructions for it")
    if model.dtype == torch.bfloat16:
        return PrecisionChoice("bfloat16", measure(predictor, rows)[0], "that of the weights")
    # Weights in float16 would be timed as what they are not used in.
    cast_parameters(model, torch.float32)
    exact, labels = measure(predictor, rows)
    cast_parameters(model, torch.bfloat16)
    fast, rounded = measure(predictor, rows)
    equal = agreement(labels, rounded, isinstance(predictor, TagPredictor))
    gain = fast.posts_per_second / exact.posts_per_second
    if gain >= LEAST_GAIN and equal >= LEAST_AGREEMENT:
        # On a busy machine one measurement may have had the processor for itself: a gain has to show once more.
        fast_again = posts_per_second(predictor, rows[: len(rounded)])
        # The weights are rounded now, which does not change the speed.
        cast_parameters(model, torch.float32)
        gain = min(gain, fast_again / posts_per_second(predictor, rows[: len(labels)]))
    found = f"bfloat16 is {gain:.2f} times as fast with {equal:.1%} equal labels"
    if gain >= LEAST_GAIN and equal >= LEAST_AGREEMENT:
        return PrecisionChoice("bfloat16", fast, found)
    return PrecisionChoice("float32", exact, found)


def rows_of(texts: Dataset) -> list[dict[str, Any]]:
    """At most `BULK` prepared rows, evenly from the whole split, as `LoadedModel` reads them."""
    chosen = np.linspace(0, len(texts) - 1, min(BULK, len(texts))).astype(int)
    rows = texts.select(chosen).to_list()
    return [row | {"text": " ".join(row["tokens"])} if "tokens" in row else row for row in rows]


def measure(
    predictor: Predictor, rows: Sequence[dict[str, Any]], clock: Callable[[], float] = time.perf_counter
) -> tuple[Speed, Rows]:
    """Time a model on texts alone and on many at once, each within about `SECONDS`.

    Args:
        predictor: loaded.
        rows: one at least.
        clock: seconds.

    Returns:
        The speed, and the answers to the first rows, as many as there was time for.
    """
    model = LoadedModel(predictor)
    # The first call of all does more than answer.
    model.cells(rows[:1])
    seconds: list[float] = []
    while len(seconds) < min(SINGLE, len(rows)) and sum(seconds) < SECONDS:
        # Neighbours of a split may be alike: from all over it.
        row = rows[len(seconds) * len(rows) // min(SINGLE, len(rows))]
        start = clock()
        model.cells([row])
        seconds.append(clock() - start)
    many = max(1, int(SECONDS / max(float(np.median(seconds)), 1e-9)))
    start = clock()
    cells = model.cells(rows[:many])
    rate = len(cells) / max(clock() - start, 1e-9)
    return Speed(rate, *(1000 * float(np.percentile(seconds, share)) for share in (50, 95))), cells


def posts_per_second(predictor: Predictor, rows: Sequence[dict[str, Any]]) -> float:
    """How fast a model that has answered before does so again, many texts at once.

    Args:
        predictor: loaded.
        rows: all of them, timed together; one at least.
    """
    model = LoadedModel(predictor)
    start = time.perf_counter()
    model.cells(rows)
    return len(rows) / max(time.perf_counter() - start, 1e-9)


def agreement(some: Rows, others: Rows, tags: bool) -> float:
    """Share of equal labels, the first cell of an answer, among the texts that both have answered.

    Args:
        some: answers to the first texts.
        others: to as many of them or to fewer, or more.
        tags: whether that cell holds the tags of words, of which each is one.
    """
    pairs = [(one[0], other[0]) for one, other in zip(some, others, strict=False) if one and other]
    if tags:
        pairs = [pair for one, other in pairs for pair in zip(one.split(), other.split(), strict=True)]
    return float(np.mean([one == other for one, other in pairs])) if pairs else 0.0
