"""Processes that are forked from a server which has imported everything: an import would cost ten times their work."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.preloaded"])


def in_two_processes(folder: Path, work: Callable[..., Any], *arguments: Any, timeout: float = 240) -> Any:
    """Call a function in two CPU processes that train together, as the launchers of torch and accelerate would.

    Args:
        folder: gets what the processes say and answer.
        work: a function of a module; of its calls the first process's answer counts.
        *arguments: its arguments.
        timeout: seconds until the processes are killed.

    Returns:
        What the function returns; None if it leaves the process by itself, as the training scripts do.
    """
    import torch

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    logs = [folder / f"process{rank}.log" for rank in range(2)]
    children = [
        CONTEXT.Process(target=_child, args=(rank, port, log, work, arguments)) for rank, log in enumerate(logs)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout)
    for child in children:
        child.kill()
        child.join()
    assert [child.exitcode for child in children] == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)
    answer = logs[0].with_suffix(".pt")
    return torch.load(answer, weights_only=True) if answer.exists() else None


def _child(rank: int, port: int, log: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    try:
        answer = work(*arguments)
        if rank == 0:
            torch.save(answer, log.with_suffix(".pt"))
        torch.distributed.barrier()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)
