"""CoNLL files and IOB tags: whatever the lines, they end in sentences and rejects."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opinionlm.data.iob2 import entity_counts, is_tag, repair_iob2, tag_names
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.preparation.task_rows import parse_sentence
from opinionlm.data.prepared import load_prepared
from opinionlm.data.readers.conll import read_conll
from opinionlm.data.readers.records import Record, Reject, SourceNotes
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.errors import UserError

OUTER = {"tokens": "first", "tags": "last"}
TAGS = st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])


def read(path: Path, content: str | bytes, **options) -> tuple[list[Record | Reject], SourceNotes]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    notes = SourceNotes()
    return list(read_conll(path, FileSpec(path.name, **{"columns": OUTER} | options), notes)), notes


def sentences(items):
    return [(item.lists["tokens"], item.lists["tags"]) for item in items]


def test_two_columns_blank_lines_and_document_marks(tmp_path):
    content = "\n\n-DOCSTART-\tO\n\nA\tB-x\nb\tI-x\n\n \t \n\nc\tO\n-DOCSTART- -X- -X- O\r\nd\tO"
    items, notes = read(tmp_path / "a.conll", content)
    assert sentences(items) == [(["A", "b"], ["B-x", "I-x"]), (["c"], ["O"]), (["d"], ["O"])]
    assert [(item.line, item.number) for item in items] == [(5, 1), (10, 2), (12, 3)]
    assert notes.details["document marks"] == 2
    assert items[0].raw == "A\tB-x\nb\tI-x"


def test_four_columns_separated_by_blanks(tmp_path):
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ  B-VP O\n"
    named = {"field_names": ("token", "pos", "chunk", "tag"), "columns": {"tokens": "token", "tags": "tag"}}
    for options in ({}, named):
        items, _ = read(tmp_path / "a.txt", content, **options)
        assert sentences(items) == [(["EU", "rejects"], ["B-ORG", "O"])]
    chunks, notes = read(tmp_path / "a.txt", content, **named | {"columns": {"tokens": "token", "tags": "chunk"}})
    assert sentences(chunks) == [(["EU", "rejects"], ["B-NP", "B-VP"])]
    assert notes.dropped_columns == ["pos", "tag"]


def test_compressed_files_and_a_delimiter(tmp_path):
    items, _ = read(tmp_path / "a.conll.gz", gzip.compress(b"New York|B-x\n"), delimiter="|")
    assert sentences(items) == [(["New York"], ["B-x"])]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b", "too_few_fields"),
        ("b\tQ-x", "bad_tag"),
        ("b\tB-", "bad_tag"),
        ("b\t", "too_few_fields"),
        ("b\to", "bad_tag"),
    ],
)
def test_a_bad_line_rejects_its_sentence_and_says_where(tmp_path, line, reason):
    items, _ = read(tmp_path / "a.conll", f"x\tO\n\na\tO\n{line}\nc\tO\n\ny\tO\n")
    assert [type(item) for item in items] == [Record, Reject, Record]
    assert (items[1].line, items[1].number, items[1].reason) == (4, 2, reason)
    assert items[1].detail.startswith("line 4: ")
    assert items[1].raw == f"a\tO\n{line}\nc\tO"


def test_named_columns_have_to_be_all_there(tmp_path):
    named = {"field_names": ("token", "pos", "tag"), "columns": {"tokens": "token", "tags": "tag"}}
    items, _ = read(tmp_path / "a.conll", "a x O\n\nb O\n\nc x y O\n", **named)
    assert [getattr(item, "reason", "") for item in items] == ["", "too_few_fields", "too_many_fields"]
    with pytest.raises(UserError, match="column 'word' .for tokens. is not there.*expected word, tag; found 'token'"):
        read(tmp_path / "a.conll", "a O\n", **named | {"columns": {"tokens": "word", "tags": "tag"}})


def test_an_endless_sentence_is_bounded(tmp_path):
    items, _ = read(tmp_path / "a.conll", "a\tO\n" * 1000 + "\nb\tO\n", max_record_characters=400)
    assert [type(item) for item in items] == [Reject, Record]
    assert items[0].reason == "oversized_record" and len(items[0].raw) <= 2000


@pytest.mark.parametrize("content", ["", "\n\n", "-DOCSTART-\tO\n"])
def test_an_empty_file(tmp_path, content):
    with pytest.raises(UserError, match="the file is empty; expected one token and its tag per line"):
        read(tmp_path / "a.conll", content)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["a\tO", "b\tB-x", "c\tI-x", "", "-DOCSTART- O"]))))
def test_any_lines_end_in_sentences_and_rejects(tmp_path, lines):
    try:
        items, _ = read(tmp_path / "a.conll", "\n".join(lines).encode("utf-8", "surrogatepass"))
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert [item.number for item in items] == list(range(1, len(items) + 1))
    numbers = [item.line for item in items]
    assert numbers == sorted(numbers)
    for item in items:
        if isinstance(item, Record):
            row = parse_sentence(item, SourceNotes())
            assert isinstance(row, Reject) or len(row.values["tokens"]) == len(row.values["tags"]) > 0


@given(st.lists(TAGS))
def test_repaired_tags_are_iob2_and_repair_is_idempotent(tags):
    repaired, changed = repair_iob2(tags)
    for before, tag in zip(["O", *repaired], repaired, strict=False):
        assert tag[0] != "I" or before in (f"B{tag[1:]}", tag)
    assert changed == sum(a != b for a, b in zip(tags, repaired, strict=True))
    # Types stay where they are, and B- stays B-: only I- may become B-.
    assert all(a == b or (a[0], b[0], a[1:]) == ("I", "B", b[1:]) for a, b in zip(tags, repaired, strict=True))
    assert repair_iob2(repaired) == (repaired, 0)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("ab-"))))
def test_iob1_and_iob2_of_the_same_entities_are_repaired_to_the_same(spans):
    """In IOB1 an entity begins with B- only right after another of its type."""
    iob1, iob2, previous = [], [], "-"
    for length, kind in spans:
        if kind == "-":
            iob1 += ["O"] * length
            iob2 += ["O"] * length
        else:
            iob1 += [f"{'B' if previous == kind else 'I'}-{kind}"] + [f"I-{kind}"] * (length - 1)
            iob2 += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        previous = kind
    assert repair_iob2(iob1)[0] == iob2
    assert entity_counts(iob2) == Counter(kind for _, kind in spans if kind != "-")


def test_white_space_tokens_go_and_entities_stay_whole():
    def parsed(tokens, tags):
        notes = SourceNotes()
        row = parse_sentence(Record(1, 1, {}, "", {"tokens": tokens, "tags": tags}), notes)
        return (row.values if not isinstance(row, Reject) else row.reason), dict(notes.details)

    assert parsed(["a", "", "b"], ["B-x", "I-x", "I-x"]) == (
        {"tokens": ["a", "b"], "tags": ["B-x", "I-x"]},
        {"repaired tags": 0, "white-space tokens": 1},
    )
    values, details = parsed([" ", "a", "\u200b", "b"], ["B-x", "I-x", "O", "I-x"])
    assert values == {"tokens": ["a", "b"], "tags": ["B-x", "B-x"]}
    assert details["repaired tags"] == 2
    assert parsed(["\u00a0", ""], ["O", "O"])[0] == "no_tokens"
    assert parsed(["a"], ["O", "O"])[0] == "unequal_lists"
    assert parsed(["a"], ["Q-x"])[0] == "bad_tag"


def test_tag_names():
    assert tag_names({"b", "a"}) == ("O", "B-a", "I-a", "B-b", "I-b")
    assert [is_tag(tag) for tag in ("O", "B-creative-work", "I-x", "B", "x", "B-x y", "")] == [True] * 3 + [False] * 4


@pytest.mark.parametrize(
    ("tags", "expected", "repairs"),
    [
        ("S-PER O B-LOC I-LOC E-LOC", "B-PER O B-LOC I-LOC I-LOC", 0),
        ("U-PER O B-LOC I-LOC L-LOC", "B-PER O B-LOC I-LOC I-LOC", 0),
        ("W-PER O B-LOC M-LOC E-LOC", "B-PER O B-LOC I-LOC I-LOC", 0),
        # Nothing continues an entity that has ended.
        ("B-a E-a I-a", "B-a I-a B-a", 1),
        ("S-a E-a S-a", "B-a B-a B-a", 0),
        ("B-a E-b O E-b", "B-a B-b O B-b", 0),
        ("I-a I-a B-a I-b", "B-a I-a B-a B-b", 2),
    ],
)
def test_other_schemes_become_iob2(tags: str, expected: str, repairs: int) -> None:
    assert repair_iob2(tags.split()) == (expected.split(), repairs)


@pytest.mark.parametrize("kind", ["conll", "jsonl"])
def test_bioes_is_converted_and_counted(tokenizer_folder, tmp_path, kind: str) -> None:
    tokens, tags = ["Ada", "met", "New", "York"], ["S-PER", "O", "B-LOC", "E-LOC"]
    rows = [([f"x{number}", *tokens], ["O", *tags]) for number in range(12)]
    if kind == "conll":
        content = "\n\n".join("\n".join(map("\t".join, zip(*row, strict=True))) for row in rows)
    else:
        content = "\n".join(json.dumps({"first": words, "last": marks}) for words, marks in rows)
    (tmp_path / f"a.{kind}").write_text(content)
    raw = {"name": "a", "task": "token", "files": [{"path": f"a.{kind}", "columns": OUTER}]}
    spec = spec_from_dict(raw | {"tokenizer_name_or_path": str(tokenizer_folder)}, "a.yaml")
    data = load_prepared(prepare(spec, tmp_path, tmp_path / "out"))
    assert data.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert [data.tags[tag] for tag in data.dataset["train"][0]["tags"]] == ["O", "B-PER", "O", "B-LOC", "I-LOC"]
    report = json.loads((data.path / "report.json").read_text())
    assert report["details"][f"a.{kind}"]["tags converted from BIOES or BILOU"] == 24
    assert report["totals"]["kept"] == 12 and "24 tags of BIOES" in report["warnings"][0]


def test_blanks_in_front_of_a_line_hide_no_word(tmp_path: Path) -> None:
    items, _ = read(tmp_path / "a.conll", " New B-x\n  10\u00a0000   O\n\n\tO\nYork\tB-x\n")
    assert [(item.lists["tokens"], item.lists["tags"]) for item in items] == [
        (["New", "10\u00a0000"], ["B-x", "O"]),
        (["", "York"], ["O", "B-x"]),
    ]
