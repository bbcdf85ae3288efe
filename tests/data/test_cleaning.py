import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.cleaning import (
    PROFILES,
    Cleaning,
    alphabetic_ratio,
    clean_text,
    judge,
    repeat_ratio,
    restore_lost_bytes,
    text_steps,
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
    assert judge(text, tokens, is_noise, options) == expected
