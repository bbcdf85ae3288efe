"""Which texts make up which batch, decided the same way on every machine and for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from datasets import ClassLabel, Value
from datasets import Dataset as EncodedDataset
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainingArguments

from opinionlm.config.options import DataConfig
from opinionlm.config.training_options import TrainingConfig
from opinionlm.data.encoding.columns import IGNORED, flat_lists, numbers_of
from opinionlm.errors import UserError, one_line
from opinionlm.training.prefix_cache import PrefixStates

# Batches of similar length are cut from a random pool of this many batches, so that batches still differ by epoch.
POOL_BATCHES = 50


class EncodedTexts(Dataset):
    """Encoded texts in a fixed reading order, with the stored states of the frozen prefix where there are some.

    A negative index ``~i`` gives row ``i`` with an ignored label: a filler for a process that would get no text.

    Args:
        encoded: columns ``input_ids``, ``labels`` (ids, scores, a list of ids with one per token, or a vector of
            numbers, of one length for all texts), ``length`` and, of pairs, ``token_type_ids``; of texts in chunks
            ``chunks``, the lengths of theirs.
        order: reading order; position ``p`` is row ``order[p]``.
        states: stored states, rows as in ``encoded``.
        names: of the texts, for messages, rows as in ``encoded``; by default their numbers.
        targets: float32 ``(rows, classes)``, which stand for the labels; a filler's is all nan.
    """

    def __init__(
        self,
        encoded: EncodedDataset,
        order: np.ndarray,
        states: PrefixStates | None = None,
        names: Sequence[str] | None = None,
        targets: np.ndarray | None = None,
    ) -> None:
        self.ids, self.offsets = flat_lists(encoded)
        feature = encoded.features["labels"]
        is_list = not isinstance(feature, Value | ClassLabel)
        self.labels = flat_lists(encoded, "labels")[0] if is_list else numbers_of(encoded, "labels")
        # One label per token lies at the same offsets as the ids; a text's vector is a row of a matrix.
        self.per_token = is_list and self.labels.dtype.kind != "f"
        if is_list and not self.per_token:
            self.labels = self.labels.reshape(len(encoded), -1)
        self.segments = flat_lists(encoded, "token_type_ids")[0] if "token_type_ids" in encoded.features else None
        self.chunks = flat_lists(encoded, "chunks") if "chunks" in encoded.features else None
        self.token_counts = numbers_of(encoded, "length")
        self.order = order
        self.states = states
        self.names = names
        self.targets = targets

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, in reading order."""
        return self.token_counts[self.order]

    def __len__(self) -> int:
        return len(self.order)

    def name_of(self, position: int) -> str:
        """What a text is called in messages."""
        row = int(self.order[position])
        return str(row) if self.names is None else str(self.names[row])

    def _label(self, number: int, place: slice) -> int | float | np.ndarray:
        """The label of a row, whose tokens lie at this place."""
        if self.targets is not None:
            return self.targets[number]
        if self.per_token:
            return self.labels[place]
        return self.labels[number].item() if self.labels.ndim == 1 else self.labels[number]

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One text."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """A batch of texts, read at once."""
        rows = []
        for position in positions:
            number = int(self.order[position if position >= 0 else ~position])
            place = slice(self.offsets[number], self.offsets[number + 1])
            label = self._label(number, place)
            row: dict[str, Any] = {
                "input_ids": self.ids[place],
                "labels": label if position >= 0 else ignored_label(label),
            }
            if self.segments is not None:
                row["token_type_ids"] = self.segments[place]
            if self.chunks is not None:
                lengths, starts = self.chunks
                row["chunks"] = lengths[starts[number] : starts[number + 1]].tolist()
            if self.states is not None:
                row["prefix_states"] = self.states[number]
            rows.append(row)
        return rows


def ignored_label(label: int | float | np.ndarray) -> int | float | np.ndarray:
    """The label of the same kind that no loss counts: -100 for ids, nan for a score or a vector of them."""
    match label:
        case np.ndarray() if label.dtype.kind == "f":
            return np.full_like(label, np.nan)
        case float():
            return float("nan")
        case int():
            return IGNORED
        case _:
            return np.full_like(label, IGNORED)


class BatchPlan(Sampler[list[int]]):
    """The batches of every epoch, for one of several processes.

    Every text is in exactly one batch of an epoch, over all processes together, and every process gets the same
    number of batches; where texts run out, a process gets a filler (see `EncodedTexts`). The order depends on the
    seed and the epoch alone, drawn with numpy's PCG64, which is the same on every machine.

    Args:
        lengths: tokens per text.
        batch_size: texts per process and batch.
        data: budget of a batch and process, padding included, which replaces ``batch_size`` and groups by length;
            whether texts of similar length come together; a new order in ``every_epoch``, or ``once`` for all.
        seed: of the order.
        epochs: epochs that will be run; with a token budget all of them get the same number of batches.
        rank: number of this process.
        processes: number of processes.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        data: DataConfig,
        seed: int,
        epochs: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.lengths, self.batch_size, self.max_tokens = lengths, batch_size, data.max_tokens_per_batch
        self.by_length, self.shuffle = data.group_by_length, data.shuffle
        self.seed, self.rank, self.processes = seed, rank, processes
        self.epoch = 0
        planned = [len(self.cut(epoch)) for epoch in range(epochs if self.max_tokens else 1)]
        # Trainer needs one number of batches for all epochs; the largest, to which the other epochs are split up.
        self.size = max(planned)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is iterated next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def cut(self, epoch: int) -> list[np.ndarray]:
        """Batches over all processes together, as positions of texts; each is shared out among the processes."""
        draw = np.random.default_rng([self.seed, 0 if self.shuffle == "once" else epoch])
        order = draw.permutation(len(self.lengths))
        width = self.batch_size * self.processes
        if not (self.by_length or self.max_tokens):
            return [order[start : start + width] for start in range(0, len(order), width)]
        pool = self.pool_size(width)
        batches: list[np.ndarray] = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            if self.max_tokens:
                batches += self.cut_by_tokens(part, self.max_tokens)
            else:
                batches += np.split(part, range(width, len(part), width))
        return [batches[index] for index in draw.permutation(len(batches))]

    def pool_size(self, width: int) -> int:
        """Texts from which batches of similar length are cut."""
        if not self.max_tokens:
            return POOL_BATCHES * width
        per_batch = max(1, int(self.max_tokens / max(float(self.lengths.mean()), 1.0)))
        return POOL_BATCHES * per_batch * self.processes

    def cut_by_tokens(self, part: np.ndarray, budget: int) -> list[np.ndarray]:
        """Cut texts, longest first, so that no process's share exceeds the budget; a longer text stands alone."""
        batches, start = [], 0
        while start < len(part):
            per_process = max(1, budget // int(self.lengths[part[start]]))
            batches.append(part[start : start + per_process * self.processes])
            start += per_process * self.processes
        return batches

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch over all processes together, as many as every epoch has."""
        batches = self.cut(epoch)
        while len(batches) < self.size:
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            if len(batches[largest]) == 1:
                batches.append(batches[largest][:0])
                continue
            half = len(batches[largest]) // 2
            batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
        return batches

    def batches_of(self, step: int, accumulation: int) -> list[np.ndarray]:
        """The batches of an optimizer step, the first being 0, over all processes together."""
        epoch, place = divmod(step, math.ceil(len(self) / accumulation))
        return self.batches(epoch)[place * accumulation : (place + 1) * accumulation]

    def texts_read(self, steps: int, accumulation: int) -> int:
        """Texts that the first optimizer steps read, over all processes; an epoch's last step takes what is left."""
        epochs, more = divmod(steps, math.ceil(len(self) / accumulation))
        begun = sum(len(batch) for batch in self.batches(epochs)[: more * accumulation]) if more else 0
        return epochs * len(self.lengths) + begun

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches(self.epoch):
            mine = batch[self.rank :: self.processes].tolist()
            yield mine if mine else [~0]


class EpochDataLoader(DataLoader):
    """A data loader that hands the epoch on to its plan, which Trainer tells it."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is iterated next."""
        self.batch_sampler.set_epoch(epoch)


@contextmanager
def workers_watched() -> Iterator[None]:
    """Within it the death of a process that prepares batches is told in one line; torch notices it within seconds.

    Raises:
        UserError: such a process died.
    """
    try:
        yield
    except RuntimeError as error:
        # torch raises a plain RuntimeError (torch/utils/data/_utils/signal_handling.py and dataloader.py).
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"dataloader_num_workers: a process that prepares batches died ({one_line(error)}); give the same command "
            "again to go on from the last checkpoint, with dataloader_num_workers: 0 if memory was short"
        ) from error


