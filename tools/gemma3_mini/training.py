"""The miniature's training loop: packed rows, dropout that needs no new architecture, checkpoints, held-out loss."""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, dropout
from tqdm import tqdm

from opinionlm.errors import UserError
from tools.gemma3_mini.chunked import chunked_cross_entropy

if TYPE_CHECKING:
    from transformers import Gemma3ForCausalLM, PreTrainedTokenizerBase

LOG_FILE = "training_log.csv"
IGNORED = -100  # label of positions that carry no loss, as in transformers


def add_training_dropout(model: Gemma3ForCausalLM, probability: float) -> Callable[[], None]:
    """Drop units of the embeddings and of every sublayer's output while the model is in training mode.

    Gemma 3 has no such dropout of its own; a corpus read ten times over needs it. Hooks keep the architecture as it
    is.

    Returns:
        A function that takes the hooks off again.
    """
    decoder = model.get_decoder()
    modules = [decoder.embed_tokens]
    for block in decoder.layers:
        modules += [block.post_attention_layernorm, block.post_feedforward_layernorm]
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: dropout(output, probability, module.training))
        for module in modules
    ]
    return lambda: [hook.remove() for hook in hooks]


@dataclass
class PackedEpoch:
    """Documents laid end to end and cut into rows: the tokens, and each token's position inside its document."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(input_ids, position_ids) of shape (batch, length) each, the last incomplete batch left out."""
        for start in range(0, len(self.input_ids) - batch_size + 1, batch_size):
            yield self.input_ids[start : start + batch_size], self.position_ids[start : start + batch_size]


def pack(documents: list[list[int]], length: int, order_seed: int) -> PackedEpoch:
    """Shuffle documents and lay them into rows of ``length`` tokens.

    Positions start at 0 with each document. That is how transformers tells packed documents apart: attention then
    never looks across a boundary, exactly as if each document stood alone. A document cut by a row's end goes on in
    the next.
    """
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(order_seed)).tolist()
    tokens = [token for index in order for token in documents[index]]
    positions = [position for index in order for position in range(len(documents[index]))]
    rows = len(tokens) // length
    if rows == 0:
        raise UserError(f"corpus has only {len(tokens)} tokens, not one row of --sequence_length {length}")
    shape = (rows, length)
    return PackedEpoch(
        torch.tensor(tokens[: rows * length]).view(shape), torch.tensor(positions[: rows * length]).view(shape)
    )


