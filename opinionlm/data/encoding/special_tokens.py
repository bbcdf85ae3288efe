"""Texts of data are never read for special tokens: ``</s>`` inside a post is four ordinary characters.

A fast tokenizer looks for its special tokens in every text before its model sees it, so that a post could end a turn,
begin the model's or hide what follows (prompt injection by control tokens). `read_as_text` turns that off for all
calls of a tokenizer, and `PromptPieces` keeps apart what a template wrote, whose special tokens count, and what came
from data, whose do not. The ids of texts without special tokens are those of before.
"""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Around a text of data inside a written prompt; private characters, which `from_data` escapes within texts.
BEGIN, END, ESCAPE = "\U000f5b00", "\U000f5b01", "\U000f5b02"
_ESCAPED = {BEGIN: f"{ESCAPE}b", END: f"{ESCAPE}e", ESCAPE: f"{ESCAPE}x"}
_PIECE = re.compile(f"{BEGIN}(.*?){END}", re.DOTALL)


def read_as_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have all calls of a tokenizer read special tokens in texts as ordinary pieces; it is saved so, too.

    What is put around texts (``[CLS]``, ``<bos>``, the border of pairs) is no part of them and stays.
    """
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs["split_special_tokens"] = True
    if tokenizer.is_fast:
        backend = tokenizer.backend_tokenizer
        # Some files call a token special that its backend takes for an ordinary one.
        known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
        named = [known[name] for name in tokenizer.all_special_tokens if name in known and not known[name].special]
        backend.add_special_tokens([special(token) for token in named])
        read_backend_as_text(backend, set(tokenizer.all_special_tokens))


def surrounding_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids that a fast tokenizer puts before and after every single text."""
    probe = tokenizer.backend_tokenizer.encode("a")
    first = probe.special_tokens_mask.index(0)
    last = len(probe.ids) - probe.special_tokens_mask[::-1].index(0)
    return probe.ids[:first], probe.ids[last:]


def special(token: AddedToken) -> AddedToken:
    """The same token as a special one."""
    flags = {name: getattr(token, name) for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(token.content, special=True, **flags)


def read_backend_as_text(backend: Tokenizer, named: Collection[str] = ()) -> None:
    """The same, in place, for a tokenizer of the `tokenizers` library; ``named`` tokens are special, too.

    Some vocabularies (SentencePiece's ``</s>``, the controls of Mistral) hold special tokens as pieces like others,
    which the model would put together from plain characters. For these a step before the model keeps the first
    character and the rest apart; where a token's characters do not follow each other, that step changes nothing.
    """
    backend.encode_special_tokens = True
    tokens = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
    tokens = list(dict.fromkeys([*tokens, *named]))
    assembled = assembled_tokens(backend, [token for token in tokens if len(token) > 1])
    if not assembled:
        return
    rests: dict[str, list[str]] = {}
    for token in assembled:
        rests.setdefault(token[0], []).append(re.escape(token[1:]))
    pattern = "|".join(f"{re.escape(first)}(?=(?:{'|'.join(ends)}))" for first, ends in rests.items())
    apart = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    before = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, apart])


def assembled_tokens(backend: Tokenizer, tokens: Sequence[str]) -> list[str]:
    """The special tokens that the model makes out of their characters.

    Args:
        backend: reads special tokens as text already.
        tokens: to try: alone, within a word, and as a word.
    """
    tried = [text for token in tokens for text in (token, f"a{token}a", f"a {token} a")]
    # One call for the 6,000 of Gemma's tokenizer.
    rows = backend.encode_batch(tried, add_special_tokens=False)
    found = [
        any(backend.token_to_id(token) in row.ids for row in rows[3 * at : 3 * at + 3])
        for at, token in enumerate(tokens)
    ]
    return [token for token, is_assembled in zip(tokens, found, strict=True) if is_assembled]


def from_data(text: str) -> str:
    """A text of data as a part of a written prompt.

    The marks stand inside of its outer blanks, so that a chat template trims it as before.
    """
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    inside = re.sub(f"[{BEGIN}{END}{ESCAPE}]", lambda found: _ESCAPED[found[0]], core)
    return f"{text[:start]}{BEGIN}{inside}{END}{text[start + len(core) :]}"


