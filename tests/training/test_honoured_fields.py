"""Each honoured field of TrainingArguments has an effect or is read, and best/ is the checkpoint that is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.trainer
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel

from opinionlm.config.trainer_arguments import HONOURED, OWN_FIELDS
from opinionlm.training.batching import EncodedTexts
from tests.honoured_runs import WAYS, assert_best_is_the_named_checkpoint, history, run, values, write_settings

# By field: the options of a run whose losses, rates or scores it has to change.
CHANGING = {
    "learning_rate": {"learning_rate": "5e-3"},
    "weight_decay": {"weight_decay": 5},
    "num_train_epochs": {"num_train_epochs": 1},
    "max_steps": {"max_steps": 3},
    "per_device_train_batch_size": {"per_device_train_batch_size": 8},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "lr_scheduler_type": {"lr_scheduler_type": "linear"},
    "warmup_steps": {"warmup_steps": 2},
    "max_grad_norm": {"optim": "sgd", "max_grad_norm": 0.01},
    "optim": {"optim": "sgd"},
    "bf16": {"bf16": "true"},
    "seed": {"seed": 7},
    "eval_strategy": {"eval_strategy": "steps", "eval_steps": 1},
    "eval_steps": {"eval_strategy": "steps", "eval_steps": 2},
    "logging_steps": {"logging_steps": 1},
    "lr_scheduler_kwargs": {"lr_scheduler_kwargs": "{num_cycles: 1.5}"},
    "optim_args": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "adam_beta1": {"adam_beta1": 0.5},
    "adam_beta2": {"adam_beta2": 0.9},
    "adam_epsilon": {"adam_epsilon": "1e-2"},
    "data_seed": {"data_seed": 7},
    "logging_strategy": {"logging_strategy": "epoch", "logging_steps": 10},
    "logging_first_step": {"logging_first_step": "true"},
    "neftune_noise_alpha": {"neftune_noise_alpha": 20},
}
# What these change is the same run without them; see `CHANGING`.
COMPARED = {"max_grad_norm": {"optim": "sgd"}, "optim_args": {"optim": "sgd"}}
# By field: options that change no number, and what shows that they are read, below.
READ = {
    "per_device_eval_batch_size": {"per_device_eval_batch_size": 5},
    "save_total_limit": {"save_total_limit": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 3},
    "activation_checkpointing": {"activation_checkpointing": "true"},
    "dataloader_num_workers": {"dataloader_num_workers": 1},
    "full_determinism": {"full_determinism": "true"},
    "disable_tqdm": {"disable_tqdm": "true"},
    "torch_empty_cache_steps": {"torch_empty_cache_steps": 1},
    "torch_compile": {"torch_compile": "true", "torch_compile_backend": "aot_eager", "max_steps": 2},
}
# Where a run lies and how it starts, tested with runs that stop and go on; the choice of the checkpoint, in
# test_chosen_checkpoint.py; GPUs alone, in test_trainer_arguments.py; the hub, in tests/inference/test_hub.py.
ELSEWHERE = {"output_dir", "run_name", "use_cpu", "resume_from_checkpoint", "report_to"}
ELSEWHERE |= {"metric_for_best_model", "greater_is_better", "tf32", "ddp_timeout", "push_to_hub"}
# Tested by the fields that they belong to.
WITH_OTHERS = {"torch_compile_backend", "torch_compile_mode"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, dict[str, str]]:
    return write_settings(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="module")
def plain(settings, tmp_path_factory) -> Callable[..., list[dict[str, Any]]]:
    """What a run logs that sets none of the fields, made once per way."""
    made: dict[str, list[dict[str, Any]]] = {}

    def logged(way: str, **options: object) -> list[dict[str, Any]]:
        key = json.dumps([way, options])
        if key not in made:
            folder, _ = run(way, settings[way], tmp_path_factory.mktemp("plain"), **options)
            made[key] = numbers(folder)
        return made[key]

    return logged


def numbers(folder: Path) -> list[dict[str, Any]]:
    """What a run logged, but for what depends on the clock."""
    timed = ("runtime", "per_second", "preparation_time")
    return [{name: value for name, value in entry.items() if not name.endswith(timed)} for entry in history(folder)]


def is_read(field: str, way: str) -> bool:
    return field not in HONOURED or ("loop" if way == "loop" else "trainer") in HONOURED[field].engines


def test_every_honoured_field_is_tested() -> None:
    tested = CHANGING.keys() | READ.keys() | ELSEWHERE | WITH_OTHERS
    assert tested == OWN_FIELDS | HONOURED.keys()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("field", CHANGING)
def test_it_changes_what_is_computed(field, way, settings, plain, tmp_path) -> None:
    if not is_read(field, way):
        pytest.skip("refused")
    folder, _ = run(way, settings[way], tmp_path, **CHANGING[field])
    assert numbers(folder) != plain(way, **COMPARED.get(field, {}))
    assert_best_is_the_named_checkpoint(folder)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("field", READ)
def test_it_is_read(field, way, settings, plain, tmp_path, monkeypatch) -> None:
    if not is_read(field, way):
        pytest.skip("refused")
    watched = Watched(monkeypatch)
    try:
        folder, _ = run(way, settings[way], tmp_path, **READ[field])
        deterministic = torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    match field:
        case "per_device_eval_batch_size":
            assert 5 in watched.batch_sizes and 64 not in watched.batch_sizes
        case "save_total_limit":
            assert len(list((folder / "checkpoints").glob("checkpoint-*"))) <= 2, "the best and the newest"
        case "activation_checkpointing":
            assert watched.checkpointing == 1
        case "dataloader_num_workers":
            assert 1 in watched.workers
        case "full_determinism":
            assert deterministic
        case "disable_tqdm":
            assert set(watched.bars) == {True}
        case "torch_empty_cache_steps":
            assert watched.emptied > 0
        case "torch_compile":
            assert len(watched.backends) > 1 and set(watched.backends) == {"aot_eager"}, "a dummy, then the model"
    if field in ("dataloader_num_workers", "disable_tqdm", "torch_empty_cache_steps"):
        assert numbers(folder) == plain(way)
    assert_best_is_the_named_checkpoint(folder)


class Watched:
    """What torch, transformers and tqdm are asked for while a run trains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batch_sizes: list[int] = []
        self.workers: list[int] = []
        self.bars: list[bool | None] = []
        self.backends: list[str] = []
        self.checkpointing = self.emptied = 0
        make_loader, make_compiled = DataLoader.__init__, torch.compile
        enable, empty = PreTrainedModel.activation_checkpointing_enable, transformers.trainer.clear_device_cache
        watched = self

        def loader(self: DataLoader, *arguments: Any, **options: Any) -> None:
            sampler = options.get("batch_sampler")
            watched.workers.append(options.get("num_workers", 0))
            # train_instruct.py cuts a split by itself.
            watched.batch_sizes.append(
                max(map(len, sampler)) if isinstance(sampler, list) else options.get("batch_size")
            )
            make_loader(self, *arguments, **options)

        def compiled(*arguments: Any, **options: Any) -> Any:
            watched.backends.append(options["backend"])
            return make_compiled(*arguments, **options)

        def enabled(self: PreTrainedModel, *arguments: Any, **options: Any) -> None:
            watched.checkpointing += 1
            enable(self, *arguments, **options)

        def emptied() -> None:
            watched.emptied += 1
            empty()

        class Bar(tqdm):
            def __init__(self, *arguments: Any, disable: bool | None = None, **options: Any) -> None:
                watched.bars.append(disable)
                super().__init__(*arguments, disable=disable, **options)

        monkeypatch.setattr(DataLoader, "__init__", loader)
        monkeypatch.setattr(torch, "compile", compiled)
        monkeypatch.setattr(PreTrainedModel, "activation_checkpointing_enable", enabled)
        monkeypatch.setattr(transformers.trainer, "clear_device_cache", emptied)
        monkeypatch.setattr("tqdm.tqdm", Bar)


