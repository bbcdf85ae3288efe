"""The miniature's model card: every number measured on the files that were written, none typed in by hand."""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import math
import platform
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.errors import UserError
from tools.gemma3_mini.corpus import SOURCES, Corpus, Document
from tools.gemma3_mini.training import LOG_FILE, Progress, document_losses, encode

if TYPE_CHECKING:
    from transformers import Gemma3ForCausalLM, PreTrainedTokenizerBase

SUMMARY_FILE = "training_summary.json"
COMPARISON_FILE = "comparison.json"
CURVE_FILE = "loss_curve.png"
PROMPTS = ("I love", "What is the", "We propose a", "RT @user:")


CARD = """---
license: cc-by-sa-4.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# gemma3-mini

A language model of {total:,} parameters ({embeddings:,} of them embeddings) in Gemma 3's text architecture,
pretrained from random weights for opinionlm, so that everything in the repository runs without a network and without
a GPU. It is **not** derived from Google's Gemma weights or tokenizer. Its use is to be fine-tuned in tests, examples
and dry runs of recipes that are meant for the real thing; it knows very little of the world.

## Architecture

`Gemma3ForCausalLM` with {num_hidden_layers} blocks (five with a sliding window of {sliding_window} tokens, then one
with full attention, as in the family), width {hidden_size}, {num_attention_heads} query heads and one key-value head
of {head_dim}, feed-forward width {intermediate_size}, {max_position_embeddings:,} positions, input and output
embeddings tied. Tokenizer: BPE with byte fallback, {vocab_size:,} entries, run by transformers' `GemmaTokenizer`;
`<pad>` 0, `<eos>` 1, `<bos>` 2 (added in front), `<unk>` 3. Weights are stored in bf16, {weights_bytes:,} bytes.

## Data

Only the training split of each source was opened; no crypto posts of the CryptOQA track were used. Texts were cleaned
lightly (tokenised text rejoined, user names and mail addresses masked, links cut to their host) and deduplicated
({duplicates:,} repeats dropped): {documents:,} documents, {characters:,} characters, {tokens_per_epoch:,} tokens. Of
every source {heldout_fraction:.0%} of the documents was held out before the tokenizer was learned
({heldout_documents:,} documents, {heldout_characters:,} characters, {heldout_tokens:,} tokens); a SQuAD paragraph and
its questions stay together.

{sources}

{attributions}

SQuAD's text is CC BY-SA 4.0, so these weights are offered under the same terms. Some development and test texts of
the sources repeat training texts (the publishers' doing), so scores on those sets are not clean of overlap.

## Training

{steps:,} steps, {tokens_seen:,} tokens seen, {minutes:.1f} minutes on {hardware}. AdamW, cosine schedule with warm-up;
documents packed into rows without attention across their boundaries; dropout only while training. The weights kept
are those of step {best_step:,}, which had the lowest held-out loss.{notes}

![loss curve](loss_curve.png)

{curve}

```
python -m tools.gemma3_mini --data_dir ../shared/data --output_dir models/gemma3-mini
```

with {options}. {date}; {versions}.

## Held-out quality

Measured on the stored weights in fp32 arithmetic, every document alone, the end token included. Perplexity depends on
the vocabulary; bits per character do not.

{quality}
{comparison}
## What it writes

{samples}

## Limits

Far too small and too little read to be useful for text generation: it writes grammatical fragments without meaning.
English only, but for stray words. Reddit comments and tweets carry the bias, insults and strong language of their
authors, and so can the model. Scores of the miniature say whether a recipe works, not how good it is with a real
checkpoint.
"""


def quality(losses: list[float], documents: list[Document], token_counts: list[int]) -> dict[str, float]:
    """Perplexity per predicted token and bits per character over documents.

    Bits per character do not depend on the tokenizer, so they compare models with different vocabularies. The end
    token is predicted and paid for; ``<bos>`` is given.

    Args:
        losses: summed negative log-likelihood of each document, in nats.
        documents: the texts, in the same order.
        token_counts: predicted tokens of each document.
    """
    total, tokens, characters = sum(losses), sum(token_counts), sum(len(document.text) for document in documents)
    return {
        "documents": len(documents),
        "characters": characters,
        "tokens": tokens,
        "nats_per_token": total / tokens,
        "perplexity": math.exp(total / tokens),
        "bits_per_character": total / math.log(2) / characters,
    }


