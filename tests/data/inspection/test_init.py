"""`opinionlm init`: what it finds in files of every form, and that the YAML files it writes are usable."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pandas
import pytest

from opinionlm.config.parser import parse_config
from opinionlm.data.inspection.__main__ import main
from opinionlm.data.inspection.columns import Column
from opinionlm.data.inspection.forms import is_header, look_at
from opinionlm.data.inspection.roles import ID_NAME, find_roles
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError

WORDS = {"good": "fine great lovely", "bad": "awful poor broken", "So so": "plain, usual common"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(number: int = 90) -> list[tuple[str, str]]:
    """Texts with their labels."""
    return [(f"{WORDS[label]}, {index}", label) for index in range(number // 3) for label in WORDS]


def table(delimiter: str = ",", header: str = "comment,sentiment") -> str:
    lines = [f'"{text}"{delimiter}"{label}"' for text, label in rows()]
    return "\r\n".join([header.replace(",", delimiter), *lines] if header else lines) + "\r\n"


def init(*arguments: str) -> None:
    main([*arguments, "--overwrite"])


def prepared(name: str):
    """The data set of a YAML that `init` wrote, prepared from the folder that its run YAML names."""
    config = parse_config(["--config", f"{name}_run.yaml"], None)
    spec = load_spec(config.data.dataset)
    return load_prepared(prepare(spec, config.data.data_dir, Path("out")))


def size(data) -> int:
    return sum(map(len, data.dataset.values()))


def file_of(name: str) -> FileSpec:
    return load_spec(f"{name}.yaml").files[0]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (table().encode(), (None, "utf-8")),
        (b"\xef\xbb\xbf" + table(";").encode(), (";", "utf-8")),
        (table("\t").encode("utf-16"), ("\t", "utf-16")),
        (table("|").replace("great", "très").encode("cp1252"), ("|", "cp1252")),
        (b"sep=;\r\n" + table(";").encode(), (";", "utf-8")),
    ],
)
@pytest.mark.parametrize("asked", [(), ("--text", "comment", "--label", "sentiment")])
def test_delimiters_and_encodings(content, found, asked, capsys):
    Path("my posts.csv").write_bytes(content)
    init("my posts.csv", *asked)
    file = file_of("my_posts")
    assert (file.delimiter, file.encoding) == found
    data = prepared("my_posts")
    assert list(data.taxonomy.leaves) == ["So so", "bad", "good"] and size(data) == 90
    said = capsys.readouterr().out
    assert "3 labels: good 30, bad 30, So so 30" in said and "--config my_posts_run.yaml" in said
    assert ("guessed: text and label" in said) == (not asked)


def test_a_file_without_a_header():
    Path("posts.csv").write_text(table(header=""), encoding="utf-8")
    init("posts.csv")
    assert file_of("posts").field_names == ("column1", "column2") and size(prepared("posts")) == 90
    init("posts.csv", "--text", "column1", "--label", "column2")
    assert size(prepared("posts")) == 90


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([["text", "label"], ["hi", "a"], ["ho", "a"]], True),
        ([["hi", "a"], ["ho", "a"], ["hm", "a"]], False),
        ([["text", "1"], ["hi", "0"], ["ho", "1"]], False),
        ([["x" * 81, "label"], ["hi", "a"]], False),
        ([["", "text", "label"], ["0", "hi", "a"], ["1", "ho", "b"]], True),
    ],
)
def test_headers(table, expected):
    assert is_header(table) is expected


def test_the_header_of_a_joined_file_is_seen_and_left_out(capsys):
    """`cat a.csv b.csv` was called a file without a header, with a label named like its column."""
    Path("posts.csv").write_text(table() + table().replace("fine", "nice"))
    init("posts.csv")
    said = capsys.readouterr().out
    assert "a header line" in said and "1 that cannot be read" in said
    assert load_spec("posts.yaml").files[0].columns == {"text": "comment", "label": "sentiment"}
    tree = load_spec("posts.yaml").labels
    assert tree is not None and sorted(tree.leaves) == sorted(WORDS)


def test_nested_objects_and_compression():
    lines = [
        json.dumps({"id": f"0{n}", "data": {"body": text}, "by": {"label": label}})
        for n, (text, label) in enumerate(rows())
    ]
    with gzip.open("posts.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines, "", "{broken"]))
    init("posts.jsonl.gz")
    assert dict(file_of("posts").columns) == {"id": "id", "text": "data.body", "label": "by.label"}
    data = prepared("posts")
    assert size(data) == 90 and data.dataset["train"]["id"][0].startswith("0")


def test_texts_without_blanks():
    lines = [f"{'天地山水火木'[n % 6]}{'日月人口手'[n % 5]}{'涨跌'[n % 2]}的{n},{'涨跌'[n % 2]}" for n in range(60)]
    Path("posts.csv").write_text("\n".join(["a,b", *lines]), encoding="gb18030")
    init("posts.csv")
    assert dict(file_of("posts").columns) == {"text": "a", "label": "b"} and file_of("posts").encoding == "gb18030"
    assert [*prepared("posts").taxonomy.leaves] == ["涨", "跌"]


@pytest.mark.parametrize("header", [["Nr.", "seen", "comment", "sentiment"], None])
def test_excel_with_and_without_a_header(header, capsys):
    """Dates and numbers below themselves are no names of columns."""
    day = pandas.Timestamp("2024-01-01")
    table = [[n, day + pandas.Timedelta(days=n), text, label] for n, (text, label) in enumerate(rows(), start=1)]
    pandas.DataFrame(table).to_excel("posts.xlsx", index=False, header=header or False)
    init("posts.xlsx")
    said = capsys.readouterr().out
    assert ("a header line" if header else "no header line") in said and "90 records" in said
    assert "not used   2024-01-02T00:00:00" in said
    data = prepared("posts")
    assert size(data) == 90 and len(data.taxonomy.leaves) == 3
    assert load_spec("posts.yaml").files[0].columns.get("id") == ("Nr." if header else None)


def test_dates_and_ids_are_no_labels_and_blank_fields_are_counted(capsys):
    lines = [f'{n % 7 + 1:02}.01.2024,"{text}",{label}' for n, (text, label) in enumerate(rows())]
    Path("posts.csv").write_text("\n".join(["day,a,b", *lines, "01.01.2024,,good", "01.01.2024,text,"]), "utf-8")
    init("posts.csv")
    said = capsys.readouterr().out
    assert dict(file_of("posts").columns) == {"text": "a", "label": "b"} and said.count("(blank in 1 of 92)") == 2


def test_labels_of_few_texts_are_pointed_out(capsys):
    lines = [f"some text {n},{'common' if n < 40 else f'rare {n // 2}'}" for n in range(60)]
    Path("posts.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    init("posts.csv")
    assert "\n10 labels of fewer than 10 texts, hardly learned: rare 29 2, rare 28 2, " in capsys.readouterr().out
    Path("posts.csv").write_text("\n".join(["text,label", *lines[:41], *lines[:1]]), encoding="utf-8")
    init("posts.csv", "--overwrite")
    assert "\n1 label of fewer than 10 texts, hardly learned: rare 20 1\n" in capsys.readouterr().out


def test_levels_with_equal_leaves_become_path_names(capsys):
    lines = [f"{k} {a} number {n},{k},{a}" for n in range(20) for k in ("praise", "blame") for a in ("goods", "staff")]
    Path("posts.csv").write_text("\n".join(["text,kind,about", *lines]), encoding="utf-8")
    with pytest.raises(UserError, match="--label COLUMN, one of 'kind', 'about'; two or more are levels"):
        init("posts.csv")
    init("posts.csv", "--label", "kind", "about")
    assert "4 labels: praise/goods 20, " in capsys.readouterr().out
    assert list(prepared("posts").taxonomy.leaves) == ["blame/goods", "blame/staff", "praise/goods", "praise/staff"]


def test_level_columns_are_known_by_their_names():
    lines = [f"{k} {a} number {n},{k},{a}" for n in range(20) for k in ("praise", "blame") for a in ("goods", "staff")]
    Path("posts.csv").write_text("\n".join(["text,Level 1,Level 2", *lines]), encoding="utf-8")
    init("posts.csv")
    assert prepared("posts").taxonomy.depth == 2


def test_conll():
    Path("tags.txt").write_text("".join(f"I O\nsaw O\nAda B-PER\n{n} O\n\n" for n in range(60)), encoding="utf-8")
    init("tags.txt")
    data = prepared("tags")
    assert data.task == "token" and size(data) == 60


def test_pairs_with_a_label_and_pairs_with_a_score():
    lines = [f"one text {n},other text {n},{'yes' if n % 2 else 'no'}" for n in range(60)]
    Path("pairs.csv").write_text("\n".join(["sentence1,sentence2,same", *lines]), encoding="utf-8")
    init("pairs.csv")
    data = prepared("pairs")
    assert data.task == "sequence" and {"text", "text_pair"} <= {*data.dataset["train"].column_names}
    # YAML would read these labels as truth values.
    assert list(data.taxonomy.leaves) == ["no", "yes"]
    lines = [f"one text {n},other text {n},{n / 20}" for n in range(60)]
    Path("scores.csv").write_text("\n".join(["sentence1,sentence2,score", *lines]), encoding="utf-8")
    init("scores.csv")
    assert load_spec("scores.yaml").score_range == (0.0, 2.95) and prepared("scores").task == "similarity"


@pytest.mark.parametrize(
    ("values", "separator"),
    [
        (["joy", "anger;joy", "anger", "joy;sad", "sad"], ";"),
        (["joy", "anger, joy", "anger", "joy, sad", "sad"], ","),
        (["objection, legal", "objection, moral"], ""),
        (["joy", "anger"], ""),
    ],
)
def test_several_labels_in_a_field(values, separator):
    column = Column("label")
    for value in values * 5:
        column.add(value)
    assert column.separator() == separator


def test_several_labels_as_lists_and_by_a_separator_make_the_task_multi_label(capsys):
    lines = [f'text number {n},"{["joy", "anger|joy", "anger"][n % 3]}"' for n in range(30)]
    Path("several.csv").write_text("\n".join(["text,emotions", *lines]), encoding="utf-8")
    roles = find_roles(look_at(Path("several.csv"), []), [], [])
    assert (roles.task, roles.separator) == ("multi_label", "|")
    init("several.csv")
    assert "2 labels: joy 20, anger 20" in capsys.readouterr().out
    data = prepared("several")
    assert data.task == "multi_label" and list(data.taxonomy.leaves) == ["anger", "joy"] and size(data) == 30
    lines = [
        json.dumps({"text": f"text number {n}", "labels": [["joy"], ["anger", "joy"], []][n % 3]}) for n in range(45)
    ]
    Path("several.jsonl").write_text("\n".join(lines), encoding="utf-8")
    roles = find_roles(look_at(Path("several.jsonl"), []), [], [])
    assert (roles.task, roles.separator, roles.labels) == ("multi_label", "", ("labels",))
    init("several.jsonl")
    assert list(prepared("several").taxonomy.leaves) == ["anger", "joy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["posts.csv", "--text", "coment"], "--text: posts.csv has no column 'coment', did you mean 'comment'"),
        (["posts.csv", "--text", "sentiment", "--label", "comment"], "holds 90 different values in 90 records"),
        (["posts.csv", "--text", "a", "b", "c"], "--text: 3 columns"),
        (["posts.csv", "--name", "a/b"], "--name: 'a/b' has to be a plain name"),
        (["one.csv"], "'label' of one.csv holds one value alone, 'yes', and there is nothing to tell apart"),
        (["each.csv"], "'label' of each.csv holds 60 different values in 60 records"),
        (["none.csv"], "none.csv: cannot be read"),
        (["posts.doc"], "unknown format '.doc'; save it as .csv"),
        (["empty.csv"], "empty.csv: the file is empty"),
        (["header.csv"], "header.csv: it holds no record, at most a header line"),
        (["folder"], "folder: it is a folder; name the file in it"),
        (["."], ".: it is a folder; name the file in it"),
        (["noending"], "noending: unknown format ''; save it as .csv"),
        (["binary.csv", "--text", "x"], "binary.csv"),
        (["noise.csv", "--text", "x"], "noise.csv: no column of it has a name of its own; is it really csv"),
        (["onehot.csv", "--text", "text", "--label", "toxic", "rude"], "hold 0 and 1, a column per label"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments, message):
    Path("posts.csv").write_text(table(), encoding="utf-8")
    Path("empty.csv").write_text("\n")
    Path("one.csv").write_text("text,label\n" + "".join(f"some text {n},yes\n" for n in range(60)))
    Path("each.csv").write_text("text,label\n" + "".join(f"some text {n},class {n}\n" for n in range(60)))
    Path("binary.csv").write_bytes(bytes(range(256)) * 20)
    Path("noise.csv").write_bytes(random.Random(3).randbytes(20_000))
    Path("header.csv").write_text("comment,sentiment\n")
    Path("noending").write_text(table(), encoding="utf-8")
    Path("folder").mkdir()
    Path("onehot.csv").write_text(
        "text,toxic,rude\n" + "".join(f"some text {n},{n % 2},{n % 3 // 2}\n" for n in range(9))
    )
    with pytest.raises(UserError, match=message) as caught:
        main(arguments)
    assert "\n" not in str(caught.value) and not list(Path().glob("*.yaml"))


def test_files_that_are_there_stay():
    Path("posts.csv").write_text(table(), encoding="utf-8")
    Path("posts_run.yaml").write_text("mine: true\n")
    with pytest.raises(UserError, match="posts_run.yaml is there already; give --overwrite"):
        main(["posts.csv"])
    assert Path("posts_run.yaml").read_text() == "mine: true\n" and not Path("posts.yaml").exists()


def test_another_folder_and_the_names_of_runs():
    Path("data").mkdir()
    Path("data/posts.csv").write_text(table(), encoding="utf-8")
    init("data/posts.csv", "--output_dir", "configs", "--name", "mine", "--model_name_or_path", "org/large")
    config = parse_config(["--config", "configs/mine_run.yaml"], None)
    assert (config.training.run_name, config.data.data_dir) == ("mine-large-full", "data")
    assert load_spec("configs/mine.yaml").name == "mine"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("id", True), ("review_id", True), ("reviewId", True), ("Ticket No", True), ("paid", False), ("Android", False)],
)
def test_names_of_ids(name: str, is_one: bool) -> None:
    assert bool(ID_NAME.fullmatch(name)) is is_one