class HasLengths(Protocol):
    """Texts whose batches can be planned."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, in reading order."""


def batch_plan(
    texts: HasLengths, data: DataConfig, training: TrainingConfig, arguments: TrainingArguments
) -> BatchPlan:
    """The training batches of every epoch that the options ask for, for this process."""

    def plan(epochs: int) -> BatchPlan:
        return BatchPlan(
            lengths=texts.lengths,
            batch_size=training.per_device_train_batch_size,
            data=data,
            seed=training.seed if arguments.data_seed is None else arguments.data_seed,
            epochs=epochs,
            rank=arguments.process_index,
            processes=arguments.world_size,
        )

    if training.max_steps <= 0:
        return plan(max(1, math.ceil(training.num_train_epochs)))
    # With a token budget the number of batches varies a little by epoch. No epoch of a plan has fewer than its first,
    # which tells how many epochs begin at most.
    steps = math.ceil(len(plan(1)) / training.gradient_accumulation_steps)
    return plan(math.ceil(training.max_steps / steps))


def optimizer_steps(plan: BatchPlan, arguments: TrainingArguments) -> int:
    """Steps of a whole run, known before the model: what Trainer counts for itself later."""
    if arguments.max_steps > 0:
        return arguments.max_steps
    return math.ceil(arguments.num_train_epochs * math.ceil(len(plan) / arguments.gradient_accumulation_steps))
