"""Predict with a saved language model: label scores, labels that it writes, or free answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from peft import PeftModel, PeftType, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from opinionlm.adaptation.merging import MERGEABLE, copy_beside, expand_quantized
from opinionlm.adaptation.methods import adapt_generative
from opinionlm.config.method_options import MethodConfig
from opinionlm.data.encoding.label_lists import ListEncoder
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.errors import UserError, one_line
from opinionlm.evaluation.generation import generate_answers, parse_label, parsed_lists
from opinionlm.evaluation.label_logits import label_logits, label_scores
from opinionlm.evaluation.multi_label_predictions import list_columns
from opinionlm.evaluation.prompt_calibration import CALIBRATIONS, CONTENT_FREE_TEXTS
from opinionlm.evaluation.written_predictions import list_cells
from opinionlm.inference.options import PredictionOptions, check_precision
from opinionlm.inference.predictors import Item, LabelAnswers, MultiLabelAnswers, Predictor, no_progress
from opinionlm.inference.saved_generative import SETTINGS, GenerativeSettings, read_settings, save_generative
from opinionlm.models.backbones import read_model_config
from opinionlm.models.generative import load_generative
from opinionlm.models.quantization import quantized_modules
from opinionlm.training.checkpoints import load_trained_weights
from opinionlm.utils.files import partial_folder, publish, require_new_folder

# Prompts between two reports of progress.
REPORTED = 256


@dataclass(frozen=True, kw_only=True)
class Answerer(Predictor):
    """A language model that is asked as in training.

    Attributes:
        encoder: of the prompts.
        settings: how answers are read.
        labels: how label scores become answers; None where the model writes its answers.
    """

    encoder: PromptEncoder
    settings: GenerativeSettings
    labels: LabelAnswers | MultiLabelAnswers | None

    @property
    def reads(self) -> Literal["text", "context"]:
        """What an item is; a context may be missing."""
        return "context" if self.encoder.template.shows_context else "text"

    @property
    def cleaning(self) -> dict[str, Any] | None:
        """See `Predictor`."""
        return self.settings.cleaning

    @property
    def columns(self) -> list[str]:
        """Those of a classifier for label scores; else the answer, and before it what label it is read as."""
        if self.labels is not None:
            return self.labels.columns
        taxonomy = self.settings.taxonomy
        if taxonomy is None:
            return ["answer"]
        if self.writes_lists:
            return [*list_columns(taxonomy), "answer"]
        return ["predicted", *[f"level{level}" for level in range(1, taxonomy.depth + 1)], "answer"]

    @property
    def writes_lists(self) -> bool:
        """Whether the model writes any number of labels."""
        return isinstance(self.encoder, ListEncoder)

    def json_value(self, column: str, cell: str) -> Any:
        """See `LabelAnswers`; what the model writes is text, and the labels read in it may be lists, null for none."""
        if self.labels is not None:
            return self.labels.json_value(column, cell)
        return (json.loads(cell) if cell else None) if self.writes_lists and column != "answer" else cell

    def answers(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> list[list[str]]:
        """See `Predictor`."""
        parts = [(item, "") if isinstance(item, str) else item for item in items]
        prompts = [self.encoder.prompt_ids(text, context) for text, context in parts]
        if self.labels is not None:
            return self.labels.cells(self.labels.rule.probabilities(self.logits(prompts, progress)))
        return list(self.answer_cells(self.written(prompts, progress)))

    def logits(self, prompts: list[list[int]], progress: Callable[[int], object]) -> np.ndarray:
        """What a temperature divides ``(rows, leaves)``."""
        if not prompts:
            return np.zeros((0, len(self.encoder.words)))
        scores = np.concatenate([self.scores(part) for part in reported(prompts, progress)])
        name, prior = self.settings.calibration, self.settings.label_prior
        if name not in CALIBRATIONS:
            raise UserError(f"--model: {SETTINGS} names the calibration {name!r}, which is not known here")
        return label_logits(scores, self.encoder, name, lambda: self.content_free_scores, prior)

    @cached_property
    def content_free_scores(self) -> np.ndarray:
        """What the model makes of texts that say nothing ``(texts, leaves)``."""
        return self.scores([self.encoder.prompt_ids(text) for text in CONTENT_FREE_TEXTS])

    def scores(self, prompts: list[list[int]]) -> np.ndarray:
        """See `label_scores`; equal prompts run once, since posts are copied a lot."""
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        normalisation = self.settings.score_normalisation
        return label_scores(self.model, list(places), self.encoder, normalisation, self.max_tokens_per_batch)[rows]

    def written(self, prompts: list[list[int]], progress: Callable[[int], object]) -> list[str]:
        """What the model writes behind each prompt."""
        longest = max(self.settings.max_answer_length, self.encoder.room)
        return [
            answer
            for part in reported(prompts, progress)
            for answer in generate_answers(
                self.model,
                self.encoder,
                part,
                longest,
                self.settings.num_beams,
                self.max_tokens_per_batch,
            )
        ]

    def answer_cells(self, answers: list[str]) -> Iterator[list[str]]:
        """The answer, and before it label and levels where labels are written; blank for an answer that is none."""
        taxonomy = self.settings.taxonomy
        if taxonomy is not None and self.writes_lists:
            yield from list_cells(*parsed_lists(answers, self.encoder.words), answers, taxonomy)
            return
        for answer in answers:
            if taxonomy is None:
                yield [answer]
                continue
            leaf = parse_label(answer, self.encoder.words)
            yield [*([""] * (1 + taxonomy.depth) if leaf is None else taxonomy.names_of(leaf)), answer]


def reported(prompts: list[list[int]], progress: Callable[[int], object]) -> Iterator[list[list[int]]]:
    """Parts of the prompts; each is reported when the next one is asked for."""
    for start in range(0, len(prompts), REPORTED):
        part = prompts[start : start + REPORTED]
        yield part
        progress(len(part))


def is_generative(folder: Path) -> bool:
    """Whether a folder holds a language model that train_instruct.py saved."""
    return (folder / SETTINGS).is_file()


def load_answerer(
    folder: Path, labels: LabelAnswers | MultiLabelAnswers | None, options: PredictionOptions, expand: bool = False
) -> Answerer:
    """Load a language model that `train_instruct.py` saved, with its adapter where it has one.

    Args:
        folder: ``outputs/<run>/best``.
        labels: how label scores become answers; None where the model writes its answers.
        options: how it computes; ``auto`` is the precision of the weights, of an adapter that of its base model in
            training, and batches stay below ``batch_size`` times ``max_length`` tokens.
        expand: give an adapter's base model plain weights in the place of those in 4 bits, to be merged into.

    Raises:
        UserError: parts of the folder or the adapter's base model are missing or damaged, or there is no GPU.
    """
    device = options.torch_device()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    settings = read_settings(folder)
    saved_as = settings.model_options(folder, options.precision)
    model_config = read_model_config(saved_as)
    check_precision(folder, model_config, options.precision)
    base = load_generative(saved_as, 0, model_config)
    if expand:
        expand_base(base)
    model = with_adapter(base, folder, settings)
    encoder = settings.encoder(load_tokenizer(saved_as), model_config.is_encoder_decoder)
    generation = model.generation_config
    generation.pad_token_id = encoder.tokenizer.pad_token_id
    generation.eos_token_id = sorted({encoder.tokenizer.eos_token_id, *encoder.end_ids})
    return Answerer(
        model.to(device).eval(),
        encoder.tokenizer,
        settings.max_length,
        max_tokens_per_batch=min(options.max_tokens_per_batch, options.batch_size * settings.max_length),
        encoder=encoder,
        settings=settings,
        labels=labels,
    )


def with_adapter(base: PreTrainedModel, folder: Path, settings: GenerativeSettings) -> PreTrainedModel | PeftModel:
    """A base model with the adapter that a folder holds; a whole model as it is.

    Raises:
        UserError: the adapter does not fit.
    """
    if settings.bottleneck is None and settings.base_model is None:
        return base
    try:
        if settings.bottleneck is None:
            loaded = PeftModel.from_pretrained(base, folder)
            require_whole_adapter(loaded, folder)
            return loaded
        placement, width = settings.bottleneck
        adapted = adapt_generative(base, MethodConfig(adaptation=placement, adapter_size=width))
        load_trained_weights(adapted, folder)
        return adapted
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UserError) as error:
        raise UserError(
            f"--model: the adapter in {folder} does not fit its base model '{settings.base_model}' "
            f"({one_line(error)}); copy the folder anew, or put the base model back where it was"
        ) from error


def require_whole_adapter(model: PeftModel, folder: Path) -> None:
    """Whether a folder held all that an adapter consists of; PEFT leaves what is missing as it was drawn.

    Raises:
        ValueError: something is missing.
    """
    with safe_open(folder / SAFETENSORS_WEIGHTS_NAME, "pt") as file:
        missing = set(get_peft_model_state_dict(model, save_embedding_layers=False)) - set(file.keys())
    if missing:
        raise ValueError(f"no {min(missing)} in it")


def expand_base(model: PreTrainedModel) -> None:
    """Plain weights in the place of those in 4 bits; nothing to do where there are none."""
    if quantized_modules(model):
        expand_quantized(model, model.dtype)
        del model.config.quantization_config


def merge_generative_folder(source: Path, target: Path) -> None:
    """Merge the adapter of a saved language model into its weights and write it, settings included, to another folder.

    Args:
        source: ``best/`` of a run of train_instruct.py.
        target: must not exist yet.

    Raises:
        UserError: the target exists, there is no adapter, or it is one that is no change of weights.
    """
    require_new_folder(target)
    settings = read_settings(source)
    if settings.base_model is None:
        raise UserError("--merge: the model has no adapter; it can be used as it is")
    answerer = load_answerer(source, None, PredictionOptions("cpu"), expand=True)
    model = answerer.model
    bottleneck = settings.bottleneck
    kind = model.active_peft_config.peft_type if bottleneck is None else f"{bottleneck[0]} adapter"
    if kind not in (PeftType.LORA, PeftType.ADALORA, PeftType.IA3):
        raise UserError(
            f"--merge: {str(kind).removeprefix('PeftType.')} adds layers or tokens, which no weights can stand for; "
            f"only {', '.join(MERGEABLE)} can be merged"
        )
    merged = replace(settings, base_model=None, base_options=None)
    with partial_folder(target) as folder:
        save_generative(folder, model.merge_and_unload(), answerer.tokenizer, merged)
        copy_beside(source, folder)
        publish(folder, target, is_current=lambda: False)
