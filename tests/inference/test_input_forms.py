"""predict.py reads a file as training read it, keeps its columns, and gives empty posts no answer."""

import csv
import io
import json
import sys
from datetime import datetime
from pathlib import Path

import pandas
import pytest
import yaml

import predict
from opinionlm.errors import UserError
from opinionlm.inference.input_forms import InputForm, choose_form
from opinionlm.inference.output import FileOutput
from tests.classifier_runs import drawn_posts, train
from tests.inference.test_prediction import HEADER, Stop, read_csv
from tests.saved_classifier import save_tiny_classifier

ANSWER = HEADER[2:]
TEXTS = ["buy the coin", 'sell; now "today"', "größe € …"]


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory) -> Path:
    return save_tiny_classifier(tmp_path_factory.mktemp("plain"))


def trained_on(plain_model: Path, folder: Path, **form) -> Path:
    """The same model with what training says of its files."""
    folder.mkdir()
    for path in plain_model.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "input.json").write_text(json.dumps({"forms": [form]}))
    return folder


def call(model: Path, source: Path | str, output: Path, *options: str) -> list[list[str]]:
    predict.main(["--model", str(model), "--input", str(source), "--output", str(output), "--overwrite", *options])
    return read_csv(output)


def table(delimiter: str = ",", names=("key", "comment", "likes"), texts=TEXTS) -> str:
    text = io.StringIO(newline="")
    rows = [(f"00{at}", content, at) for at, content in enumerate(texts)]
    csv.writer(text, delimiter=delimiter).writerows([names, *rows])
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "cp1252", "utf-16-le"])
@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_a_file_like_those_of_training_needs_no_options(plain_model, tmp_path, encoding, delimiter):
    form = {"encoding": encoding, "delimiter": delimiter, "text": "comment", "id": "key"}
    model = trained_on(plain_model, tmp_path / "best", **form)
    (tmp_path / "in.csv").write_bytes(table(delimiter).encode(encoding))
    rows = call(model, tmp_path / "in.csv", tmp_path / "out.csv")
    assert rows[0] == [*HEADER, "likes"]
    assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
        (f"00{at}", text, str(at)) for at, text in enumerate(TEXTS)
    ]
    assert all(row[2] for row in rows[1:])


def test_options_win_and_plain_files_are_still_read(plain_model, tmp_path, capsys):
    model = trained_on(plain_model, tmp_path / "best", encoding="cp1252", delimiter=";", text="comment")
    (tmp_path / "plain.csv").write_text("text\ngröße\n", encoding="utf-8")
    assert call(model, tmp_path / "plain.csv", tmp_path / "out.csv")[1][1] == "größe"
    # What begins, and what was done.
    assert capsys.readouterr().err.count("\n") == 2
    (tmp_path / "same.csv").write_text("comment\ngröße\n", encoding="utf-8")
    assert call(model, tmp_path / "same.csv", tmp_path / "out.csv")[1][1] == "größe", "UTF-8 shows in its bytes"
    assert "text column 'comment'" in capsys.readouterr().err
    (tmp_path / "other.csv").write_bytes("a|'b'|comment\n1|\"|größe\n".encode("latin-1"))
    options = ["--encoding", "latin-1", "--delimiter", "|", "--quoting", "none", "--text_column", "comment"]
    assert call(model, tmp_path / "other.csv", tmp_path / "out.csv", *options)[1] == [
        "1", "größe", *call(model, tmp_path / "other.csv", tmp_path / "out.csv", *options)[1][2:-2], "1", '"',
    ]  # fmt: skip


