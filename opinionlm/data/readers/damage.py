"""Signs that a file is read in another encoding than it was written in, and what to do about them."""

from __future__ import annotations

import re

from opinionlm.errors import UserError

# UTF-8 that was read as Latin-1 or cp1252: the two or three characters that é, ’ or an emoji become.
_CONTINUATION = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(f"(?:Ã|â€|â\u0080|ðŸ|ð\u009f)[{_CONTINUATION}]|Â[\u00a0-\u00bf]")
# A name or a quotation may look like mojibake by chance.
MOJIBAKE_SHARE = 0.01
# Too few bytes show no pattern.
FEWEST_BYTES = 16


def holds_mojibake(text: str) -> bool:
    """Whether a text looks like UTF-8 that was read as Latin-1 or cp1252 (``cafÃ©``)."""
    return not text.isascii() and _MOJIBAKE.search(text) is not None


def refuse_wrong_width(start: bytes, name: str, encoding: str) -> None:
    """Refuse text of two or four bytes per character that is to be read byte by byte.

    Raises:
        UserError: with the encoding that the bytes speak for.
    """
    if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return
    if known := wide_encoding(start):
        raise UserError(
            f"{name}: is text in {known.upper()} without a byte order mark (every other byte is zero), read as "
            f"{encoding}; set encoding: {known} for this file"
        )


def wide_encoding(start: bytes) -> str | None:
    """The encoding of two or four bytes per character that the first bytes of a file speak for by their zeros."""
    start = start[: len(start) // 4 * 4]
    if b"\0" not in start or len(start) < FEWEST_BYTES:
        return None
    blank = [start[place::4].count(0) / (len(start) // 4) for place in range(4)]
    # Latin letters leave the upper bytes of every character zero.
    for known, zeros in (("utf-32-le", (2, 3)), ("utf-32-be", (0, 1)), ("utf-16-le", (1, 3)), ("utf-16-be", (0, 2))):
        others = [blank[place] for place in range(4) if place not in zeros]
        if all(blank[place] > 0.5 for place in zeros) and min(others) < 0.2:
            return known
    return None


def damage_warnings(name: str, records: int, undecodable: int, nul: int, mojibake: int, repaired: bool) -> list[str]:
    """Warnings about a source: records with U+FFFD, with NUL, with mojibake that cleaning does not repair."""
    warnings = []
    if undecodable:
        warnings.append(
            f"{name}: {undecodable} records hold bytes that are not valid in its encoding (now U+FFFD); if the whole "
            "file looks wrong, set `encoding` for it (files from Excel and Windows are often cp1252)"
        )
    if nul:
        warnings.append(f"{name}: {nul:,} records hold NUL characters, which no text has; check its `encoding`")
    if mojibake > MOJIBAKE_SHARE * records and not repaired:
        warnings.append(
            f"{name}: {mojibake:,} of {records:,} records hold what looks like UTF-8 read in another encoding (Ã© for "
            "é); set `encoding: utf-8` if that is what the file is, else repair it with cleaning.fix_text: true"
        )
    return warnings
