"""4-bit loading of the frozen blocks (NF4 with double quantisation, Dettmers et al. 2023)."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from opinionlm.errors import UserError
from opinionlm.models.precision import torch_dtype

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

    from opinionlm.config.options import ModelConfig


def nf4_config(model: ModelConfig, skip_modules: list[str]) -> BitsAndBytesConfig:
    """The bitsandbytes configuration for a model whose trained blocks keep their data type.

    Args:
        model: the model part of the config.
        skip_modules: full paths of modules that are not quantised, from the root that is loaded.

    Raises:
        UserError: if bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "load_in_4bit: bitsandbytes is not installed; run `pip install -r requirements.txt`, or set it to false"
        )
    compute = torch.float32 if torch_dtype(model.dtype) == torch.float32 else torch.bfloat16
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=model.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=model.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=skip_modules,
    )


def quantized_modules(model: nn.Module) -> list[str]:
    """Names of the modules whose weights are stored in 4 bits."""
    bitsandbytes = sys.modules.get("bitsandbytes")
    # No model holds layers of a package that was not imported.
    if bitsandbytes is None:
        return []
    return [name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


def weight_count(parameter: nn.Parameter) -> int:
    """Weights in a parameter; 4-bit storage holds two in a byte and keeps the true shape aside."""
    state = parameter.__dict__.get("quant_state")
    return parameter.numel() if state is None else state.shape.numel()


def fits_expanded(model: PreTrainedModel) -> bool:
    """Whether the 4-bit weights of a model, expanded into its data type, take at most a quarter of the main memory.

    All processes of a run on this machine together: each has its own.
    """
    names = quantized_modules(model)
    size = sum(weight_count(model.get_submodule(name).weight) for name in names) * model.dtype.itemsize
    # Set by `accelerate launch` and torchrun.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return size * processes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


def move_quantization_config(model: PreTrainedModel) -> None:
    """Describe the 4-bit weights of a model's backbone in the model's own configuration, where loading looks.

    The backbone was quantised by itself, so its configuration names the skipped modules from its own root. Once it
    sits inside another model, that model's ``config.json`` has to name them from the new root.

    Args:
        model: a model with a ``backbone``; nothing happens when that is not quantised.
    """
    if not quantized_modules(model):
        return
    model.config.quantization_config = model.backbone.config.quantization_config
    del model.backbone.config.quantization_config
    name_unquantized_modules(model)


def name_unquantized_modules(model: PreTrainedModel) -> None:
    """Bring the list of skipped modules in a model's configuration up to date; nothing to do without 4-bit weights.

    Args:
        model: the outermost model, after layers were added to it or renamed.
    """
    quantized = set(quantized_modules(model))
    if not quantized:
        return
    # GPT-2's layers are Conv1D until they are quantised.
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    model.config.quantization_config.llm_int8_skip_modules = [name for name in linear if name not in quantized]


def mend_cpu_kernels(model: nn.Module) -> None:
    """Keep 4-bit layers right on CPUs with AVX512; call whenever a model was loaded, before its first evaluation.

    With AVX512-BF16 a forward pass without gradients repacks the weights in place, after which training gradients are
    silently wrong, and widths that are no multiple of the block raise (bitsandbytes 0.50.2,
    ``Linear4bit.support_avx512bf16_for_cpu``): it is switched off. With AVX512 some weights expand to wrong numbers:
    `mend_dequantization`. Nothing is done to a model without 4-bit layers.
    """
    names = quantized_modules(model)
    for name in names:
        model.get_submodule(name).support_avx512bf16_for_cpu = False
    if names:
        mend_dequantization()


@cache
def mend_dequantization() -> torch.library.Library:
    """Expand 4-bit weights rightly on CPUs with AVX512, once and for the whole process.

    There the kernel of bitsandbytes 0.50.2 takes the scales of blocks of 64 weights row by row. Blocks run on from one
    row to the next where a row is no multiple of 64 weights, and rows of 16, 32, 48, 80 … weights come out wrong by
    up to several times their size (no upstream issue known on 2026-11-30; the scalar path of other CPUs is right).
    As rows of one block each the same weights come out right.

    Returns:
        The replacement, which ends with this object; the cache keeps it.
    """
    import bitsandbytes  # noqa: F401  (registers the kernel that is replaced)

    kernel = torch.library.get_kernel("bitsandbytes::dequantize_4bit", "CPU")

    def dequantize(
        keys: Any,
        packed: torch.Tensor,
        absmax: torch.Tensor,
        blocksize: int,
        quant_type: str,
        shape: Sequence[int],
        dtype: torch.dtype,
    ) -> torch.Tensor:
        if shape[-1] % blocksize == 0:
            return kernel.call_boxed(keys, packed, absmax, blocksize, quant_type, shape, dtype)
        count = math.prod(shape)
        blocks = -(-count // blocksize)
        octets = packed.reshape(-1).view(torch.uint8)
        octets = nn.functional.pad(octets, (0, blocks * blocksize // 2 - len(octets)))
        rows = kernel.call_boxed(keys, octets, absmax, blocksize, quant_type, (blocks, blocksize), dtype)
        return rows.flatten()[:count].view(tuple(shape))

    replacement = torch.library.Library("bitsandbytes", "IMPL")
    with warnings.catch_warnings():
        # torch tells that a kernel is replaced, which is what is wanted.
        warnings.simplefilter("ignore", UserWarning)
        replacement.impl("dequantize_4bit", dequantize, "CPU", with_keyset=True, allow_override=True)
    return replacement