@pytest.mark.parametrize("options", [["--delimiter", "tab"], ["--delimiter", "\\t"], ["--delimiter", "\t"]])
def test_a_tab_can_be_typed(plain_model, tmp_path, options):
    (tmp_path / "in.csv").write_text("text\tn\nbuy\t1\n")
    assert call(plain_model, tmp_path / "in.csv", tmp_path / "out.csv", *options)[1][1] == "buy"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "text;n\ncafé;1\n".encode("cp1252"),
            ["--delimiter", ";"],
            "in.csv:2: these bytes are no utf-8.*cp1252",
        ),
        (
            b"text;n\nbuy;1\n",
            [],
            r"the column 'text' is not there where ',' parts .* with ';'; give --delimiter \";\"",
        ),
        (b"comment\nbuy\n", [], "the column 'text'.*is not there"),
        (b"text\nbuy\n", ["--encoding", "nope"], "there is no text encoding 'nope'"),
        (b"text\nbuy\n", ["--encoding", "base64"], "there is no text encoding 'base64'"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(plain_model, tmp_path, content, options, message):
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        call(plain_model, tmp_path / "in.csv", tmp_path / "out.csv", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_file_with_a_mark_of_utf16_is_read(plain_model, tmp_path, capsys):
    (tmp_path / "in.csv").write_bytes("text\ngröße\n".encode("utf-16"))
    assert call(plain_model, tmp_path / "in.csv", tmp_path / "out.csv")[1][1] == "größe"
    (tmp_path / "in.txt").write_bytes("größe\nbuy\n".encode("utf-16"))
    assert [row[1] for row in call(plain_model, tmp_path / "in.txt", tmp_path / "out.csv")[1:]] == ["größe", "buy"]
    said = capsys.readouterr().err
    assert "in.txt: read as utf-16, which its byte order mark says\n" in said and "training files" not in said


def test_other_columns_are_kept_and_names_that_are_taken_get_a_new_one(plain_model, tmp_path):
    names = "id,predicted,comment,text,note,note,input_text"
    (tmp_path / "in.csv").write_text(f"{names}\n7,old,buy now,x,a,b,y\n")
    rows = call(plain_model, tmp_path / "in.csv", tmp_path / "out.csv", "--text_column", "comment")
    kept = ["input_predicted", "input_text", "note", "input_note", "input_input_text"]
    assert rows[0] == [*HEADER, *kept]
    assert rows[1][:2] == ["7", "buy now"] and rows[1][-5:] == ["old", "x", "a", "b", "y"]
    files = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "o.jsonl")]
    predict.main(["--model", str(plain_model), *files, "--text_column", "comment"])
    row = json.loads((tmp_path / "o.jsonl").read_text())
    assert list(row) == [*HEADER, *kept] and row["input_predicted"] == "old"


