"""Mining finds exactly the closed sequences, whatever the gap."""

from __future__ import annotations

import csv
import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from opinionlm.adaptation.adapt import gapped, mining
from opinionlm.adaptation.adapt.search import MinedSequence, keep_best, mine
from opinionlm.config.method_options import AdaptConfig
from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from tests.adaptation.adapt.oracles import Found, Texts, brute_force, occurs, without_open

LETTERS = [[ord(letter) for letter in text] for text in ("CAABC", "ABCB", "CABC", "ABBCA")]
ROOT = Path(__file__).resolve().parents[3]
GAPS = (0, 1, 2, 3, None)


def found(texts: Texts, shortest: int, longest: int, min_support: int, max_gap: int | None) -> Found:
    options = AdaptConfig(
        sequence_min_length=shortest,
        sequence_max_length=longest,
        sequence_min_frequency=min_support,
        sequence_max_gap=max_gap,
    )
    return {one.tokens: one.support for one in mine(texts, options)}


def test_published_example() -> None:
    closed = found(LETTERS, 1, 20, 2, None)
    expected = {"AA": 2, "ABB": 2, "ABC": 4, "CA": 3, "CABC": 2, "CB": 3}
    assert {"".join(map(chr, tokens)): support for tokens, support in closed.items()} == expected


@pytest.mark.parametrize("max_gap", GAPS)
def test_equal_to_brute_force(max_gap: int | None) -> None:
    generator = random.Random(f"gap {max_gap}")
    for _ in range(80):
        tokens = generator.randint(1, 4)
        texts = [
            [5 * generator.randrange(tokens) for _ in range(generator.randint(0, 8))]
            for _ in range(generator.randint(1, 6))
        ]
        shortest = generator.randint(1, 3)
        limits = (shortest, generator.randint(shortest, 5), generator.randint(1, 3))
        assert found(texts, *limits, max_gap) == brute_force(texts, *limits, max_gap), (texts, limits)


@pytest.mark.parametrize("max_gap", [1, None])
def test_pieces_of_a_search_do_not_show(max_gap: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(3)
    texts = [[generator.randrange(5) for _ in range(generator.randint(5, 30))] for _ in range(30)]
    whole = found(texts, 2, 4, 4, max_gap)
    monkeypatch.setattr(gapped, "PLACES_AT_A_TIME", 7)
    monkeypatch.setattr("opinionlm.adaptation.adapt.extensions.PAIRS_AT_A_TIME", 5)
    monkeypatch.setattr("opinionlm.adaptation.adapt.perplexity.PLACES_AT_A_TIME", 5)
    assert whole and found(texts, 2, 4, 4, max_gap) == whole


def test_fingerprints_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    # Were all fingerprints equal, only what is compared afterwards could tell sequences apart.
    generator = random.Random(4)
    texts = [[generator.randrange(3) for _ in range(8)] for _ in range(6)]
    monkeypatch.setattr(gapped.Fingerprints, "of_items", lambda self, rows: np.zeros(len(rows), np.uint64))
    monkeypatch.setattr(gapped.Fingerprints, "of_ends", lambda self, level: np.zeros(len(level.support), np.uint64))
    assert found(texts, 1, 4, 2, 1) == brute_force(texts, 1, 4, 2, 1)


@pytest.mark.skipif(
    importlib.util.find_spec("prefixspan") is None, reason="prefixspan is not installed (requirements-dev.txt)"
)
def test_equal_to_prefixspan() -> None:
    from prefixspan import PrefixSpan

    generator = random.Random(5)
    for _ in range(30):
        texts = [[generator.randrange(5) for _ in range(generator.randint(1, 9))] for _ in range(12)]
        theirs = PrefixSpan(texts).frequent(2, closed=True)
        closed = without_open({tuple(sequence): support for support, sequence in theirs})
        assert found(texts, 1, 20, 2, None) == closed


TEXTS = st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.sampled_from(GAPS), st.integers(1, 3))
def test_supports_are_counts_of_texts(texts: Texts, max_gap: int | None, min_support: int) -> None:
    for sequence, support in found(texts, 1, 9, min_support, max_gap).items():
        assert support == sum(occurs(text, sequence, max_gap) for text in texts) >= min_support


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.sampled_from(GAPS), st.integers(1, 3), st.randoms())
def test_invariances(texts: Texts, max_gap: int | None, min_support: int, generator: random.Random) -> None:
    closed = found(texts, 1, 9, min_support, max_gap)
    # Neither the order of texts nor the names of tokens matter; a higher limit only leaves out; lengths only filter.
    shuffled = [[1000 - 7 * token for token in text] for text in generator.sample(texts, len(texts))]
    renamed = {tuple(1000 - 7 * token for token in sequence): support for sequence, support in closed.items()}
    assert found(shuffled, 1, 9, min_support, max_gap) == renamed
    higher = {sequence: support for sequence, support in closed.items() if support >= 3}
    assert found(texts, 1, 9, max(3, min_support), max_gap) == higher
    short = {sequence: support for sequence, support in closed.items() if len(sequence) in (2, 3)}
    assert found(texts, 2, 3, min_support, max_gap) == short
    # Every text twice: the same sequences, twice as frequent.
    doubled = {sequence: 2 * support for sequence, support in closed.items()}
    assert found([*texts, *texts], 1, 9, 2 * min_support, max_gap) == doubled


def test_repeated_passages_do_not_explode() -> None:
    passage = list(range(100))
    assert found([passage] * 6, 3, 20, 5, 3) == {}
    assert found([passage] * 6, 3, 200, 5, 3) == {tuple(passage): 6}


