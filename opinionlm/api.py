"""The public functions of the package; ``import opinionlm`` offers them and loads nothing before one is called.

Each does what the script of that name does, in this process, and raises `UserError` where the script prints one line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from opinionlm.config.conditions import Script
from opinionlm.config.config import Config
from opinionlm.config.parser import Layer, new_config
from opinionlm.errors import UserError
from opinionlm.inference.options import Backend, Device, Precision, PredictionOptions, TrustOptions

if TYPE_CHECKING:
    from datasets import DatasetDict

    from opinionlm.data.preparation.blocks import BlockPreparation
    from opinionlm.inference.predictions import LoadedModel

Metrics = dict[str, Any]


@dataclass(frozen=True)
class PreparedData:
    """What `prepare` made.

    Attributes:
        dataset: splits train, validation and test, memory-mapped.
        report: rows in and out of every step, token statistics and class counts; content of ``report.json``.
        folder: where they lie, with ``report.md``, ``rejects.csv`` and figures; training takes it as ``dataset``.
    """

    dataset: DatasetDict
    report: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        text: the comparison as Markdown.
        columns: of its table.
        rows: of its table.
    """

    text: str
    columns: list[str]
    rows: list[list[str | int | float]]


def load(
    *folders: str | Path,
    device: Device = "auto",
    bf16: bool = False,
    batch_size: int = 64,
    max_tokens_per_batch: int = 4096,
    label_sets: float | None = None,
    abstain_below: float | None = None,
    revision: str | None = None,
    precision: Precision = "auto",
    backend: Backend = "torch",
) -> LoadedModel:
    """Load a model that `train` or `train_instruct` saved.

    Args:
        folders: ``outputs/<run>`` or its ``best``; that of an ensemble, or several models, whose probabilities are
            averaged. Or ``user/model``, a model of the Hugging Face hub, of which only weights in safetensors, graphs
            and text are fetched.
        device: ``auto`` takes a GPU where there is one.
        bf16: short for ``precision="bfloat16"``.
        batch_size: at most so many texts at once.
        max_tokens_per_batch: at most so many tokens at once, padding included.
        label_sets: also give sets of labels that hold the right one so often, such as 0.9.
        abstain_below: give no label where its probability is lower.
        revision: branch, tag or commit of a model of the hub; by default its newest state.
        precision: to compute in; ``auto`` is what training found fastest at equal labels, else that of the weights.
        backend: ``onnx`` runs the graph that ``opinionlm export`` wrote, on the CPU.

    Returns:
        The model, whose ``predict`` takes a list of texts.

    Raises:
        UserError: no saved model, parts of it missing or damaged, or it cannot give what is asked for.
    """
    from opinionlm.inference.arguments import best_of
    from opinionlm.inference.ensemble import load_models
    from opinionlm.inference.hub import fetched
    from opinionlm.inference.predictions import LoadedModel

    if any(not isinstance(folder, str | Path) for folder in folders):
        raise UserError("load: give several folders one by one, as in load(one, other)")
    if not folders:
        raise UserError("load: no folder was given; give best/ of a finished run, such as outputs/<run>/best")
    trust = TrustOptions(label_sets, abstain_below)
    if bf16 and precision not in ("auto", "bfloat16"):
        raise UserError(f"bf16: is short for precision='bfloat16', and precision={precision!r} is given too")
    precision = "bfloat16" if bf16 else precision
    options = PredictionOptions(device, precision, batch_size, max_tokens_per_batch, trust, backend)
    paths = [fetched(best_of(Path(folder)), revision) for folder in folders]
    return LoadedModel(load_models(paths, options))


