"""A trainer that teaches a language model to write answers, and evaluates it by what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from datasets import Dataset as EncodedDataset
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from opinionlm.data.encoding.columns import IGNORED, flat_lists, numbers_of
from opinionlm.errors import UserError
from opinionlm.models.frozen_prefix import LanguagePrefix, PrefixStandIn
from opinionlm.models.generative import rounded_output_layer, supervised_logits
from opinionlm.models.quantization import quantized_modules
from opinionlm.training.losses.token import SupervisedCrossEntropy
from opinionlm.training.out_of_memory import in_parts
from opinionlm.training.prefix_cache import PrefixStates
from opinionlm.training.trainer import OpinionTrainer

# From a model and prompts to one prediction each, in their order.
Predict = Callable[[PreTrainedModel, Sequence[list[int]]], Sequence[Any]]


class InstructTexts(Dataset):
    """The examples of a split that can be learned from, in reading order.

    A negative index ``~i`` gives row ``i`` without an answer: a filler for a process that would get no text.

    Args:
        encoded: as `opinionlm.data.encoding.examples.encode_examples` returns it.
        class_weights: weight of an example by its ``label``, ``(classes,)``.
        names: of the examples, for messages, rows as in ``encoded``; by default their numbers.
    """

    def __init__(
        self, encoded: EncodedDataset, class_weights: torch.Tensor, names: Sequence[str] | None = None
    ) -> None:
        self.names = names
        self.states: PrefixStates | None = None
        self.prompts, self.prompt_starts = flat_lists(encoded, "prompt_ids")
        self.answers, self.answer_starts = flat_lists(encoded, "answer_ids")
        self.weights = class_weights.numpy()[numbers_of(encoded, "label")]
        # Of every answer: its row, and how many of its tokens are given. A row has one answer, or several questions.
        self.rows, self.given = np.arange(len(encoded)), np.zeros(len(encoded), dtype=int)
        if "answer_sizes" in encoded.column_names:
            sizes, starts = flat_lists(encoded, "answer_sizes")
            self.rows, self.given = self.rows.repeat(np.diff(starts)), flat_lists(encoded, "given")[0]
            self.answer_starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.learned = np.flatnonzero(np.diff(self.answer_starts) > 0)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of prompt and answer, in reading order."""
        return np.diff(self.prompt_starts)[self.rows[self.learned]] + np.diff(self.answer_starts)[self.learned]

    def __len__(self) -> int:
        return len(self.learned)

    def name_of(self, position: int) -> str:
        """What an example is called in messages."""
        row = int(self.rows[self.learned[position]])
        return str(row) if self.names is None else str(self.names[row])

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One example."""
        number = int(self.learned[position if position >= 0 else ~position])
        row, answer = self.rows[number], self.answers[self.answer_starts[number] : self.answer_starts[number + 1]]
        prompt = self.prompts[self.prompt_starts[row] : self.prompt_starts[row + 1]]
        if position < 0:
            answer = answer[:0]
        example: dict[str, Any] = {
            "prompt_ids": prompt,
            "answer_ids": answer,
            "given": int(self.given[number]),
            "weight": float(self.weights[row]),
        }
        if self.states is not None:
            states = self.states[position if position >= 0 else ~position]
            example["prefix_states"] = states[: len(prompt) + len(answer)]
        return example

    def as_encoded(self) -> EncodedDataset:
        """Prompts with their answers as texts ``input_ids``, with ``length``, in reading order; no label counts."""
        rows = [self[position] for position in range(len(self))]
        ids = [np.concatenate([row["prompt_ids"], row["answer_ids"]]) for row in rows]
        return EncodedDataset.from_dict(
            {"input_ids": ids, "length": self.lengths, "labels": np.full(len(self), IGNORED)}
        )

    def with_states(self, states: PrefixStates) -> InstructTexts:
        """The same examples with the stored states of frozen blocks, rows as in `as_encoded`."""
        copied = copy(self)
        copied.states = states
        return copied


@dataclass(frozen=True)
class InstructSplit:
    """What a model is evaluated by on a split.

    Attributes:
        prompts: token ids of every row's prompt, in the order of the split.
        learned: the rows with a usable answer, for the loss.
    """

    prompts: Sequence[list[int]]
    learned: InstructTexts


@dataclass(frozen=True)
class Outcome:
    """What a model makes of a split.

    Attributes:
        predictions: one per row, in the order of the split: whatever the trainer's ``predict`` returns.
        total_loss: sum over its answer tokens of weight times loss (nats).
        total_weight: sum over its answer tokens of their weights; without class weights the number of tokens.
    """

    predictions: list[Any]
    total_loss: float
    total_weight: float

    @property
    def loss(self) -> float:
        """Weighted mean loss per answer token over the whole split."""
        return self.total_loss / self.total_weight


class InstructTrainer(OpinionTrainer):
    """Trainer with the loss on answer tokens and evaluation by answers.

    The loss is sum_i w_i sum_t l_it / sum_i w_i T_i over the examples i of the whole optimizer step (all accumulated
    batches of all processes), w_i the weight of the example's class, T_i the number of its answer's tokens, end token
    included. Logits exist at those tokens only.

    Args:
        model: the language model, with or without PEFT.
        predict: the model's predictions for prompts, in their order; every process gets a share of them.
        score: scores of predictions of the validation split, given the loss on it.
        prefix: the model's frozen part, run without dropout, or not at all where examples carry its stored states.
        arguments: passed on to `OpinionTrainer`; ``eval_dataset`` is an `InstructSplit`.

    Raises:
        UserError: the weights are split over processes.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel | PeftModel,
        predict: Predict,
        score: Callable[[Outcome], dict[str, float]],
        prefix: LanguagePrefix | None = None,
        **arguments: Any,
    ) -> None:
        with accepted_by_trainer(model):
            super().__init__(model=model, loss=SupervisedCrossEntropy(), **arguments)
        if self.is_fsdp_enabled:
            raise UserError(
                "train_instruct.py: scoring answers needs whole weights on every process, and fsdp splits them up; "
                "launch it with configs/accelerate/ddp.yaml"
            )
        self.predict_answers = predict
        self.score = score
        self.prefix = prefix
        # A GPU rounds the weights of the output layer in no time, and has less memory for a second copy.
        rounds_slowly = self.args.bf16 and self.args.device.type == "cpu"
        layer = rounded_output_layer(model) if rounds_slowly else None
        self.rounded_output = nullcontext() if layer is None else layer

    def batch_weight(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum over examples of weight times number of answer tokens, a float32 scalar."""
        return (batch["weights"] * (batch["labels"] != IGNORED).sum(dim=1)).sum()

    def weighted_sum(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum over a batch's answer tokens of weight times loss, a float32 scalar."""
        texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with self.above_prefix(inputs.get("prefix_states")), self.rounded_output:
            found = supervised_logits(model, self.model, texts, inputs["labels"])
        return self.loss(found.logits, found.targets, found.rows, inputs["weights"])

    @contextmanager
    def above_prefix(self, states: torch.Tensor | None) -> Iterator[None]:
        """Within it stored states ``(batch, length, hidden)``, if given, stand in for the frozen blocks."""
        if self.prefix is None:
            yield
        elif states is None:
            self.prefix.switch_off_dropout()
            yield
        else:
            with PrefixStandIn(self.prefix) as stand_in:
                stand_in.hand_out(states)
                yield

    def evaluate(
        self,
        eval_dataset: InstructSplit | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Loss and scores of the validation split, logged and told to the callbacks."""
        outcome = self.outcome(self.eval_dataset if eval_dataset is None else eval_dataset, self.predict_answers)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.score(outcome).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def outcome(self, split: InstructSplit, predict: Predict) -> Outcome:
        """Predictions and loss of a split; every process works on its share and gets the whole."""
        rank, processes = self.args.process_index, self.args.world_size
        was_training = self.model.training
        self.model.eval()
        mine = range(rank, len(split.prompts), processes)
        # The trainer's autocast is around the forward pass of the outermost module, which answers go past under PEFT.
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16), self.rounded_output:
            predictions = list(predict(self.model, [split.prompts[row] for row in mine]))
        numerator, denominator = self.loss_sums(split.learned)
        self.model.train(was_training)
        shares = gathered((predictions, numerator, denominator), processes)
        ordered: list[Any] = [None] * len(split.prompts)
        for number, (part, _, _) in enumerate(shares):
            ordered[number::processes] = part
        return Outcome(ordered, sum(share[1] for share in shares), sum(share[2] for share in shares))

    @torch.no_grad()
    def loss_sums(self, texts: InstructTexts) -> tuple[float, float]:
        """Weighted loss and weight of this process's share of a split, as float64 sums."""
        mine = np.arange(self.args.process_index, len(texts), self.args.world_size)
        longest_first = mine[np.argsort(-texts.lengths[mine], kind="stable")].tolist()
        size = self.args.per_device_eval_batch_size
        batches = [longest_first[start : start + size] for start in range(0, len(longest_first), size)]
        numerator = denominator = 0.0
        for batch in DataLoader(texts, batch_sampler=batches, collate_fn=self.data_collator):
            batch = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                # A sum of sums: cut for lack of memory it stays what it is.
                numerator += float(in_parts(lambda part: self.weighted_sum(self.model, part)[None], batch).sum())
            denominator += float(self.batch_weight(batch))
        return numerator, denominator


@contextmanager
def accepted_by_trainer(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Within it a 4-bit model does not say that it is one.

    Trainer refuses 4-bit models without adapters when it is made, although blocks that are not quantised can train.
    """
    if isinstance(model, PeftModel) or not quantized_modules(model):
        yield
        return
    model.is_quantized = False
    try:
        yield
    finally:
        model.is_quantized = True


def gathered(value: Any, processes: int) -> list[Any]:
    """The value of every process, in the order of their numbers."""
    if processes == 1:
        return [value]
    values: list[Any] = [None] * processes
    torch.distributed.all_gather_object(values, value)
    return values
