"""Closed frequent sequences of tokens, contiguous or with bounded gaps (AdaPT, Algorithm 1).

What is found, precisely. Let g be ``sequence_max_gap``. A sequence p1 … pk *occurs* in a text when the text has
these tokens in this order with at most g others skipped between neighbours (0: none, a contiguous sequence; null:
any number). Its *support* is the set of texts it occurs in, its frequency the size of that set: a text counts once.

A frequent sequence is *closed* unless some sequence with one token more, inserted at any position, has the same
support, the same texts. (With g = 0 only the two ends count: a token inside would make it another sequence.) With
g = 0 and with no limit, longer sequences can only occur in fewer texts, and "the same number" says the same. Under a
gap limit they can occur in others: "a b c" bridges a gap that "a c" may not leave. Two such sequences that happen to
occur in equally many different texts do not close each other.

The length limits filter what is returned and have no part in this: a sequence of twenty tokens that always goes on to
a twenty-first is not closed. Nor has the frequency limit: an extension with the same support is just as frequent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opinionlm.adaptation.adapt.contiguous import closed_contiguous
from opinionlm.adaptation.adapt.corpus import build_corpus
from opinionlm.adaptation.adapt.gapped import SearchExplodedError, closed_gapped
from opinionlm.adaptation.adapt.perplexity import perplexities
from opinionlm.config.method_options import AdaptConfig
from opinionlm.errors import UserError
from opinionlm.utils.progress import progress_bar


@dataclass(frozen=True)
class MinedSequence:
    """A closed sequence.

    Attributes:
        tokens: its token ids.
        support: number of texts that it occurs in.
        perplexity: as `opinionlm.adaptation.adapt.perplexity` defines it.
    """

    tokens: tuple[int, ...]
    support: int
    perplexity: float


def mine(rows: Sequence[Sequence[int]], options: AdaptConfig) -> list[MinedSequence]:
    """Find all closed frequent sequences in the token ids of texts, without special tokens.

    Returns:
        The sequences, most frequent first, equally frequent ones in the order of their token ids.

    Raises:
        UserError: if the search outgrows ``sequence_memory_mb``.
    """
    shortest, longest = options.sequence_min_length, options.sequence_max_length
    corpus = build_corpus(rows, options.sequence_max_gap, options.sequence_min_frequency)
    with progress_bar(desc="mining sequences", total=longest, unit="lengths") as bar:

        def progress(length: int, sequences: int) -> None:
            bar.set_postfix_str(f"{sequences:,} of length {length}")
            bar.update()

        if options.sequence_max_gap == 0:
            closed_sequences = closed_contiguous(corpus, shortest, longest, options.sequence_min_frequency, progress)
        else:
            memory = options.sequence_memory_mb * 10**6
            try:
                closed_sequences = closed_gapped(
                    corpus, shortest, longest, options.sequence_min_frequency, memory, progress
                )
            except SearchExplodedError as exploded:
                raise UserError(explosion(options, exploded.length)) from None
    unigram = options.sequence_perplexity == "unigram_normalised"
    mined: list[MinedSequence] = []
    scored = perplexities(
        corpus, [sequences for sequences, _ in closed_sequences], options.sequence_smoothing, unigram
    )
    for (sequences, supports), scores in zip(closed_sequences, scored, strict=True):
        tokens = map(tuple, corpus.token_ids[sequences].tolist())
        mined += map(MinedSequence, tokens, supports.tolist(), scores.tolist())
    return sorted(mined, key=lambda sequence: (-sequence.support, sequence.tokens))


def keep_best(mined: Sequence[MinedSequence], options: AdaptConfig, vocabulary: int) -> list[MinedSequence]:
    """The sequences that become tokens: those on the right side of the cut-off, best perplexity first.

    The paper's text and algorithm ask for a perplexity *above* the cut-off, which keeps the least coherent sequences;
    its tables show coherent ones, which is the default here.

    Returns:
        At most ``sequence_top_k`` of them, and at most ``sequence_vocabulary_share`` of the vocabulary. Ties go to the
        more frequent sequence, then to the order of token ids.
    """
    limit = int(options.sequence_vocabulary_share * vocabulary)
    if options.sequence_top_k is not None:
        limit = min(limit, options.sequence_top_k)
    sign = 1.0 if options.sequence_keep == "cohesive" else -1.0
    cutoff = np.inf if options.sequence_perplexity_cutoff is None else sign * options.sequence_perplexity_cutoff
    kept = [sequence for sequence in mined if sign * sequence.perplexity <= cutoff]
    return sorted(kept, key=lambda one: (sign * one.perplexity, -one.support, one.tokens))[:limit]


def explosion(options: AdaptConfig, length: int) -> str:
    """Say why a search was given up, and the setting that tames it."""
    gap = options.sequence_max_gap
    remedy = "set it to a number such as 3" if gap is None else f"lower it, for instance to {gap // 2}"
    return (
        f"sequence_max_gap: {'null' if gap is None else gap} makes the search explode: the frequent sequences of "
        f"{length} tokens do not fit into {options.sequence_memory_mb:,} MB (sequence_memory_mb); {remedy}, or raise "
        f"sequence_min_frequency above {options.sequence_min_frequency}"
    )
