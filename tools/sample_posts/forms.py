"""How the three platforms' files look: a post's layout on each, and the damage that export programs did to it."""

from __future__ import annotations

import csv
import io
import re

from tools.sample_posts.grammar import Dice, Grammar, Label, capitalised, sentence

# Coin flips for the look of a text; the shares are those counted in the real files.
CURLY = {"'": "’", '"': "“"}
EMOJI = ("😂", "🔥", "🚀", "😭", "😅", "👍", "🤔", "😎", "🙏", "😱", "😁", "💎")
CONTRACTIONS = (
    (" am ", "'m "),
    (" do not ", " don't "),
    (" does not ", " doesn't "),
    ("cannot ", "can't "),
    (" is not ", " isn't "),
    (" have been ", "'ve been "),
    ("it is ", "it's "),
    (" are not ", " aren't "),
    (" will ", "'ll "),
)


def mojibake(text: str) -> str:
    """UTF-8 bytes read as Windows-1252, as in the Reddit and Twitter files: ``…`` becomes ``â€¦``.

    The five bytes that Windows-1252 leaves undefined come out as the control characters of the same number.
    """
    return "".join(
        chr(byte) if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([byte]).decode("cp1252")
        for byte in text.encode("utf-8")
    )


def lose_high_bytes(text: str) -> str:
    """Keep the low byte of every UTF-16 unit, as in the YouTube file: ``’`` becomes U+0019, an emoji ``=`` and U+0002.

    ``EMOJI`` holds only characters whose low bytes are neither line ends nor quotes, so records stay whole.
    """
    units = text.encode("utf-16-le")
    return units[::2].decode("latin-1")


def contracted(text: str, dice: Dice) -> str:
    """The text as people type it: ``I'm``, ``don't``, sometimes without capitals."""
    for long, short in CONTRACTIONS:
        if dice.chance(0.6):
            text = text.replace(long, short)
    return text


def curly(text: str) -> str:
    """Typographic quotes and apostrophes, which the damage above then hits."""
    return text.replace("'", "’").replace('"', "“").replace("...", "…")


def lower(text: str) -> str:
    """Lower case, with the odd edit of the real exports: ``'s`` becomes `` is``."""
    return text.lower().replace("'s ", " is ").replace("’s ", " is ")