def _continuation(
    model: Gemma3ForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str, sampled: bool, length: int = 40
) -> str:
    """Continue a prompt greedily, or by drawing from the 40 likeliest tokens at temperature 0.8 with a fixed seed."""
    import torch

    torch.manual_seed(0)
    choice = {"do_sample": True, "temperature": 0.8, "top_k": 40} if sampled else {"do_sample": False}
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=length, **choice)
    return " ".join(tokenizer.decode(output[0], skip_special_tokens=True).split())


def _processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure(
    args: argparse.Namespace,
    corpus: Corpus,
    train_documents: list[list[int]],
    progress: Progress,
    random_model: Gemma3ForCausalLM,
) -> dict[str, Any]:
    """Reload the written model and measure it, in fp32 arithmetic on the stored bf16 weights.

    Args:
        args: the command line of `pretrain_miniature`.
        corpus: training and held-out documents.
        train_documents: token ids of ``corpus.train``, in its order.
        progress: the finished run's log.
        random_model: the same architecture before training.

    Returns:
        What the card says, as JSON-ready values.
    """
    import tokenizers
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.output_dir)
    model = AutoModelForCausalLM.from_pretrained(args.output_dir, dtype=torch.float32, use_safetensors=True)
    heldout_documents = encode(tokenizer, [document.text for document in corpus.heldout])
    counts = [len(document) - 1 for document in heldout_documents]
    losses = document_losses(model, heldout_documents)
    by_source: dict[str, list[int]] = defaultdict(list)
    for index, document in enumerate(corpus.heldout):
        by_source[document.source].append(index)
    sources = []
    for source in SOURCES:
        chosen = by_source[source.name]
        in_training = [index for index, document in enumerate(corpus.train) if document.source == source.name]
        sources.append(
            {
                "name": source.name,
                "file": source.file,
                "licence": source.licence,
                "attribution": source.attribution,
                "train_documents": len(in_training),
                "train_characters": sum(len(corpus.train[index].text) for index in in_training),
                "train_tokens": sum(len(train_documents[index]) for index in in_training),
                "heldout": quality(
                    [losses[index] for index in chosen],
                    [corpus.heldout[index] for index in chosen],
                    [counts[index] for index in chosen],
                ),
            }
        )
    hidden = {"data_dir", "output_dir", "work_dir", "resume", "note", "random_weights", "tokenizer_dir", "card_only"}
    return {
        "date": datetime.date.today().isoformat(),
        "arguments": {name: value for name, value in sorted(vars(args).items()) if name not in hidden},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "hardware": f"{_processor()}, {args.threads} thread(s), no GPU, bf16 autocast with fp32 weights",
        "notes": args.note,
        "parameters": {
            "total": model.num_parameters(),
            "embeddings": model.get_input_embeddings().weight.numel(),
            "weights_bytes": (args.output_dir / "model.safetensors").stat().st_size,
        },
        "duplicates_removed": corpus.duplicates,
        "sources": sources,
        "training": {
            "steps": progress.step,
            "best_step": progress.best_step,
            "tokens_seen": progress.tokens,
            "tokens_per_epoch": sum(map(len, train_documents)),
            "seconds": round(progress.seconds, 1),
        },
        "heldout": quality(losses, corpus.heldout, counts),
        "random_weights": quality(document_losses(random_model, heldout_documents), corpus.heldout, counts),
        "samples": [
            {
                "prompt": prompt,
                "greedy": _continuation(model, tokenizer, prompt, sampled=False),
                "sampled": _continuation(model, tokenizer, prompt, sampled=True),
            }
            for prompt in PROMPTS
        ],
    }


