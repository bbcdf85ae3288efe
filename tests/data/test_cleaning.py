from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.cleaning import (
    PROFILES,
    Cleaning,
    alphabetic_ratio,
    clean_text,
    quality_action,
    repeat_ratio,
    restore_lost_bytes,
    saved_steps,
    text_options,
    text_steps,
    unescape_html,
)

NOTHING = {"restore_lost_bytes": False, "fix_text": False, "unescape_newlines": False, "html": "keep"}


def clean(text: str, **options) -> str:
    return clean_text(text, text_steps(Cleaning(**options)))[0]


def lose_high_bytes(text: str) -> str:
    """What happened to the YouTube file."""
    units = text.encode("utf-16-le")
    return "".join(chr(units[i]) if units[i + 1] else chr(units[i]) for i in range(0, len(units), 2))


@pytest.mark.parametrize(
    "text", ["it’s “fine” – really", "lol 😂😅", "🤔 hm", "stars 🌟", "to the moon 🚀", "💎 hands"]
)
def test_lost_high_bytes_come_back(text):
    assert lose_high_bytes(text) != text
    assert restore_lost_bytes(lose_high_bytes(text)) == text


@pytest.mark.parametrize(
    "text", ["a = b", "x=5, y>3, <tag>", "=D", "price =£5", "naïve café <3", "1>0\n2<3\ttab", "<br />\x96so"]
)
def test_honest_text_is_not_restored(text):
    assert restore_lost_bytes(text) == text


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ({}, "donâ€™t wait â€¦", "don't wait …"),
        ({}, "one\\n\\ntwo", "one two"),
        ({"whitespace": "keep"}, "one\\r\\ntwo", "one\ntwo"),
        ({}, "rock &amp; roll &lt;3 you;#8217;re", "rock & roll <3 you’re"),
        ({}, "Great 🚀 #Bitcoin @you https://t.co/x!", "Great 🚀 #Bitcoin @you https://t.co/x!"),
        ({}, "a\x07b", "ab"),
        ({"fix_text": True}, "nul\0 é", "nul é"),
        ({"html": "strip"}, "good<br /><br />film <3 a<b", "good film <3 a<b"),
        ({"links": "remove"}, "see https://t.co/abc now www.x.org/a?b=1", "see now"),
        ({"links": "replace"}, "see https://t.co/abc now", "see [link] now"),
        ({"mentions": "remove"}, "hi @you and me@mail.org", "hi and me@mail.org"),
        ({"mentions": "replace"}, "hi @you", "hi @user"),
        ({"hashtags": "remove"}, "up #btc #1 now", "up now"),
        ({"hashtags": "word"}, "up #btc now", "up btc now"),
        ({"emoji": "remove"}, "up 🚀🚀 ❤️ é", "up é"),
        ({"emoji": "names"}, "up🚀🚀 ❤️, é👍🏽🚀", "up :rocket: :heavy black heart: , é :thumbs up sign: :rocket:"),
        ({"emoji": "names", "whitespace": "keep"}, "only words", "only words"),
        ({"letter_case": "named"}, "to the moon", "lowercase: to the moon"),
        ({"letter_case": "named"}, "lowercase: to the moon", "lowercase: to the moon"),
        (
            {"letter_case": "named"},
            "titlecase: Ethereum Is Making Big Moves",
            "titlecase: Ethereum Is Making Big Moves",
        ),
        ({"letter_case": "named"}, "BUY now, BUY NOW", "uppercase: BUY now, BUY NOW"),
        ({"letter_case": "named"}, "Ethereum Is Making Big Moves", "titlecase: Ethereum Is Making Big Moves"),
        ({"letter_case": "named"}, "Ethereum is making Big Moves", "Ethereum is making Big Moves"),
        ({"letter_case": "named"}, "Stablecoins?", "Stablecoins?"),
        ({"letter_case": "named"}, "2021 🚀 क्या", "2021 🚀 क्या"),
        ({"letter_case": "named", "emoji": "names"}, "🚀 2021", ":rocket: 2021"),
        ({"letter_case": "named", "emoji": "names"}, "HODL 🚀🚀", "uppercase: HODL :rocket:"),
        ({"letter_case": "named", "lowercase": True}, "GREAT Ärger", "uppercase: great ärger"),
        # A text that cleaning empties is still empty, and goes.
        ({"letter_case": "named", "links": "remove"}, "https://t.co/abc", ""),
        ({"punctuation": "cues"}, "what?! (don't) well-known $5_000", "what?! dont well known 5 000"),
        ({"punctuation": "cues"}, "क्या यह ठीक है।", "क्या यह ठीक है"),
        ({"repeats": "shorten"}, "hahahahahaha sooooo!!!!!! 1000000", "hahaha sooo!!! 1000000"),
        ({"lowercase": True}, "GREAT Ärger", "great ärger"),
    ],
)
def test_each_step(options, before, after):
    assert clean(before, **options) == after


