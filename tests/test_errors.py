"""A full disk is one line, whichever library writes."""

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from opinionlm.errors import file_error, run_script

LIMIT = 100_000
NUMBERS = np.zeros(LIMIT)
WORDS = {f"word {number}": number for number in range(LIMIT // 10)}


@pytest.mark.parametrize(
    "write, reason",
    [
        (lambda path: path.write_bytes(bytes(2 * LIMIT)), "File too large"),
        (lambda path: save_file({"numbers": NUMBERS}, path), "File too large"),
        (lambda path: Tokenizer(models.WordLevel(WORDS, "word 0")).save(str(path)), "File too large"),
        (lambda path: np.save(path, NUMBERS), "No space left on device"),
    ],
    ids=["python", "safetensors", "tokenizers", "numpy"],
)
def test_a_file_that_does_not_fit_is_one_line(write: Callable[[Path], object], reason: str, tmp_path, capsys) -> None:
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGTERM)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
    try:
        with pytest.raises(SystemExit) as left:
            run_script(lambda: write(tmp_path / "file.npy"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGTERM, handler)
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and line.startswith("error: ") and reason in line


def test_a_fault_of_the_program_is_no_file_error() -> None:
    assert file_error(ValueError("3 requested and 2 written")) is None
    assert file_error(RuntimeError("no such name (os error 2)")) is None
    assert file_error(FileNotFoundError(2, "No such file or directory")) is None
