"""Token ids of many texts: lengths for the rules and statistics, digests for finding copies.

Uses the `tokenizers` library directly. Loading a tokenizer.json through it takes milliseconds and needs no torch,
which matters because every worker process loads its own.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from opinionlm.data.encoding.special_tokens import read_backend_as_text
from opinionlm.errors import UserError, one_line
from opinionlm.utils.shipped import find_model, gguf_source, is_place, shipped_root

DIGEST_BYTES = 16
# Between the parts of a row where they count as one; the id is beyond every vocabulary.
SEPARATOR, SEPARATOR_ID = "\x1f", 2**32 - 1


def find_tokenizer(name_or_path: str) -> Path | None:
    """The folder of a tokenizer, the user's or a shipped one; None for a hub name."""
    folder = find_model(name_or_path)
    return folder if folder.is_dir() else None


def load_tokenizer(name_or_path: str) -> Tokenizer:
    """The fast tokenizer of a local folder or a hub model, without truncation or padding; texts are only text to it.

    Raises:
        UserError: there is none, or it cannot be had offline.
    """
    folder = find_tokenizer(name_or_path)
    if folder is None and gguf_source(Path(name_or_path)) is not None:
        raise UserError(
            f"tokenizer_name_or_path: {name_or_path} is a GGUF file that is not converted yet; first run python -m "
            f"opinionlm.models.gguf {name_or_path}"
        )
    if folder is None and is_place(name_or_path):
        raise UserError(
            f"tokenizer_name_or_path: there is no folder {name_or_path} here or in {shipped_root()}; give "
            "another one with --tokenizer_name_or_path"
        )
    try:
        if folder is None:
            tokenizer = Tokenizer.from_file(_from_hub(name_or_path))
        elif (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            from transformers import AutoTokenizer  # imports torch: only where it must

            tokenizer = AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer
    except Exception as error:
        raise UserError(
            f"tokenizer_name_or_path: {name_or_path!r} cannot be loaded ({one_line(error)}); give a folder with a "
            "tokenizer.json or a hub name you have access to, e.g. --tokenizer_name_or_path models/gemma3-mini"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    read_backend_as_text(tokenizer)
    return tokenizer


def _from_hub(name: str) -> str:
    """The path of a hub model's tokenizer.json, from the cache or downloaded."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(name, "tokenizer.json")
    if isinstance(cached, str):
        return cached
    # Asks once. Without a network the download itself would retry for half a minute, with a warning for every attempt.
    get_hf_file_metadata(hf_hub_url(name, "tokenizer.json"), timeout=10)
    return hf_hub_download(name, "tokenizer.json")


def token_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of a batch of texts, without special tokens."""
    with _one_thread():
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for text outside the vocabulary; None for a tokenizer that can write everything."""
    name = getattr(tokenizer.model, "unk_token", None)
    return None if name is None else tokenizer.token_to_id(name)


def digest(text: str, ids: Sequence[int] | None, unknown: int | None) -> bytes:
    """Sixteen bytes that are equal for equal posts.

    Args:
        text: the post.
        ids: its tokens, to compare by token sequence (section 4, step 1.2.3); None to compare by text.
        unknown: id of the unknown token. Two posts in a script that the vocabulary lacks have equal ids and nothing
            else in common, so a post with unknown tokens is compared by its text.
    """
    if not ids or (unknown is not None and unknown in ids):
        return hashlib.blake2b(text.encode("utf-8"), digest_size=DIGEST_BYTES, person=b"text").digest()
    return hashlib.blake2b(array("I", ids).tobytes(), digest_size=DIGEST_BYTES, person=b"tokens").digest()


def row_digest(texts: Sequence[str], ids: Sequence[Sequence[int]] | None, unknown: int | None) -> bytes:
    """`digest` of a row of several texts, whose order counts; of one text it is that text's digest."""
    joined = array("I")
    for part in ids or ():
        if joined:
            joined.append(SEPARATOR_ID)
        joined.extend(part)
    # A part without tokens leaves no trace in the ids, so such rows are compared by text.
    has_ids = ids is not None and all(ids)
    return digest(SEPARATOR.join(texts), joined if has_ids else None, unknown)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep the tokenizer to the calling thread: processes are our parallelism.

    Its own threads would make it warn at every later fork, for instance of data-loading workers.
    """
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