def test_keys_of_json_objects_are_kept(plain_model, tmp_path):
    lines = [
        '{"text": "buy", "n": 1.50, "tags": ["a"], "ok": true, "gone": null}',
        '{"text": "sell", "later": NaN, "meta": {"x": 1}, "confidence": 2}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    model = str(plain_model)
    predict.main(["--model", model, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "o.jsonl")])
    first, second = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert [first[key] for key in ("n", "tags", "ok", "gone")] == [1.5, ["a"], True, None]
    assert second["meta"] == {"x": 1} and second["later"] is None and second["input_confidence"] == 2
    rows = call(plain_model, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert rows[0][len(HEADER) :] == ["n", "tags", "ok", "gone", "later", "meta", "input_confidence"]
    assert rows[1][len(HEADER) :] == ["1.50", '["a"]', "true", "", "", "", ""]
    assert rows[2][len(HEADER) :] == ["", "", "", "", "", '{"x": 1}', "2"]


@pytest.mark.parametrize("output", ["o.csv", "o.jsonl"])
def test_keys_that_come_behind_the_header_are_told(plain_model, tmp_path, monkeypatch, capsys, output):
    """Of standard input nobody can know the keys of later windows; a file is read once more for them."""
    content = b'{"text": "buy", "n": 1}\n{"text": "sell"}\n{"text": "hold", "later": 2, "n": 3}\n'
    (tmp_path / "in.jsonl").write_bytes(content)
    for source, is_told in (("-", output == "o.csv"), (str(tmp_path / "in.jsonl"), False)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        command = ["--model", str(plain_model), "--input", source, "--format", "jsonl", "--window", "2", "--overwrite"]
        predict.main([*command, "--output", str(tmp_path / output)])
        assert ("later" in (tmp_path / output).read_text()) != is_told
        assert ("warning: later: not in the output" in capsys.readouterr().err) == is_told


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_tables_are_read(plain_model, tmp_path, ending):
    """The separator of the training files is none of a workbook's."""
    model = trained_on(plain_model, tmp_path / "best", delimiter=";", encoding="cp1252", text="comment", id="key")
    frame = pandas.DataFrame({"key": ["007", "8", "9"], "comment": ["größe €", None, "7"], "likes": [1, 2, 3]})
    write = {".xlsx": frame.to_excel, ".parquet": frame.to_parquet}[ending]
    write(tmp_path / f"in{ending}", index=False)
    rows = call(model, tmp_path / f"in{ending}", tmp_path / "out.csv")
    assert rows[0] == [*HEADER, "likes"]
    assert [(row[0], row[1], bool(row[2]), row[-1]) for row in rows[1:]] == [
        ("007", "größe €", True, "1"),
        ("8", "", False, "2"),
        ("9", "7", True, "3"),
    ]


def test_a_typed_table_is_read_as_in_training(plain_model, tmp_path, capsys):
    times = [datetime(2021, 3, 4, 5, 6, 7), None]
    frame = pandas.DataFrame({"text": [b"buy", b"sell"], "time": times})
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    rows = call(plain_model, tmp_path / "in.parquet", tmp_path / "out.csv")
    # Bytes are no text.
    assert len(rows) == 1 and "not_text" in capsys.readouterr().err
    frame.assign(text=["buy", "sell"]).to_parquet(tmp_path / "in.parquet", index=False)
    rows = call(plain_model, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert [row[-1] for row in rows] == ["time", "2021-03-04T05:06:07", ""]


@pytest.mark.parametrize(
    ("header", "platform"),
    [("post,site", "site"), ("post,platform", "platform"), ("text,platform", "platform"), ("text,likes", None)],
)
def test_platforms_are_found_by_their_own_name_too(header, platform):
    known = [InputForm(text="post", platform="site", features=(("stars", "rating"),))]
    form = choose_form("in.csv", "csv", io.BytesIO(f"{header}\nbuy,web\n".encode()), known, {})
    assert (form.text, form.platform) == (header.split(",")[0], platform)


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        ("question,passage,context", "passage"),
        ("question,context", "context"),
        ("text,context", "context"),
        ("text,text_pair", "text_pair"),
        ("question,paragraph", None),
    ],
)
def test_second_texts_are_found_by_their_own_name_too(header, pair):
    known, binary = [InputForm(text="question", pair="passage")], io.BytesIO(f"{header}\nwho?,Anna,Bert\n".encode())
    assert choose_form("in.csv", "csv", binary, known, {}).pair == pair
    # A model of single texts leaves such a column alone.
    single, binary = [InputForm(text="question")], io.BytesIO(f"{header}\nwho?,Anna,Bert\n".encode())
    assert choose_form("in.csv", "csv", binary, single, {}).pair is None


def test_an_empty_table_is_told(plain_model, tmp_path):
    pandas.DataFrame({"text": pandas.Series([], dtype=str)}).to_parquet(tmp_path / "in.parquet", index=False)
    with pytest.raises(UserError, match=r"in\.parquet: the file is empty; expected a header and records"):
        call(plain_model, tmp_path / "in.parquet", tmp_path / "out.csv")
    pandas.DataFrame({"body": ["buy"]}).to_parquet(tmp_path / "in.parquet", index=False)
    with pytest.raises(UserError, match="expected text; found 'body'"):
        call(plain_model, tmp_path / "in.parquet", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("ending", "option"),
    [(".xlsx", "--encoding"), (".parquet", "--quoting"), (".jsonl", "--delimiter"), (".txt", "--delimiter")],
)
def test_options_that_a_format_does_not_read_are_refused(plain_model, tmp_path, ending, option):
    (tmp_path / f"in{ending}").write_bytes(b"x")
    value = {"--encoding": "latin-1", "--quoting": "none", "--delimiter": ";"}[option]
    with pytest.raises(UserError, match=f"{option}: .*in{ending} is read without one; leave it out"):
        call(plain_model, tmp_path / f"in{ending}", tmp_path / "out.csv", option, value)


@pytest.mark.parametrize("option", ["--text_column", "--id_column", "--pair_column", "--platform_column"])
@pytest.mark.parametrize("ending", [".txt", ".conll"])
def test_columns_of_a_file_without_any_are_refused(plain_model, tmp_path, ending, option):
    (tmp_path / f"in{ending}").write_text("buy now\n")
    with pytest.raises(UserError, match=f"{option}: .* has no columns"):
        call(plain_model, tmp_path / f"in{ending}", tmp_path / "out.csv", option, "text")


def test_a_sheet_without_a_header_is_read_as_that_of_training(plain_model, tmp_path):
    model = trained_on(plain_model, tmp_path / "best", text="column2", field_names=["column1", "column2"])
    pandas.DataFrame([[1, "one text"], [1, "another"]]).to_excel(tmp_path / "in.xlsx", index=False, header=False)
    rows = call(model, tmp_path / "in.xlsx", tmp_path / "out.csv")
    assert [(row[1], row[-1]) for row in rows[1:]] == [("one text", "1"), ("another", "1")]


def test_sheets_that_are_not_read_are_named(plain_model, tmp_path, capsys):
    with pandas.ExcelWriter(tmp_path / "in.xlsx") as book:
        for name in ("new", "old"):
            pandas.DataFrame({"text": [name]}).to_excel(book, sheet_name=name, index=False)
    assert len(call(plain_model, tmp_path / "in.xlsx", tmp_path / "out.csv")) == 2
    assert "in.xlsx: the first sheet is read; not old" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "txt"])
