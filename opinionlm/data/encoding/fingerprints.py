"""Names for encoded data sets, so that a run finds again what an earlier one encoded and never anything else.

``datasets.map`` keeps its result under a name, by default a hash of the pickled function and all it refers to. For a
tokenizer of 262,144 entries that takes seconds, several times per split; and of functions that the pickled one calls
it sees the names only, so that a correction of such a function leaves the old result in use. Here the name is a hash
of the rows, of what the tokenizer is (computed once), of the options of the step, of this package's source code and of
the versions of the libraries that encode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from datasets.fingerprint import Hasher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKAGE = Path(__file__).resolve().parents[2]

# Attributes of a fast tokenizer that do not decide token ids by themselves. The first three say again what its backend
# holds, which is hashed whole; the others tell where it came from, what it was called with, and what it has warned of.
IN_BACKEND = frozenset({"_tokenizer", "_vocab", "_merges"})
WITHOUT_EFFECT = frozenset({"name_or_path", "init_inputs", "init_kwargs", "deprecation_warnings", "verbose"})


def result_name(step: str, rows: Dataset, facts: Mapping[str, Any]) -> str:
    """The fingerprint of what a step makes of a data set, for ``new_fingerprint`` of `Dataset.map`.

    Args:
        step: name of the step; two steps never share a result.
        rows: what the step reads. Its own fingerprint stands for its content and order.
        facts: everything else that decides the result, as JSON values.

    Returns:
        64 hexadecimal digits.
    """
    parts = {
        "step": step,
        "rows": rows._fingerprint,
        "columns": rows.column_names,
        "facts": facts,
        "code": code_digest(PACKAGE),
        "versions": [version("transformers"), version("tokenizers")],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def encode_rows(
    rows: Dataset, encode: Callable[[dict[str, list[Any]]], dict[str, Any]], step: str, facts: Mapping[str, Any]
) -> Dataset:
    """What a function makes of batches of rows, in the place of their columns; kept by `result_name`."""
    name = result_name(step, rows, facts)
    return rows.map(encode, batched=True, remove_columns=rows.column_names, new_fingerprint=name, desc="Tokenising")


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that decides which token ids a tokenizer gives to a text.

    It is taken of the tokenizer in memory, not of its files, which do not tell what was changed since it was loaded
    (padding token, separation of pairs, task tokens). About a second for 262,144 entries: call it once per run.

    Args:
        tokenizer: fast or slow. It is left as it is; what earlier calls asked for (truncation, padding) has no
            influence on the hash.
    """
    if not tokenizer.is_fast:
        return Hasher.hash(tokenizer)
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        digest = hashlib.sha256(backend.to_str().encode())
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)
    outside = {name: value for name, value in vars(tokenizer).items() if name not in IN_BACKEND | WITHOUT_EFFECT}
    digest.update(Hasher.hash([type(tokenizer), outside]).encode())
    return digest.hexdigest()


@cache
def code_digest(package: Path) -> str:
    """A hash of the source code of a package.

    All of it, since no list of the modules that matter would stay right: a change that has no effect costs one
    encoding, one that has an effect and is overlooked costs wrong results.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