def pieces_of(written: str) -> list[tuple[str, bool]]:
    """The pieces of a written prompt in their order, and whether each is from data."""
    originals = {escaped: char for char, escaped in _ESCAPED.items()}
    parts = _PIECE.split(written)
    return [
        (re.sub(f"{ESCAPE}[bex]", lambda found: originals[found[0]], part) if at % 2 else part, bool(at % 2))
        for at, part in enumerate(parts)
        if part
    ]


def plain(written: str) -> str:
    """A written prompt as people read it, without marks."""
    return "".join(piece for piece, _ in pieces_of(written))


@dataclass(frozen=True)
class PromptPieces:
    """Token ids of prompts whose templates may hold special tokens and whose data may not.

    Attributes:
        tokenizer: a fast tokenizer.
    """

    tokenizer: PreTrainedTokenizerBase

    def ids(self, written: str, add_special_tokens: bool) -> list[int]:
        """Token ids of a written prompt as one text.

        Args:
            written: data in it are marked by `from_data`; all else is the template's.
            add_special_tokens: whether the tokenizer puts its own around it.
        """
        pieces = pieces_of(written)
        text = "".join(piece for piece, _ in pieces)
        if not self._has_foreign(pieces, text):
            found = self.tokenizer(
                text, add_special_tokens=add_special_tokens, split_special_tokens=False, verbose=False
            )
            return found["input_ids"]
        backend, stand_ins, ids = self._without_special
        own = "".join(
            piece if is_data else self._pattern.sub(lambda token: stand_ins[token[0]], piece)
            for piece, is_data in pieces
        )
        found_ids = backend.encode(own, add_special_tokens=add_special_tokens).ids
        return [ids.get(number, number) for number in found_ids]

    def _has_foreign(self, pieces: Sequence[tuple[str, bool]], text: str) -> bool:
        """Whether a special token stands in data, or half in data; rather once too often."""
        templates = [token for piece, is_data in pieces if not is_data for token in self._pattern.findall(piece)]
        if self._pattern.findall(text) != templates:
            return True
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        if normalizer is None or all(is_data is False for _, is_data in pieces):
            return False
        # Some special tokens are looked for in the normalised text, where other characters may have become theirs.
        return self._is_normalized and len(self._pattern.findall(normalizer.normalize_str(text))) != len(templates)

    @cached_property
    def _controls(self) -> list[AddedToken]:
        """Special tokens, and what else the chat template uses to structure a conversation (``<think>``)."""
        template = self.tokenizer.chat_template
        literal = template if isinstance(template, str) else ""
        named = set(self.tokenizer.all_special_tokens)
        return [
            token
            for token in self.tokenizer.added_tokens_decoder.values()
            if token.content in named or token.special or (token.content in literal and not token.content.isspace())
        ]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids of the tokens that mean something in a template and nothing in data."""
        return frozenset(map(self.tokenizer.convert_tokens_to_ids, (token.content for token in self._controls)))

    @cached_property
    def _is_normalized(self) -> bool:
        return any(token.normalized for token in self._controls)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Finds special tokens, the longest first, as the tokenizer does."""
        longest_first = sorted((token.content for token in self._controls), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @cached_property
    def _without_special(self) -> tuple[Tokenizer, dict[str, str], dict[int, int]]:
        """A tokenizer that finds no special token in a text but stand-ins for them, which no text can know.

        Made when a text first needs it.

        Returns:
            The tokenizer, the stand-in of every special token, and the special token's id by its stand-in's.
        """
        backend = copy.deepcopy(self.tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        backend.add_special_tokens([special(token) for token in self._controls])
        secret = secrets.token_hex(16)
        stand_ins = {token.content: f"\U000f5b03{secret}-{at};" for at, token in enumerate(self._controls)}
        backend.add_tokens(
            [
                AddedToken(
                    stand_ins[token.content],
                    single_word=token.single_word,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    normalized=False,
                    special=False,
                )
                for token in self._controls
            ]
        )
        read_backend_as_text(backend, [token.content for token in self._controls])
        ids = {backend.token_to_id(stand_in): backend.token_to_id(token) for token, stand_in in stand_ins.items()}
        return backend, stand_ins, ids
