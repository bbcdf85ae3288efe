"""The bundled sample: the committed bytes come out of the generator, and they have the form of the real files."""

import csv
import io
import json
import re
from collections import Counter, defaultdict

import pytest

from tools.sample_posts import __main__ as sample
from tools.sample_posts.forms import EMOJI, lose_high_bytes, mojibake
from tools.sample_posts.grammar import Dice, Grammar, sentence
from tools.sample_posts.inputs import build_inputs
from tools.sample_posts.tasks import build_tasks, tag_text

NAMES = {codes: label for label, codes in sample.CODES.items()}
COLUMNS = {
    "reddit.csv": ["title", "selftext", "MAIN", "Level 1", "Level 2", "Level 3", ""],
    "twitter.csv": ["Text", "Level 1", "Level 2", "Level 3"],
    "youtube.csv": ["comment_id", "comment", "Level 1 ", "Level 2 ", "Level 3"],
}
TEXT = {"reddit.csv": 2, "twitter.csv": 0, "youtube.csv": 1}
FIRST_CODE = {"reddit.csv": 3, "twitter.csv": 1, "youtube.csv": 2}
REAL = {name: f"CRYPTO-{name.removesuffix('.csv').upper()}-OPINION-TRAIN.csv" for name in COLUMNS}


@pytest.fixture(scope="module")
def files(request):
    folder = request.config.rootpath / "data" / "sample"
    return {name: (folder / name).read_bytes() for name in COLUMNS}


def records(content):
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def usable(name, content):
    """(text, label) of the records with all fields and codes that keep to the hierarchy."""
    for fields in records(content)[1:]:
        codes = tuple(fields[FIRST_CODE[name] : FIRST_CODE[name] + 3])
        if len(fields) == len(COLUMNS[name]) and codes in NAMES:
            yield fields[TEXT[name]], NAMES[codes]


def test_regeneration_equals_the_committed_files(files, repository, tmp_path, capsys):
    """By the command, into a folder that it makes."""
    sample.main(["--output_dir", str(tmp_path / "deep" / "folder")])
    assert "reddit.csv" in capsys.readouterr().out
    written = {path.name: path.read_bytes() for path in (tmp_path / "deep" / "folder").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (repository / "data" / "sample").iterdir()}
    assert written.keys() == {"README.md", *COLUMNS, *build_tasks(seed=2026), *build_inputs(seed=2026)}
    assert sum(map(len, files.values())) < 1_500_000


def test_another_seed_gives_other_posts(files):
    assert all(content != files[name] for name, content in sample.build(seed=7).items())


@pytest.mark.parametrize("name", COLUMNS)
def test_header_and_bytes_have_the_real_form(files, name, shared_data):
    """Byte order mark, header, line ends and quoting agree with the file they imitate."""
    real = (shared_data / "cryptoqa-opinion" / "original" / REAL[name]).read_bytes()
    ours = files[name]
    assert ours.split(b"\n")[0] == real.split(b"\n")[0]
    for content in (ours, real):
        crlf = content.count(b"\r\n")
        assert content.count(b"\r") == crlf
        assert crlf == (0 if name == "twitter.csv" else content.count(b"\n"))
    assert b"\x00" not in ours
    broken = {
        which: sorted(len(fields) for fields in records(content) if len(fields) != len(COLUMNS[name]))
        for which, content in (("ours", ours), ("real", real))
    }
    assert broken["ours"] == broken["real"]


@pytest.mark.parametrize(
    ("name", "pattern", "tolerance"),
    [
        ("twitter.csv", r"â€¦\s*$", 0.15),  # cut with an ellipsis
        ("twitter.csv", r"[âÂÃðà][\u0080-\u2122]", 0.1),
        ("twitter.csv", r"^rt @", 0.05),
        ("twitter.csv", r"\n", 0.1),
        ("youtube.csv", r"[\x01-\x08\x0e-\x1f]", 0.06),
        ("youtube.csv", r"\r\n", 0.06),
        ("reddit.csv", r"[âÂÃðà][\u0080-\u2122]", 0.04),
        ("reddit.csv", r"\\n", 0.12),
    ],
)
def test_damage_is_as_frequent_as_in_the_real_files(files, name, pattern, tolerance, shared_data):
    real = (shared_data / "cryptoqa-opinion" / "original" / REAL[name]).read_bytes()
    rates = [
        sum(bool(re.search(pattern, text)) for text, _ in rows) / len(rows)
        for rows in (list(usable(name, content)) for content in (files[name], real))
    ]
    assert rates[0] == pytest.approx(rates[1], abs=tolerance)


def test_no_post_of_the_real_files_is_in_the_sample(files, shared_data):
    for name, content in files.items():
        real = {
            text for text, _ in usable(name, (shared_data / "cryptoqa-opinion" / "original" / REAL[name]).read_bytes())
        }
        shared = {text for text, _ in usable(name, content) if text in real}
        assert all(len(text.split()) <= 3 for text in shared)  # "Money" can be said by anyone


