"""Folders that appear all at once: written beside their place under a hidden name, then renamed."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import json
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from opinionlm.errors import UserError, one_line

# Lies in a folder whose runs are no results, such as trials; for whoever looks for runs.
NO_RESULTS = "no_results.txt"


@contextmanager
def partial_folder(output_dir: Path) -> Iterator[Path]:
    """A folder beside the output to work in, so that the final rename stays within one file system."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    start = f".{output_dir.name}.partial-"
    for left_over in left_overs(output_dir.parent, start):
        shutil.rmtree(left_over, ignore_errors=True)
    folder = output_dir.parent / private_name(start)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def private_name(start: str) -> str:
    """A name that no other process takes, and that tells `left_overs` whose it is."""
    return f"{start}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def left_overs(folder: Path, start: str) -> Iterator[Path]:
    """What processes of this machine that are gone left in a folder under a `private_name`."""
    of_this_machine = f"{start}{socket.gethostname()}-"
    for path in folder.glob(f"{glob.escape(of_this_machine)}*"):
        if not is_running(path.name.removeprefix(of_this_machine).split("-")[0]):
            yield path


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


def require_new_folder(folder: Path) -> None:
    """Refuse a place of ``--merge`` that a new folder cannot take, before what it shall hold is made.

    Raises:
        UserError: something stands there, or one of the folders above it is a file.
    """
    if os.path.lexists(folder):
        raise UserError(f"--merge: {folder} exists already; give a new folder")
    require_folders_above("--merge", folder)


def require_folders_above(option: str, folder: Path) -> None:
    """Refuse a place under a file.

    Args:
        option: that names it, for the message.
        folder: the new one.

    Raises:
        UserError: it is one.
    """
    above = next(parent for parent in folder.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise UserError(f"{option}: {folder} would lie in {above}, which is no folder; give another place")


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy those files of a folder that are there into another one."""
    for name in names:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content, never a part: temporary file, sync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def clear_temporaries(folder: Path, pattern: str = "*") -> None:
    """Remove what `write_text` and `write_csv` left in a folder when their process was killed."""
    for path in folder.glob(f".{pattern}.*"):
        process = path.name.rpartition(".")[2]
        if process.isdigit() and path.is_file() and not is_running(process):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; nan and infinity are refused, since other readers do not know them."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Content of a JSON file that a run wrote.

    Raises:
        UserError: the file is damaged, or was edited wrongly.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: damaged ({one_line(error)}); restore it, or delete {path.parent} and run it again"
        ) from None


def read_object(path: Path) -> dict[str, Any]:
    """Names and values of a JSON file that a run wrote, such as ``metrics.json``.

    Raises:
        UserError: as of `read_json`, or the file holds something else.
    """
    if not isinstance(content := read_json(path), dict):
        raise UserError(f"{path}: damaged (no JSON object); restore it, or delete {path.parent} and run it again")
    return content


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(LineFeeds(file), lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(temporary, path)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line; fields may be of any length, as texts are."""
    csv.field_size_limit(sys.maxsize)
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class LineFeeds:
    """What a CSV writer writes to, so that lines end in a line feed and a lone carriage return is quoted as well.

    Before Python 3.11.9 and 3.12.3 csv quotes only what stands in its own line end (cpython #67044), and no reader
    takes a bare return.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, line: str) -> None:
        """Take a line from a writer whose line end is a return and a line feed."""
        self.file.write(line.removesuffix("\r\n") + "\n")