def next_token_loss(model: Gemma3ForCausalLM, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the next token in nats.

    The first token of each document has no predecessor and is not predicted.

    Args:
        model: its decoder runs in bf16 where autocast allows.
        input_ids: (batch, length), packed documents.
        position_ids: (batch, length), 0 where a document begins.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoder = model.get_decoder()
        hidden = decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
    predicted = position_ids[:, 1:] != 0
    return chunked_cross_entropy(
        hidden[:, :-1][predicted].to(torch.bfloat16), model.get_output_embeddings().weight, input_ids[:, 1:][predicted]
    )


def document_losses(model: Gemma3ForCausalLM, documents: list[list[int]], batch_size: int = 32) -> list[float]:
    """Summed negative log-likelihood of every document in nats, each read alone; ``<eos>`` is predicted too.

    Computed in the model's own dtype. Documents are batched by length, so little padding is computed.
    """
    model.eval()
    order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
    losses = [0.0] * len(documents)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        length = max(len(documents[index]) for index in batch)
        rows = [documents[index] + [IGNORED] * (length - len(documents[index])) for index in batch]
        labels = torch.tensor(rows)
        mask = labels != IGNORED
        with torch.no_grad():
            # Padding stands to the right, where a causal model cannot see it from the document.
            input_ids = labels.masked_fill(~mask, model.config.pad_token_id)
            logits = model(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).logits
            token_losses = cross_entropy(
                logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none"
            )
        for index, value in zip(batch, token_losses.sum(1).tolist(), strict=True):
            losses[index] = value
    return losses


@dataclass
class Progress:
    """What a checkpoint remembers beside weights and optimizer."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    evaluations_since_best: int = 0
    log: list[dict[str, float]] = field(default_factory=list)


def learning_rate_at(step: int, total: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then a cosine from ``peak`` to a twentieth of it at ``total`` steps."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


class Pretraining:
    """One run of the schedule: model, optimizer, progress, and the weights with the lowest held-out loss so far.

    Weights and optimizer state are fp32; matrix products run in bf16 (autocast). Every epoch's order depends on the
    seed and the epoch alone, so a resumed run sees the same batches, and drops the same units, as an uninterrupted
    one.
    """

    def __init__(
        self,
        model: Gemma3ForCausalLM,
        train_documents: list[list[int]],
        heldout_documents: list[list[int]],
        args: argparse.Namespace,
        work_dir: Path,
    ) -> None:
        """Prepare a run, or load the state of an interrupted one (``args.resume``).

        Args:
            model: in fp32; trained in place.
            train_documents: token ids of each document, ``<bos>`` and ``<eos>`` included.
            heldout_documents: likewise; only ever evaluated.
            args: the command line of `pretrain_miniature`.
            work_dir: where the checkpoint and the log go.

        Raises:
            UserError: the corpus fills no batch, or there is no checkpoint of this corpus to resume from.
        """
        self.model, self.args, self.work_dir = model, args, work_dir
        self.train_documents, self.heldout_documents = train_documents, heldout_documents
        rows = sum(map(len, train_documents)) // args.sequence_length
        self.steps_per_epoch = rows // args.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(f"--batch_size {args.batch_size}: the corpus fills only {rows} rows; lower it")
        self.total_steps = self.steps_per_epoch * args.num_train_epochs
        self.evaluate_every = max(1, self.steps_per_epoch // args.evaluations_per_epoch)
        decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        plain = [parameter for parameter in model.parameters() if parameter.ndim == 1]  # RMSNorm scales, kept near 1
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=args.learning_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        tokens = torch.tensor([token for document in train_documents for token in document], dtype=torch.int32)
        self.fingerprint = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
        self.progress = Progress()
        self.best = self._copy_of_weights()
        if args.resume:
            self._load()

    @property
    def checkpoint_file(self) -> Path:
        """Where the state of the run is kept."""
        return self.work_dir / "checkpoint.pt"

    def run(self) -> None:
        """Train to the end of the schedule, to ``--max_steps``, or until the held-out loss has stopped falling."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        last = min(self.total_steps, self.args.max_steps or self.total_steps)
        remove_dropout = add_training_dropout(self.model, self.args.dropout)
        started, saved_at = time.monotonic() - self.progress.seconds, time.monotonic()
        recent: list[float] = []
        bar = tqdm(total=last, initial=self.progress.step, desc="pretraining", unit="step", disable=None)
        for input_ids, position_ids in self._remaining_batches():
            if self.progress.step >= last or self.progress.evaluations_since_best >= self.args.patience:
                break
            recent.append(self._step(input_ids, position_ids))
            self.progress.step += 1
            self.progress.tokens += input_ids.numel()
            self.progress.seconds = time.monotonic() - started
            bar.update()
            if self.progress.step % self.evaluate_every == 0 or self.progress.step == last:
                row = self._evaluate(sum(recent) / len(recent))
                recent.clear()
                bar.set_postfix(train=row["train_loss"], heldout=row["heldout_loss"])
            if time.monotonic() - saved_at > 60 * self.args.checkpoint_minutes:
                self._save()
                saved_at = time.monotonic()
        bar.close()
        remove_dropout()
        self._save()

    def _remaining_batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches from the current step to the end of the schedule, each epoch in an order of its own."""
        first_epoch, done = divmod(self.progress.step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.args.num_train_epochs):
            packed = pack(self.train_documents, self.args.sequence_length, self.args.seed * 1000 + epoch)
            batches = packed.batches(self.args.batch_size)
            yield from itertools.islice(batches, done if epoch == first_epoch else 0, None)

    def _step(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> float:
        """One optimizer step; the loss before it, in nats per token."""
        rate = learning_rate_at(self.progress.step, self.total_steps, self.args.warmup_steps, self.args.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss = next_token_loss(self.model, input_ids, position_ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def _evaluate(self, train_loss: float) -> dict[str, float]:
        """Append a line to the log and keep the weights when no earlier ones were better."""
        progress = self.progress
        predicted = sum(len(document) - 1 for document in self.heldout_documents)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            heldout_loss = sum(document_losses(self.model, self.heldout_documents)) / predicted
        row = {
            "step": progress.step,
            "epoch": round(progress.step / self.steps_per_epoch, 3),
            "tokens": progress.tokens,
            "learning_rate": round(self.optimizer.param_groups[0]["lr"], 8),
            "train_loss": round(train_loss, 4),
            "heldout_loss": round(heldout_loss, 4),
            "seconds": round(progress.seconds, 1),
        }
        progress.log.append(row)
        write_log(self.work_dir / LOG_FILE, progress.log)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        progress.evaluations_since_best += 1
        if heldout_loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.evaluations_since_best = heldout_loss, progress.step, 0
            self.best = self._copy_of_weights()
        return row

    def _copy_of_weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _save(self) -> None:
        """Write the checkpoint beside the old one, then put it in its place: a kill leaves one of the two whole."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "best": self.best}
        state |= {"progress": asdict(self.progress), "rng": torch.get_rng_state()}
        state["fingerprint"] = self.fingerprint
        torch.save(state, self.checkpoint_file.with_suffix(".tmp"))
        self.checkpoint_file.with_suffix(".tmp").replace(self.checkpoint_file)

    def _load(self) -> None:
        if not self.checkpoint_file.is_file():
            raise UserError(f"{self.checkpoint_file}: no checkpoint to resume from; leave out --resume")
        saved = torch.load(self.checkpoint_file, weights_only=True)
        if saved["fingerprint"] != self.fingerprint:
            raise UserError(f"{self.checkpoint_file}: made from another corpus or tokenizer; leave out --resume")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.progress = saved["best"], Progress(**saved["progress"])
        torch.set_rng_state(saved["rng"])


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the loss curve as CSV, one line per evaluation."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of every text between ``<bos>`` and ``<eos>``."""
    return [ids + [tokenizer.eos_token_id] for ids in tokenizer(texts, split_special_tokens=True)["input_ids"]]
