"""Texts of figures in any script: drawn by an installed font that has the letters, else spelled by code points.

matplotlib draws an empty box, and warns, for what its font lacks. Labels may be Chinese or emoji, so every figure is
looked through once it is drawn; figures whose letters the ordinary font has stay as they are, to the byte.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

ORDINARY = "DejaVu Sans"
# Well-drawn fonts of many scripts go before whatever else is installed. Fonts of coloured pictures cannot be drawn.
PREFERRED = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Noto Sans",
    "Noto Naskh Arabic",
    "Noto Emoji",
    "Symbola",
    "Segoe UI Symbol",
)
NEVER = ("Last Resort", "Color Emoji", "Apple Color", "STIX", "cmb10", "cmex10", "cmmi10", "cmr10", "cmss10", "cmsy10")
# A longer text, spelled by code points, ends here.
MOST_SPELLED = 6


def make_readable(figure: Figure) -> Figure:
    """Give the texts of a drawn figure fonts that have their letters, and spell what none has; the figure itself."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Labels at ticks are written anew whenever the figure is drawn, so their source is changed.
            if isinstance(axis.get_major_locator(), FixedLocator):
                _rewrite_ticks(axis)
    for text in figure.findobj(Text):
        if missing := missing_letters(text.get_text()):
            families = families_for(frozenset(missing))
            text.set_text(spelled(text.get_text(), families))
            text.set_fontfamily([ORDINARY, *families])
    return figure


def _rewrite_ticks(axis: Axis) -> None:
    labels = [label.get_text() for label in axis.get_ticklabels()]
    if missing := missing_letters("".join(labels)):
        families = families_for(frozenset(missing))
        axis.set_ticks(axis.get_majorticklocs(), labels=[spelled(label, families) for label in labels])
        for label in axis.get_ticklabels():
            label.set_fontfamily([ORDINARY, *families])


def missing_letters(text: str) -> set[str]:
    """What the ordinary font cannot draw of a text."""
    return {char for char in text if ord(char) > 0x7E and ord(char) not in letters_of(ORDINARY)}


@cache
def families_for(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed fonts that have these letters between them, as far as any has."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist if not font.name.startswith((ORDINARY, *NEVER))}
    installed = {name for name in installed if not any(part in name for part in NEVER)}
    order = [name for name in PREFERRED if name in installed] + sorted(installed - set(PREFERRED))
    wanted, chosen = {ord(letter) for letter in letters}, []
    for name in order:
        if found := wanted & letters_of(name):
            chosen.append(name)
            wanted -= found
        if not wanted:
            break
    return tuple(chosen)


@cache
def letters_of(family: str) -> frozenset[int]:
    """Code points that a font can draw; none for one that cannot be opened."""
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    try:
        path = fontManager.findfont(FontProperties(family=family), fallback_to_default=False)
        return frozenset(get_font(path).get_charmap())
    except (ValueError, OSError, RuntimeError):
        return frozenset()


def spelled(text: str, families: Iterable[str]) -> str:
    """A text with what these fonts cannot draw as code points: ``正面`` becomes ``[U+6B63 U+9762]``.

    Signs that only join or vary others go; they have no shape of their own.
    """
    known = letters_of(ORDINARY).union(*map(letters_of, families))
    shown = ""
    unknown: list[str] = []

    def spell() -> str:
        codes = " ".join(f"U+{ord(char):04X}" for char in unknown[:MOST_SPELLED])
        more = " …" if len(unknown) > MOST_SPELLED else ""
        return f"[{codes}{more}]" if unknown else ""

    for char in text:
        if unknown and unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        if ord(char) <= 0x7E or ord(char) in known:
            shown += spell() + char
            unknown.clear()
        elif unicodedata.category(char) not in ("Mn", "Me", "Cf"):
            unknown.append(char)
    return shown + spell()
