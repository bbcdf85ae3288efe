"""Posts through the cleaning of a batch: what each is found to be, one by one and in several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from opinionlm.data.cleaning import Cleaning
from opinionlm.data.preparation import clean_rows as module
from opinionlm.data.preparation.clean_rows import QUALITY_REASONS, Cleaned, clean_rows

NOISE = 1
OPTIONS = {"mentions": "remove", "lowercase": True, "short_posts": "noise", "min_tokens": 2, "conflicts": "keep"}
POSTS = ["Buy Now", "hi", "@you", "buy now", "Buy Now", "old noise", "x"]
LABELS = [0, 0, 0, 0, 2, NOISE, NOISE]


def tokenizer() -> Tokenizer:
    words = ["[UNK]", "buy", "now", "hi", "old", "noise", "x", "a", "b"]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def batches(texts: list[str], labels: list[int], size: int = 3, **more: list[str]) -> list[pa.RecordBatch]:
    columns = {"id": [str(at) for at in range(len(texts))], "text": texts} | more | {"label": labels}
    table = pa.table(columns)
    return table.to_batches(max_chunksize=size)


def found(folder: Path, raw: list[pa.RecordBatch], names: tuple[str, ...] = ("text",), processes: int = 1, **options):
    """The texts as written, and what was found."""
    path = folder / f"cleaned{processes}.arrow"
    cleaning = Cleaning(**(OPTIONS | options))
    result = clean_rows(raw, path, names, cleaning, tokenizer(), NOISE, processes)
    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).read_all(), result


def reasons(result: Cleaned) -> list[str]:
    return ["" if code == 0 else QUALITY_REASONS[code - 1] for code in result.reason]


def test_every_finding_by_hand(tmp_path) -> None:
    table, result = found(tmp_path, batches(POSTS, LABELS))
    assert table.column("text").to_pylist() == ["buy now", "hi", "", "buy now", "buy now", "old noise", "x"]
    assert result.tokens.tolist() == [2, 1, 0, 2, 2, 2, 1]
    # Of two labelled as noise already, none is too short.
    assert reasons(result) == ["", "too_short", "empty_after_cleaning", "", "", "", ""]
    assert result.becomes_noise.tolist() == [False, True, False, False, False, False, False]
    # Steps of these options: bytes, text, newlines, html, mentions, whitespace, lowercase.
    mention, space, lower = 1 << 4, 1 << 5, 1 << 6
    assert result.changed.tolist() == [lower, 0, mention + space, 0, lower, 0, 0]
    same_raw = result.raw_digest[:, None] == result.raw_digest
    same = result.digest[:, None] == result.digest
    assert np.argwhere(np.triu(same_raw, 1)).tolist() == [[0, 4]]
    assert np.argwhere(np.triu(same, 1)).tolist() == [[0, 3], [0, 4], [3, 4]]


def test_a_pair_is_empty_where_one_of_its_texts_is(tmp_path) -> None:
    pairs = batches(["a b", "a", "a"], [0, 0, 0], text_pair=["b", "@you", "b a"])
    table, result = found(tmp_path, pairs, ("text", "text_pair"))
    assert table.column_names == ["text", "text_pair"]
    # The length of a pair is that of both texts.
    assert result.tokens.tolist() == [3, 1, 3]
    assert reasons(result) == ["", "empty_after_cleaning", ""]
    # The border between the texts counts: "a b" and "b" is another pair than "a" and "b a".
    assert len(set(result.digest.tolist())) == 3


@pytest.mark.parametrize(("duplicates", "equal"), [("tokens", True), ("text", False)])
def test_what_makes_two_posts_equal(duplicates: str, equal: bool, tmp_path) -> None:
    _, result = found(tmp_path, batches(["buy  now", "buy now"], [0, 0]), duplicates=duplicates, whitespace="keep")
    assert (result.digest[0] == result.digest[1]) == equal


@pytest.mark.parametrize("processes", [1, 2])
def test_batches_keep_their_order_however_many_there_are(processes: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS_PER_PROCESS", 2)
    started: list[int] = []
    pool = module.ProcessPoolExecutor

    def in_threads(number: int, context: object, initializer, initargs):
        """Threads do here what processes do there, without the seconds that each takes to start."""
        from concurrent.futures import ThreadPoolExecutor

        started.append(number)
        return ThreadPoolExecutor(number, initializer=initializer, initargs=initargs)

    monkeypatch.setattr(module, "ProcessPoolExecutor", in_threads)
    monkeypatch.setattr(module, "obey_parent", lambda: None)
    texts = [f"{'a b ' * (at % 3)}now" for at in range(24)]
    table, result = found(tmp_path, batches(texts, [0] * 24, size=1), processes=processes)
    assert table.column("text").to_pylist() == texts
    assert result.tokens.tolist() == [2 * (at % 3) + 1 for at in range(24)]
    assert started == ([] if processes == 1 else [2]) and pool is not in_threads
    assert not list(tmp_path.glob("*.tokenizer"))


@pytest.mark.parametrize(("rows", "pays"), [(3, False), (4, True)])
def test_processes_start_where_each_has_enough_to_do(rows: int, pays: bool, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS_PER_PROCESS", 2)

    class Started(Exception):
        """Raised where processes would start."""

    def refuse(*_: object, **__: object) -> None:
        raise Started

    monkeypatch.setattr(module, "ProcessPoolExecutor", refuse)
    raw = batches(["a b"] * rows, [0] * rows, size=1)
    if pays:
        with pytest.raises(Started):
            found(tmp_path, raw, processes=2)
    else:
        assert len(found(tmp_path, raw, processes=2)[0]) == rows
