"""One run, one folder, one launch: a lock beside the run folder says which process writes it, and since when.

The lock of ``outputs/name`` is the file ``outputs/.name.lock``, beside the folder so that ``overwrite`` can delete the
folder under it. It is a file with content, not a held ``flock``: it has to say who holds it, it has to be seen from
other machines on a shared file system, where ``flock`` often reaches no further than the own kernel, and it must not
be kept alive by worker processes that outlive a killed run.

It is made under another name and then linked to its own, which is atomic on local and network file systems (``link``
fails where the name exists, NFS included, and no reader ever sees half a file). A lock whose process is gone is
replaced while its file is locked with ``flock``, so that of several processes of this machine only one takes it over;
nobody ever takes over the lock of another machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError
from opinionlm.utils.files import is_running, left_overs, private_name

# Under which of these a launcher says which of the processes of a run this is, in the order accelerate asks them.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
# What link() says where a file system has no links.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# How long another process may take to judge a lock or to finish writing one, and between two looks (seconds).
PATIENCE, PAUSE = 2.0, 0.05


class Held(UserError):
    """The folder is another live process's.

    Args:
        message: what to say.
        holder: the process.
    """

    def __init__(self, message: str, holder: Holder) -> None:
        super().__init__(message)
        self.command = holder.command


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: name of its machine.
        machine: identity of that machine, its start, and the space that its process numbers belong to.
        process: its number.
        started: when the process began, in the kernel's ticks, since numbers are used again; None where unknown.
        since: when it took the lock, local time.
        command: its command line.
    """

    host: str
    machine: tuple[str, str, str]
    process: int
    started: str | None
    since: str
    command: str

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.process}{where} since {self.since}: {self.command[:200]}"


def this_process() -> Holder:
    """This process as a holder."""
    command = f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"
    number, now = os.getpid(), f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    return Holder(socket.gethostname(), machine_identity(), number, process_start(number), now, command)


def machine_identity() -> tuple[str, str, str]:
    """Identity of this machine, of its current start, and of the namespace of process numbers; empty where unknown."""
    found = []
    for file in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            found.append(Path(file).read_text(encoding="ascii").strip())
        except OSError:
            found.append("")
    try:
        found.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        found.append("")
    return (found[0], found[1], found[2])


def process_start(process: int) -> str | None:
    """When a process began, in ticks since the machine's start; None where there is no /proc, or it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # The third field is the state, the 22nd the start; Z and X are processes that have ended.
    return None if fields[0] in "ZX" else fields[19]


@contextmanager
def locked_run(training: TrainingConfig) -> Iterator[None]:
    """Hold every folder that a script writes for its options: the run's, or those of all seeds and of their summary.

    All processes of one launch count as one holder: the first of them holds the locks.

    Raises:
        Held: another process writes one of them.
    """
    if not is_first_process():
        yield
        return
    with ExitStack() as stack:
        for folder in folders_of(training):
            stack.enter_context(locked(folder))
        yield


def is_first_process() -> bool:
    """Whether this is the process of its launch that writes; asked before torch is imported."""
    return int(next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), "0")) == 0


def folders_of(training: TrainingConfig) -> list[Path]:
    """The folders that a config's runs write; what belongs to all seeds has a name that no single run has."""
    folder = training.run_folder
    if training.seeds is None:
        return [folder]
    members = [training.member_name(seed) for seed in training.seed_list()]
    whole = [f"{training.run_name}-seeds", f"{training.run_name}-ensemble"]
    return [folder.with_name(name) for name in (*whole, *members)]


@contextmanager
def locked(folder: Path, wait: str | None = None, inherited: bool = False) -> Iterator[tuple[int, ...]]:
    """Hold the lock of a folder.

    Args:
        folder: need not exist; its parent is made, and is gone again afterwards where nothing came into it.
        wait: what to say, once, while another holder of this machine is waited for; blank to wait in silence, None
            not to wait.
        inherited: whether child processes are to hold the lock too, for as long as they live.

    Yields:
        File descriptors to pass to them: one with ``inherited``, else none.

    Raises:
        Held: another process holds it.
        UserError: the place cannot be written.
    """
    path = lock_of(folder)
    try:
        made = make_folders(path.parent)
        mine = this_process()
        descriptor = acquire(path, folder, mine, wait, inherited)
    except OSError as error:
        raise UserError(f"output_dir: cannot write {folder}: {error.strerror}") from error
    try:
        yield () if descriptor is None else (descriptor,)
    finally:
        with suppress(OSError):
            if read_holder(path) == mine:
                path.unlink()
        if descriptor is not None:
            os.close(descriptor)
        for each in made:
            with suppress(OSError):
                each.rmdir()


