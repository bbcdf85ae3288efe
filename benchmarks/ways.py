"""Three ways of training the same classifier on the same texts, each timed from loading the model to final logits.

- ``faithful``: the opinion paper's way. Every text is padded to the maximum length and every block runs every time.
- ``plain``: what most people write: the stock `transformers.Trainer`, random batches of a fixed size, padded to the
  longest text of the batch by the stock collator.
- ``ours``: the frozen blocks' output from the cache, batches of similar length under a token budget. The budget is
  the one that gives as many batches, and so as many optimizer steps, as ``plain`` has.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    Gemma3TextConfig,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from opinionlm.config.config import Config
from opinionlm.config.options import DataConfig, ModelConfig
from opinionlm.data.encoding.collators import collator_for
from opinionlm.data.encoding.columns import longest_first, numbers_of, subset
from opinionlm.data.encoding.texts import encode_texts
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.metrics import all_scores
from opinionlm.models.backbones import new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.frozen_prefix import PrefixStandIn
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.training.arguments import training_arguments
from opinionlm.training.batching import BatchPlan, EncodedTexts, batch_plan
from opinionlm.training.losses.base import WeightedCrossEntropy
from opinionlm.training.prefix_cache_building import cached_splits
from opinionlm.training.splits import Split
from opinionlm.training.trainer import OpinionTrainer

Way = Literal["faithful", "plain", "ours"]

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "models" / "gemma3-mini"
BATCH_SIZE = 16
SEED = 11


@dataclass(frozen=True)
class Workload:
    """A model and the texts it is trained on.

    Attributes:
        name: of the model, for the rows.
        model: directory with configuration, weights and tokenizer.
        splits: ``train`` and ``validation``, encoded.
        max_length: longer texts are cut off; the faithful way pads to it.
        tokenizer: of the model.
        taxonomy: the label tree.
        dtype: of the parameters.
        load_in_4bit: frozen blocks in NF4.
        device: ``cpu`` or ``cuda``.
    """

    name: str
    model: Path
    splits: dict[str, Split]
    max_length: int
    tokenizer: PreTrainedTokenizerBase
    taxonomy: Taxonomy
    dtype: str = "float32"
    load_in_4bit: bool = False
    device: str = "cpu"

    def task(self, config: Config) -> SequenceTask:
        """The task of these texts under a config."""
        texts = {name: split.texts for name, split in self.splits.items()}
        return SequenceTask(PreparedDataset(texts, self.taxonomy, self.name, "0" * 64, self.model), config)

    def tokens(self, epochs: int) -> int:
        """Tokens without padding that a run of so many epochs trains on and evaluates."""
        return epochs * sum(int(numbers_of(split.encoded, "length").sum()) for split in self.splits.values())


@dataclass(frozen=True)
class Outcome:
    """What a run took and where it ended.

    Attributes:
        seconds: from loading the model to the last evaluation, the building of a cache included.
        steps: optimizer steps.
        macro_f1: on validation, after the last epoch.
        logits: ``(validation texts, labels)`` after the last epoch, in the order of the texts.
    """

    seconds: float
    steps: int
    macro_f1: float
    logits: np.ndarray


def small_gemma(vocabulary: int) -> Gemma3TextConfig:
    """A Gemma 3 of 26 blocks, as deep as the one of 1B and narrow enough for two cores."""
    return narrow_gemma(vocabulary, blocks=26, hidden=64)


def gemma_1b() -> Gemma3TextConfig:
    """The shape of google/gemma-3-1b-pt: 999,885,952 parameters."""
    return Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=1152,
        intermediate_size=6912,
        num_hidden_layers=26,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=512,
        max_position_embeddings=32_768,
        layer_types=layer_types(26),
    )


def narrow_gemma(vocabulary: int, blocks: int, hidden: int) -> Gemma3TextConfig:
    """A Gemma 3 of few narrow blocks: what matters is the size of its vocabulary."""
    return Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=128,
        max_position_embeddings=2048,
        layer_types=layer_types(blocks),
    )


def layer_types(blocks: int) -> list[str]:
    """Gemma 3's pattern: five sliding blocks, then one that sees everything."""
    return ["full_attention" if (block + 1) % 6 == 0 else "sliding_attention" for block in range(blocks)]


def write_random_model(config: Gemma3TextConfig, folder: Path, dtype: torch.dtype, device: str) -> Path:
    """Write a model with random weights and the bundled tokenizer, to be loaded like any other (4-bit included)."""
    set_seed(SEED)
    with torch.device(device):
        backbone = new_backbone(config, dtype)
    backbone.save_pretrained(folder)
    load_tokenizer(ModelConfig(model_name_or_path=str(TOKENIZER))).save_pretrained(folder)
    return folder


def load_posts(data_dir: Path, prepared_dir: Path) -> PreparedDataset:
    """CryptoQA's posts where they are, else the bundled sample posts."""
    real = (data_dir / "cryptoqa-opinion").is_dir()
    dataset = ROOT / "configs" / "datasets" / ("cryptoqa_tidy.yaml" if real else "sample.yaml")
    return prepare_or_load(str(dataset), data_dir if real else ROOT / "data", prepared_dir)


def encode(
    posts: PreparedDataset, tokenizer: PreTrainedTokenizerBase, train_texts: int, eval_texts: int, max_length: int
) -> dict[str, Split]:
    """Random posts of two splits, so with the real distribution of lengths, as token ids."""
    splits = {}
    for name, size in (("train", train_texts), ("validation", eval_texts)):
        texts = subset(posts.dataset[name], size, SEED)
        encoded = encode_texts(texts, tokenizer, max_length)
        splits[name] = Split(texts, encoded, np.arange(len(encoded)))
    return splits


