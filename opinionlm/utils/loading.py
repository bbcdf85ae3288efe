"""Load libraries without looking for garbage among what they consist of, without torch's compiler, and in silence."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache


@contextmanager
def libraries_loading() -> Iterator[None]:
    """A block of imports, and of nothing else.

    They make millions of objects, and all of them stay to the end of the process. Python would look through them again
    and again, a quarter of the time to the first step. Within the block it does not; after the first such block of a
    process it leaves alone what is there, later too. Only the first one: what comes later may be a model that is to be
    freed.

    Within the block ``torch.compile`` does nothing: bitsandbytes, which peft imports, has it compile functions for
    devices without kernels of its own (neither CPU nor CUDA), for which torch loads its whole compiler: two seconds.

    What they print is dropped: transformers tells of W&B's offline mode, which the run says itself.
    """
    collects, compiles = gc.isenabled(), "TORCHDYNAMO_DISABLE" not in os.environ
    gc.disable()
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        if compiles:
            del os.environ["TORCHDYNAMO_DISABLE"]
        freeze_once()
        if collects:
            gc.enable()


@cache
def freeze_once() -> None:
    """Leave what is there now out of every later search. To ask Python whether that is done takes a search itself."""
    gc.freeze()
