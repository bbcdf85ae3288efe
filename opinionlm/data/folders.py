"""Folders that appear all at once: written beside their place under a hidden name, then renamed."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from opinionlm.errors import UserError


@contextmanager
def partial_folder(output_dir: Path) -> Iterator[Path]:
    """A folder beside the output to work in, so that the final rename stays within one file system."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    start = f".{output_dir.name}.partial-{socket.gethostname()}-"
    for left_over in output_dir.parent.glob(f"{glob.escape(start)}*"):
        if not is_running(left_over.name.removeprefix(start).split("-")[0]):
            shutil.rmtree(left_over, ignore_errors=True)  # of a job that was killed on this machine
    folder = output_dir.parent / f"{start}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_running(pid: str) -> bool:
    """Whether a process of this machine with that number is alive."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Wait until everything in a folder is on disk, the names of its files included."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(folder: Path, output_dir: Path, is_current: Callable[[], bool]) -> None:
    """Rename the finished folder into place.

    Two processes may do so at once. A folder that already holds the same data is left alone, because the other process
    may be reading it; anything older is moved out of the way first.

    Args:
        folder: from `partial_folder`.
        output_dir: its final name.
        is_current: whether what stands there now is as good as ours.

    Raises:
        UserError: other processes keep writing the same folder.
    """
    sync_folder(folder)
    for _ in range(100):
        try:
            os.rename(folder, output_dir)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if is_current():
            return
        old = output_dir.with_name(f"{folder.name}-old-{uuid.uuid4().hex[:8]}")
        with suppress(FileNotFoundError):
            os.rename(output_dir, old)
        shutil.rmtree(old, ignore_errors=True)
    raise UserError(f"output_dir: {output_dir} is being written by other processes again and again; stop them")
