"""What reaches a user as a single line instead of a traceback, and the exit code that goes with it."""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

# Errors of files that whoever started the script can put right: no space, no permission, no such place, a bad disk.
FILE_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EMFILE,
        errno.ENOTDIR,
        errno.EISDIR,
    }
)
# What libraries say of a failed system call whose error has no number: those in Rust (safetensors, tokenizers) name
# it, numpy says how much of an array the disk took.
NUMBER_OF_ERROR = re.compile(r"\(os error (\d+)\)")
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
# What torch says where a partner of a collective operation is gone; its own exceptions are plain RuntimeErrors.
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")

# Objects made, less those gone, until the youngest are looked through; collections of them until the older ones are.
GARBAGE_LIMITS = (200_000, 20, 100)


class UserError(Exception):
    """Something the user can put right: bad config, missing file, unusable data.

    The message says what is wrong, where (``file:line`` or the field), why, and the remedy, in one line.
    """


def one_line(error: BaseException) -> str:
    """What an error says in one short line: of a failed system call why, of one that says nothing its type."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split())[:300] or type(error).__name__


def file_error(error: BaseException) -> str | None:
    """Which file failed and why, where whoever started the script can put that right; None for all other errors."""
    text, place = str(error), getattr(error, "filename", None)
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
    elif found := NUMBER_OF_ERROR.search(text):
        number = int(found[1])
    else:
        number = errno.ENOSPC if isinstance(error, OSError) and SHORT_WRITE.search(text) else 0
    if number not in FILE_ERRORS:
        return None
    return f"{'a file' if place is None else place}: {os.strerror(number)}"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with what is to be said about it; whoever handles Ctrl-C handles both.

    Args:
        number: of the signal.
        message: one line; by default what the signal does. Empty where another process says it.
    """

    def __init__(self, number: int, message: str | None = None) -> None:
        super().__init__(("interrupted" if number == signal.SIGINT else "terminated") if message is None else message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number


def stopped(interruption: KeyboardInterrupt, rest: str) -> Interrupted:
    """An interruption that says by which signal, and what becomes of what was under way.

    Args:
        interruption: as it came.
        rest: of the line, behind the signal.
    """
    number = interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT
    return Interrupted(number, f"stopped by {signal.Signals(number).name}{rest}")


def run_script(main: Callable[[], object]) -> None:
    """Run a script's ``main``; what a user can act on is printed as one line.

    Exit codes: 2 for a `UserError` and for files that cannot be written or read, 130 on Ctrl-C, 143 on SIGTERM, 1
    where another process of a distributed run is gone. On SIGTERM the stack unwinds as on Ctrl-C, so that temporary
    files are removed.

    Args:
        main: the script's entry point, reading ``sys.argv`` when called without arguments.
    """
    signal.signal(signal.SIGTERM, raise_interrupted)
    # A large tokenizer stays to the end, as the libraries do (`opinionlm.utils.loading`): with Python's own limits
    # much of the time to the first step would go into looking for garbage among it.
    gc.set_threshold(*GARBAGE_LIMITS)
    try:
        main()
    except UserError as error:
        leave_with(f"error: {error}", 2)
    except Interrupted as interruption:
        leave_with(str(interruption), interruption.exit_code)
    except KeyboardInterrupt:
        leave_with("interrupted", 130)
    except SystemExit as end:
        if distributed():
            leave_with("", end.code)
        raise
    except BaseException as error:
        if (what := file_error(error)) is not None:
            leave_with(f"error: {what}; put that right and give the same command again", 2)
        if distributed():
            if isinstance(error, RuntimeError) and any(sign in str(error) for sign in PEER_LOST):
                leave_with("error: another process of this run is gone; its own message says why", 1)
            # The interpreter would wait for the other processes, which wait for this one.
            sys.excepthook(*sys.exc_info())
            leave_with("", 1)
        raise


def raise_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """A signal handler that unwinds the stack."""
    raise Interrupted(number)


def distributed() -> bool:
    """Whether this is one of several processes, without importing torch for the question."""
    torch = sys.modules.get("torch.distributed")
    return torch is not None and torch.is_available() and torch.is_initialized()


def leave_with(line: str, code: int | str | None) -> NoReturn:
    """Say one line and exit; one of several processes leaves at once, without waiting for the others."""
    if line:
        print(line, file=sys.stderr)
    if distributed():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)
    sys.exit(code)
