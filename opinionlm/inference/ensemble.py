"""Predict with several models as one: the folders of members, or of an ensemble that `--seeds` wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.encoding.features import saved_features
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.ensembles import mean_offsets
from opinionlm.evaluation.multi_label_rules import Rule
from opinionlm.inference.loading import check_model_folder, label_answers, load_predictor
from opinionlm.inference.onnx_model import load_onnx_predictor
from opinionlm.inference.options import PredictionOptions, TrustOptions
from opinionlm.inference.predictors import ClassPredictor, Item, Predictor, no_progress
from opinionlm.inference.saved_decision import ENSEMBLE, kept_members
from opinionlm.models.saved import saved_config


@dataclass(frozen=True, kw_only=True)
class EnsemblePredictor(ClassPredictor):
    """Averages the calibrated probabilities of its members; what it has of a single model is the first member's.

    Attributes:
        members: each with its own tokenizer, length limit and calibration.
    """

    members: tuple[ClassPredictor, ...]

    def probabilities(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> np.ndarray:
        """Calibrated probabilities ``(rows, leaves)``; progress is that of the last member."""
        *before, last = self.members
        found = [member.probabilities(items) for member in before] + [last.probabilities(items, progress)]
        return self.labels.rule.probabilities(self.labels.pooled(found))


def member_folders(folders: Sequence[Path]) -> tuple[list[Path], Rule | None]:
    """The folders of all models that are asked for, and the rule that was fitted to their average, if there is one.

    Args:
        folders: as given; one that ``--seeds`` wrote for an ensemble stands for its members.

    Raises:
        UserError: a folder holds no model, an ensemble is one of several, or a file of it is damaged.
    """
    ensembles = [folder for folder in folders if (folder / ENSEMBLE).is_file()]
    if ensembles and len(folders) > 1:
        raise UserError(f"--model: {ensembles[0]} is an ensemble itself; give it alone, or its members one by one")
    members, rule = kept_members(ensembles[0]) if ensembles else (list(folders), None)
    for folder in members:
        if ensembles and not folder.is_dir():
            raise UserError(
                f"--model: {ensembles[0]} is an ensemble whose member {folder} is gone; ensemble and members have to "
                "be moved together: bring the member back there, or average anew"
            )
        check_model_folder(folder)
    return members, rule


def load_models(folders: Sequence[Path], options: PredictionOptions) -> Predictor:
    """Load one model, or several as one.

    Raises:
        UserError: see `load_predictor`; or several models that do not give the same labels to the same kind of items,
            or that decide by rules fitted to each of them.
    """
    members, rule = member_folders(folders)
    if options.backend == "onnx":
        if len(members) > 1 or options.device == "cuda" or options.precision != "auto":
            raise UserError(
                "--backend onnx: takes one model, and computes in its own precision on the CPU; leave out --device "
                "cuda and --precision, or use --backend torch"
            )
        return load_onnx_predictor(members[0], options)
    if len(members) == 1 and rule is None:
        return load_predictor(members[0], options)
    return load_ensemble(members, rule, options)


def load_ensemble(folders: Sequence[Path], rule: Rule | None, options: PredictionOptions) -> EnsemblePredictor:
    """Load members as one; what is asked for beside labels is asked of their average.

    Args:
        folders: of the members.
        rule: that was fitted to their average; None for none.
        options: see `load_models`.

    Raises:
        UserError: see `load_models`.
    """
    members: list[ClassPredictor] = []
    for folder in folders:
        member = load_predictor(folder, replace(options, trust=TrustOptions()))
        if not isinstance(member, ClassPredictor):
            raise UserError(f"--model: {folder} does not label texts, and only labels can be averaged; give it alone")
        members.append(member)
    first = members[0]
    for folder, member in zip(folders, members, strict=True):
        check_same_task(folder, member, folders[0], first)
    if rule is None:
        rule = common_rule(folders, members)
    if options.trust.coverage is not None and rule.label_sets is None:
        raise UserError(
            "--label_sets: nothing was fitted to the average of these models; give the ensemble that training with "
            "--seeds wrote, or leave it out"
        )
    return EnsemblePredictor(
        first.model,
        first.tokenizer,
        first.max_length,
        options.batch_size,
        options.max_tokens_per_batch,
        labels=label_answers(folders[0], first.labels.taxonomy, rule, options.trust),
        members=tuple(members),
    )


def check_same_task(folder: Path, member: ClassPredictor, first_folder: Path, first: ClassPredictor) -> None:
    """Refuse to average two models that do not give the same labels to the same kind of items.

    Raises:
        UserError: they differ in the number of labels per text, in the label tree, or in what they read.
    """
    both = f"{folder} and {first_folder}"
    if type(member.labels) is not type(first.labels):
        raise UserError(f"--model: one of {both} gives one label per text and the other several")
    if member.labels.taxonomy != first.labels.taxonomy:
        raise UserError(
            f"--model: {folder} gives other labels than {first_folder} ({difference(member, first)}); models "
            "that are averaged need the same label tree"
        )
    if reason := unlike_items(reading_of(member), reading_of(first)):
        raise UserError(f"--model: {both} {reason}")


@dataclass(frozen=True)
class Reading:
    """What a model is given of a record; only models that are given the same can be averaged.

    Attributes:
        kind: see `Predictor.reads`.
        cleaning: see `Predictor.cleaning`.
        features: names of what stands in front of texts, in order.
    """

    kind: str
    cleaning: dict[str, Any] | None
    features: tuple[str, ...]


def reading_of(predictor: Predictor) -> Reading:
    """What a loaded model is given."""
    return Reading(predictor.reads, predictor.cleaning, tuple(feature.name for feature in predictor.features))


def saved_reading(folder: Path) -> Reading:
    """What a saved classifier will be given, told without its weights."""
    config = saved_config(folder)
    features = tuple(feature.name for feature in saved_features(config.platforms, config.features))
    return Reading("pair" if config.text_pairs else "text", config.cleaning, features)


def unlike_items(one: Reading, other: Reading) -> str | None:
    """Why two models cannot be given the same items, said of both of them; None where they can."""
    if one.kind != other.kind:
        return "do not read the same: one of them pairs of texts, the other single ones"
    if one.cleaning != other.cleaning:
        return "were trained on texts that were cleaned in different ways; give models of the same prepared data"
    if one.features != other.features:
        names = [", ".join(reading.features) or "nothing" for reading in (one, other)]
        return f"do not read the same in front of texts ({'; '.join(names)})"
    return None


def why_apart(folders: Sequence[Path]) -> str | None:
    """What keeps the saved classifiers of some runs from labelling new posts as one; None where nothing does.

    Args:
        folders: ``best`` of every run, there or not.
    """
    if without := [str(folder.parent) for folder in folders if not folder.is_dir()]:
        return f"{', '.join(without)} left no model that new posts could be labelled with"
    first = saved_reading(folders[0])
    for folder in folders[1:]:
        if reason := unlike_items(saved_reading(folder), first):
            return f"{folder.parent} and {folders[0].parent} {reason}"
    return None


def difference(one: ClassPredictor, other: ClassPredictor) -> str:
    """A label that only one of two models has, or that their trees differ."""
    differing = sorted(set(one.labels.taxonomy.leaves) ^ set(other.labels.taxonomy.leaves))
    return f"for instance {differing[0]!r}" if differing else "in another order, or another tree"


def common_rule(folders: Sequence[Path], members: Sequence[ClassPredictor]) -> Rule:
    """How the average decides where nothing was fitted to it: as its members do, if they need no fitted offsets.

    Raises:
        UserError: members decide in different ways, or by offsets that fit one model each.
    """
    rules = [member.labels.rule for member in members if isinstance(member.labels.rule, AnswerRule)]
    if len(rules) < len(members):
        raise UserError(
            f"--model: {folders[0]} decides every label by a threshold, fitted to that model alone; give the ensemble "
            "that training with --seeds wrote, which has thresholds for the average"
        )
    kinds = {rule.kind for rule in rules}
    if len(kinds) > 1:
        raise UserError(
            f"--model: the models decide in different ways ({', '.join(sorted(kinds))}); give models with the same "
            "decision"
        )
    kind = rules[0].kind
    if kind not in ("argmax", "expected_cost"):
        raise UserError(
            f"--model: {folders[0]} decides by {kind}, fitted to that model alone; give the ensemble that training "
            "with --seeds wrote, which has one for the average"
        )
    return AnswerRule(kind=kind, offsets=mean_offsets([rule.biases for rule in rules]) if kind == "argmax" else ())
