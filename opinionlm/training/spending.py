"""What a run spends: seconds before, in and after its optimizer steps, added up over the parts of a continued run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from opinionlm.config.config import HARMLESS, Config
from opinionlm.training.cost import peak_memory_mb
from opinionlm.training.prefix_cache import PrefixStates
from opinionlm.utils.files import write_json

PREPARATION_FILE = "preparation.json"
# The parts of `total_seconds`, with the words that the terminal and the model card have for them.
PARTS = {
    "mining_seconds": "mining",
    "selection_seconds": "selection",
    "cache_seconds": "cache",
    "train_seconds": "training",
    "predict_seconds": "prediction",
    "evaluation_seconds": "evaluation",
}


@dataclass(frozen=True)
class Preparation:
    """What was spent between the data and the first optimizer step.

    Attributes:
        mining_seconds: AdaPT's search for sequences.
        selection_seconds: AdaPT's warm-up of the head and measurement of sensitivity.
        cache_seconds: computing and writing the states of frozen blocks; 0 where all of them were there already.
        cache_train_tokens: tokens of the training split whose states were computed.
        cache_splits_built: splits whose states were computed.
        cache_splits_reused: splits whose states another run had computed.
    """

    mining_seconds: float = 0.0
    selection_seconds: float = 0.0
    cache_seconds: float = 0.0
    cache_train_tokens: int = 0
    cache_splits_built: int = 0
    cache_splits_reused: int = 0

    def after(self, earlier: Preparation) -> Preparation:
        """Both parts of a run that was stopped and goes on; what it finds then it built or found before."""
        sums = {one.name: getattr(earlier, one.name) + getattr(self, one.name) for one in fields(self)}
        return Preparation(**(sums | {"cache_splits_reused": earlier.cache_splits_reused}))


@dataclass(frozen=True)
class Spent:
    """What a run took, all its parts together where it was stopped and went on.

    Attributes:
        preparation: before training.
        train_seconds: from the start of training to the best model.
        evaluation_seconds: of validation and test at the end.
    """

    preparation: Preparation
    train_seconds: float
    evaluation_seconds: float


def preparation_of(
    mining_seconds: float, selection_seconds: float, states: Mapping[str, PrefixStates] | None, train_tokens: int
) -> Preparation:
    """What this process spent before training, with the states of the frozen prefix; None without a cache."""
    if states is None:
        return Preparation(mining_seconds, selection_seconds)
    built = {name: one.built_seconds for name, one in states.items() if one.built_seconds is not None}
    return Preparation(
        mining_seconds,
        selection_seconds,
        cache_seconds=float(sum(built.values())),
        cache_train_tokens=train_tokens if "train" in built else 0,
        cache_splits_built=len(built),
        cache_splits_reused=len(states) - len(built),
    )


def add_preparation(config: Config, data_fingerprint: str, now: Preparation) -> Preparation:
    """Add what earlier parts of this run spent, and note the sum in the run folder.

    A run that was killed in training has built its cache, and finds it when it goes on; it spent the time all the
    same. What a run with other options or other data left in the folder is not counted.
    """
    path = config.run_folder / PREPARATION_FILE
    options = {name: value for name, value in config.flat().items() if name not in HARMLESS}
    run = hashlib.sha256(json.dumps([options, data_fingerprint], sort_keys=True, default=str).encode()).hexdigest()
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("run") == run:
            now = now.after(Preparation(**stored))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # nothing was noted, or nothing that can be read
    write_json(path, {"run": run} | asdict(now))
    return now


def cost_facts(
    preparation: Preparation, train_seconds: float, evaluation_seconds: float, tokens: int, train_flops: float | None
) -> dict[str, float]:
    """The section ``cost`` of ``metrics.json``.

    ``total_seconds`` is everything that the result took once texts were token ids: mining, selection, cache, training
    with its evaluations, and the evaluation of validation and test at the end. Reading and tokenising data and loading
    the model are left out: they are the same for every way of training.

    Args:
        preparation: spent before training.
        train_seconds: from the start of training to the best model.
        evaluation_seconds: validation and test at the end, and what is fitted on validation.
        tokens: that training steps read, padding left out; 0 where there are no steps.
        train_flops: see `opinionlm.training.cost.train_flops`; None where nothing counts them.
    """
    spent = {"train_seconds": train_seconds, "cache_seconds": preparation.cache_seconds}
    if preparation.mining_seconds:
        spent["mining_seconds"] = preparation.mining_seconds
    if preparation.selection_seconds:
        spent["selection_seconds"] = preparation.selection_seconds
    spent["evaluation_seconds"] = evaluation_seconds
    total = sum(spent.values())
    facts = spent | {"total_seconds": total}
    if tokens:
        facts |= {"tokens_per_second": tokens / train_seconds, "tokens_per_second_overall": tokens / total}
    facts["peak_memory_mb"] = peak_memory_mb()
    if train_flops is not None:
        facts["train_flops"] = train_flops
    if preparation.cache_splits_built or preparation.cache_splits_reused:
        facts |= {
            "cache_splits_built": preparation.cache_splits_built,
            "cache_splits_reused": preparation.cache_splits_reused,
        }
    return facts


def describe_cost(cost: Mapping[str, Any]) -> str:
    """The section ``cost`` of ``metrics.json`` in a line, as the terminal and the model card say it."""
    parts = [f"{words} {seconds_text(cost[name])}" for name, words in PARTS.items() if cost.get(name)]
    if cost.get("cache_splits_reused"):
        reused, built = cost["cache_splits_reused"], cost["cache_splits_built"]
        parts.append(f"cache of {reused} of {reused + built} splits reused")
    text = f"{seconds_text(cost['total_seconds'])} in all ({', '.join(parts)})"
    if "tokens_per_second" in cost:
        text += f", {cost['tokens_per_second']:,.0f} tokens/s in training"
    if "tokens_per_second_overall" in cost:
        text += f", {cost['tokens_per_second_overall']:,.0f} over all"
    return f"{text}, peak memory {cost['peak_memory_mb']:,.0f} MB"


def seconds_text(seconds: float) -> str:
    """Seconds as people read them: one digit behind the point below ten."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def members_cost(costs: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The cost of several models that answer together: each of them was trained, one after the other.

    Numbers that a member lacks, because it is older than they are, have no sum.
    """
    names = [*PARTS, "total_seconds", "train_flops", "cache_splits_built", "cache_splits_reused"]
    facts = {name: sum(cost[name] for cost in costs) for name in names if all(name in cost for cost in costs)}
    if all("tokens_per_second" in cost for cost in costs):
        tokens = sum(cost["tokens_per_second"] * cost["train_seconds"] for cost in costs)
        facts["tokens_per_second"] = tokens / facts["train_seconds"]
        if "total_seconds" in facts:
            facts["tokens_per_second_overall"] = tokens / facts["total_seconds"]
    return facts | {"peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs)}
