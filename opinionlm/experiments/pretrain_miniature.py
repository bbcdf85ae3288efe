"""Pretrain the bundled miniature: Gemma 3's text architecture, small enough for a repository and for a CPU.

    python -m opinionlm.experiments.pretrain_miniature --data_dir ../shared/data --output_dir models/gemma3-mini

learns a tokenizer, trains a causal language model on the training texts of seven openly licensed data sets
(`miniature_corpus`), keeps the weights with the lowest held-out loss, and writes the model folder with its own card. An
interrupted run continues with ``--resume``; ``--random_weights`` writes the same architecture untrained, as a baseline.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.errors import UserError, run_script

if TYPE_CHECKING:
    import torch
    from transformers import Gemma3ForCausalLM, PreTrainedTokenizerBase

    from opinionlm.experiments.miniature_corpus import Corpus

LOG_FILE = "training_log.csv"
SUMMARY_FILE = "training_summary.json"
IGNORED = -100  # label of positions that carry no loss, as in transformers


def build_parser() -> argparse.ArgumentParser:
    """The command line; the defaults are the run that made ``models/gemma3-mini``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data_dir", type=Path, help="folder that holds goemotions/, squad/, ... (training files are read)"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="model folder to write")
    parser.add_argument("--work_dir", type=Path, help="where checkpoints go (default: OUTPUT_DIR-work)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in the work folder")
    parser.add_argument("--random_weights", action="store_true", help="write the architecture untrained and stop")
    parser.add_argument("--tokenizer_dir", type=Path, help="reuse this tokenizer instead of learning one")
    parser.add_argument("--card_only", action="store_true", help="write the model card of OUTPUT_DIR anew and stop")
    shape = parser.add_argument_group("architecture")
    shape.add_argument("--vocab_size", type=int, default=6144)
    shape.add_argument("--hidden_size", type=int, default=192)
    shape.add_argument("--intermediate_size", type=int, default=768)
    shape.add_argument("--num_hidden_layers", type=int, default=6)
    shape.add_argument("--num_attention_heads", type=int, default=3)
    shape.add_argument("--head_dim", type=int, default=64)
    shape.add_argument("--sliding_window", type=int, default=128)
    shape.add_argument("--max_position_embeddings", type=int, default=2048)
    training = parser.add_argument_group("training")
    training.add_argument("--num_train_epochs", type=int, default=11)
    training.add_argument("--sequence_length", type=int, default=256)
    training.add_argument("--batch_size", type=int, default=8, help="packed rows per step")
    training.add_argument("--learning_rate", type=float, default=2e-3)
    training.add_argument("--warmup_steps", type=int, default=300)
    training.add_argument("--weight_decay", type=float, default=0.1)
    training.add_argument("--max_grad_norm", type=float, default=1.0)
    training.add_argument(
        "--dropout", type=float, default=0.1, help="on embeddings and sublayer outputs, training only"
    )
    training.add_argument("--heldout_fraction", type=float, default=0.03)
    training.add_argument("--evaluations_per_epoch", type=int, default=2)
    training.add_argument(
        "--patience", type=int, default=4, help="evaluations without a better held-out loss before stopping"
    )
    training.add_argument(
        "--max_steps", type=int, default=0, help="stop here although the schedule is longer (0: never)"
    )
    training.add_argument("--checkpoint_minutes", type=float, default=3.0)
    training.add_argument("--threads", type=int, default=1)
    training.add_argument("--seed", type=int, default=20)
    return parser


