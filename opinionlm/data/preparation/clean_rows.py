"""The second heavy part of preparing: batches of posts go through worker processes into an Arrow file.

The file has the same batches as that of the raw posts. They do not depend on the number of processes, so the result
does not either.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from opinionlm.data.cleaning import Cleaning, Step, clean_text, quality_action, text_steps
from opinionlm.data.preparation.tokens import row_digest, unknown_id
from opinionlm.data.preparation.word_cache import WordCache
from opinionlm.errors import UserError

# Starting a process costs about as much as cleaning this many posts.
ROWS_PER_PROCESS = 5_000
QUALITY_REASONS = ("empty_after_cleaning", "no_letters", "repeated_pattern", "gibberish", "too_short", "too_long")


@dataclass
class Cleaned:
    """What the workers found, all of shape (rows,).

    Attributes:
        raw_digest: equal for equal raw posts.
        digest: equal for equal cleaned posts.
        tokens: length of the cleaned post.
        changed: bit `i` says that text step `i` changed the post.
        reason: index into `QUALITY_REASONS` plus one; 0 where nothing is wrong.
        becomes_noise: the reason relabels the post instead of dropping it.
        text_digest: equal for equal cleaned texts, where ``digest`` compares features too; else None.
    """

    raw_digest: np.ndarray
    digest: np.ndarray
    tokens: np.ndarray
    changed: np.ndarray
    reason: np.ndarray
    becomes_noise: np.ndarray
    text_digest: np.ndarray | None = None


def clean_rows(
    raw: Iterable[pa.RecordBatch],
    cleaned: Path,
    names: tuple[str, ...],
    cleaning: Cleaning,
    tokenizer: Tokenizer,
    noise: int | None,
    processes: int,
) -> Cleaned:
    """Clean, measure and filter every post (phases 2 and 3 of the paper), in several processes where that pays.

    Args:
        raw: batches of posts with the columns id, `names` and label, as `RowReader` makes them; reading goes on while
            other processes clean.
        cleaned: the Arrow file to write: the cleaned texts, batch for batch.
        names: the text columns.
        cleaning: the options.
        tokenizer: for lengths and for comparing posts.
        noise: class id of noise, if the data set has that class.
        processes: at most so many.

    Raises:
        UserError: a worker process died, or reading raised it.
    """
    worker = BatchCleaner(names, cleaning, tokenizer, noise)
    parts: list[Cleaned] = []
    with (
        pa.OSFile(str(cleaned), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema([(name, pa.string()) for name in names])) as writer,
    ):
        for texts, part in _results(worker, iter(raw), processes, cleaned.with_suffix(".tokenizer")):
            writer.write_batch(texts)
            parts.append(part)
    findings = ("raw_digest", "digest", "tokens", "changed", "reason", "becomes_noise")
    return Cleaned(*(np.concatenate([getattr(part, name) for part in parts]) for name in findings))


def _results(
    worker: BatchCleaner, batches: Iterator[pa.RecordBatch], processes: int, tokenizer_file: Path
) -> Iterator[tuple[pa.RecordBatch, Cleaned]]:
    """Results of all batches, in order; only a few are under way at any time, so memory stays bounded."""
    first: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in first) < 2 * ROWS_PER_PROCESS and (batch := next(batches, None)) is not None:
        first.append(batch)
    if processes == 1 or sum(batch.num_rows for batch in first) < 2 * ROWS_PER_PROCESS:
        yield from map(worker.clean, chain(first, batches))
        return
    # Spawned, not forked: the parent runs threads (Arrow, progress bars), and forking those may deadlock. And the
    # tokenizer goes by a file: more than fits into a pipe blocks the parent for ever if a child dies while starting.
    context = multiprocessing.get_context("spawn")
    worker.tokenizer.save(str(tokenizer_file))
    setup = (worker.names, worker.cleaning, str(tokenizer_file), worker.noise)
    pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=setup)
    try:
        with pool:
            # A process that cannot start is noticed before batches fill the pipe: Python before 3.11.5 would wait for
            # ever for somebody to read them (python/cpython #94777).
            pool.submit(os.getpid).result()
            under_way: deque[Future] = deque()
            for batch in chain(first, batches):
                under_way.append(pool.submit(_clean_in_worker, batch))
                if len(under_way) > 2 * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a cleaning process died, most likely for lack of memory; try a smaller --num_proc (a script of your own "
            "also has to prepare data below `if __name__ == '__main__':`)"
        ) from None
    finally:
        tokenizer_file.unlink()


class BatchCleaner:
    """Everything one process needs to clean batches; see `clean_rows`."""

    def __init__(self, names: tuple[str, ...], cleaning: Cleaning, tokenizer: Tokenizer, noise: int | None) -> None:
        self.names, self.cleaning, self.tokenizer, self.noise = names, cleaning, tokenizer, noise
        self._schema = pa.schema([(name, pa.string()) for name in names])
        self._steps: list[Step] = text_steps(cleaning)
        self._token_ids, self._unknown = WordCache(tokenizer), unknown_id(tokenizer)

    def clean(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Cleaned]:
        """Clean one batch; returns the texts and the findings."""
        labels = batch.column("label").to_numpy()
        rows = list(zip(*(batch.column(name).to_pylist() for name in self.names), strict=True))
        # Posts are copied a lot: what stands twice in a batch is looked at once.
        number = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        places = np.array([number[row] for row in rows])
        raw = list(number)
        results = [[clean_text(text, self._steps) for text in row] for row in raw]
        clean = [tuple(text for text, _ in row) for row in results]
        ids = self._ids(clean)
        lengths = np.array([sum(map(len, parts)) for parts in ids], dtype=np.int32)
        bits = {name: 1 << bit for bit, (name, _) in enumerate(self._steps)}
        changed = [sum(bits[name] for name in {name for _, names in row for name in names}) for row in results]
        verdicts = [
            quality_action(
                " ".join(clean[i]) if all(map(str.strip, clean[i])) else "", int(lengths[i]), noise, self.cleaning
            )
            for i, noise in zip(places, labels == self.noise, strict=True)
        ]
        reasons = ("", *QUALITY_REASONS)
        texts = [[column[i] for i in places] for column in zip(*clean, strict=True)]
        return pa.record_batch(texts, schema=self._schema), Cleaned(
            raw_digest=self._raw_digests(raw)[places],
            digest=self._digests(clean, ids)[places],
            tokens=lengths[places],
            changed=np.array(changed, dtype=np.int32)[places],
            reason=np.array([reasons.index(reason) for _, reason in verdicts], dtype=np.int8),
            becomes_noise=np.array([action == "noise" for action, _ in verdicts]),
        )

    def _ids(self, rows: list[tuple[str, ...]]) -> list[tuple[array[int], ...]]:
        """Token ids of every text of every row."""
        columns = [self._token_ids(texts) for texts in zip(*rows, strict=True)]
        return list(zip(*columns, strict=True))

    def _raw_digests(self, rows: list[tuple[str, ...]]) -> np.ndarray:
        """Digests before cleaning; where a tokenizer spells texts out, equal texts say what equal tokens would."""
        if self.cleaning.duplicates == "text" or not self._token_ids.by_word:
            return self._digests(rows, self._ids(rows))
        spelled = [tuple(map(self._token_ids.spelled, row)) for row in rows]
        return np.array([row_digest(row, None, None) for row in spelled], dtype="S16")

    def _digests(self, rows: list[tuple[str, ...]], ids: list[tuple[array[int], ...]]) -> np.ndarray:
        by_text = self.cleaning.duplicates == "text"
        return np.array(
            [row_digest(r, None if by_text else i, self._unknown) for r, i in zip(rows, ids, strict=True)], dtype="S16"
        )


_worker: BatchCleaner


def _start_worker(names: tuple[str, ...], cleaning: Cleaning, tokenizer_file: str, noise: int | None) -> None:
    global _worker
    obey_parent()
    _worker = BatchCleaner(names, cleaning, Tokenizer.from_file(tokenizer_file), noise)


def _clean_in_worker(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Cleaned]:
    return _worker.clean(batch)


def obey_parent() -> None:
    """To be called first in a worker: Ctrl-C is the parent's business, and without a parent the worker ends.

    A worker of a pool waits for tasks on a pipe whose other end it holds itself, so that after ``kill -9`` of its
    parent it would wait forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
