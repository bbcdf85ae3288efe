"""Training and evaluating a language model on plain texts: masked words of encoders, next words of decoders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from opinionlm.config.config import Config
from opinionlm.config.options import BackboneConfig, DatasetConfig
from opinionlm.config.training_options import TrainingConfig
from opinionlm.data.contamination import plain_texts
from opinionlm.data.encoding.columns import IGNORED, subset
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.evaluation import generation_metrics
from opinionlm.models.generative import gathered
from opinionlm.training.arguments import training_arguments
from opinionlm.training.batching import batch_plan
from opinionlm.training.losses.token import SupervisedCrossEntropy, TokenCrossEntropy
from opinionlm.training.trainer import OpinionTrainer

# The same texts are masked in the same places before and after, whatever the seed of the training.
MASKING_SEED = 20_240


def training_texts(
    prepared: PreparedDataset, data: DatasetConfig, held_out_share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Texts to train on and texts held out of them, both from the training split; no other split is read.

    Raises:
        UserError: data that hold no texts of this kind, or too few.
    """
    rows = subset(prepared.dataset["train"], data.max_train_samples, seed)
    texts = plain_texts(rows, prepared.task)
    # Equal texts on both sides would flatter the perplexity.
    texts = list(dict.fromkeys(texts))
    count = max(1, round(held_out_share * len(texts)))
    if len(texts) < 2:
        raise UserError(f"{data.dataset}: {len(texts)} texts in the training split; two are the least")
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    held_out = set(order[:count])
    return (
        [text for row, text in enumerate(texts) if row not in held_out],
        [text for row, text in enumerate(texts) if row in held_out],
    )


def require_mask(tokenizer: PreTrainedTokenizerBase, backbone: BackboneConfig) -> None:
    """An encoder is shown a mask where a word is to be filled in.

    Raises:
        UserError: the tokenizer has none.
    """
    if tokenizer.mask_token is None:
        name = backbone.tokenizer_name_or_path or backbone.model_name_or_path
        raise UserError(
            f"tokenizer_name_or_path: '{name}' has no mask token, so no word can be masked; give the tokenizer that "
            "the model was pretrained with"
        )


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[list[int]]:
    """Token ids of texts, special tokens included, cut to a length. A text of one token teaches nothing: left out."""
    ids = tokenizer(texts, truncation=True, max_length=max_length, verbose=False)["input_ids"]
    return [row for row in ids if len(row) > 1]


class TokenRows(torch.utils.data.Dataset):
    """Encoded texts as the collator of transformers takes them; ``~i`` is a filler, see `BatchPlan`."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.lengths = np.array([len(row) for row in rows])

    def __len__(self) -> int:
        return len(self.rows)

    def name_of(self, position: int) -> str:
        """What a text is called in messages: its number."""
        return str(position)

    def __getitem__(self, position: int) -> dict[str, list[int]]:
        # A first token has no label: a decoder has nothing to predict it from, an encoder's is never masked.
        return {"input_ids": self.rows[position] if position >= 0 else self.rows[~position][:1]}


class TextCollator(DataCollatorForLanguageModeling):
    """That of transformers, with no label at the first token."""

    def torch_call(self, examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``, each ``(batch, length)`` int64."""
        batch = super().torch_call(examples)
        batch["labels"][:, 0] = IGNORED
        return batch


def collator(tokenizer: PreTrainedTokenizerBase, masked: float | None, seed: int | None = None) -> TextCollator:
    """Masks words (80 % mask, 10 % another word, 10 % the word itself; Devlin et al. 2019), or asks for all of them.

    Args:
        tokenizer: pads on the right.
        masked: the share of tokens that are masked; None for the next word of all.
        seed: of the masking; None draws from torch's own randomness, which checkpoints keep.
    """
    return TextCollator(tokenizer, mlm=masked is not None, mlm_probability=masked, seed=seed)


def summed_loss(
    model: nn.Module, base: PreTrainedModel, batch: dict[str, torch.Tensor], masks: bool
) -> tuple[torch.Tensor, int]:
    """Sum of the losses of a batch's labelled tokens (nats, a float32 scalar), and their number.

    The output layer sees the labelled positions only: of masked words every seventh, of a vocabulary of thousands.

    Args:
        model: what is called: ``base``, or ``base`` wrapped for several processes.
        base: the language model itself.
        batch: from `TextCollator`.
        masks: whether a position's logits are about itself or about the next one.
    """
    wanted = batch["labels"] if masks else batch["labels"][:, 1:]
    rows, positions = (wanted != IGNORED).nonzero(as_tuple=True)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with gathered(base, rows, positions, batch["labels"].shape[1]):
        logits = model(**inputs).logits
    return TokenCrossEntropy.apply(logits, wanted[rows, positions]).sum(), len(rows)


class TextTrainer(OpinionTrainer):
    """Trainer over plain texts: the loss is the mean over the labelled tokens of the whole optimizer step."""

    def __init__(self, *, masks: bool, **arguments: Any) -> None:
        super().__init__(loss=SupervisedCrossEntropy(), **arguments)
        self.masks = masks

    def batch_weight(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Number of labelled tokens, a float32 scalar."""
        return (batch["labels"] != IGNORED).sum().float()

    def weighted_sum(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum over a batch's labelled tokens of their losses, a float32 scalar."""
        return summed_loss(model, self.model, inputs, self.masks)[0]


def text_trainer(
    model: PreTrainedModel,
    arguments: TrainingArguments,
    rows: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    masked: float | None,
    callbacks: list[TrainerCallback],
) -> TextTrainer:
    """A trainer over token ids, in batches of so many texts, or of so many tokens and similar length."""
    texts = TokenRows(rows)
    return TextTrainer(
        masks=masked is not None,
        model=model,
        args=arguments,
        plan=batch_plan(texts, config.data, config.training, arguments),
        train_dataset=texts,
        data_collator=collator(tokenizer, masked),
        callbacks=callbacks,
    )


def pretraining_arguments(training: TrainingConfig, source: str) -> TrainingArguments:
    """The trainer's arguments: a checkpoint per epoch, nothing evaluated on the way, the last weights kept.

    Raises:
        UserError: a value that TrainingArguments refuses.
    """
    arguments = training_arguments(training, source)
    arguments.load_best_model_at_end, arguments.metric_for_best_model = False, None
    arguments.eval_strategy, arguments.do_eval = type(arguments.eval_strategy)("no"), False
    return arguments


@torch.no_grad()
def perplexity(
    model: PreTrainedModel,
    rows: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    arguments: TrainingArguments,
    masked: float | None,
) -> float:
    """Exponential of the mean loss over the labelled tokens of some texts; of masked words it is a pseudo-perplexity.

    Padding is no token, and the masked places are the same at every call.

    Raises:
        UserError: no token is masked, or is there to be written.
    """
    collate = collator(tokenizer, masked, MASKING_SEED)
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for chosen in batches(rows, arguments.per_device_eval_batch_size):
        batch = {name: tensor.to(model.device) for name, tensor in collate(chosen).items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=arguments.bf16):
            loss, tokens = summed_loss(model, model, batch, masked is not None)
        total, count = total + loss.item(), count + tokens
    model.train(was_training)
    return generation_metrics.perplexity(total, count)


def batches(rows: list[list[int]], size: int) -> Iterator[list[dict[str, list[int]]]]:
    """Rows in batches, longest first: little padding."""
    order = sorted(rows, key=len, reverse=True)
    for start in range(0, len(order), size):
        yield [{"input_ids": row} for row in order[start : start + size]]
