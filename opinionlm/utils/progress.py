"""How far something is: a bar in a terminal, and in a log a line every half minute."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

# Between two lines of a log.
LOG_SECONDS = 30.0
LOG_FORMAT = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}{postfix}, {remaining} left"
MOVES = re.compile(r"\r|\x1b\[A")
# tqdm shows a total that it does not know as "?", and then no time is left.
UNKNOWN = re.compile(r" of \?(.*), \S+ left\s*$")
# tqdm fills rates with blanks to one width, which aligns nothing in a log.
PADDING = re.compile(" +")
SLOW_RATE = re.compile(r"s/ (\w+?)(?:(?<=ch)e)?s\b")


class LogLines(io.TextIOBase):
    """Takes what tqdm draws over and over in one line of a terminal, and writes a line each time."""

    def write(self, text: str) -> int:
        """Write what is left without the moves of the cursor; nothing where that is blank."""
        line = PADDING.sub(" ", UNKNOWN.sub(r"\1", MOVES.sub("", text))).strip()
        if line := SLOW_RATE.sub(r" s per \1", line):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        return len(text)


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    desc: str,
    total: int | None = None,
    initial: int = 0,
    unit: str,
    disable: bool = False,
) -> tqdm:
    """A bar with rate and time left, as `tqdm` gives it; where the output is no terminal, a line every half minute.

    Args:
        items: to go through; without them the caller updates the bar.
        desc: what is under way.
        total: how much there is to do, where that is known.
        initial: how much is done already.
        unit: what is counted, in the plural.
        disable: show nothing.
    """
    # A quarter of what the answer to a mistyped option takes.
    from tqdm import tqdm

    form: dict[str, Any] = {}
    if not sys.stderr.isatty():
        form = {"file": LogLines(), "bar_format": LOG_FORMAT, "delay": LOG_SECONDS}
        form |= {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS, "miniters": 1}
    return tqdm(items, desc=desc, total=total, initial=initial, unit=f" {unit}", disable=disable, leave=False, **form)


def show_lines_at_once() -> None:
    """Have lines of the output appear when they are printed, in a log file too, in order with those about progress."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
