"""Mining closed token sequences: against PyPI's prefixspan, on real posts, and on many synthetic ones.

    python benchmarks/mining.py --json mining.json --figure mining.png
    python benchmarks/mining.py --quick                                   # under a minute, smaller inputs

prefixspan knows no gap limit, and its closed=True returns sequences that are not closed; its baseline is therefore
its search on short sentences, together with the filter that makes its output right, and the search alone beside it.
For the other rows the baseline is what is allowed: a minute, or sequence_memory_mb. Times are those of this process's
own work, so that others on the machine do not decide; memory is what mining allocates at its peak.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import re
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import Row, agree, compare, environment, finish
from opinionlm.adaptation.adapt.search import MinedSequence, keep_best, mine
from opinionlm.adaptation.adapt.task_tokens import TaskTokens
from opinionlm.config.method_options import AdaptConfig
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.preparation.tokens import load_tokenizer, token_ids

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "models" / "gemma3-mini"
MINUTE = 60.0
SENTENCE_TOKENS = (5, 25)
Texts = list[list[int]]


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    posts, source = read_posts(options.data_dir)
    tokenizer = load_tokenizer(str(TOKENIZER))
    texts = token_ids(tokenizer, posts)
    gapped = AdaptConfig(sequence_max_gap=3)
    facts = environment(posts=f"{len(posts):,} {source}", device="cpu", threads=1, prefixspan="not installed")
    rows: list[Row] = []
    if importlib.util.find_spec("prefixspan") is not None:
        facts["prefixspan"] = "0.5.2"
        rows += prefixspan_rows(sentences(posts, tokenizer), 1_500 if options.quick else 15_000, options.quick)
    else:
        print("prefixspan is not installed (requirements-dev.txt): nothing is compared with it", file=sys.stderr)

    name = f"{len(texts):,} {source}, gaps of 3"
    with timed() as spent:
        mined = mine(texts, gapped)
    facts["closed_sequences"] = len(mined)
    rows.append(compare(f"{name}: seconds of a minute", MINUTE, spent[0], "s", goal=1.0))
    rows.append(compare(f"{name}: memory", gapped.sequence_memory_mb, memory_of(texts, gapped), "MB", goal=1.0))
    rows += insertion_rows(posts, texts, mined, gapped)
    rows += growth_rows((300, 3_000, 30_000) if options.quick else (1_000, 10_000, 100_000))
    print(f"{facts['posts']}, {facts['date']}")
    return finish(facts, rows, options.json, options.figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="holds cryptoqa-opinion/")
    return parser.parse_args(argv)


def read_posts(data_dir: Path) -> tuple[list[str], str]:
    """CryptoQA's training posts where they are, else the bundled sample's; and what they are."""
    real = data_dir / "cryptoqa-opinion" / "train.csv"
    if real.is_file():
        with real.open(newline="", encoding="utf-8") as file:
            return [row["text"] for row in csv.DictReader(file)], "CryptoQA training posts"
    with tempfile.TemporaryDirectory(prefix="opinionlm-benchmark-") as folder:
        sample = str(ROOT / "configs" / "datasets" / "sample.yaml")
        return list(prepare_or_load(sample, ROOT / "data", Path(folder)).dataset["train"]["text"]), "sample posts"


def sentences(posts: list[str], tokenizer: Any) -> Texts:
    """Short sentences of the posts as token ids."""
    parts = [part for post in posts for part in re.split(r"(?<=[.!?])\s+|\n+|\\n", post)]
    shortest, longest = SENTENCE_TOKENS
    return [row for row in token_ids(tokenizer, parts) if shortest <= len(row) <= longest]


def prefixspan_rows(texts: Texts, number: int, quick: bool) -> list[Row]:
    """The same closed sequences from prefixspan, made right by a filter, and from us, without any gap limit."""
    from prefixspan import PrefixSpan

    texts = texts[:number]
    options = AdaptConfig(sequence_max_gap=None, sequence_memory_mb=4096)
    with timed() as theirs:
        search = PrefixSpan(texts)
        search.minlen, search.maxlen = options.sequence_min_length, options.sequence_max_length
        candidates = search.frequent(options.sequence_min_frequency, closed=True)
    with timed() as filtering:
        closed = closed_only({tuple(sequence): support for support, sequence in candidates})
    with timed() as ours:
        mined = mine(texts, options)
    different = len(closed.items() ^ {one.tokens: one.support for one in mined}.items())
    name = f"{len(texts):,} sentences, no gap limit"
    # On few sentences there is little to be faster at.
    goal = None if quick else 10.0
    return [
        agree(f"{name}: sequences that differ of {len(closed):,}", 0, different, "sequences", 0.0),
        compare(f"{name}: prefixspan and filter", theirs[0] + filtering[0], ours[0], "s", goal),
        compare(f"{name}: prefixspan's search alone", theirs[0], ours[0], "s"),
    ]


def closed_only(found: dict[tuple[int, ...], int]) -> dict[tuple[int, ...], int]:
    """Drop every sequence that a longer one with the same support contains."""
    by_support: dict[int, list[tuple[int, ...]]] = {}
    for sequence in sorted(found, key=len):
        by_support.setdefault(found[sequence], []).append(sequence)
    closed = {}
    for support, group in by_support.items():
        members = [frozenset(sequence) for sequence in group]
        for index, sequence in enumerate(group):
            inside = (
                members[index] <= members[other]
                and len(group[other]) > len(sequence)
                and contains(group[other], sequence)
                for other in range(index + 1, len(group))
            )
            if not any(inside):
                closed[sequence] = support
    return closed


def contains(longer: tuple[int, ...], sequence: tuple[int, ...]) -> bool:
    """Whether a sequence has another's tokens in their order."""
    rest = iter(longer)
    return all(token in rest for token in sequence)