def refuse_held(folder: Path) -> None:
    """Make sure that no other process writes a folder that is about to be deleted.

    Raises:
        Held: one does.
        UserError: one may, and cannot be asked.
    """
    try:
        holder = read_holder(lock_of(folder))
    except OSError:
        return
    mine = this_process()
    if holder is None:
        raise UserError(f"{folder}: its lock cannot be read; if no run writes there, delete {lock_of(folder)}")
    if (holder.machine, holder.process, holder.started) != (mine.machine, mine.process, mine.started):
        refuse_living(holder, folder)


def lock_of(folder: Path) -> Path:
    """The lock file of a folder; of a link to one, the lock of what it leads to."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.lock")


def make_folders(folder: Path) -> list[Path]:
    """Make a folder; returns it and those above it that were not there, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def acquire(path: Path, folder: Path, mine: Holder, wait: str | None, inherited: bool) -> int | None:
    """Make the lock file, or take over one whose process is gone; see `locked`."""
    waiting = False
    while True:
        try:
            return try_once(path, folder, mine, inherited)
        except Held:
            if wait is None:
                raise
        if wait and not waiting:
            print(wait, flush=True)
        waiting = True
        time.sleep(10 * PAUSE)


def try_once(path: Path, folder: Path, mine: Holder, inherited: bool) -> int | None:
    """Make the lock file unless somebody holds it.

    Raises:
        Held: somebody does.
        UserError: somebody may, and cannot be asked.
    """
    for left_over in left_overs(path.parent, f"{path.name}."):
        left_over.unlink(missing_ok=True)
    temporary = path.with_name(private_name(f"{path.name}."))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, json.dumps(asdict(mine)).encode())
        os.fsync(descriptor)
        if inherited:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not link(temporary, path):
            take_over(path, temporary, folder)
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if inherited:
        return descriptor
    os.close(descriptor)
    return None


def link(temporary: Path, path: Path) -> bool:
    """Give a finished file its name, unless the name exists; whether it worked."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        # An NFS server's answer may be lost and the call repeated: the number of links tells.
        return os.stat(temporary).st_nlink == 2
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    # Without links: readers may see an empty file for a moment, see `read_holder`.
    try:
        with open(path, "xb") as file:
            file.write(temporary.read_bytes())
            return True
    except FileExistsError:
        return False


def take_over(path: Path, temporary: Path, folder: Path) -> None:
    """Replace a lock whose process is gone, and say so.

    Raises:
        Held: it is not gone, or what it started still runs.
        UserError: nobody can tell.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            holder = read_holder(path)
            if holder is not None:
                refuse_living(holder, folder)
                # Whoever replaces holds this: of two that find the process gone, the second finds another file, or
                # another holder in the file, where the first was done before the second opened it.
                with open(path, "r+b") as file:
                    mine = try_flock(file.fileno()) and same_file(path, file.fileno())
                    if mine and read_holder(path) == holder:
                        os.replace(temporary, path)
                        print(f"{folder}: its lock is taken over: {holder} is gone", flush=True)
                        return
        except FileNotFoundError:
            if link(temporary, path):
                return
            continue
        if time.monotonic() > deadline:
            if holder is None:
                raise UserError(f"{folder}: its lock cannot be read; if no run writes there, delete {path}")
            raise Held(f"{folder}: is still written by what a run started that is gone itself ({holder})", holder)
        time.sleep(PAUSE)


def try_flock(descriptor: int) -> bool:
    """Lock an open file if nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def same_file(path: Path, descriptor: int) -> bool:
    """Whether a name still is that of an open file."""
    return os.path.samestat(os.stat(path), os.fstat(descriptor))


def read_holder(path: Path) -> Holder | None:
    """Who holds a lock; None where the file says nothing.

    Raises:
        FileNotFoundError: nobody does.
    """
    try:
        content = json.loads(path.read_bytes())
        return Holder(**(content | {"machine": tuple(content["machine"])}))
    except (ValueError, TypeError, KeyError):
        return None


def refuse_living(holder: Holder, folder: Path) -> None:
    """Leave a folder alone unless its holder is gone.

    Raises:
        Held: the holder is alive.
        UserError: it cannot be asked from here.
    """
    machine, start, numbers = machine_identity()
    remedy = f"if that run has ended, delete {lock_of(folder)}, or give another run_name"
    if (holder.host, holder.machine[0]) != (socket.gethostname(), machine):
        raise UserError(f"{folder}: is written by {holder}; that machine cannot be asked from here: {remedy}")
    if holder.machine[1] != start:
        return  # the machine was started anew
    if holder.machine[2] != numbers:
        raise UserError(f"{folder}: is written by {holder} in another container, which cannot be asked: {remedy}")
    if is_running(str(holder.process)) and process_start(holder.process) == holder.started:
        message = f"{folder}: is written by {holder}; wait until it ends, stop it, or give another run_name"
        raise Held(message, holder)
