"""The texts the bundled miniature is pretrained on: read, cleaned lightly, deduplicated, and split by document.

Only the *training* file of each source is ever opened, so no development or test text can leak into the weights, and
the crypto posts that the project classifies are not among the sources at all.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opinionlm.errors import UserError


@dataclass(frozen=True)
class Source:
    """One data set: its training file below ``data_dir`` and what its licence asks us to say."""

    name: str
    file: str
    licence: str
    attribution: str


SOURCES = (
    Source(
        "goemotions",
        "goemotions/train.tsv",
        "CC BY 4.0",
        "GoEmotions, Google Research (Demszky et al. 2020); Reddit comments",
    ),
    Source(
        "wnut17",
        "wnut17/train.conll",
        "CC BY 4.0",
        "WNUT 2017 emerging entities (Derczynski et al. 2017), leondz/emerging_entities_17",
    ),
    Source(
        "broad-twitter-corpus",
        "broad-twitter-corpus/train.conll",
        "CC BY 4.0",
        "Broad Twitter Corpus (Derczynski et al. 2016), GateNLP/broad_twitter_corpus",
    ),
    Source(
        "squad",
        "squad/train.jsonl",
        "CC BY-SA 4.0",
        "SQuAD v1.1 (Rajpurkar et al. 2016); paragraphs of Wikipedia and questions about them",
    ),
    Source("scitldr", "scitldr/train.jsonl", "Apache-2.0", "SciTLDR (Cachola et al. 2020), allenai/scitldr"),
    Source(
        "acl-arc",
        "acl-arc/train.jsonl",
        "Apache-2.0 (copying repository)",
        "ACL-ARC citation intent (Jurgens et al. 2018), copied by allenai/scibert",
    ),
    Source(
        "sciie-relations",
        "sciie-relations/train.jsonl",
        "Apache-2.0 (copying repository)",
        "SciERC relations (Luan et al. 2018), copied by allenai/scibert",
    ),
)


@dataclass(frozen=True)
class Document:
    """One text of a source; documents of one ``group`` (a SQuAD paragraph and its questions) are never separated."""

    source: str
    group: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Training and held-out documents, disjoint by group and by text."""

    train: list[Document]
    heldout: list[Document]
    duplicates: int


# Spaces that tokenised corpora put where written English has none.
_DETOKENISE = (
    (re.compile(r"``\s*|\s*''"), '"'),
    (re.compile(r" (n't|'s|'re|'ve|'ll|'d|'m)(?= |$)", re.IGNORECASE), r"\1"),
    (re.compile(r" ([.,;:!?%)\]]+)(?= |$)"), r"\1"),
    (re.compile(r"([(\[]) "), r"\1"),
    (re.compile(r"([@#]) (?=\w)"), r"\1"),
)


def detokenise(text: str) -> str:
    """Undo the spaces a tokeniser put around punctuation and clitics: ``do n't ( ever ) .`` → ``don't (ever).``."""
    for pattern, replacement in _DETOKENISE:
        text = pattern.sub(replacement, text)
    return text


def clean(text: str) -> str:
    """Collapse blanks and take out what identifies people: user names, mail addresses, the random part of links."""
    text = re.sub(r"(https?://[^\s/]+)\S*", r"\1", text)
    text = re.sub(r"\S+@\S+\.\w+", "user@mail", text)
    text = re.sub(r"(?<!\w)@\w+", "@user", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _read_conll(path: Path) -> Iterator[str]:
    """One detokenised sentence per block of ``token<TAB>tag`` lines."""
    tokens: list[str] = []
    for line in [*path.read_text(encoding="utf-8").split("\n"), ""]:
        if line:
            tokens.append(line.split("\t")[0])
        elif tokens:
            yield detokenise(" ".join(tokens))
            tokens = []


def _read_jsonl(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_source(source: Source, data_dir: Path) -> Iterator[Document]:
    """Yield the documents of one source, cleaned but not yet deduplicated.

    Args:
        source: one of `SOURCES`.
        data_dir: the folder that holds one folder per data set.

    Raises:
        UserError: the training file is not there.
    """
    path = data_dir / source.file
    if not path.is_file():
        raise UserError(f"{path}: training file of {source.name} not found; point --data_dir at the folder above it")
    match source.name:
        case "goemotions":
            texts = (line.split("\t")[0] for line in path.read_text(encoding="utf-8").split("\n"))
            pairs = ((text, text) for text in texts)
        case "wnut17" | "broad-twitter-corpus":
            pairs = ((text, text) for text in _read_conll(path))
        case "squad":
            pairs = ((row["context"], text) for row in _read_jsonl(path) for text in (row["context"], row["question"]))
        case "scitldr":
            # The summary follows the abstract on its own line: one document, so that the model sees the newline token.
            pairs = (
                (row["paper_id"], row["document"].strip() + "\n" + summary)
                for row in _read_jsonl(path)
                for summary in row["summaries"]
            )
        case "acl-arc":
            pairs = ((row["text"], detokenise(row["text"])) for row in _read_jsonl(path))
        case "sciie-relations":
            # The span markers differ from row to row of one sentence; without them the repeats become visible.
            unmarked = (re.sub(r"(\[\[|\]\]|<<|>>) ?", "", row["text"]) for row in _read_jsonl(path))
            pairs = ((text, detokenise(text)) for text in unmarked)
        case unknown:
            raise ValueError(f"no reader for source {unknown!r}; known: {[source.name for source in SOURCES]}")
    for group, text in pairs:
        text = clean(text)
        if text:
            yield Document(source.name, f"{source.name}:{group}", text)


def load_corpus(data_dir: Path, heldout_fraction: float, seed: int) -> Corpus:
    """Read every source, drop repeated texts, and hold out whole groups of each source.

    Two texts count as the same when they agree but for case and blanks. The first one is kept, over all sources.

    Args:
        data_dir: the folder that holds one folder per data set.
        heldout_fraction: share of each source's groups that is held out; at least one group of every source.
        seed: of the draw.
    """
    seen: set[str] = set()
    duplicates = 0
    corpus = Corpus([], [], 0)
    for source in SOURCES:
        kept: list[Document] = []
        for document in read_source(source, data_dir):
            key = " ".join(document.text.casefold().split())
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            kept.append(document)
        groups = sorted({document.group for document in kept})
        count = max(1, round(heldout_fraction * len(groups)))
        heldout = set(random.Random(f"{seed}:{source.name}").sample(groups, count))
        for document in kept:
            (corpus.heldout if document.group in heldout else corpus.train).append(document)
    return Corpus(corpus.train, corpus.heldout, duplicates)
