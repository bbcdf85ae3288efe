"""Cleaning one post: the paper's phases 2 and 3 (section 4), every step an option.

A text passes the steps in the order of `Cleaning`'s fields; then `quality_action` decides whether the post stays, is
relabelled as noise, or is dropped. Every function works on one string with precompiled patterns and first looks for a
cheap trigger, because most posts need none of most steps.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import ftfy

from opinionlm.utils.typed_values import build, check_keys

Action = Literal["keep", "noise", "drop"]
T = TypeVar("T")

# What `name_letter_case` puts in front of texts.
CASE_NAMES = ("lowercase: ", "uppercase: ", "titlecase: ")

# Section 4, step 3.2 names the first three; the rest are the words that the same step describes.
CUE_WORDS = ("offer", "discount", "subscribe", "giveaway", "airdrop", "promo", "bonus", "sale", "free", "join", "earn")


def _option(default: T, help_text: str) -> T:
    """A field with the line that ``preprocess.py --help`` prints for it."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class Cleaning:
    """Every cleaning step with its default; `PROFILES` holds the ready-made choices.

    The defaults suit pretrained models: damage is repaired and white space evened out, while case, punctuation, emoji,
    hashtags, mentions and links stay, because the model has seen all of them and they carry opinion.

    Measured with TF-IDF + logistic regression on the CryptOQA files, macro-F1 on validation, mean of three splits
    (which differ by 0.02 among themselves): as they are 0.555; links (178 posts) removed 0.556, replaced 0.556;
    mentions removed 0.558, replaced 0.559; hashtags removed 0.541, without the # 0.555. So only hashtags matter, and
    what makes no difference stays untouched.
    """

    restore_lost_bytes: bool = _option(True, "characters that lost their high byte: U+0019 is ’, =U+0002 is 😂")
    fix_text: bool = _option(True, "mojibake and stray control characters (ftfy)")
    unescape_newlines: bool = _option(True, "the two characters \\n become a line break")
    html: Literal["keep", "unescape", "strip"] = _option("unescape", "entities become characters; strip: tags go too")
    links: Literal["keep", "remove", "replace"] = _option("keep", "web links; replace: [link]")
    mentions: Literal["keep", "remove", "replace"] = _option("keep", "@names; replace: @user")
    hashtags: Literal["keep", "remove", "word"] = _option("keep", "#topics; word: without the #")
    letter_case: Literal["keep", "named"] = _option(
        "keep", "named: a first word says lowercase, uppercase or titlecase, for models that see no capitals"
    )
    emoji: Literal["keep", "remove", "names"] = _option("keep", "emoji and pictographs; names: :rocket: for 🚀")
    punctuation: Literal["keep", "cues"] = _option("keep", "cues: only ? and ! stay")
    repeats: Literal["keep", "shorten", "noise", "drop"] = _option("keep", "hahahahaha; shorten: hahaha")
    whitespace: Literal["keep", "collapse"] = _option("collapse", "runs of white space become one space")
    lowercase: bool = _option(False, "lower case")
    cue_words: tuple[str, ...] = _option(CUE_WORDS, "words that stay when the link, @name or #topic around them goes")
    gibberish: Action = _option("keep", "posts with fewer letters than min_alphabetic_ratio")
    min_alphabetic_ratio: float = _option(0.3, "letters / characters without white space")
    short_posts: Action = _option("keep", "posts with fewer than min_tokens tokens")
    min_tokens: int = _option(40, "used by short_posts")
    long_posts: Literal["keep", "drop"] = _option("keep", "posts with more than max_tokens tokens")
    max_tokens: int = _option(2000, "used by long_posts")
    require_letters: bool = _option(False, "drop posts without any letter; empty posts always go")
    spare_noise: bool = _option(True, "posts labelled noise are exempt from the five rules above and from repeats")
    noise_label: str = _option("noise", "the label that `noise` actions give")
    duplicates: Literal["tokens", "text", "keep"] = _option("tokens", "what makes two posts equal, before and after")
    conflicts: Literal["drop", "keep_first", "majority", "keep"] = _option("drop", "equal posts with different labels")

    @property
    def filters(self) -> list[str]:
        """The rules that are on by which posts go or become noise; see `quality_action`."""
        are_on = {"repeats": self.repeats in ("noise", "drop"), "gibberish": self.gibberish != "keep"}
        are_on |= {"short_posts": self.short_posts != "keep", "long_posts": self.long_posts != "keep"}
        are_on["require_letters"] = self.require_letters
        return [name for name, is_on in are_on.items() if is_on]

    @property
    def relabels_noise(self) -> bool:
        """Whether some step may label a post as noise."""
        return "noise" in (self.repeats, self.gibberish, self.short_posts)


