"""The head of a model card, which the hub reads: base model, licence, language, data sets, scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from opinionlm.config.chosen_metric import score_title
from opinionlm.data.prepared import PreparedDataset, read_manifest
from opinionlm.models.hub_facts import hub_facts
from opinionlm.tasks.base import Task
from opinionlm.utils.shipped import find_shipped

# What the hub calls a licence that nobody states.
UNKNOWN = "unknown"


def card_head(task: Task[Any], pipeline: str, tags: Iterable[str], test: Mapping[str, Any]) -> str:
    """The YAML head of a card, marks included.

    Args:
        task: of the run.
        pipeline: that serves the model, as the hub names it.
        tags: beside ``opinionlm``.
        test: scores of the test split; the shown ones are listed.
    """
    base, prepared = task.config.model.model_name_or_path, task.prepared
    spec = dataset_facts(prepared)
    on_hub = hub_name(spec)
    licence, spoken = base_facts(base)
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=on_hub or prepared.name,
            dataset_name=prepared.name,
            dataset_config=(spec.get("hub") or {}).get("config") if on_hub else None,
            dataset_split="test",
            # The hub knows one F1 and tells its kinds by name.
            metric_type="f1" if name.endswith("_f1") else name,
            metric_name=score_title(name),
            metric_value=round(float(test[name]), 6),
        )
        for name in task.shown_metrics
        if math.isfinite(test[name])
    ]
    data = ModelCardData(
        base_model=base if is_hub_name(base) else None,
        license=licence,
        language=spec.get("language") or spoken,
        datasets=[on_hub] if on_hub else None,
        library_name="transformers",
        pipeline_tag=pipeline,
        tags=["opinionlm", *tags],
        model_name=task.config.training.run_name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def dataset_facts(prepared: PreparedDataset) -> dict[str, Any]:
    """What the dataset YAML says, as far as the prepared folder has kept it; older ones have not."""
    return (read_manifest(prepared.path) or {}).get("spec", {})


def hub_name(spec: Mapping[str, Any]) -> str | None:
    """The hub's name of a data set, None where it is not there."""
    path = (spec.get("hub") or {}).get("path")
    return path if path and is_hub_name(path) else None


def is_hub_name(name: str) -> bool:
    """Whether a name is one that the hub may have: a path on the machine of a run means nothing to others."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not find_shipped(name).exists()


def base_facts(name: str) -> tuple[str, str | list[str] | None]:
    """Licence and language of a base model: from the card in its folder, or from what is known of hub models."""
    card = find_shipped(name) / "README.md"
    if card.is_file():
        stated = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
        return stated.get("license") or UNKNOWN, stated.get("language")
    facts = hub_facts(name)
    return (facts.licence if facts and facts.licence else UNKNOWN), None


def base_name(name: str) -> str:
    """A base model as a reader knows it: of a path its last part."""
    return name if is_hub_name(name) else Path(name).name


def licence_note(task: Task[Any]) -> str:
    """What a reader must know of the licences of model and data, as a sentence."""
    licence, _ = base_facts(task.config.model.model_name_or_path)
    of_data = dataset_facts(task.prepared).get("licence") or "not stated"
    return f"The base model's licence is {licence}, that of the data: {of_data}; both bind who passes the model on."


def in_millions(count: float) -> str:
    """A number of parameters in plain words: ``26.8 million``."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        # What rounds to a thousand million is a billion.
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {word}"
    return f"{count:,.0f}"


def trained_words(parameters: Mapping[str, Any]) -> str:
    """How many parameters were trained, in plain words."""
    trained, total = parameters["trainable_parameters"], parameters["total_parameters"]
    share = 100 * trained / total
    return f"{in_millions(trained)} of {in_millions(total)} parameters ({share:.3g} %) were trained"