def build_model(args: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> Gemma3ForCausalLM:
    """A Gemma 3 text model with random weights, five sliding blocks to each full one as in the real family."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size,
        num_hidden_layers=args.num_hidden_layers,
        num_attention_heads=args.num_attention_heads,
        num_key_value_heads=1,
        head_dim=args.head_dim,
        query_pre_attn_scalar=args.head_dim,
        sliding_window=args.sliding_window,
        max_position_embeddings=args.max_position_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    torch.manual_seed(args.seed)
    return Gemma3ForCausalLM(config)


def add_training_dropout(model: Gemma3ForCausalLM, probability: float) -> Callable[[], None]:
    """Drop units of the embeddings and of every sublayer's output while the model is in training mode.

    Gemma 3 has no such dropout of its own; a corpus read ten times over needs it. Hooks keep the architecture as it is.

    Returns:
        A function that takes the hooks off again.
    """
    from torch.nn.functional import dropout

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

    Positions start at 0 with each document. That is how transformers tells packed documents apart: attention then never
    looks across a boundary, exactly as if each document stood alone. A document cut by a row's end goes on in the next.
    """
    import torch

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
    import torch

    from opinionlm.experiments.chunked_loss import chunked_cross_entropy

    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoder = model.get_decoder()
        hidden = decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
    predicted = position_ids[:, 1:] != 0
    return chunked_cross_entropy(
        hidden[:, :-1][predicted].to(torch.bfloat16), model.get_output_embeddings().weight, input_ids[:, 1:][predicted]
    )


def document_losses(model: Gemma3ForCausalLM, documents: list[list[int]], batch_size: int = 32) -> list[float]:
    """Summed negative log-likelihood of every document in nats, each read alone, ``<bos>`` given and ``<eos>`` predicted.

    Computed in the model's own dtype. Documents are batched by length, so little padding is computed.
    """
    import torch
    from torch.nn.functional import cross_entropy

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


def train(
    model: Gemma3ForCausalLM,
    train_documents: list[list[int]],
    heldout_documents: list[list[int]],
    args: argparse.Namespace,
    work_dir: Path,
) -> tuple[Progress, dict[str, torch.Tensor]]:
    """Run the schedule, or the rest of it, and return the log and the weights with the lowest held-out loss.

    Weights and optimizer state are fp32; matrix products run in bf16 (autocast). Every epoch's order depends on the seed
    and the epoch alone, so a resumed run sees the same batches as an uninterrupted one.
    """
    import torch
    from tqdm import tqdm

    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim == 1]  # RMSNorm scales, kept around 1
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=args.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    rows = sum(map(len, train_documents)) // args.sequence_length
    steps_per_epoch = rows // args.batch_size
    if steps_per_epoch == 0:
        raise UserError(
            f"--batch_size {args.batch_size}: the corpus fills only {rows} rows of {args.sequence_length} tokens"
        )
    total = steps_per_epoch * args.num_train_epochs
    last = min(total, args.max_steps) if args.max_steps else total
    evaluate_every = max(1, steps_per_epoch // args.evaluations_per_epoch)
    heldout_tokens = sum(len(document) - 1 for document in heldout_documents)

    progress = Progress()
    best = {name: value.detach().clone() for name, value in model.state_dict().items()}
    checkpoint_file = work_dir / "checkpoint.pt"
    if args.resume:
        if not checkpoint_file.is_file():
            raise UserError(f"{checkpoint_file}: no checkpoint to resume from; leave out --resume")
        saved = torch.load(checkpoint_file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        best, progress = saved["best"], Progress(**saved["progress"])
        torch.set_rng_state(saved["rng"])

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
        state |= {"progress": asdict(progress), "rng": torch.get_rng_state()}
        torch.save(state, checkpoint_file.with_suffix(".tmp"))
        checkpoint_file.with_suffix(".tmp").replace(checkpoint_file)

    work_dir.mkdir(parents=True, exist_ok=True)
    remove_dropout = add_training_dropout(model, args.dropout)
    started, saved_at = time.monotonic() - progress.seconds, time.monotonic()
    recent: list[float] = []
    bar = tqdm(total=last, initial=progress.step, desc="pretraining", unit="step", disable=None)
    while progress.step < last and progress.evaluations_since_best < args.patience:
        epoch, done = divmod(progress.step, steps_per_epoch)
        batches = pack(train_documents, args.sequence_length, order_seed=args.seed * 1000 + epoch).batches(
            args.batch_size
        )
        for index, (input_ids, position_ids) in enumerate(batches):
            if index < done:
                continue
            rate = learning_rate_at(progress.step, total, args.warmup_steps, args.learning_rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            model.train()
            loss = next_token_loss(model, input_ids, position_ids)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            recent.append(loss.item())
            progress.step += 1
            progress.tokens += input_ids.numel()
            progress.seconds = time.monotonic() - started
            bar.update()
            if progress.step % evaluate_every == 0 or progress.step == last:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    heldout = sum(document_losses(model, heldout_documents)) / heldout_tokens
                row = {
                    "step": progress.step,
                    "epoch": round(progress.step / steps_per_epoch, 3),
                    "tokens": progress.tokens,
                    "learning_rate": round(rate, 8),
                    "train_loss": round(sum(recent) / len(recent), 4),
                    "heldout_loss": round(heldout, 4),
                    "seconds": round(progress.seconds, 1),
                }
                recent.clear()
                progress.log.append(row)
                write_log(work_dir / LOG_FILE, progress.log)
                bar.set_postfix(train=row["train_loss"], heldout=row["heldout_loss"])
                print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
                progress.evaluations_since_best += 1
                if heldout < progress.best_loss:
                    progress.best_loss, progress.best_step, progress.evaluations_since_best = heldout, progress.step, 0
                    best = {name: value.detach().clone() for name, value in model.state_dict().items()}
                if progress.evaluations_since_best >= args.patience:
                    break
            if time.monotonic() - saved_at > 60 * args.checkpoint_minutes:
                save()
                saved_at = time.monotonic()
            if progress.step >= last:
                break
    bar.close()
    save()
    remove_dropout()
    return progress, best


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the loss curve as CSV, one line per evaluation."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of every text between ``<bos>`` and ``<eos>``."""
    return [ids + [tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]


def save_model(model: Gemma3ForCausalLM, tokenizer: PreTrainedTokenizerBase, output_dir: Path) -> None:
    """Write weights in bf16 and the tokenizer."""
    import torch

    model.to(torch.bfloat16).save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)


def load_or_train_tokenizer(args: argparse.Namespace, corpus: Corpus | None) -> PreTrainedTokenizerBase:
    """The tokenizer of ``--tokenizer_dir``, or one learned from the training texts."""
    from transformers import AutoTokenizer

    from opinionlm.experiments.miniature_tokenizer import train_tokenizer

    if args.tokenizer_dir:
        return AutoTokenizer.from_pretrained(args.tokenizer_dir)
    if corpus is None:
        raise UserError("--data_dir is needed to learn a tokenizer; or name a finished one with --tokenizer_dir")
    texts = (document.text for document in corpus.train)
    return train_tokenizer(texts, args.vocab_size, args.max_position_embeddings)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and pretrain, or write random weights, or write the card anew."""
    args = build_parser().parse_args(argv)
    import torch
    from transformers.utils import logging

    from opinionlm.experiments.miniature_corpus import load_corpus

    logging.disable_progress_bar()
    if args.card_only:
        from opinionlm.experiments import miniature_card

        miniature_card.write_card(args.output_dir)
        return
    torch.set_num_threads(args.threads)
    corpus = load_corpus(args.data_dir, args.heldout_fraction, args.seed) if args.data_dir else None
    tokenizer = load_or_train_tokenizer(args, corpus)
    model = build_model(args, tokenizer)
    if args.random_weights:
        save_model(model, tokenizer, args.output_dir)
        print(f"random weights written to {args.output_dir}")
        return
    if corpus is None:
        raise UserError("--data_dir is needed to pretrain")

    # Eager attention: for rows this short it is faster on a CPU than the fused kernel, forward and backward.
    model.set_attn_implementation("eager")
    train_documents = encode(tokenizer, [document.text for document in corpus.train])
    heldout_documents = encode(tokenizer, [document.text for document in corpus.heldout])
    print(
        f"{len(train_documents)} training documents, {sum(map(len, train_documents))} tokens; "
        f"{len(heldout_documents)} held-out documents; {model.num_parameters()} parameters"
    )
    work_dir = args.work_dir or args.output_dir.with_name(args.output_dir.name + "-work")
    progress, best = train(model, train_documents, heldout_documents, args, work_dir)

    from opinionlm.experiments import miniature_card

    random_model = build_model(args, tokenizer)
    model.load_state_dict(best)
    save_model(model, tokenizer, args.output_dir)
    write_log(args.output_dir / LOG_FILE, progress.log)
    summary = miniature_card.measure(args, corpus, train_documents, progress, random_model)
    (args.output_dir / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    miniature_card.write_card(args.output_dir)
    print(
        f"best step {progress.best_step} of {progress.step}; held-out perplexity {summary['heldout']['perplexity']:.2f}, "
        f"{summary['heldout']['bits_per_character']:.3f} bits per character; written to {args.output_dir}"
    )


if __name__ == "__main__":
    run_script(main)
