"""Go on with the pretraining of a language model on plain texts: from a config to metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.adaptation.compatibility import check_length
from opinionlm.config.config import Config
from opinionlm.config.options import DatasetConfig
from opinionlm.config.unread import refuse_unread
from opinionlm.data.accounting import print_account
from opinionlm.data.contamination import save_seen_texts
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.prepared import PreparedDataset
from opinionlm.models.backbones import read_model_config
from opinionlm.models.precision import describe_device
from opinionlm.models.pretraining import fills_gaps, load_language_model, save_language_model
from opinionlm.runs.folder import create_run, environment
from opinionlm.runs.results import describe_rounding
from opinionlm.runs.run import Run
from opinionlm.training.callbacks import ConsoleCallback, TrainingClock
from opinionlm.training.pretraining import (
    encode_texts,
    perplexity,
    pretraining_arguments,
    require_mask,
    text_trainer,
    training_texts,
)
from opinionlm.utils.command_line import command
from opinionlm.utils.files import write_json
from opinionlm.utils.shipped import model_identity


def pretrain(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to an adapted model.

    Returns:
        The content of ``metrics.json``; None where the run is finished already, and in the processes that only help.
    """
    run = Run(config, pretraining_arguments(config.training, config.source))
    if run.is_finished():
        return None
    config = run.pinned()

    # Data
    prepared = load_plain(config.data, run)
    texts, held_out = training_texts(prepared, config.data, config.pretrain.held_out_share, config.training.seed)
    model_config, tokenizer = read_model_config(config.model), load_tokenizer(config.model)
    masked = masked_share(config, model_config, tokenizer)
    rows, unseen = (encode_texts(part, tokenizer, config.data.max_length) for part in (texts, held_out))

    # Model
    run.seed()
    model, new_output = load_language_model(config.model, model_config)
    model.to(run.arguments.device)
    if run.is_main:
        facts = environment(config, prepared.fingerprint)
        facts["model_fingerprint"] = model_identity(config.model.model_name_or_path, config.model.model_revision)
        create_run(config, facts, None)
        print(describe_data(run, prepared.name, rows, unseen))
        described = describe_model(config.model.model_name_or_path, model, masked is not None, new_output)
        print("\n".join([described, *describe_rounding(model)]))

    # Training, between two measurements
    measuring = TrainingClock()
    before = perplexity(model, unseen, tokenizer, run.arguments, masked)
    seconds_before, clock = measuring.seconds, TrainingClock()
    callbacks = [ConsoleCallback(("loss",)), clock]
    trainer = text_trainer(model, run.arguments, rows, tokenizer, config, masked, callbacks)
    outcome = trainer.train(resume_from_checkpoint=run.latest_checkpoint())
    seconds = clock.seconds
    after = perplexity(model, unseen, tokenizer, run.arguments, masked)
    measured = seconds_before + clock.seconds - seconds
    if not run.is_main:
        return None

    # Results
    folder = config.run_folder / "model"
    save_language_model(model, tokenizer, config.model, folder)
    save_seen_texts(folder, config.model, [*texts, *held_out])
    metrics = {
        "train": {"loss": outcome.training_loss, "steps": trainer.state.global_step, "texts": len(rows)},
        "held_out": {"texts": len(unseen), "perplexity_before": before, "perplexity_after": after},
        "model": {"total_parameters": model.num_parameters(), "new_output_layer": new_output},
        "cost": {"train_seconds": seconds, "evaluation_seconds": measured, "total_seconds": seconds + measured},
    }
    write_json(config.run_folder / "metrics.json", metrics)
    print(closing_lines(metrics, config.data.dataset, folder))
    return metrics


def load_plain(data: DatasetConfig, run: Run) -> PreparedDataset:
    """The data set, raw files prepared by the main process; every process reads the same folder."""
    with run.main_first("data"):
        prepared = prepare_or_load(data.dataset, Path(data.data_dir), Path(data.prepared_dir), data.data_source)
        print_account(prepared.path)
    return prepared


def masked_share(config: Config, model_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> float | None:
    """How many of the words are masked, None for a model of next words; refuses what cannot be trained as asked for.

    Raises:
        UserError: options that its objective does not read, texts too long for it, or words that cannot be masked.
    """
    masks = fills_gaps(model_config)
    refuse_unread(config, objective="masked words" if masks else "next words")
    check_length(config.method, model_config, config.data.max_length)
    if not masks:
        return None
    require_mask(tokenizer, config.model)
    return config.pretrain.mlm_probability


def describe_data(run: Run, name: str, rows: list[list[int]], held_out: list[list[int]]) -> str:
    """Where the run goes, what it runs on and what it reads: token ids of the training texts and those held out."""
    arguments, dtype = run.arguments, run.config.model.dtype
    return (
        f"run     {run.folder}\n"
        f"device  {describe_device(arguments.device, arguments.world_size, dtype, arguments.bf16)}\n"
        f"data    {name}: {len(rows):,} training texts, {sum(map(len, rows)):,} tokens; {len(held_out):,} held out"
    )


def describe_model(name: str, model: PreTrainedModel, masks: bool, new_output: bool) -> str:
    """What is trained, and on which objective."""
    drawn = "; its folder has no output layer, so a new one is drawn, tied to the embedding" if new_output else ""
    return f"model   {name}: {model.num_parameters():,} parameters, {'masked' if masks else 'next'} words{drawn}"


def closing_lines(metrics: Mapping[str, Any], dataset: str, folder: Path) -> str:
    """What came of it and what to type next, for the terminal."""
    held_out = metrics["held_out"]
    return (
        f"perplexity of the held-out texts {held_out['perplexity_before']:,.2f} → "
        f"{held_out['perplexity_after']:,.2f}; {metrics['cost']['train_seconds']:.0f} s of training\n"
        f"Fine-tune the adapted model, on the same split, with\n"
        f"  {command('train_classifier')} --dataset {dataset} --model_name_or_path {folder} …"
    )