def draw_curve(log: list[dict[str, float]], path: Path) -> None:
    """Training and held-out loss over the tokens seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    millions = [row["tokens"] / 1e6 for row in log]
    axes.plot(millions, [row["train_loss"] for row in log], marker=".", label="training (with dropout)")
    axes.plot(millions, [row["heldout_loss"] for row in log], marker=".", label="held-out")
    axes.set(xlabel="tokens seen (millions)", ylabel="loss (nats per token)", title="gemma3-mini, pretraining")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def read_log(path: Path) -> list[dict[str, float]]:
    """The loss curve that `miniature_training.write_log` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _comparison(path: Path) -> str:
    """The fine-tuning section, from the numbers that the comparison left beside the weights; empty without them."""
    if not path.is_file():
        return ""
    comparison = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for row in comparison["rows"]:
        scores = row["macro_f1"]
        mean = sum(scores) / len(scores)
        spread = (
            math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) if len(scores) > 1 else 0.0
        )
        each = ", ".join(f"{score:.3f}" for score in scores)
        rows.append([row["data"], row["model"], f"{mean:.3f}" + (f" ± {spread:.3f}" if len(scores) > 1 else ""), each])
    table = _table(["data", "model", "macro-F1", "each seed or split"], rows)
    return f"\n## Does the pretraining help?\n\n{comparison['setting']}\n\n{table}\n"


def write_card(output_dir: Path) -> None:
    """Write ``README.md`` and the loss curve from the summary, the log and, where there is one, the comparison.

    Raises:
        UserError: the folder holds no training summary.
    """
    summary_file = output_dir / SUMMARY_FILE
    if not summary_file.is_file():
        raise UserError(f"{summary_file}: no training summary; pretrain first")
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    log = read_log(output_dir / LOG_FILE)
    draw_curve(log, output_dir / CURVE_FILE)
    heldout = summary["heldout"]
    sources = _table(
        ["source", "licence", "documents", "characters", "tokens", "held-out perplexity", "bits per character"],
        [
            [
                source["name"],
                source["licence"],
                f"{source['train_documents']:,}",
                f"{source['train_characters']:,}",
                f"{source['train_tokens']:,}",
                f"{source['heldout']['perplexity']:.2f}",
                f"{source['heldout']['bits_per_character']:.3f}",
            ]
            for source in summary["sources"]
        ],
    )
    attributions = "\n".join(
        f"- `{source['name']}` (`{source['file']}`): {source['attribution']}. {source['licence']}."
        for source in summary["sources"]
    )
    curve = _table(
        ["step", "epoch", "tokens seen", "training loss", "held-out loss"],
        [
            [f"{row['step']:.0f}", f"{row['epoch']:.2f}", f"{row['tokens']:,.0f}", f"{row['train_loss']:.4f}",
             f"{row['heldout_loss']:.4f}"]
            for row in log
        ],
    )  # fmt: skip
    samples = "\n".join(
        f"- **{sample['prompt']}** — greedy: “{sample['greedy']}” — sampled: “{sample['sampled']}”"
        for sample in summary["samples"]
    )
    quality_table = _table(
        ["weights", "perplexity", "bits per character", "nats per token"],
        [
            [name, f"{row['perplexity']:.2f}", f"{row['bits_per_character']:.3f}", f"{row['nats_per_token']:.4f}"]
            for name, row in (("pretrained", heldout), ("random", summary["random_weights"]))
        ],
    )
    card = CARD.format(
        **summary["arguments"],
        **summary["parameters"],
        **summary["training"],
        duplicates=summary["duplicates_removed"],
        documents=sum(source["train_documents"] for source in summary["sources"]),
        characters=sum(source["train_characters"] for source in summary["sources"]),
        heldout_documents=heldout["documents"],
        heldout_characters=heldout["characters"],
        heldout_tokens=heldout["tokens"],
        minutes=summary["training"]["seconds"] / 60,
        hardware=summary["hardware"],
        notes="".join(f" {note}" for note in summary["notes"]),
        date=summary["date"],
        versions=", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
        options=", ".join(f"`{name}` {value}" for name, value in summary["arguments"].items()),
        sources=sources,
        attributions=attributions,
        curve=curve,
        quality=quality_table,
        comparison=_comparison(output_dir / COMPARISON_FILE),
        samples=samples,
    )
    (output_dir / "README.md").write_text(card, encoding="utf-8")
