"""Words beside a model: the mixture by hand, its choice on validation, and the same answers once it is saved."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import pipeline

import predict
from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from opinionlm.evaluation.significance import reality_check
from opinionlm.models.linear.interpolation import LEVEL, SHARES, fit_interpolation, mixed
from opinionlm.models.linear.tfidf import TfidfClassifier, load_tfidf, new_vectorizer, require_shared_words
from tests.classifier_runs import train

TEXTS = ["buy the coin", "sell the coin", "buy it now", "sell it now"] * 5
LABELS = np.array([0, 1, 0, 1] * 5)


def accuracy(gold: np.ndarray, logits: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == gold).mean())


def check(gold: np.ndarray, alone: np.ndarray, mixtures: np.ndarray) -> float:
    return reality_check(gold, alone, mixtures, 2)


def test_the_mixture_by_hand() -> None:
    # Probabilities 0.8 and 0.2 of the model, 0.5 and 0.5 of the words: at a share of a half their geometric means.
    model, words = np.log([[0.8, 0.2]]) + 3, np.zeros((1, 2))
    found = np.exp(mixed(model, words, 0.5))
    assert found[0] == pytest.approx([math.sqrt(0.8 * 0.5), math.sqrt(0.2 * 0.5)])
    assert mixed(model, words, 0.0) == pytest.approx(np.log([[0.8, 0.2]]))


def test_the_share_is_what_validation_likes_best_and_the_smaller_one_in_a_tie() -> None:
    # The model knows nothing: any share above 0 is right, and 0.1 is the smallest of them.
    ignorant = np.zeros((len(TEXTS), 2))
    ignorant[:, 0] = 1e-3
    interpolation = fit_interpolation((TEXTS, LABELS), (TEXTS, LABELS), ignorant, True, accuracy, check)
    assert interpolation.share == 0.1 and interpolation.scores[0.0] == 0.5 and interpolation.scores[0.1] == 1.0
    assert set(interpolation.scores) == set(SHARES)
    # The model knows everything: the words stay out.
    knowing = np.eye(2)[LABELS] * 9
    assert fit_interpolation((TEXTS, LABELS), (TEXTS, LABELS), knowing, True, accuracy, check).share == 0.0


def kept(words_know: float, draws: int = 40, rows: int = 250, classes: int = 6) -> float:
    """Share of draws in which the best of nine mixtures with word logits of a strength would be kept."""
    count = 0
    for draw in range(draws):
        rng = np.random.default_rng([draw, 26])
        gold = rng.choice(classes, rows, p=rng.dirichlet(np.full(classes, 5.0)))
        right = np.eye(classes)[gold]
        model = 2 * right + rng.normal(size=(rows, classes))
        # Without own knowledge the words say what the model says, and noise.
        own = model if words_know == 0 else words_know * right
        words = own + rng.normal(size=(rows, classes))
        mixtures = np.stack([mixed(2 * model, 2 * words, share).argmax(axis=1) for share in SHARES[1:]])
        count += reality_check(gold, model.argmax(axis=1), mixtures, classes) <= LEVEL
    return count / draws


def test_words_that_add_nothing_stay_out_and_those_that_help_are_kept() -> None:
    assert kept(words_know=0) <= 0.1
    assert kept(words_know=1.2) >= 0.8


def test_a_share_that_may_be_chance_is_0() -> None:
    ignorant = np.zeros((len(TEXTS), 2))
    interpolation = fit_interpolation((TEXTS, LABELS), (TEXTS, LABELS), ignorant, True, accuracy, lambda *_: 0.21)
    assert interpolation.share == 0.0 and interpolation.p_value == 0.21 and interpolation.scores[0.1] == 1.0


def test_saved_words_give_the_same_logits_to_the_bit(tmp_path) -> None:
    model = TfidfClassifier(True, accuracy).fit((TEXTS, LABELS), (TEXTS, LABELS), 3)
    model.save(tmp_path)
    again = load_tfidf(tmp_path)
    texts = ["Buy the coin, sell it!", "nothing known", "", "coin coin coin"]
    assert np.array_equal(model.logits(texts), again.logits(texts))
    assert again.parameters == model.parameters


def test_a_word_may_mean_something_else_on_every_platform(tmp_path) -> None:
    # "up" is label 0 on one platform and 1 on the other: no shared weight can say that, weights of their own can.
    posts = [f"{platform}: it goes {word}" for platform in ("reddit", "twitter") for word in ("up", "down")] * 6
    gold = np.array([0, 1, 1, 0] * 6)
    shared = TfidfClassifier(True, accuracy).fit((posts, gold), (posts, gold), 2)
    own = TfidfClassifier(True, accuracy, platforms=["reddit", "twitter"]).fit((posts, gold), (posts, gold), 2)
    # Words alone; the vectorizer also knows pairs of words, of which none holds a platform and a direction.
    assert accuracy(gold, shared.logits(posts)) == 0.5 and accuracy(gold, own.logits(posts)) == 1.0
    assert own.parameters == 2 + 3 * (shared.parameters - 2)
    own.save(tmp_path)
    again = load_tfidf(tmp_path)
    texts = [*posts, "goes up", "youtube: goes up", ""]
    assert np.array_equal(own.logits(texts), again.logits(texts))
    # A post from elsewhere has the shared weights alone.
    assert own.features(["youtube: goes up"]).nnz == shared.features(["youtube: goes up"]).nnz


def test_the_regularisation_is_what_serves_the_mixture() -> None:
    # Word logits of every C are taken apart by their size: the score prefers the larger ones only beside the model.
    seen = []

    def spread(gold: np.ndarray, logits: np.ndarray) -> float:
        seen.append(float(np.ptp(logits, axis=1).mean()))
        return seen[-1]

    texts, ignorant = (TEXTS, LABELS), np.zeros((len(TEXTS), 2))
    interpolation = fit_interpolation(texts, texts, ignorant, True, spread, lambda *_: 0.0)
    assert interpolation.words.regression.c == 30.0 and interpolation.share == max(SHARES)
    assert len(seen) == (5 + 1) * len(SHARES)


def predictions(path: Path) -> list[list[float]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [[float(row[name]) for name in row if name.startswith("probability_")] for row in csv.DictReader(file)]


@pytest.mark.parametrize("platform_prefix", [False, True])
def test_predict_mixes_as_training_did(setting, tmp_path, platform_prefix: bool) -> None:
    options = {"output_dir": tmp_path, "run_name": "run", "num_train_epochs": 1, "platform_prefix": platform_prefix}
    metrics = train(setting, blend_words=True, **options)
    # After one epoch the tiny model knows little, and words say nearly everything about these posts.
    facts = metrics["decision"]
    assert facts["word_share"] > 0 and metrics["validation"]["macro_f1"] > facts["macro_f1_without_words"]
    assert metrics["validation"]["macro_f1_without_words"] == facts["macro_f1_without_words"]
    assert 0 <= metrics["test"]["macro_f1_without_words"] <= 1
    assert metrics["model"]["word_parameters"] > 100
    best, table = tmp_path / "run" / "best", tmp_path / "run" / "predictions" / "test.csv"
    platform = ["--platform", "forum"] if platform_prefix else []
    predict.main(["--model", str(best), "--input", str(table), "--output", str(tmp_path / "out.csv"), *platform])
    assert np.abs(np.array(predictions(tmp_path / "out.csv")) - np.array(predictions(table))).max() < 2e-6
    assert "a pipeline gives the language model alone" in (best / "README.md").read_text()
    # The pipeline stays the language model's.
    assert pipeline("text-classification", model=str(best))("a coin")[0]["score"] > 0
    (best / "words.json").write_text("[]")
    with pytest.raises(UserError, match="the TF-IDF interpolation in"):
        predict.main(["--model", str(best), "--input", str(table), "--output", str(tmp_path / "2.csv"), *platform])
    (best / "words.safetensors").write_bytes((best / "words.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match="copy the whole folder anew"):
        predict.main(["--model", str(best), "--input", str(table), "--output", str(tmp_path / "2.csv"), *platform])
    (best / "words.safetensors").unlink()
    with pytest.raises(UserError, match="copy the whole folder anew"):
        predict.main(["--model", str(best), "--input", str(table), "--output", str(tmp_path / "2.csv"), *platform])


def test_a_merged_adapter_keeps_its_words(setting, tmp_path) -> None:
    options = {"output_dir": tmp_path, "run_name": "run", "num_train_epochs": 1, "adaptation": "lora"}
    train(setting, blend_words=True, **options)
    best, table = tmp_path / "run" / "best", tmp_path / "run" / "predictions" / "test.csv"
    predict.main(["--model", str(best), "--merge", str(tmp_path / "merged")])
    arguments = ["--input", str(table), "--output", str(tmp_path / "out.csv")]
    predict.main(["--model", str(tmp_path / "merged"), *arguments])
    assert np.abs(np.array(predictions(tmp_path / "out.csv")) - np.array(predictions(table))).max() < 1e-5


def test_without_the_option_nothing_is_added(setting, tmp_path) -> None:
    metrics = train(setting, output_dir=tmp_path, run_name="run", num_train_epochs=1)
    assert "word_share" not in metrics["decision"] and "word_parameters" not in metrics["model"]
    best = tmp_path / "run" / "best"
    assert not list(best.glob("words.*")) and json.loads((best / "config.json").read_text())["word_share"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "tfidf"], "blend_words: True is not read by engine: tfidf"),
        (["--task", "token"], "blend_words: True is not read by task: token"),
    ],
)
def test_refused_where_it_makes_no_sense(options, message) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(["--blend_words", "true", *options], "test")


LATIN = "It's a $BTC pump!! don't @me... naïve café_2 100% x y ÜBER über #HODL e-mail 3.14 \u00a35 \u00a7 10\u00b0"


def test_words_of_ordinary_text_are_those_of_before() -> None:
    draw = np.random.default_rng(0)
    alphabet = list("abcXYZ019_ \t\n.,'-!?@#$%&*()éßñøžçабвгαβγالع한국\u00a3\u00a7")
    texts = [LATIN, *("".join(draw.choice(alphabet, 60)) for _ in range(200))]
    before, now = TfidfVectorizer(ngram_range=(1, 2)).build_analyzer(), new_vectorizer().build_analyzer()
    for text in texts:
        assert now(text) == before(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("post 🚀 x123", ["post", "🚀", "x123"]),
        ("🚀🚀💀", ["🚀", "🚀", "💀"]),
        ("天地涨", ["天", "地", "涨"]),
        ("btc涨5x了", ["btc", "涨", "5x", "了"]),
        ("ビットコイン", list("ビットコイン")),
        ("ขึ้น", list("ขึ้น")),
        ("❤️ ❤", ["❤", "❤"]),
        ("👍🏽 👨\u200d👩", ["👍", "👨", "👩"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("up → ₿ ✓ €", ["up", "→", "₿", "✓", "€"]),
        ("\U00020000x", ["\U00020000"]),
    ],
)
def test_emoji_symbols_and_scripts_without_blanks_are_seen(text, tokens) -> None:
    single = new_vectorizer().set_params(ngram_range=(1, 1)).build_analyzer()
    assert single(text) == tokens


@pytest.mark.parametrize("kind", ["chinese", "emoji"])
def test_a_label_that_only_a_symbol_tells_is_learned(kind) -> None:
    draw = np.random.default_rng(1)
    gold = np.arange(120) % 2
    if kind == "chinese":
        characters = list("天地山水火木金土日月人口手足田")
        posts = []
        for label in gold:
            row = list(draw.choice(characters, 12))
            row[6] = "涨跌"[label]
            posts.append("".join(row))
    else:
        posts = [f"post {at} {'🚀💀'[label]} x123" for at, label in enumerate(gold)]
    model = TfidfClassifier(True, accuracy).fit((posts[:80], gold[:80]), (posts[80:], gold[80:]), 2)
    assert accuracy(gold[80:], model.logits(posts[80:])) == 1.0


def test_words_saved_before_there_were_symbols_keep_their_pattern(tmp_path) -> None:
    posts, gold = ["buy now 🚀", "buy more 🚀", "sell now", "sell more"], np.array([0, 0, 1, 1])
    model = TfidfClassifier(True, accuracy).fit((posts, gold), (posts, gold), 2)
    model.save(tmp_path)
    assert np.array_equal(load_tfidf(tmp_path).logits(posts), model.logits(posts))
    assert load_tfidf(tmp_path).features(["🚀"]).nnz == 1
    known = json.loads((tmp_path / "words.json").read_text())
    del known["pattern"]
    (tmp_path / "words.json").write_text(json.dumps(known))
    # As before, a pair of words reaches over what the old pattern does not see.
    assert load_tfidf(tmp_path).vectorizer.token_pattern == r"(?u)\b\w\w+\b"


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["!", "?", "a"], "no word of two letters"), (["buy", "sell", "hold"], "every word occurs in one text only")],
)
def test_texts_without_a_shared_word_are_told_at_once(texts, message) -> None:
    with pytest.raises(UserError, match=f"blend_words: finds nothing that two training texts share .*{message}"):
        require_shared_words(texts, "x.yaml: blend_words")
    require_shared_words(["buy now", "!", "sell now"], "x.yaml: blend_words")