# Texts exactly as they are.
_UNTOUCHED = Cleaning(
    restore_lost_bytes=False, fix_text=False, unescape_newlines=False, html="keep", whitespace="keep"
)
PROFILES: dict[str, Cleaning] = {
    "default": Cleaning(),
    # Sections 4 and 8.2. The paper gives two length rules; readings.md settles on the one of 8.2 (40 to 2,000).
    "paper": Cleaning(
        links="remove",
        mentions="remove",
        hashtags="remove",
        emoji="remove",
        punctuation="cues",
        repeats="noise",
        lowercase=True,
        gibberish="noise",
        short_posts="drop",
        long_posts="drop",
        require_letters=True,
    ),
    # Each text once in a split: what tasks other than sequence start from.
    "exact": replace(_UNTOUCHED, duplicates="text"),
    # Copies within a given split stay too.
    "none": replace(_UNTOUCHED, duplicates="keep", conflicts="keep"),
}

Step = tuple[str, Callable[[str], str]]
# What a text becomes; the other options say which posts stay.
TEXT_OPTIONS: tuple[str, ...] = ("restore_lost_bytes", "fix_text", "unescape_newlines", "html", "links", "mentions")
TEXT_OPTIONS += ("hashtags", "letter_case", "emoji", "punctuation", "repeats", "whitespace", "lowercase", "cue_words")


def text_options(cleaning: Cleaning) -> dict[str, Any] | None:
    """What a model keeps of the cleaning of its training texts, so that new ones are cleaned alike; None for nothing.

    Plain values for JSON; `saved_steps` takes them back.
    """
    if not text_steps(cleaning):
        return None
    chosen = {name: getattr(cleaning, name) for name in TEXT_OPTIONS} | {"cue_words": list(cleaning.cue_words)}
    if cleaning.letter_case == "keep":
        # As in models from before 2026-11-28, which say nothing of it: both clean alike, and may be averaged.
        del chosen["letter_case"]
    return chosen


def saved_steps(options: dict[str, Any] | None) -> list[Step]:
    """The steps that `text_options` described; none for None.

    Raises:
        UserError: the description is damaged, or of another version.
    """
    if options is None:
        return []
    place = "cleaning"
    known = check_keys({"letter_case": "keep"} | options, set(TEXT_OPTIONS), place, set(TEXT_OPTIONS))
    return text_steps(build(Cleaning, known, place))


def text_steps(cleaning: Cleaning) -> list[Step]:
    """The steps that change text, in order, as (name, function); steps that are off are absent."""
    cues = _cue_pattern(cleaning.cue_words)

    def keep_cues(replacement: str) -> Callable[[re.Match[str]], str]:
        # Step 3.2: a word that marks advertisements survives the removal of the link, @name or #topic it stands in.
        return lambda match: " ".join([replacement, *cues.findall(match.group())]) if cues else replacement

    gone, link, user = keep_cues(" "), keep_cues("[link]"), keep_cues("@user")
    steps: list[tuple[str, object, Callable[[str], str]]] = [
        ("restore_lost_bytes", True, restore_lost_bytes),
        ("fix_text", True, fix_text),
        ("unescape_newlines", True, lambda text: _NEWLINE.sub("\n", text) if "\\" in text else text),
        ("html", "unescape", unescape_html),
        ("html", "strip", lambda text: unescape_html(_TAG.sub(" ", text) if "<" in text else text)),
        ("links", "remove", lambda text: _LINK.sub(gone, text) if _LINK_TRIGGER.search(text) else text),
        ("links", "replace", lambda text: _LINK.sub(link, text) if _LINK_TRIGGER.search(text) else text),
        ("mentions", "remove", lambda text: _MENTION.sub(gone, text) if "@" in text else text),
        ("mentions", "replace", lambda text: _MENTION.sub(user, text) if "@" in text else text),
        ("hashtags", "remove", lambda text: _HASHTAG.sub(gone, text) if "#" in text else text),
        ("hashtags", "word", lambda text: _HASHTAG.sub(r"\1", text) if "#" in text else text),
        # After what may empty a text, and before emoji get names in small letters.
        ("letter_case", "named", name_letter_case),
        ("emoji", "remove", lambda text: text if text.isascii() else _EMOJI.sub(" ", text)),
        ("emoji", "names", lambda text: text if text.isascii() else _EMOJI.sub(_emoji_names, text)),
        ("punctuation", "cues", lambda text: text.translate(_ONLY_CUES)),
        ("repeats", "shorten", lambda text: _REPEAT.sub(r"\1\1\1", text)),
        ("whitespace", "collapse", lambda text: " ".join(text.split())),
        ("lowercase", True, str.lower),
    ]
    return [(name, step) for name, choice, step in steps if getattr(cleaning, name) == choice]


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return not text.strip("\0\ufeff \t\r\n\v\f\u00a0\u200b")


