"""A trained classifier, tagger or scorer of pairs: what it is and took, and the folder it is saved in."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.methods import count_parameters
from opinionlm.data.contamination import plain_texts, save_seen_texts
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.inference.input_forms import save_input_forms
from opinionlm.inference.loading import load_predictor, predictor_of
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.saved_decision import keep_rule
from opinionlm.inference.speed import PrecisionChoice, choose_precision
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules
from opinionlm.reporting.model_card import model_card
from opinionlm.runs.adapt_results import adapt_parameters, tokens_per_text
from opinionlm.tasks.base import Decision, SplitResult
from opinionlm.tasks.head import HeadTask
from opinionlm.training.adapt_selection import Choice
from opinionlm.training.cost import train_flops
from opinionlm.training.engines import Engine
from opinionlm.training.fsdp import is_split
from opinionlm.training.spending import Spent, cost_facts
from opinionlm.training.splits import Split
from opinionlm.training.training_facts import training_facts
from opinionlm.utils.files import partial_folder, publish, write_text


@dataclass(frozen=True)
class Training:
    """What training took and gave, beside the model itself.

    Attributes:
        output: what the engine returned.
        spent: what it took.
        is_cached: whether training read stored states of frozen blocks.
        choice: of AdaPT.
    """

    output: TrainOutput
    spent: Spent
    is_cached: bool
    choice: Choice


def run_numbers(
    task: HeadTask[Any], engine: Engine, training: Training, splits: dict[str, Split], decision: Decision
) -> dict[str, Any]:
    """What a trained model is and what it took: the sections ``train``, ``model`` and ``cost`` of ``metrics.json``."""
    config, state, model, spent = task.config, engine.state, engine.model, training.spent
    train = training_facts(config.training, config.robust.ema_decay, state, engine.plan, training.output)
    copies = task.copies(splits["train"])
    flops = train_flops(
        model,
        config.method,
        tokens=state.num_input_tokens_seen,
        cached=training.is_cached,
        cached_tokens=spent.preparation.cache_train_tokens,
        recomputed=config.training.activation_checkpointing,
        # R-Drop computes every token twice.
        passes=2 if task.rdrop_alpha > 0 else 1,
    )
    cost = cost_facts(
        spent.preparation,
        spent.train_seconds,
        spent.evaluation_seconds,
        tokens=state.num_input_tokens_seen,
        train_flops=flops,
    )
    if train.get("epochs"):
        cost["train_tflops_per_epoch"] = flops / train["epochs"] / 1e12
    return {
        "train": train | ({"copies": copies} if copies else {}),
        "model": {
            **count_parameters(model),
            **({} if decision.interpolation is None else {"word_parameters": decision.interpolation.words.parameters}),
            "quantized_modules": len(quantized_modules(model)),
            **adapt_parameters(model, training.choice),
        },
        "cost": cost | tokens_per_text(model, splits["test"]),
    }


def save_best(
    model: OpinionClassifier,
    tokenizer: PreTrainedTokenizerBase,
    task: HeadTask[Any],
    decision: Decision,
    results: dict[str, SplitResult[Any]],
    numbers: dict[str, Any],
    validation: Dataset,
) -> PrecisionChoice:
    """Write ``best/``, all at once: weights, TF-IDF beside them, configuration with rule, tokenizer and model card.

    Args:
        model: the best one; it is used up.
        tokenizer: its own.
        task: what was learned.
        decision: fitted on validation.
        results: scores of each split, for the card.
        numbers: of training and cost, for the card.
        validation: prepared rows, on which the speed is measured.

    Returns:
        The precision that predict.py will compute in.
    """
    config, prepared, interpolation = task.config, task.prepared, decision.interpolation
    model.config.cleaning = prepared.cleaning
    if task.decision_facts(decision):
        keep_rule(model.config, decision.rule)
        model.config.word_share = 0.0 if interpolation is None else interpolation.share
    card = model_card(task, decision, numbers, {name: result.scores for name, result in results.items()})
    best = config.run_folder / "best"
    with partial_folder(best) as folder:
        model.save_pretrained(folder)
        if interpolation is not None and interpolation.share > 0:
            interpolation.words.save(folder)
        save_tokenizer(tokenizer, folder, config.data.max_length, pads_right=True)
        if is_split(model):
            # Its layers would still wait for those of the other processes.
            predictor = load_predictor(folder, PredictionOptions())
        else:
            predictor = predictor_of(model, tokenizer, folder, PredictionOptions())
        saved = copy.deepcopy(model.config)
        precision = choose_precision(predictor, validation)
        saved.precision = precision.precision
        saved.save_pretrained(folder)
        texts = plain_texts(prepared.dataset["train"], prepared.task)
        save_seen_texts(folder, config.model, texts)
        save_input_forms(folder, prepared, task.reads_pairs, [feature.name for feature in task.features])
        write_text(folder / "README.md", card)
        publish(folder, best, is_current=lambda: False)
    return precision