def test_main_is_title_and_body_run_together(files):
    rows = records(files["reddit.csv"])[1:]
    assert all(fields[6] == "" for fields in rows)
    joined = [
        fields[2].lower() in (f"{fields[0]} {fields[1]}".lower(), f"{fields[0]}{fields[1]}".lower()) for fields in rows
    ]
    assert 0.65 < sum(joined) / len(rows) < 0.95
    assert any(len(fields[2].split()) > 300 for fields in rows)
    assert any("\\n\\n" in fields[1] for fields in rows)


def test_three_youtube_and_five_twitter_records_are_broken(files):
    youtube = [fields for fields in records(files["youtube.csv"])[1:] if len(fields) != 5 or len(fields[2]) > 1]
    assert sorted(map(len, youtube)) == [5, 5, 6]
    twitter = [
        fields for fields in records(files["twitter.csv"])[1:] if fields and (len(fields) != 4 or len(fields[1]) > 1)
    ]
    assert sorted(map(len, twitter)) == [1, 1, 2, 4, 4]


def test_repeats_conflicts_and_broken_hierarchy_on_twitter(files):
    codes_of = defaultdict(set)
    rows = [fields for fields in records(files["twitter.csv"])[1:] if len(fields) == 4]
    for fields in rows:
        codes_of[fields[0]].add(tuple(fields[1:]))
    assert 0.4 < 1 - len(codes_of) / len(rows) < 0.6
    assert 30 < sum(len(codes) > 1 for codes in codes_of.values()) < 120
    odd = Counter(tuple(fields[1:]) for fields in rows if tuple(fields[1:]) not in NAMES)
    assert odd["2", "", ""] == 11 and odd["2", "0", ""] == 14


def test_every_class_has_rows_for_a_test_split_and_the_mix_is_imbalanced(files):
    labels_of = defaultdict(set)
    for name, content in files.items():
        for text, label in usable(name, content):
            labels_of[text].add(label)
    counts = Counter(next(iter(labels)) for labels in labels_of.values() if len(labels) == 1)
    assert set(counts) == set(sample.CODES)
    assert min(counts.values()) >= 40
    assert max(counts.values()) > 8 * min(counts.values())


def test_task_is_neither_trivial_nor_hopeless(files):
    """Words alone reach a middling macro-F1: learnable, with room above."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    rows = list({text: label for name, content in files.items() for text, label in usable(name, content)}.items())
    train, test = ([row for index, row in enumerate(rows) if (index % 4 == 0) == held] for held in (False, True))
    words = TfidfVectorizer(min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=5, class_weight="balanced", max_iter=300)
    model.fit(words.fit_transform([text for text, _ in train]), [label for _, label in train])
    predicted = model.predict(words.transform([text for text, _ in test]))
    score = f1_score([label for _, label in test], predicted, average="macro")
    assert 0.5 < score < 0.78


def test_damage_functions():
    assert mojibake("it’s … é\u00a0€\u009d") == "itâ€™s â€¦ Ã©Â\u00a0â‚¬Â\u009d"
    assert lose_high_bytes("it’s 😂") == "it\x19s =\x02"
    for emoji in EMOJI:  # their low bytes must not end lines or fields
        assert not set(lose_high_bytes(emoji)) & set('\r\n",\x00')


def test_grammar_keeps_to_its_subject_and_finishes_sentences():
    grammar = Grammar(Dice(3))
    grammar.new_post()
    first = grammar._replace("", "coin", "", "mid")
    assert grammar._replace("", "coin", "", "mid") == first != grammar._replace("", "coin", "2", "mid")
    assert sentence("it was a awful day") == "It was an awful day."
    assert sentence("really?") == "Really?"
    with pytest.raises(KeyError, match="nothing"):
        grammar.expand("nothing")


def test_names_are_tagged_with_the_longest_one_first():
    tagged = tag_text(Grammar(Dice(1)), "Portobello Exchange lists Pinecone Finance, not BTC.")
    tags = ["B-exchange", "I-exchange", "O", "B-coin", "I-coin", "O", "O", "B-coin", "O"]
    assert [tag for _, tag in tagged] == tags


def test_other_tasks_files_differ_by_seed_and_hold_their_answers():
    first, second = build_tasks(seed=1), build_tasks(seed=2)
    assert all(first[name] != second[name] for name in first)
    for line in first["questions.jsonl"].splitlines()[:-1]:
        row = json.loads(line)
        start, answer = row["answers"]["answer_start"][0], row["answers"]["text"][0]
        assert row["context"][start : start + len(answer)] == answer


def test_every_symbol_of_the_grammar_expands():
    grammar = Grammar(Dice(5))
    for symbol, options in grammar._rules.items():
        for _ in range(3 * len(options)):
            grammar.new_post()
            assert "{" not in grammar.expand(symbol, "pos")


def test_what_decides_long_posts_stands_near_their_end_and_reviews_are_told_by_their_columns():
    files = {name: content.decode() for name, content in build_inputs(seed=2026).items()}
    posts = [json.loads(line) for line in files["long.jsonl"].splitlines()]
    assert Counter(post["label"] for post in posts) == {"positive": 60, "negative": 60}
    assert sum(len(post["text"].split()) > 100 for post in posts) > 60
    reviews = list(csv.DictReader(io.StringIO(files["reviews.csv"])))
    rated = [row for row in reviews if row["rating"] not in ("", "n/a")]
    assert len(rated) > 90 and all((int(row["rating"]) > 3) == (row["label"] == "positive") for row in rated)
