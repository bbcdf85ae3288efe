"""GGUF files as models: converted once, into a folder that every script then loads like any other.

llama.cpp's format holds a whole model in one file: quantised weights, configuration, tokenizer and chat template.
transformers reads it, but keeps the weights packed or dequantises them at every start, and parses the vocabulary for
each of configuration, weights and tokenizer anew. Here that happens once: ``outputs/models/<name of the file>`` gets
the dequantised weights and the tokenizer, and `source.json` with the SHA-256 of the file that they were made of.

    python -m opinionlm.models.gguf path/to/model.gguf

converts a file and prints the folder; every script does so by itself when it is given the file.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.errors import UserError, one_line, run_script
from opinionlm.models.gguf_header import GgufHeader, cut_short, read_header
from opinionlm.utils.files import file_sha256, partial_folder, publish, write_json
from opinionlm.utils.shipped import find_model, find_shipped, gguf_source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SOURCE = "source.json"
# Types of numbers that are no blocks of quantised ones.
F32, F16, BF16 = 0, 1, 30
# A tokenizer of 262,144 entries and the small files, and some air.
BESIDE_WEIGHTS = 128 * 2**20


def require_converted(name_or_path: str) -> None:
    """Make the converted copy of a GGUF file, unless there is one; other models are left alone.

    Args:
        name_or_path: of a model, as users give it: a folder, a name on the hub, a GGUF file, or a folder with one.

    Raises:
        UserError: the file is damaged or of a kind that cannot be read, gguf is not installed, the disk is full, or
            a folder that is no copy stands where the copy belongs.
    """
    source = gguf_source(find_shipped(name_or_path))
    if source is None:
        return
    folder = find_model(name_or_path)
    if source.is_file() and is_current(folder, source):
        return
    header = read_header(source)
    require_readable(header)
    with only_process(folder):
        # Another process may have made it while this one waited.
        if not is_current(folder, source):
            if folder.exists() and not (folder / SOURCE).is_file():
                raise UserError(
                    f"model_name_or_path: the copy of {source} would replace {folder}, which was not made of a GGUF "
                    "file; rename one of them"
                )
            convert(header, folder)


def is_current(folder: Path, source: Path) -> bool:
    """Whether a folder is the converted copy of a file as it is now.

    The noted file with the noted size and time of change is taken for unchanged; of any other the hash tells.

    Raises:
        UserError: the folder is the copy of another file of the same name.
    """
    try:
        note = json.loads((folder / SOURCE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return False
    state, place = source.stat(), str(source.resolve())
    # Archives may give two files of one name the same time too.
    if [place, state.st_size, state.st_mtime_ns] == [note["file"], note["bytes"], note["changed"]]:
        return True
    if file_sha256(source) == note["sha256"]:
        return True
    if note["file"] != place and Path(note["file"]).is_file():
        raise UserError(
            f"model_name_or_path: {folder} was made of {note['file']}, another file of that name; rename {source}, or "
            f"remove {folder}"
        )
    return False


def require_readable(header: GgufHeader) -> None:
    """Look whether a file can be dequantised, from its header alone.

    Raises:
        UserError: gguf is not installed, a tensor's type is not known, or the file ends before its last tensor.
    """
    path = header.path
    if find_spec("gguf") is None:
        raise UserError(
            f"model_name_or_path: {path} is a GGUF file, which the package gguf reads: pip install -r "
            "requirements-gguf.txt, or pip install 'opinionlm[gguf]'"
        )
    import gguf
    import numpy as np

    size = path.stat().st_size
    known = {int(kind): kind for kind in gguf.GGMLQuantizationType}
    for number in sorted({tensor.type for tensor in header.tensors.values()}):
        try:
            kind = known[number]
            gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except (KeyError, NotImplementedError):  # gguf raises it for kinds that it cannot dequantise
            name = known[number].name if number in known else f"number {number}"
            raise UserError(
                f"model_name_or_path: {path} holds weights of type {name}, which gguf {version('gguf')} cannot "
                "dequantise; give another quantisation of this model, such as Q8_0 or Q4_K_M"
            ) from None
    for tensor in header.tensors.values():
        block, stored = gguf.GGML_QUANT_SIZES[known[tensor.type]]
        if header.data_start + tensor.offset + prod(tensor.shape) // block * stored > size:
            raise cut_short(path)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Let the processes of this machine convert into a folder one after another."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def convert(header: GgufHeader, folder: Path) -> None:
    """Dequantise a file's weights and write them, with its tokenizer, as a folder of `save_pretrained`.

    Raises:
        UserError: the architecture or the tokenizer cannot be read, weights are missing, or the disk is too small.
    """
    from opinionlm.data.encoding.tokenizers import write_tokenizer
    from opinionlm.models.families import family_of

    dtype = copied_type(header)
    require_room(header, folder, 2 if dtype == "bfloat16" else 4)
    digest = file_sha256(header.path)
    print(f"convert {header.path}: {header.parameters:,} parameters, once, into {folder}", flush=True)
    with partial_folder(folder) as partial:
        work = partial / "work"
        work.mkdir()
        header.write_without_vocabulary(work / "weights.gguf")
        (work / "vocabulary.gguf").symlink_to(header.path.resolve())
        try:
            config = read_config(header, work)
            family_of(config)
            tokenizer = read_tokenizer(work)
            model = read_weights(config, work, dtype)
        except (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
            # What transformers raises for an architecture or a tokenizer that it cannot read.
            raise UserError(
                f"model_name_or_path: {header.path}, architecture '{header.architecture}', cannot be read by "
                f"transformers ({one_line(error)}); give a model of another architecture, such as gemma3, llama or "
                "qwen2, or a folder written by save_pretrained"
            ) from error
        shutil.rmtree(work)
        model.save_pretrained(partial)
        write_tokenizer(tokenizer, partial)
        state = header.path.stat()
        note = {"file": str(header.path.resolve()), "sha256": digest}
        write_json(partial / SOURCE, note | {"bytes": state.st_size, "changed": state.st_mtime_ns})
        publish(partial, folder, lambda: is_current(folder, header.path))


def copied_type(header: GgufHeader) -> str:
    """The data type of the copy: float32 where nothing may be lost, bfloat16 where blocks of few bits were rounded.

    float16 is no choice: Gemma's activations overflow it.
    """
    types = {tensor.type for tensor in header.tensors.values()}
    return "float32" if types <= {F32, F16} else "bfloat16"


def require_room(header: GgufHeader, folder: Path, bytes_per_weight: int) -> None:
    """Make sure that the copy fits the disk, with what lies beside it while it is made.

    Raises:
        UserError: it does not.
    """
    needed = header.path.stat().st_size + header.parameters * bytes_per_weight + BESIDE_WEIGHTS
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise UserError(
            f"model_name_or_path: the converted copy of {header.path} needs {needed / 1e9:.1f} GB in {folder.parent}, "
            f"where {free / 1e9:.1f} GB are free; make room, or make {folder.parent} a link to a larger disk"
        )


def read_config(header: GgufHeader, work: Path) -> PreTrainedConfig:
    """The configuration, read by transformers from the file without vocabulary."""
    from transformers import AutoConfig

    # Where the header does not say the size of the vocabulary, transformers counts its entries, which that file lacks.
    embedding = header.tensors.get("token_embd.weight")
    stated = f"{header.architecture}.vocab_size" in header.entries
    size = {} if stated or embedding is None else {"vocab_size": embedding.shape[0]}
    return AutoConfig.from_pretrained(work, gguf_file="weights.gguf", **size)


def read_tokenizer(work: Path) -> PreTrainedTokenizerBase:
    """The tokenizer and its chat template.

    `AutoTokenizer` parses the whole file with `gguf.GGUFReader` first, two thirds of its time, only to learn the class
    of the tokenizer. A class of its own would put the tokenizer together anew at every start; the plain one reads what
    was written.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(work, gguf_file="vocabulary.gguf")


