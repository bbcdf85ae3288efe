"""Which data type `dtype: fastest` stands for, and what is said of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from opinionlm.config.options import ModelConfig
from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone
from opinionlm.models.precision import (
    cast_parameters,
    computes_in_bfloat16,
    describe_dtype,
    torch_dtype,
    wants_autocast,
)
from opinionlm.models.quantization import nf4_config
from opinionlm.training.arguments import training_arguments
from tests.tiny import save_pretrained_model


@pytest.fixture(params=[("avx2", False), ("avx512_bf16", True), ("amx_bf16", True)], ids=lambda value: value[0])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A machine without a GPU; whether its processor has instructions for bfloat16."""
    instruction, native = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, instruction: True})
    return native


def test_fastest_follows_the_processor(processor: bool, tmp_path: Path) -> None:
    assert computes_in_bfloat16() is processor
    expected = torch.bfloat16 if processor else torch.float32
    assert torch_dtype("fastest") == expected
    name = "bfloat16" if processor else "float32"
    assert describe_dtype("fastest") == f"fastest ({name})" and describe_dtype("bfloat16") == "bfloat16"
    save_pretrained_model(tmp_path, dtype=torch.bfloat16)
    chosen = ModelConfig(model_name_or_path=str(tmp_path), dtype="fastest")
    assert {parameter.dtype for parameter in load_backbone(chosen, 1).parameters()} == {expected}
    # Frozen blocks in 4 bits are computed in it too.
    assert nf4_config(chosen, []).bnb_4bit_compute_dtype == expected


def test_autocast_where_the_processor_computes_in_bfloat16(processor: bool, tmp_path: Path) -> None:
    for value, expected in (("auto", processor), ("true", True), ("false", False)):
        config = parse_config(["--bf16", value, "--output_dir", str(tmp_path)], "a test", "train_classifier")
        assert training_arguments(config.training, config.source).bf16 is expected
    file = tmp_path / "run.yaml"
    file.write_text("bf16: auto\n")
    config = parse_config(["--config", str(file), "--output_dir", str(tmp_path)], "a test", "train_classifier")
    assert config.training.bf16 == "auto" and training_arguments(config.training, config.source).bf16 is processor
    with pytest.raises(UserError, match="bf16: 'fast' is not one of true, false, auto"):
        parse_config(["--bf16", "fast"], "a test", "train_classifier")


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_run_that_stays_on_the_processor_asks_the_processor(on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: on_gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not on_gpu})
    assert wants_autocast("auto", use_cpu=False) is on_gpu
    assert wants_autocast("auto", use_cpu=True) is not on_gpu


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_decides_where_there_is_one(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert computes_in_bfloat16() is native


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="fastest"):
        torch_dtype("int3")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and only glibc is told to give memory back")
def test_what_a_cast_frees_goes_back_to_the_system() -> None:
    """The C library kept all of it, and the measurement of a model's speed set the peak of short trainings."""
    model = nn.ModuleList(nn.Linear(256, 256) for _ in range(800))
    before = resident_megabytes()
    cast_parameters(model, torch.bfloat16)
    # Of 210 MB half is freed.
    assert before - resident_megabytes() > 70


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