def test_order_is_by_support_then_tokens() -> None:
    mined = mine(LETTERS, AdaptConfig(sequence_min_length=1, sequence_min_frequency=2, sequence_max_gap=None))
    assert mined == sorted(mined, key=lambda one: (-one.support, one.tokens))


def test_contiguous_perplexity_by_hand() -> None:
    # Counts: a 3, b 3, c 2, d 1 of 9 tokens; bigrams ab 2, bc 2.
    texts = [[1, 2, 3], [1, 2, 3], [2, 1, 4]]
    options = AdaptConfig(sequence_min_frequency=2, sequence_max_gap=0, sequence_smoothing=0.0)
    (mined,) = mine(texts, options)
    assert mined.tokens == (1, 2, 3) and mined.support == 2
    assert mined.perplexity == pytest.approx((3 / 9 * 2 / 3 * 2 / 3) ** (-1 / 3))
    smooth = AdaptConfig(sequence_min_frequency=2, sequence_max_gap=0, sequence_smoothing=2.0)
    chain = (2 + 2 * 3 / 9) / (3 + 2) * (2 + 2 * 2 / 9) / (3 + 2)
    assert mine(texts, smooth)[0].perplexity == pytest.approx((3 / 9 * chain) ** (-1 / 3))
    options.sequence_perplexity = "unigram_normalised"
    assert mine(texts, options)[0].perplexity == pytest.approx((4 / 9 / (3 / 9 * 2 / 9)) ** (-1 / 3))


def test_gapped_pairs_are_counted_once_per_place() -> None:
    # The first token meets the second twice in each text, within the gap.
    texts = [[1, 2, 2], [1, 2, 2]]
    options = AdaptConfig(sequence_min_frequency=2, sequence_max_gap=1, sequence_min_length=2, sequence_max_length=3)
    options.sequence_smoothing = 0.0
    (mined,) = mine(texts, options)
    assert mined.tokens == (1, 2, 2)
    assert mined.perplexity == pytest.approx((2 / 6 * 2 / 2 * 2 / 4) ** (-1 / 3))


MINED = [
    MinedSequence((1, 2, 3), 9, 4.0),
    MinedSequence((4, 5, 6), 5, 2.0),
    MinedSequence((7, 8, 9), 7, 2.0),
    MinedSequence((1, 1, 1), 5, 30.0),
]


def test_cutoff_has_two_directions() -> None:
    options = AdaptConfig(sequence_perplexity_cutoff=4.0)
    assert [one.perplexity for one in keep_best(MINED, options, 100)] == [2.0, 2.0, 4.0]
    options.sequence_keep = "as_printed"
    assert [one.perplexity for one in keep_best(MINED, options, 100)] == [30.0, 4.0]


def test_ties_go_to_the_more_frequent_and_the_number_is_bounded() -> None:
    assert [one.tokens[0] for one in keep_best(MINED, AdaptConfig(), 25)] == [7, 4]
    assert len(keep_best(MINED, AdaptConfig(sequence_top_k=1), 100)) == 1
    # 10 % of BERT's vocabulary.
    many = [MinedSequence((token, token, token), 5, 1.0) for token in range(4000)]
    assert len(keep_best(many, AdaptConfig(), 30_522)) == 3_052


@pytest.mark.parametrize(("max_gap", "remedy"), [(None, "set it to a number such as 3"), (40, "for instance to 20")])
def test_exploding_search_is_refused_with_the_setting_that_tames_it(max_gap: int | None, remedy: str) -> None:
    generator = random.Random(6)
    texts = [[generator.randrange(30) for _ in range(60)] for _ in range(60)]
    options = AdaptConfig(sequence_max_gap=max_gap, sequence_memory_mb=20)
    with pytest.raises(UserError) as caught:
        mine(texts, options)
    message = str(caught.value)
    assert "sequence_max_gap" in message and remedy in message and "\n" not in message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sequence_min_length", 0),
        ("sequence_max_length", 2),
        ("sequence_min_frequency", 0),
        ("sequence_max_gap", -1),
        ("sequence_smoothing", -1.0),
        ("sequence_vocabulary_share", 1.5),
    ],
)
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(UserError, match=option):
        parse_config([f"--{option}", str(value)], "test", "mining")


def test_command_line_writes_a_readable_list(tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "new" / "list.csv"
    arguments = ["--config", str(repository / "configs" / "quickstart.yaml"), "--prepared_dir", str(tmp_path / "data")]
    arguments += ["--output", str(output), "--sequence_max_gap", "0", "--sequence_top_k", "30"]
    mining.main(arguments)
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 and tuple(rows[0]) == mining.COLUMNS
    assert [float(row["perplexity"]) for row in rows] == sorted(float(row["perplexity"]) for row in rows)
    assert all(len(row["tokens"].split()) >= 3 and int(row["support"]) >= 5 for row in rows)
    shown = capsys.readouterr().out
    assert "30 kept (cohesive)" in shown and "perplexity" in shown


def test_a_sequence_inside_a_character_is_shown_by_its_tokens() -> None:
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "gemma3-mini" / "tokenizer.json"))
    half, word = [tokenizer.token_to_id(piece) for piece in ("<0xF0>", "<0x9F>")], tokenizer.encode("price").ids
    shown = mining.table([MinedSequence(tuple(ids), 5, 2.0) for ids in (half, word)], tokenizer).splitlines()
    assert shown[1].endswith("  <0xF0> <0x9F>") and "price" in shown[2]
