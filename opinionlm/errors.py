"""The one exception that reaches a user as a single line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can put right: bad config, missing file, unusable data.

    The message says what is wrong, where (``file:line`` or the field), why, and the remedy, in one line.
    """


def run_script(main: Callable[[], object]) -> None:
    """Run a script's ``main``; print a `UserError` as one line and exit with code 2, with 130 on Ctrl-C.

    Args:
        main: the script's entry point, reading ``sys.argv`` when called without arguments.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