def clean_text(text: str, steps: list[Step]) -> tuple[str, list[str]]:
    """Apply `text_steps` to one text.

    Returns:
        The cleaned text and the names of the steps that changed it.
    """
    changed = []
    for name, step in steps:
        after = step(text)
        if after != text:
            changed.append(name)
            text = after
    return text, changed


def quality_action(text: str, tokens: int, is_noise: bool, cleaning: Cleaning) -> tuple[Action, str]:
    """Decide about a cleaned post (steps 2.6 and 3.3, section 8.2).

    Returns:
        What happens to the post, and the reason's code (blank when it simply stays).
    """
    if not text.strip():
        return "drop", "empty_after_cleaning"
    if is_noise and cleaning.spare_noise:
        return "keep", ""
    if cleaning.require_letters and not _LETTER.search(text):
        return "drop", "no_letters"
    verdict: tuple[Action, str] = ("keep", "")
    if cleaning.repeats in ("noise", "drop") and repeat_ratio(text) >= 0.5:
        verdict = (cleaning.repeats, "repeated_pattern")
    elif cleaning.gibberish != "keep" and alphabetic_ratio(text) < cleaning.min_alphabetic_ratio:
        verdict = (cleaning.gibberish, "gibberish")
    elif cleaning.short_posts != "keep" and tokens < cleaning.min_tokens:
        verdict = (cleaning.short_posts, "too_short")
    # A post that just became noise is as exempt from the length limit as one that was labelled so.
    elif cleaning.long_posts == "drop" and tokens > cleaning.max_tokens:
        verdict = ("drop", "too_long")
    return ("keep", "") if is_noise and verdict[0] == "noise" else verdict


def restore_lost_bytes(text: str) -> str:
    """Undo the loss of every high byte, where the remaining low byte betrays it.

    UTF-16 code units above U+00FF were cut to their low byte. The curly apostrophe U+2019 became U+0019, an emoji such
    as D83D DE02 (😂) became ``=`` and U+0002. Control characters never occur in honest text, so these can be put back:
    punctuation exactly, emoji up to the block, where the most used one is taken (faces; for ``=`` and U+0080 the
    rocket). Emoji whose low byte is printable (👍 is ``=M``) cannot be told from text and stay.
    """
    if _is_plain(text) or not _LOST.search(text):
        return text
    return _LOST_PAIR.sub(_restore_pair, text).translate(_LOST_SINGLE)


def _is_plain(text: str) -> bool:
    """Printable ASCII, as most posts are: no damage can hide there, and no pattern has to look for it."""
    return text.isascii() and text.isprintable()


def _restore_pair(match: re.Match[str]) -> str:
    lead, low = match.group()[0], ord(match.group()[1])
    match lead:
        case "<":  # D83C: weather, stars, hands' skin tones
            return chr(0x1F300 + low)
        case ">":  # D83E: the newer faces
            return chr(0x1F900 + low)
        case _ if low < 0x20:  # D83D DE00: the classic faces
            return chr(0x1F600 + low)
        case _ if low == 0x80:
            return "\U0001f680"
        case _:
            return chr(0x1F400 + low)


def fix_text(text: str) -> str:
    """Repair mojibake and remove control characters; ASCII without control characters returns at once."""
    if _is_plain(text) or (text.isascii() and not _CONTROL.search(text)):
        return text
    # ftfy drops control characters after it has looked for mojibake, of which C1 controls are a part; NUL it keeps.
    return ftfy.fix_text(text, _FTFY).replace("\0", "")


def unescape_html(text: str) -> str:
    """``&amp;`` and the like, and ``;#8217;``, which is how numeric entities look after the & was lost."""
    if ";" not in text:
        return text
    if ";#" in text:
        text = _BROKEN_ENTITY.sub(r"&#\1;", text)
    # Entities can name control characters and lone surrogates; those must not come back in through this door.
    return _CONTROL.sub(" ", html.unescape(text)) if "&" in text else text


def _emoji_names(match: re.Match[str]) -> str:
    """The Unicode names of a run of emoji, each once where it repeats itself; joiners and skin tones go.

    For models whose vocabulary lacks emoji: BERT's sees in every one of them the same unknown token.
    """
    shown = [char for char in match.group() if not _EMOJI_MODIFIER.match(char)]
    names = [unicodedata.name(char, "").lower() for char, _ in itertools.groupby(shown)]
    return " " + "".join(f":{name}: " for name in names if name)


