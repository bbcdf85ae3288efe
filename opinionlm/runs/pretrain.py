"""Go on with the pretraining of a language model on plain texts: from a config to metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainingArguments, set_seed

from opinionlm.adaptation.compatibility import check_length
from opinionlm.config.config import Config
from opinionlm.config.unread import refuse_unread
from opinionlm.data.accounting import print_account
from opinionlm.data.contamination import save_seen_texts
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.prepared import PreparedDataset
from opinionlm.models.backbones import read_model_config
from opinionlm.models.precision import describe_device
from opinionlm.models.pretraining import fills_gaps, load_language_model, save_language_model
from opinionlm.runs.folder import create_run, environment, is_finished
from opinionlm.training.callbacks import ConsoleCallback, TrainingClock
from opinionlm.training.checkpoints import latest_checkpoint
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


def pretrain(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to an adapted model.

    Returns:
        The content of ``metrics.json``; None where the run is finished already, and in the processes that only help.
    """
    arguments = pretraining_arguments(config.training, config.source)
    is_main = arguments.process_index == 0
    with arguments.main_process_first(desc="run folder"):
        if is_finished(config, is_main):
            print(f"{config.run_folder} is finished already; overwrite: true trains it again")
            return None

    # Data
    prepared = load_plain(config, arguments)
    texts, held_out = training_texts(prepared, config.data, config.pretrain.held_out_share, config.training.seed)
    model_config, tokenizer = read_model_config(config.model), load_tokenizer(config.model)
    check_model(config, model_config, tokenizer)
    masked = config.pretrain.mlm_probability if fills_gaps(model_config) else None
    rows, unseen = (encode_texts(part, tokenizer, config.data.max_length) for part in (texts, held_out))

    # Model
    set_seed(config.training.seed)
    model, new_output = load_language_model(config.model, model_config)
    model.to(arguments.device)
    parameters = model.num_parameters()
    if is_main:
        create_run(config, environment(config.training, prepared.fingerprint), None)
        print(describe(config, arguments, prepared.name, (rows, unseen)))
        objective = "next words" if masked is None else "masked words"
        drawn = "; its folder has no output layer, so a new one is drawn, tied to the embedding" if new_output else ""
        print(f"model   {config.model.model_name_or_path}: {parameters:,} parameters, {objective}{drawn}")

    # Training, between two measurements
    measuring = TrainingClock()
    before = perplexity(model, unseen, tokenizer, config.training, masked)
    seconds_before, clock = measuring.seconds, TrainingClock()
    trainer = text_trainer(model, arguments, rows, tokenizer, config, masked, [ConsoleCallback(("loss",)), clock])
    with arguments.main_process_first(desc="checkpoints"):
        checkpoint = latest_checkpoint(config.training, is_main)
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    seconds = clock.seconds
    after = perplexity(model, unseen, tokenizer, config.training, masked)
    seconds_measuring = seconds_before + clock.seconds - seconds
    if not is_main:
        return None

    # Results
    folder = config.run_folder / "model"
    save_language_model(model, tokenizer, config.model, folder)
    save_seen_texts(folder, config.model.model_name_or_path, [*texts, *held_out])
    cost = {"train_seconds": seconds, "evaluation_seconds": seconds_measuring}
    metrics = {
        "train": {"loss": outcome.training_loss, "steps": trainer.state.global_step, "texts": len(rows)},
        "held_out": {"texts": len(unseen), "perplexity_before": before, "perplexity_after": after},
        "model": {"total_parameters": parameters, "new_output_layer": new_output},
        "cost": cost | {"total_seconds": seconds + seconds_measuring},
    }
    write_json(config.run_folder / "metrics.json", metrics)
    print(
        f"perplexity of the held-out texts {before:,.2f} → {after:,.2f}; {seconds:.0f} s of training\n"
        f"Fine-tune the adapted model, on the same split, with\n"
        f"  {command('train_classifier')} --dataset {config.data.dataset} --model_name_or_path {folder} …"
    )
    return metrics


def load_plain(config: Config, arguments: TrainingArguments) -> PreparedDataset:
    """The data set, raw files prepared by the main process; every process reads the same folder."""
    data = config.data
    with arguments.main_process_first(desc="data"):
        prepared = prepare_or_load(data.dataset, Path(data.data_dir), Path(data.prepared_dir), data.data_source)
        print_account(prepared.path)
    return prepared


def check_model(config: Config, model_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model that cannot be trained as the config says, before its weights are loaded.

    Raises:
        UserError: options that its objective does not read, texts too long for it, or words that cannot be masked.
    """
    masks = fills_gaps(model_config)
    refuse_unread(config, objective="masked words" if masks else "next words")
    check_length(config.method, model_config, config.data.max_length)
    if masks:
        require_mask(tokenizer, config.model)


def describe(
    config: Config, arguments: TrainingArguments, name: str, rows: tuple[list[list[int]], list[list[int]]]
) -> str:
    """Where the run goes, what it runs on and what it reads, in lines for the terminal.

    Args:
        config: of the run.
        arguments: of the trainer.
        name: of the data set.
        rows: token ids of the training texts and of those held out.
    """
    train, held_out = rows
    tokens = sum(map(len, train))
    return (
        f"run     {config.run_folder}\n"
        f"device  {describe_device(arguments.device, arguments.world_size, config.model.dtype, arguments.bf16)}\n"
        f"data    {name}: {len(train):,} training texts, {tokens:,} tokens; {len(held_out):,} held out"
    )