@pytest.mark.parametrize("way", WAYS)
def test_many_of_them_at_once(way, settings, tmp_path) -> None:
    """The fast core: whatever is set, best/ is the checkpoint that metrics.json names, and the settings are used."""
    options = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": "1e-6", "data_seed": 7, "max_grad_norm": 0.5}
    options |= {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": "{min_lr: 5e-4}"}
    options |= {"logging_first_step": "true", "warmup_steps": 0.2, "weight_decay": 0.1}
    # A3: with bfloat16 autocast the saved weights stay what is trained, float32.
    folder, metrics = run(way, settings[way], tmp_path, bf16="true", **options)
    trained = assert_best_is_the_named_checkpoint(folder)
    assert {value.dtype for value in trained.values()} == {torch.float32}
    steps = metrics["train"]["steps"]
    rates = values(folder, "learning_rate")
    assert 1 in rates and rates[steps] >= 5e-4, "the first step is logged, and the floor holds"
    stored = torch.load(newest_optimizer(folder), weights_only=True)
    groups = (stored["optimizer"] if way == "loop" else stored)["param_groups"]
    assert all(group["betas"] == (0.8, 0.95) and group["eps"] == 1e-6 for group in groups)


def newest_optimizer(folder: Path) -> Path:
    """The file with the optimizer's state in the newest checkpoint of a run."""
    newest = max((folder / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (found,) = [newest / name for name in ("optimizer.pt", "loop_state.pt") if (newest / name).is_file()]
    return found


@pytest.mark.parametrize("way", ["trainer", "loop"])
def test_the_order_of_batches_has_a_seed_of_its_own(way, settings, tmp_path, monkeypatch) -> None:
    """A4: with the order of seed 7 and the weights of seed 42, neither run's losses are the other's."""
    orders: dict[str, list[int]] = {}
    read = EncodedTexts.__getitems__
    name = ""

    def watched(self: EncodedTexts, positions: list[int]) -> list[dict[str, Any]]:
        orders.setdefault(name, []).extend(positions)
        return read(self, positions)

    monkeypatch.setattr(EncodedTexts, "__getitems__", watched)
    for name, options in (("plain", {}), ("other seed", {"seed": 7}), ("data_seed", {"data_seed": 7})):
        run(way, settings[way] | {"max_steps": "1"}, tmp_path / name, **options)
    batch = slice(0, 16)
    assert orders["data_seed"][batch] == orders["other seed"][batch] != orders["plain"][batch]