def settings(work: Workload, way: Way, epochs: int, seed: int, cache: Path | None, scratch: Path) -> Config:
    """The options of one run, as a YAML for train_classifier.py would hold them."""
    config = Config(source="the benchmark")
    config.data.max_length = work.max_length
    config.data.pad_to_max = way == "faithful"
    config.model.model_name_or_path = str(work.model)
    config.model.dtype, config.model.load_in_4bit = work.dtype, work.load_in_4bit
    config.model.pooling = "mean"
    config.method.adaptation, config.method.trainable_blocks = "top_blocks", 1
    config.method.class_weights = "none"
    config.method.cache_frozen = "off" if cache is None else "on"
    config.method.cache_dir = str(cache)
    training = config.training
    training.output_dir, training.run_name, training.seed = str(scratch), way, seed
    training.learning_rate, training.num_train_epochs = 1e-3, epochs
    training.per_device_train_batch_size, training.per_device_eval_batch_size = BATCH_SIZE, 4 * BATCH_SIZE
    training.use_cpu = work.device == "cpu"
    # Nobody saves: the disk is not what is compared.
    training.extra = {"save_strategy": "no", "load_best_model_at_end": False}
    if way == "plain":
        # The stock Trainer's default; the count costs it a little, and ours would be favoured.
        training.extra["include_num_input_tokens_seen"] = "no"
    if way == "ours":
        config.data.max_tokens_per_batch = matching_budget(work.splits["train"].encoded, seed)
    return config


def matching_budget(encoded: Dataset, seed: int) -> int:
    """The smallest budget, in steps of 32 tokens, under which there are as few batches as fixed-size ones."""
    lengths = numbers_of(encoded, "length")
    wanted = math.ceil(len(lengths) / BATCH_SIZE)
    budget = int(lengths.mean()) * BATCH_SIZE // 32 * 32
    while len(BatchPlan(lengths, BATCH_SIZE, DataConfig(max_tokens_per_batch=budget), seed, epochs=1)) > wanted:
        budget += 32
    return budget


def run(
    work: Workload,
    way: Way,
    epochs: int,
    scratch: Path,
    seed: int = SEED,
    cache: Path | None = None,
    trainer_class: Callable[..., OpinionTrainer] = OpinionTrainer,
) -> Outcome:
    """Train and evaluate in one of the ways, with an evaluation after every epoch.

    Args:
        work: model and texts.
        way: which way.
        epochs: passes over the training texts.
        scratch: folder for what a trainer writes.
        seed: of the head's weights, the order and the dropout.
        cache: where the frozen blocks' output is kept; None runs every block every time.
        trainer_class: for ``ours`` and ``faithful``; another one may measure more.
    """
    config = settings(work, way, epochs, seed, cache, scratch)
    arguments = training_arguments(config.training, config.source)
    metrics = KeepLogits(work.taxonomy)
    started = time.perf_counter()
    set_seed(seed)
    model = work.task(config).build_model(len(work.tokenizer))
    if way == "plain":
        trainer = plain_trainer(work, model, arguments, metrics)
        trainer.train()
        order = work.splits["validation"].order
    else:
        trainer, order = train_ours(work, model, config, arguments, metrics, trainer_class)
    seconds = time.perf_counter() - started
    last = [entry for entry in trainer.state.log_history if "eval_macro_f1" in entry][-1]
    logits = np.empty_like(metrics.logits)
    logits[order] = metrics.logits
    return Outcome(seconds, trainer.state.global_step, float(last["eval_macro_f1"]), logits)


class KeepLogits:
    """A metric function that keeps what it was last called with, so that no further pass is needed."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.logits = np.empty(0)

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Scores of an evaluation."""
        self.logits = prediction.predictions
        return all_scores(prediction.label_ids, self.logits, self.taxonomy, np.ones(len(self.taxonomy.leaves)))


def plain_trainer(
    work: Workload, model: OpinionClassifier, arguments: TrainingArguments, metrics: KeepLogits
) -> Trainer:
    """The stock trainer, collator and order of batches."""
    texts = {name: split.encoded.select_columns(["input_ids", "labels"]) for name, split in work.splits.items()}
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=texts["train"],
        eval_dataset=texts["validation"],
        data_collator=DataCollatorWithPadding(work.tokenizer),
        compute_metrics=metrics,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def train_ours(
    work: Workload,
    model: OpinionClassifier,
    config: Config,
    arguments: TrainingArguments,
    metrics: KeepLogits,
    trainer_class: Callable[..., OpinionTrainer],
) -> tuple[OpinionTrainer, np.ndarray]:
    """Train as train_classifier.py does; returns the trainer and the order in which it read validation."""
    encoded = {name: split.encoded for name, split in work.splits.items()}
    with redirect_stdout(io.StringIO()):
        states = cached_splits(model, encoded, config.method, arguments, work.tokenizer.pad_token_id)
    order = longest_first(encoded["validation"])
    train = work.splits["train"].reader(None if states is None else states["train"])
    validation = EncodedTexts(encoded["validation"], order, None if states is None else states["validation"])
    with nullcontext() if states is None else PrefixStandIn(model):
        trainer = trainer_class(
            model=model,
            args=arguments,
            loss=WeightedCrossEntropy(torch.ones(len(work.taxonomy.leaves))),
            plan=batch_plan(train, config.data, config.training, arguments),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=collator_for(config.data, work.tokenizer),
            compute_metrics=metrics,
        )
        trainer.train()
    return trainer, order
