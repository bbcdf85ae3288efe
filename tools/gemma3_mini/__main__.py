"""Pretrain the bundled miniature: Gemma 3's text architecture, small enough for a repository and for a CPU.

    python -m tools.gemma3_mini --data_dir ../shared/data --output_dir models/gemma3-mini

learns a tokenizer, trains a causal language model on the training texts of seven openly licensed data sets
(`miniature_corpus`), keeps the weights with the lowest held-out loss, and writes the model folder with its own card.
An interrupted run continues with ``--resume``; ``--random_weights`` writes the same architecture untrained, as a
baseline.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.errors import UserError, run_script
from opinionlm.utils.command_line import Parser

if TYPE_CHECKING:
    from transformers import Gemma3ForCausalLM, PreTrainedTokenizerBase

    from tools.gemma3_mini.corpus import Corpus
    from tools.gemma3_mini.training import Pretraining


def build_parser() -> Parser:
    """The command line; the defaults are the run that made ``models/gemma3-mini``."""
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument(
        "--data_dir", type=Path, help="folder that holds goemotions/, squad/, ... (training files are read)"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="model folder to write")
    parser.add_argument("--work_dir", type=Path, help="where checkpoints go (default: OUTPUT_DIR-work)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in the work folder")
    parser.add_argument("--random_weights", action="store_true", help="write the architecture untrained and stop")
    parser.add_argument("--tokenizer_dir", type=Path, help="reuse this tokenizer instead of learning one")
    parser.add_argument("--card_only", action="store_true", help="write the model card of OUTPUT_DIR anew and stop")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the card about how the run went")
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
    training.add_argument("--num_train_epochs", type=int, default=8)
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


def save_model(model: Gemma3ForCausalLM, tokenizer: PreTrainedTokenizerBase, output_dir: Path) -> None:
    """Write weights in bf16 and the tokenizer."""
    import torch

    model.to(torch.bfloat16).save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)


def load_or_train_tokenizer(args: argparse.Namespace, corpus: Corpus | None) -> PreTrainedTokenizerBase:
    """The tokenizer of ``--tokenizer_dir``, or one learned from the training texts."""
    from transformers import AutoTokenizer

    from tools.gemma3_mini.tokenizer import train_tokenizer

    if args.tokenizer_dir:
        return AutoTokenizer.from_pretrained(args.tokenizer_dir)
    if corpus is None:
        raise UserError("--data_dir is needed to learn a tokenizer; or name a finished one with --tokenizer_dir")
    texts = (document.text for document in corpus.train)
    return train_tokenizer(texts, args.vocab_size, args.max_position_embeddings)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and pretrain, or write random weights, or write the card anew."""
    args = build_parser().parse(argv)
    import torch
    from transformers.utils import logging

    from tools.gemma3_mini.card import write_card
    from tools.gemma3_mini.corpus import load_corpus
    from tools.gemma3_mini.training import Pretraining, encode

    logging.disable_progress_bar()
    if args.card_only:
        write_card(args.output_dir)
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
    pretraining = Pretraining(model, train_documents, heldout_documents, args, work_dir)
    pretraining.run()
    finish(pretraining, corpus, tokenizer)


def finish(pretraining: Pretraining, corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the best weights, measure what was written, and put the numbers on the card."""
    from tools.gemma3_mini.card import SUMMARY_FILE, measure, write_card
    from tools.gemma3_mini.training import LOG_FILE, write_log

    args, progress = pretraining.args, pretraining.progress
    pretraining.model.load_state_dict(pretraining.best)
    save_model(pretraining.model, tokenizer, args.output_dir)
    write_log(args.output_dir / LOG_FILE, progress.log)
    summary = measure(args, corpus, pretraining.train_documents, progress, build_model(args, tokenizer))
    (args.output_dir / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    write_card(args.output_dir)
    heldout = summary["heldout"]
    print(
        f"best step {progress.best_step} of {progress.step}; held-out perplexity {heldout['perplexity']:.2f}, "
        f"{heldout['bits_per_character']:.3f} bits per character; written to {args.output_dir}"
    )


if __name__ == "__main__":
    run_script(main)