def test_cue_words_survive_what_removes_their_surroundings():
    text = "Big #Discount today @subscribe https://shop.com/offer/now #discounted"
    gone = {"links": "remove", "mentions": "remove", "hashtags": "remove"}
    assert clean(text, **gone) == "Big Discount today subscribe offer"
    assert clean(text, cue_words=(), **gone) == "Big today"


@given(st.text(max_size=200))
def test_any_text_survives_every_profile(text):
    text = text.encode("utf-8", "replace").decode("utf-8")
    assert clean_text(text, text_steps(PROFILES["none"])) == (text, [])
    for profile in ("default", "paper"):
        cleaned, changed = clean_text(text, text_steps(PROFILES[profile]))
        cleaned.encode("utf-8")
        assert (cleaned != text) <= bool(changed)
        assert cleaned == " ".join(cleaned.split())
    assert cleaned == cleaned.lower()


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Z"]), max_size=100))
def test_the_paper_keeps_question_and_exclamation_marks_only(text):
    cleaned = clean(text, punctuation="cues", **NOTHING)
    assert not {c for c in cleaned if not (c.isalnum() or c.isspace() or c in "?!")} & set(
        "@#$%&*()[]{}:;,.\"'’—…€+=<>|~^`"
    )
    assert cleaned.count("?") == text.count("?") + text.count("？")


def test_ratios():
    assert alphabetic_ratio("ab 12") == 0.5
    assert alphabetic_ratio("  ") == 0
    assert repeat_ratio("hahahahaha") == 1
    assert repeat_ratio("10000000") == 0
    assert repeat_ratio("") == 0


PAPER = PROFILES["paper"]


@pytest.mark.parametrize(
    ("text", "tokens", "is_noise", "options", "expected"),
    [
        ("", 0, True, PROFILES["none"], ("drop", "empty_after_cleaning")),
        ("12?", 3, False, PROFILES["default"], ("keep", "")),
        ("12?", 3, False, PAPER, ("drop", "no_letters")),
        ("12?", 3, True, PAPER, ("keep", "")),
        ("hahahahahaha", 5, False, PAPER, ("noise", "repeated_pattern")),
        ("a 1234567", 50, False, PAPER, ("noise", "gibberish")),
        ("fine words", 39, False, PAPER, ("drop", "too_short")),
        ("fine words", 40, False, PAPER, ("keep", "")),
        ("fine words", 2000, False, PAPER, ("keep", "")),
        ("fine words", 2001, False, PAPER, ("drop", "too_long")),
        ("fine words", 2001, True, PAPER, ("keep", "")),
        ("fine words", 3, False, Cleaning(short_posts="noise", min_tokens=50), ("noise", "too_short")),
        ("fine words", 3, True, Cleaning(short_posts="drop", spare_noise=False), ("drop", "too_short")),
        ("fine words", 3, True, Cleaning(short_posts="noise", spare_noise=False), ("keep", "")),
    ],
)
def test_judgement(text, tokens, is_noise, options, expected):
    assert quality_action(text, tokens, is_noise, options) == expected


@pytest.mark.parametrize(
    ("text", "tokens", "verdict"),
    [
        ("word " * 40, 40, ("keep", "")),
        ("word " * 39, 39, ("drop", "too_short")),
        ("word", 2000, ("keep", "")),
        ("word", 2001, ("drop", "too_long")),
        # Three letters of ten characters are exactly the least; of eleven they are fewer.
        ("abc1234567", 50, ("keep", "")),
        ("abc12345678", 50, ("noise", "gibberish")),
        # Eight of sixteen characters lie in the pattern: exactly half; of seventeen it is less.
        ("hahahaha bcdefgjk", 50, ("noise", "repeated_pattern")),
        ("hahahaha bcdefgjkl", 50, ("keep", "")),
        ("12 34", 50, ("drop", "no_letters")),
        ("  ", 50, ("drop", "empty_after_cleaning")),
    ],
)
def test_the_papers_limits(text: str, tokens: int, verdict: tuple[str, str]) -> None:
    assert quality_action(text, tokens, False, PROFILES["paper"]) == verdict
    # What is labelled noise is spared all but emptiness, unless told.
    expected = verdict if verdict[1] == "empty_after_cleaning" else ("keep", "")
    assert quality_action(text, tokens, True, PROFILES["paper"]) == expected
    strict = replace(PROFILES["paper"], spare_noise=False)
    assert quality_action(text, tokens, True, strict) == (("keep", "") if verdict[0] == "noise" else verdict)