def insertion_rows(posts: list[str], texts: Texts, mined: list[MinedSequence], options: AdaptConfig) -> list[Row]:
    """What task tokens cost beside tokenisation: with gaps, and contiguous."""
    rows = []
    tokenizer = load_tokenizer(str(TOKENIZER))
    contiguous = AdaptConfig(sequence_max_gap=0)
    batches = [posts[begin : begin + 1000] for begin in range(0, len(posts), 1000)]
    with timed() as tokenisation:
        for batch in batches:
            token_ids(tokenizer, batch)
    for name, limits, found in (("gaps of 3", options, mined), ("contiguous", contiguous, mine(texts, contiguous))):
        kept = keep_best(found, limits, tokenizer.get_vocab_size())
        tokens = TaskTokens(tuple(one.tokens for one in kept), limits.sequence_max_gap, tokenizer.get_vocab_size())
        tokens.insert(texts[:1])
        with timed() as insertion:
            for begin in range(0, len(texts), 1000):
                tokens.insert(texts[begin : begin + 1000])
        rows.append(compare(f"inserting {len(kept):,}, {name}: of tokenising", tokenisation[0], insertion[0], "s"))
    return rows


def growth_rows(sizes: tuple[int, int, int]) -> list[Row]:
    """Contiguous mining of synthetic posts: the largest number in a minute, and how the time grows."""
    options = AdaptConfig(sequence_max_gap=0)
    seconds = []
    for size in sizes:
        texts = synthetic_posts(size)
        with timed() as spent:
            found = mine(texts, options)
        seconds.append(spent[0])
        print(f"{size:,} synthetic posts, {sum(map(len, texts)):,} tokens: {len(found):,} in {spent[0]:.2f} s")
    rows = [compare(f"{sizes[2]:,} synthetic posts, contiguous: of a minute", MINUTE, seconds[2], "s", goal=1.0)]
    for smaller, larger, before, after in zip(sizes, sizes[1:], seconds, seconds[1:], strict=False):
        factor = larger / smaller
        rows.append(compare(f"{larger:,} posts against {factor:.0f} times {smaller:,}", factor * before, after, "s"))
    return rows


def synthetic_posts(number: int) -> Texts:
    """Posts of about 60 tokens by Zipf's law over 30,000, with phrases that come back."""
    generator = np.random.default_rng(number)
    weights = 1.0 / np.arange(1, 30_001)
    weights /= weights.sum()
    phrases = [generator.integers(0, 30_000, generator.integers(3, 9)) for _ in range(1_000)]
    lengths = np.minimum(generator.geometric(1 / 60, number), 1_000)
    flat = generator.choice(30_000, int(lengths.sum()), p=weights)
    for begin in np.cumsum(lengths) - lengths:
        phrase = phrases[generator.integers(len(phrases))][: len(flat) - begin]
        flat[begin : begin + len(phrase)] = phrase
    return [row.tolist() for row in np.split(flat, np.cumsum(lengths)[:-1])]


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds of this process's own work, in a list that is filled at the end."""
    spent: list[float] = []
    started = time.process_time()
    yield spent
    spent.append(time.process_time() - started)


def memory_of(texts: Texts, options: AdaptConfig) -> float:
    """MB that mining holds at its peak beside the texts, arrays included."""
    tracemalloc.start()
    mine(texts, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    sys.exit(main())