@pytest.mark.parametrize("answer", ["out.csv", "out.jsonl"])
def test_an_empty_post_gets_no_answer(plain_model, tmp_path, capsys, ending, answer):
    texts = ["buy now", "", "   ", "\u200b", "sell"]
    content = {
        "csv": "id,text\n" + "".join(f'c,"{text}"\n' for text in texts),
        "tsv": "id\ttext\n" + "".join(f"c\t{text}\n" for text in texts),
        "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts),
        "txt": "".join(f"{text}\n" for text in texts),
    }[ending]
    (tmp_path / f"in.{ending}").write_text(content)
    output = tmp_path / answer
    predict.main(["--model", str(plain_model), "--input", str(tmp_path / f"in.{ending}"), "--output", str(output)])
    if answer.endswith("csv"):
        found = [row[2:] for row in read_csv(output)[1:]]
    else:
        found = [[row[name] or "" for name in ANSWER] for row in map(json.loads, output.read_text().splitlines())]
    assert len(found) == 5
    assert [any(row) for row in found] == [True, False, False, False, True]
    rejects = read_csv(Path(f"{output}.rejects.csv"))
    assert [(row[1], row[2]) for row in rejects[1:]] == [("2", "empty_text"), ("3", "empty_text"), ("4", "empty_text")]
    assert "labelled 5 rows; 3 of them without an answer" in capsys.readouterr().err


def test_only_empty_posts(plain_model, tmp_path):
    (tmp_path / "in.csv").write_text("text,n\n,1\n ,2\n")
    rows = call(plain_model, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [row[2:-1] for row in rows[1:]] == [[""] * len(ANSWER)] * 2 and [row[-1] for row in rows[1:]] == ["1", "2"]


def test_a_job_that_stopped_goes_on_with_the_same_form_and_columns(plain_model, tmp_path, monkeypatch):
    model = trained_on(plain_model, tmp_path / "best", encoding="utf-16", delimiter=";", text="comment", id="key")
    source = tmp_path / "in.csv"
    source.write_bytes(table(";", texts=[*TEXTS, ""] * 10).encode("utf-16"))
    arguments = ["--model", str(model), "--input", str(source), "--window", "7"]
    predict.main([*arguments, "--output", str(tmp_path / "whole.csv")])
    write, calls = FileOutput.write, []

    def dying(*given):
        calls.append(1)
        if len(calls) == 3:
            raise Stop
        write(*given)

    monkeypatch.setattr(FileOutput, "write", dying)
    with pytest.raises(Stop):
        predict.main([*arguments, "--output", str(tmp_path / "out.csv")])
    monkeypatch.setattr(FileOutput, "write", write)
    with pytest.raises(UserError, match="was made from another format, column or window"):
        predict.main([*arguments, "--output", str(tmp_path / "out.csv"), "--quoting", "none"])
    predict.main([*arguments, "--output", str(tmp_path / "out.csv")])
    for ending in ("", ".rejects.csv"):
        assert (tmp_path / f"out.csv{ending}").read_bytes() == (tmp_path / f"whole.csv{ending}").read_bytes()


def test_a_trained_model_reads_its_own_file(setting, tmp_path):
    posts = drawn_posts(120)
    rows = [
        f"comment;level;when\r\n{''.join(f'{text} é;{label};{at}{chr(10)}' for at, (text, label) in enumerate(posts))}"
    ]
    (tmp_path / "posts.csv").write_bytes(rows[0].encode("utf-16"))
    spec = {
        "name": "wide",
        "tokenizer_name_or_path": setting["model_name_or_path"],
        "files": [
            {
                "path": "posts.csv",
                "encoding": "utf-16",
                "delimiter": ";",
                "columns": {"text": "comment", "label": "level"},
            }
        ],
        "labels": ["noise", "objective", "positive", "negative"],
    }
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    options = {"dataset": str(tmp_path / "wide.yaml"), "data_dir": str(tmp_path), "output_dir": str(tmp_path / "runs")}
    train(setting, **options, num_train_epochs=1, run_name="wide")
    found = call(tmp_path / "runs/wide/best", tmp_path / "posts.csv", tmp_path / "out.csv")
    assert len(found) == 121 and found[0][-2:] == ["level", "when"]
    assert found[1][1] == f"{posts[0][0]} é"


def test_second_texts_that_come_late_or_are_absent_are_told(plain_model, tmp_path, capsys):
    known = [InputForm(text="question", pair="passage")]
    late = "".join(
        json.dumps({"question": "who?"} | ({"passage": "Anna"} if at > 30 else {})) + "\n" for at in range(40)
    )
    assert choose_form("in.jsonl", "jsonl", io.BytesIO(late.encode()), known, {}).pair == "passage"
    model = trained_on(plain_model, tmp_path / "best", text="question", pair="passage")
    (tmp_path / "in.csv").write_text("question,paragraph\nwho?,Anna\n")
    call(model, tmp_path / "in.csv", tmp_path / "out.csv")
    assert "in.csv: warning: has no 'passage', from which training read" in capsys.readouterr().err
