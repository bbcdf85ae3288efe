"""Being one of several processes, and being quiet."""

from __future__ import annotations

import os
import sys
from typing import TypeVar

import torch.distributed

T = TypeVar("T")


def quiet_libraries() -> None:
    """Leave on the terminal what this project says; the libraries' own warnings are checked for in code instead.

    Missing weights, unknown options and the like raise errors of ours, so nothing that matters is lost.
    """
    import datasets
    import huggingface_hub
    import transformers

    transformers.utils.logging.set_verbosity_error()
    datasets.utils.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def wait_for_others() -> None:
    """Wait until every process of this run is here; nothing happens in a single process."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def said_by_main(value: T) -> T:
    """The main process's value, in every process."""
    if not torch.distributed.is_initialized():
        return value
    shared = [value]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def leave() -> None:
    """End one of several processes once all of them are done; nothing happens in a single process.

    About one in ten runs of two CPU processes dies with SIGABRT while the interpreter shuts down, after all work is
    done, and the launcher then reports a failure. Waiting for each other and leaving at once avoids that.
    """
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