def prepare(
    dataset: str | Path,
    data_dir: str | Path = "data",
    output_dir: str | Path | None = None,
    num_proc: int | None = None,
    force: bool = False,
) -> PreparedData:
    """Make a data set from raw files: clean, remove copies, split, report. What has not changed is left as it is.

    Args:
        dataset: dataset YAML, or the name of a shipped one.
        data_dir: where its files lie.
        output_dir: the folder to make, by default ``outputs/data/<name>``.
        num_proc: at most so many processes, by default one per core.
        force: prepare again even if nothing changed.

    Returns:
        The splits, the report, and the folder they lie in.

    Raises:
        UserError: the YAML or the data cannot be used, or the folder cannot be written.
    """
    from opinionlm.data.preparation.pipeline import prepare as prepare_folder
    from opinionlm.data.prepared import load_prepared
    from opinionlm.data.spec_parsing import load_spec

    spec = load_spec(dataset)
    folder = prepare_folder(spec, data_dir, output_dir or Path("outputs/data") / spec.name, num_proc, force)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return PreparedData(load_prepared(folder).dataset, report, folder)


def prepare_blocks(dataset: str | Path, data_dir: str | Path = "data") -> BlockPreparation:
    """What `prepare` does before it splits, block by block, for engines that spread blocks over machines.

    Args:
        dataset: dataset YAML of task sequence, or the name of a shipped one.
        data_dir: where its files lie, the same on all machines.

    Returns:
        Its steps: ``read``, ``clean``, ``drop_raw_copies`` and ``drop_copies``; see `examples/ray_preprocess.py`.

    Raises:
        UserError: the YAML cannot be used, or not so, or its files are not there.
    """
    from opinionlm.data.preparation.blocks import BlockPreparation

    return BlockPreparation(dataset, data_dir)


def train(config: str | Path | None = None, **options: Any) -> Metrics:
    """Train a classifier, a tagger or a scorer of pairs, once or once per seed; see `train_classifier.py`.

    Args:
        config: YAML of options, or the name of a shipped one.
        options: options of `train_classifier.py`; they win over the YAML's.

    Returns:
        Content of ``metrics.json``, that of the summary where there are several seeds.

    Raises:
        UserError: options or data cannot be used, or the run folder is another process's.
    """
    return _train(_configured(config, options, "train_classifier"))


def train_instruct(config: str | Path | None = None, **options: Any) -> Metrics:
    """Teach a language model to write its answers; see `train_instruct.py`. Otherwise as `train`."""
    return _train(_configured(config, options, "train_instruct"))


def prompt(config: str | Path | None = None, **options: Any) -> Metrics:
    """Label texts with a language model that is not trained; see `prompt.py`. Otherwise as `train`."""
    from opinionlm.runs.lock import locked_run
    from opinionlm.scripts.prompt import ask

    given = _configured(config, options, "prompt")
    with locked_run(given.training):
        return ask(given) or _finished(given)


def compare(folders: Sequence[str | Path], split: Literal["validation", "test"] = "test") -> Comparison:
    """Compare finished runs text by text.

    Args:
        folders: two or more run folders whose runs were evaluated on the same texts.
        split: which one's predictions are compared.

    Returns:
        The comparison as Markdown, and its table.

    Raises:
        UserError: fewer than two folders, one without a finished run, or runs on different texts.
    """
    from opinionlm.experiments.compare import compare_folders

    if isinstance(folders, str | Path) or len(folders) < 2:
        raise UserError("compare: give a list of at least two folders, as in compare([one, other])")
    if split not in ("validation", "test"):
        raise UserError(f"compare: split: {split!r} is not one of validation, test")
    return Comparison(*compare_folders(list(map(Path, folders)), split))


def _configured(file: str | Path | None, options: dict[str, Any], script: Script) -> Config:
    """The config of a call, read as the script reads its own."""
    return new_config(file, Layer("the call", options), script)


def _train(config: Config) -> Metrics:
    """Train; of a run that is finished already, what it has stored."""
    from opinionlm.runs.launch import launch

    return launch(config) or _finished(config)


def _finished(config: Config) -> Metrics:
    """What a run that was finished already has stored."""
    from opinionlm.runs.seeds import stored_metrics

    return stored_metrics(config.run_folder)