def read_weights(config: PreTrainedConfig, work: Path, dtype: str) -> PreTrainedModel:
    """The model with its output layer, every weight a plain tensor; transformers shows how far it is.

    Raises:
        UserError: the file lacks weights of the model.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForTextEncoding, GgufConfig

    auto_class: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if "T5EncoderModel" in (config.architectures or ()):
        auto_class = AutoModelForTextEncoding
    loaded, report = auto_class.from_pretrained(
        work,
        gguf_file="weights.gguf",
        use_safetensors=True,
        config=config,
        dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
    )
    if report["missing_keys"]:
        raise UserError(
            f"model_name_or_path: the GGUF file lacks {len(report['missing_keys'])} weights of a "
            f"{type(loaded).__name__} (for instance {min(report['missing_keys'])}); fetch it again"
        )
    return loaded


def main() -> None:
    """Convert the file that the command line names."""
    if len(sys.argv) != 2:
        raise UserError("usage: python -m opinionlm.models.gguf path/to/model.gguf")
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    if gguf_source(Path(sys.argv[1])) is None:
        raise UserError(f"{sys.argv[1]} is neither a GGUF file nor a folder with one")
    require_converted(sys.argv[1])
    print(find_model(sys.argv[1]))


if __name__ == "__main__":
    run_script(main)
