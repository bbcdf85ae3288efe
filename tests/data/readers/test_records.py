"""Readers: the quirks of the real files by hand, and any bytes at all."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from opinionlm.data.readers.records import Record, Reject, SourceNotes, read_file
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError

COLUMNS = {"text": "text", "label": "label"}


def read(path: Path, content: bytes | str, **options) -> tuple[list[Record], list[Reject], SourceNotes]:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    notes = SourceNotes()
    spec = FileSpec(path.name, options.pop("columns", COLUMNS), **options)
    items = list(read_file(path, spec, notes))
    assert [item.number for item in items] == list(range(1, len(items) + 1))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Reject)], notes


def test_byte_order_mark_mixed_line_ends_and_spaces_in_names(tmp_path):
    content = b'\xef\xbb\xbftext,label ,\r\n"one\ntwo",0,\r\nthree,1,\nfour,2,'
    records, rejects, notes = read(tmp_path / "a.csv", content)
    assert [(r.line, r.fields) for r in records] == [
        (2, {"text": "one\ntwo", "label": "0"}),
        (4, {"text": "three", "label": "1"}),
        (5, {"text": "four", "label": "2"}),
    ]
    assert rejects == []
    assert notes.dropped_columns == [""]


def test_too_many_and_too_few_fields(tmp_path):
    records, rejects, notes = read(tmp_path / "a.csv", "text,label\na,1\nb,1,2\n\nc\nd,1\n")
    assert [r.fields["text"] for r in records] == ["a", "d"]
    assert [(r.line, r.number, r.reason, r.raw) for r in rejects] == [
        (3, 2, "too_many_fields", "b,1,2"),
        (5, 3, "too_few_fields", "c"),
    ]
    assert notes.blank_lines == 1


def test_the_header_of_a_joined_file_is_no_record(tmp_path):
    """After `cat a.csv b.csv` it was a text with a label of its own."""
    records, rejects, _ = read(tmp_path / "a.csv", "text,label\na,1\ntext, label\ntext,1\nb,label\n")
    assert [r.fields["text"] for r in records] == ["a", "text", "b"]
    assert [(r.line, r.number, r.reason, r.raw) for r in rejects] == [(3, 2, "repeated_header", "text, label")]


def test_an_unterminated_quote_costs_one_line_only(tmp_path):
    records, rejects, _ = read(tmp_path / "a.csv", 'text,label\na,1\n"b,1\nc,1\nd,1\n')
    assert [r.fields["text"] for r in records] == ["a", "c", "d"]
    assert [(r.line, r.reason, r.raw) for r in rejects] == [(3, "bad_quoting", '"b,1')]


def test_a_stray_quote_does_not_swallow_lines_up_to_the_next_quoted_field(tmp_path):
    records, rejects, _ = read(tmp_path / "a.csv", 'text,label\n"a,1\nb,1\n"c, d",1\ne,1\n')
    assert [r.fields["text"] for r in records] == ["b", "c, d", "e"]
    assert [(r.line, r.reason) for r in rejects] == [(2, "bad_quoting")]


def test_control_bytes_and_invalid_utf8_stay_one_record(tmp_path):
    records, rejects, notes = read(tmp_path / "a.csv", b"text,label\na\x00b\x19,1\n\xff\xfe\x80,1\nc,1\n")
    assert [r.fields["text"] for r in records] == ["a\0b\x19", "\ufffd\ufffd\ufffd", "c"]
    assert rejects == []
    assert notes.undecodable_records == 1


@pytest.mark.parametrize("long", ["x" * 5_000, '"' + "x\n" * 2_500 + '"'])
def test_an_oversized_record_is_bounded_and_reading_goes_on(tmp_path, long):
    records, rejects, _ = read(tmp_path / "a.csv", f"text,label\na,1\n{long},1\nb,1\n", max_record_characters=1_000)
    assert records[0].fields["text"] == "a"
    assert records[-1].fields["text"] == "b"
    assert rejects[0].reason == "oversized_record"
    assert rejects[0].line == 3
    assert all(len(r.raw) <= 2_000 for r in rejects)


def test_half_a_surrogate_pair_cannot_be_stored_and_becomes_a_replacement(tmp_path):
    records, _, _ = read(tmp_path / "a.csv", b"text,label\na+2AA-b,1\n", encoding="utf-7")
    assert records[0].fields["text"] == "a\ufffdb"


def test_tab_separated_without_quoting_and_header(tmp_path):
    records, _, _ = read(
        tmp_path / "a.tsv.gz", '"quoted\t3\tx1\n', quoting="none", field_names=("text", "label", "who")
    )
    assert records[0].fields == {"text": '"quoted', "label": "3"}
    assert records[0].line == 1


def test_json_lines(tmp_path):
    lines = ['{"text": "a", "label": 1.0, "other": []}', "{", "[]", '{"text": "b"}', '{"text": ["c"], "label": null}']
    lines += ["[" * 100_000, "", '{"text": "\\ud83d half \\ud83d\\ude02 whole", "label": null}']
    records, rejects, notes = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert [r.fields for r in records] == [
        {"text": "a", "label": "1.0"},
        {"text": "\ufffd half 😂 whole", "label": ""},
    ]
    reasons = ["invalid_json", "invalid_json", "missing_field", "not_text", "invalid_json"]
    assert [r.reason for r in rejects] == reasons
    assert notes.blank_lines == 1
    assert notes.dropped_columns == ["other"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "empty"),
        ("a.jsonl", b"\n\n", "empty"),
        ("a.csv", b"Text,label\n", "expected text, label; found 'Text', 'label'"),
        ("a.csv", b"text,text ,label\n", "twice"),
        ("a.jsonl", b'{"texts": 1}\n', "expected text, label; found 'texts'"),
        ("a.csv", b"\xff\xfet\0e\0", "utf-16"),
        ("a.txt", b"", "unknown format"),
    ],
)
def test_an_unusable_file_is_a_user_error(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path / name, content)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_damaged_gzip_and_wrong_encoding_are_user_errors(tmp_path):
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,1\n" * 1000)[:-20])
    (tmp_path / "c.csv.gz").write_bytes(b"text,label\n")
    (tmp_path / "d.csv").write_bytes(b"text,label\n")
    for name, encoding in (("a.csv", "utf-8"), ("b.csv.gz", "utf-8"), ("c.csv.gz", "utf-8"), ("d.csv", "klingon")):
        with pytest.raises(UserError, match=name):
            list(read_file(tmp_path / name, FileSpec(name, COLUMNS, encoding=encoding), SourceNotes()))


# Fragments that readers stumble over, so that random inputs reach deep states; plus plain random bytes.
FRAGMENTS = st.sampled_from(
    [
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"\t",
        b"\0",
        b"\xff",
        b"\xc3",
        b"a",
        b"{",
        b"}",
        b"\\",
        b'{"text": "a", ',
    ]
    + [
        b'"label": 1}',
        "é".encode(),
        b"\xef\xbb\xbf",
        b"\x19",
        b"\xed\xa0\xbd",
        b"x" * 300,
        b'{"text":"\\ud800","label":""}\n',
    ]
)
ANY_BYTES = st.one_of(st.binary(max_size=300), st.lists(FRAGMENTS, max_size=60).map(b"".join))
HEADERS = st.sampled_from([b"", b"text,label\n", b"\xef\xbb\xbftext,label\r\n", b"text\tlabel\n"])


@given(st.sampled_from([".csv", ".tsv", ".jsonl"]), HEADERS, ANY_BYTES, st.sampled_from(["minimal", "none"]))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_become_records_and_rejects_or_a_user_error(tmp_path, suffix, header, body, quoting):
    path = tmp_path / f"any{suffix}"
    try:
        records, rejects, notes = read(path, header + body, quoting=quoting, max_record_characters=200)
    except UserError as error:
        assert "\n" not in str(error)
        return
    for record in records:
        assert set(record.fields) == set(COLUMNS)
        record.fields["text"].encode("utf-8")
    json.dumps([reject.raw for reject in rejects]).encode("utf-8")
    # Nothing vanishes: every physical line is in a record, in a reject, blank, or the header.
    lines = [item.line for item in [*records, *rejects]]
    assert len(set(lines)) == len(lines)
    if suffix == ".jsonl":
        text = (header + body).removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
        physical = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert len(physical) - (physical[-1] == "") == len(lines) + notes.blank_lines


@given(st.sampled_from([".csv", ".tsv"]), ANY_BYTES, st.sampled_from(["minimal", "none"]))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_line_of_a_separated_file_is_in_exactly_one_record(tmp_path, suffix, body, quoting):
    assume(body[:2] not in (b"\xff\xfe", b"\xfe\xff"))  # UTF-16: a user error
    records, rejects, _ = read(tmp_path / f"any{suffix}", body, quoting=quoting, field_names=("text", "label"))
    items = sorted([*records, *rejects], key=lambda item: item.number)
    found = [line for item in items for line in _lines(item.raw)]
    assert found == _lines(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace"))


def _lines(text: str) -> list[str]:
    return [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