@pytest.mark.parametrize("text", ["word", "1", "hahahahaha", "x" * 9000])
def test_by_default_only_empty_posts_go(text: str) -> None:
    for tokens in (0, 39, 2001, 9999):
        assert quality_action(text, tokens, False, Cleaning()) == ("keep", "")


def test_defaults_that_the_docs_name() -> None:
    default = Cleaning()
    assert (default.min_tokens, default.max_tokens, default.min_alphabetic_ratio) == (40, 2000, 0.3)
    assert not default.relabels_noise and PROFILES["paper"].relabels_noise
    for option in ("repeats", "gibberish", "short_posts"):
        assert Cleaning(**{option: "noise"}).relabels_noise
    # Damage is repaired, each kind by its step; case, signs and links stay.
    assert clean("it\x19s donâ€™t &amp; \\n ok  GO!") == "it's don't & ok GO!"
    for step in ("restore_lost_bytes", "fix_text", "unescape_newlines", "lowercase"):
        assert getattr(default, step) == (step != "lowercase")


@given(st.text(max_size=80))
def test_exact_texts_stay_exactly(text: str) -> None:
    assert clean_text(text, text_steps(PROFILES["exact"])) == (text, [])
    assert (PROFILES["exact"].duplicates, PROFILES["none"].duplicates) == ("text", "keep")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<\x1f", "\U0001f31f"),
        (">\x14", "\U0001f914"),
        ("=\x1f", "\U0001f61f"),
        ("=\x80", "\U0001f680"),
        ("=\x8e", "\U0001f48e"),
        ("= ", "= "),
    ],
)
def test_each_block_of_lost_emoji(before: str, after: str) -> None:
    assert restore_lost_bytes(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Four of five longer words are exactly enough, of three longer words all are needed.
        ("Ethereum Makes Very Much noise", "titlecase: Ethereum Makes Very Much noise"),
        ("Ethereum Makes Very much noise", "Ethereum Makes Very much noise"),
        ("Ethereum Makes Noise", "titlecase: Ethereum Makes Noise"),
        ("Ethereum Makes a Din", "Ethereum Makes a Din"),
        # As many capitals as small letters are not more.
        ("AbCd", "AbCd"),
        ("ABCd", "uppercase: ABCd"),
    ],
)
def test_where_a_letter_case_begins(before: str, after: str) -> None:
    assert clean(before, letter_case="named") == after


def test_shares_by_hand() -> None:
    assert alphabetic_ratio("ab 12") == 0.5 and alphabetic_ratio(" \n") == 0.0 and alphabetic_ratio("é") == 1.0
    assert repeat_ratio("!!!! ab") == pytest.approx(4 / 6) and repeat_ratio("") == repeat_ratio(" ") == 0.0
    # Three times is no pattern yet.
    assert repeat_ratio("hahaha") == 0.0 and repeat_ratio("hahahaha") == 1.0


@pytest.mark.parametrize(
    ("before", "after"),
    [("a;#8217;b", "a’b"), ("a;#1;b", "a;#1;b"), ("a;b", "a;b"), ("&#x81;a", " a"), ("&lt", "&lt"), ("&lt;", "<")],
)
def test_entities(before: str, after: str) -> None:
    assert unescape_html(before) == after


def test_a_model_keeps_the_cleaning_of_its_texts() -> None:
    assert text_options(PROFILES["exact"]) is None and saved_steps(None) == []
    chosen = text_options(PROFILES["paper"])
    assert "letter_case" not in chosen and text_options(Cleaning(letter_case="named"))["letter_case"] == "named"
    text = "Great @you 🚀 https://t.co/offer HAHAHAHA"
    assert clean_text(text, saved_steps(chosen)) == clean_text(text, text_steps(PROFILES["paper"]))