def record(fields: list[str], line_end: str) -> str:
    """One CSV record, quoted only where it must be, as spreadsheet programs write it."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=line_end).writerow(fields)
    return buffer.getvalue()


def _count(dice: Dice, exponent: float, largest: int) -> int:
    """A sentence count with a long tail (Pareto): mostly 1 to 4, now and then dozens."""
    share = dice.integer(1, 10_000) / 10_000
    # Rounded first: the last bit of a power may differ between machines, the sample may not.
    return min(largest, int(round(1.4 / share**exponent, 6)))


def _sentences(grammar: Grammar, label: Label, count: int) -> list[str]:
    """The core of the post and ``count`` further sentences, none twice, the core first or after some context."""
    dice = grammar.dice
    texts = [sentence(grammar.core(label), dice.pick((".", ".", "", "!", "...")))]
    for _ in range(count):
        text = sentence(grammar.aside(label), dice.pick((".", ".", ".", "!")))
        if text not in texts:
            texts.append(text)
    if len(texts) > 1 and dice.chance(0.35):
        texts[0], texts[1] = texts[1], texts[0]
    return texts


def _off_topic(grammar: Grammar, weights: dict[str, float]) -> str:
    """Noise: chatter, a broken-off fragment or another language."""
    return sentence(grammar.expand(grammar.dice.weighted(weights)), "")


def reddit_post(grammar: Grammar, label: Label) -> tuple[str, str, str]:
    """``title``, ``selftext`` and ``MAIN`` of one post.

    Line breaks are the two characters backslash and n. ``MAIN`` is title and body run together (with a blank or
    without), or the same in lower case, or an edited form: links, emoji and the end of long bodies are missing.
    """
    dice = grammar.dice
    grammar.new_post()
    if label == "noise" and dice.chance(0.8):
        title, rest = _off_topic(grammar, {"fragment": 5, "chatter": 3, "foreign": 1.5}), []
    else:
        has_body = dice.chance({"noise": 0.2, "objective": 0.2, "miscellaneous": 0.4}.get(label, 0.62))
        first, *rest = _sentences(grammar, label, 2 * _count(dice, 0.85, 30) if has_body else 0)
        title = first.rstrip(".")
    paragraphs = [[]]
    for text in rest:
        if paragraphs[-1] and dice.chance(0.3):
            paragraphs.append([])
        paragraphs[-1].append(text)
    body = "\\n\\n".join(" ".join(paragraph) for paragraph in paragraphs)
    title, body = contracted(title, dice), contracted(body, dice)
    if body and dice.chance(0.12):
        body += f"\\n\\n[link](https://example.org/{dice.integer(1000, 9999)})"
    if dice.chance(0.05):
        title, body = title.replace(" and ", " &amp; "), body.replace(" and ", " &amp; ")
    if dice.chance(0.12):
        title, body = mojibake(curly(title)), mojibake(curly(body))
    elif dice.chance(0.02):
        title += mojibake(" " + dice.pick(EMOJI))
    elif dice.chance(0.02):
        body = body.replace("'", "?")  # an export that knew ASCII only
    edited = re.sub(r"ðŸ\S*", "", re.sub(r"\(https?://[^)]*\)", "( ", f"{title} {body}"))
    main = dice.weighted(
        {
            f"{title} {body}": 28.0,
            lower(f"{title} {body}"): 31.0,
            f"{title}{body}": 12.5,
            lower(edited): 22.0,
            f"{title} {body[: dice.integer(40, 200)]}": 4.0,
            f"{capitalised(title)} {edited[len(title) + 1 :]}": 2.5,
        }
    )
    return title, body, main


def tweet(grammar: Grammar, label: Label) -> str:
    """One tweet: lower case, hashtags, retweets cut with an ellipsis, mojibake for all that is not ASCII."""
    dice = grammar.dice
    grammar.new_post()
    if label == "noise" and dice.chance(0.75):
        parts = [_off_topic(grammar, {"chatter": 6, "fragment": 1.5, "foreign": 1.5})]
    else:
        parts = _sentences(grammar, label, dice.weighted({0: 3, 1: 5, 2: 2}))
    parts = [contracted(part, dice) for part in parts]
    tags = " ".join(grammar.expand("hashtag") for _ in range(dice.weighted({0: 2, 1: 2, 2: 3, 3: 3, 5: 2, 8: 1})))
    if tags:
        parts.append(tags)
    if dice.chance(0.1):
        parts[0] = f"{grammar.expand('handle')} {parts[0]}"
    breaks = dice.pick(("\n", "\n\n", "\n\n", " ", "\n\u00a0", "\n\n\n"))
    text = lower(breaks.join(parts)).replace(" and ", " &amp; " if dice.chance(0.1) else " and ")
    if dice.chance(0.6):
        text = curly(text)
    if dice.chance(0.64):
        text = f"rt {grammar.expand('handle')}: {text}"
        if len(text) > 100 or dice.chance(0.45):
            text = text[: dice.integer(92, 138)].rstrip() + "…"
    return mojibake(text)


def youtube_comment(grammar: Grammar, label: Label) -> str:
    """One comment: shorter than a post, with CRLF line breaks, emoji and curly quotes without their high byte."""
    dice = grammar.dice
    grammar.new_post()
    if label == "noise" and dice.chance(0.8):
        parts = [_off_topic(grammar, {"chatter": 6, "fragment": 1, "foreign": 3})]
    else:
        parts = _sentences(grammar, label, _count(dice, 0.62, 14) - 1)
    parts = [contracted(part, dice) for part in parts]
    if dice.chance(0.28):
        parts[-1] += (" " if dice.chance(0.6) else "") + dice.pick(EMOJI) * dice.integer(1, 4)
    text = (dice.pick(("\r\n", "\r\n\r\n")) if dice.chance(0.25) else " ").join(parts)
    if dice.chance(0.1):
        text = f"{dice.integer(0, 24)}:{dice.integer(10, 59)} {text}"
    if dice.chance(0.25):
        text = text.lower()
    return lose_high_bytes(curly(text) if dice.chance(0.65) else text)