def name_letter_case(text: str) -> str:
    """Say in a first word how a text is written, where it is not written as sentences are.

    ``lowercase:`` without any capital, ``uppercase:`` with more capitals than small letters, ``titlecase:`` where at
    least four of five longer words begin with one, as in headlines. For models whose tokenizer lowers everything
    (BERT uncased, MiniLM): how a post is written says something about who wrote it and what for. A text that says so
    already stays as it is: texts that are cleaned twice are those that are cleaned once.
    """
    if text.startswith(CASE_NAMES):
        return text
    if text.islower():
        return f"lowercase: {text}"
    capitals, small = sum(map(str.isupper, text)), sum(map(str.islower, text))
    if capitals > small:
        return f"uppercase: {text}"
    words = _LONGER_WORD.findall(text) if capitals else []
    if len(words) >= 3 and sum(word[0].isupper() for word in words) >= 0.8 * len(words):
        return f"titlecase: {text}"
    return text


def without_case_name(text: str) -> str:
    """The text without the first word that `name_letter_case` put in front of it."""
    return text.split(" ", 1)[1] if text.startswith(CASE_NAMES) else text


def alphabetic_ratio(text: str) -> float:
    """Letters (any script) as a share of the characters that are not white space; 0 for a blank text."""
    solid = "".join(text.split())
    return sum(map(str.isalpha, solid)) / len(solid) if solid else 0.0


def repeat_ratio(text: str) -> float:
    """The share of the non-blank characters that lie in patterns such as ``hahahaha`` or ``!!!!!!``."""
    solid = len("".join(text.split()))
    return sum(len(match.group()) for match in _REPEAT.finditer(text)) / solid if solid else 0.0


class _OnlyCues(dict[int, str]):
    """A `str.translate` table that fills itself: punctuation and symbols go, ``?`` and ``!`` stay.

    Categories rather than "not a word character": the latter would also delete the vowel signs of Hindi and Thai.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        match unicodedata.category(char)[0]:
            case "P" | "S":
                # don't → dont, but well-known → well known.
                self[code] = char if char in "?!" else "" if char in "'’`" else " "
            case _:
                self[code] = char
        return self[code]


def _cue_pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    if not words:
        return None
    return re.compile(rf"(?<![^\W\d_])(?:{'|'.join(map(re.escape, words))})(?![^\W\d_])", re.IGNORECASE)


_ONLY_CUES = _OnlyCues({ord("？"): "?", ord("！"): "!"})
_FTFY = ftfy.TextFixerConfig(unescape_html=False, explain=False)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# U+0080 to U+009F after ">" are no emoji: mostly they are Windows-1252 punctuation read as Latin-1, right after a tag.
_PAIR = r"(?:[<=>][\x01-\x08\x0b\x0c\x0e-\x1f\xaa\xad\xaf\xb0\xb5\xb8]|[<=][\x80-\x9f])"
_LOST = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f]|" + _PAIR)
_LOST_PAIR = re.compile(_PAIR)
_LOST_SINGLE = str.maketrans(
    {"\x18": "‘", "\x19": "’", "\x1c": "“", "\x1d": "”", "\x13": "–", "\x14": "—", "\x10": "-", "\x11": "-"}
)
_NEWLINE = re.compile(r"(?:\\r)?\\n|\\r(?![a-z])")
_TAG = re.compile(r"<(?:br|/?[a-z][a-z0-9]{0,9})(?:\s[^<>]{0,300})?\s?/?>", re.IGNORECASE)
_BROKEN_ENTITY = re.compile(r";#(\d{2,5});")
_LINK_TRIGGER = re.compile(r"http|www\.|HTTP|WWW\.|Http|Www\.")
_LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"]+|\bhttps?\b:?/{0,2}", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@])@\w{1,50}")
_HASHTAG = re.compile(r"(?<![\w#])#(\w+)")
_LONGER_WORD = re.compile(r"[^\W\d_]{4,}")
_LETTER = re.compile(r"[^\W\d_]")
_REPEAT = re.compile(r"([^\W\d_]{1,4}?|[^\w\s])\1{3,}", re.IGNORECASE)
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u231a-\u23ff\u25a0-\u25ff\u2190-\u21ff"
    "\ufe0f\u200d\u20e3\U000e0020-\U000e007f]+"
)
# Variation selector, joiner, keycap, tags of flags, skin tones: they change how the emoji before them looks.
_EMOJI_MODIFIER = re.compile("[\ufe0f\u200d\u20e3\U000e0020-\U000e007f\U0001f3fb-\U0001f3ff]")
