"""Go on with a model's pretraining on the texts of a training split, without their labels, before it is fine-tuned.

    python pretrain.py --config configs/pretrain_cryptoqa.yaml
    python train_classifier.py --dataset <the same YAML> --model_name_or_path outputs/pretrain_cryptoqa-seed42/model …

Encoders (BERT, RoBERTa, ModernBERT, MiniLM) fill in masked words, causal models (GPT-2, Llama, Gemma) write the next
one (task-adaptive pretraining, Gururangan et al. 2020). Only texts of the training split are read, never those of
validation and test. A share of them is held out to measure the perplexity before and after. The run folder gets
config.yaml, environment.json, checkpoints/, model/ and, last of all, metrics.json; an interrupted run goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opinionlm.config.config import Config
from opinionlm.config.parser import parse_config
from opinionlm.runs.launch import announce
from opinionlm.runs.lock import locked_run
from opinionlm.utils.command_line import command
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config; returns the content of ``metrics.json``, None where the run was finished already."""
    config = parse_config(argv, description=__doc__, script="pretrain")

    with locked_run(config.training):
        announce(config)
        # Imported late, so that --help and config errors answer at once.
        from opinionlm.utils.distributed import leave, quiet_libraries

        quiet_libraries()
        result = pretrain(config)
    leave()
    return result


def pretrain(config: Config) -> dict[str, Any] | None:
    """From raw or prepared data to an adapted model."""
    with libraries_loading():
        from transformers import set_seed

        from opinionlm.adaptation.compatibility import check_length
        from opinionlm.config.unread import refuse_unread
        from opinionlm.data.accounting import print_account
        from opinionlm.data.contamination import save_seen_texts
        from opinionlm.data.encoding.tokenizers import load_tokenizer
        from opinionlm.data.preparation.pipeline import prepare_or_load
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
        from opinionlm.utils.files import write_json

    arguments = pretraining_arguments(config.training, config.source)
    is_main, data = arguments.process_index == 0, config.data
    with arguments.main_process_first(desc="run folder"):
        if is_finished(config, is_main):
            print(f"{config.run_folder} is finished already; overwrite: true trains it again")
            return None
    with arguments.main_process_first(desc="data"):
        prepared = prepare_or_load(data.dataset, Path(data.data_dir), Path(data.prepared_dir), data.data_source)
        print_account(prepared.path)
    texts, held_out = training_texts(prepared, data, config.pretrain.held_out_share, config.training.seed)
    model_config = read_model_config(config.model)
    tokenizer = load_tokenizer(config.model)
    masks = fills_gaps(model_config)
    masked = config.pretrain.mlm_probability if masks else None
    refuse_unread(config, objective="masked words" if masks else "next words")
    check_length(config.method, model_config, data.max_length)
    if masks:
        require_mask(tokenizer, config.model)
    rows, unseen = (encode_texts(part, tokenizer, data.max_length) for part in (texts, held_out))

    set_seed(config.training.seed)
    model, new_head = load_language_model(config.model, model_config)
    model.to(arguments.device)
    if is_main:
        create_run(config, environment(config.training, prepared.fingerprint), None)
        tokens = sum(map(len, rows))
        print(
            f"run     {config.run_folder}\n"
            f"device  {describe_device(arguments.device, arguments.world_size, config.model.dtype, arguments.bf16)}\n"
            f"data    {prepared.name}: {len(rows):,} training texts, {tokens:,} tokens; {len(unseen):,} held out\n"
            f"model   {config.model.model_name_or_path}: {model.num_parameters():,} parameters, "
            + ("masked words" if masks else "next words")
            + ("; its folder has no output layer, so a new one is drawn, tied to the embedding" if new_head else "")
        )
    started = TrainingClock()
    before = perplexity(model, unseen, tokenizer, config.training, masked)
    measuring, clock = started.seconds, TrainingClock()
    trainer = text_trainer(model, arguments, rows, tokenizer, config, masks, [ConsoleCallback(("loss",)), clock])
    with arguments.main_process_first(desc="checkpoints"):
        checkpoint = latest_checkpoint(config.training, is_main)
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    seconds = clock.seconds
    after = perplexity(model, unseen, tokenizer, config.training, masked)
    measuring += clock.seconds - seconds
    if not is_main:
        return None
    folder = config.run_folder / "model"
    save_language_model(model, tokenizer, config.model, folder)
    save_seen_texts(folder, config.model.model_name_or_path, [*texts, *held_out])
    metrics = {
        "train": {"loss": outcome.training_loss, "steps": trainer.state.global_step, "texts": len(rows)},
        "held_out": {"texts": len(unseen), "perplexity_before": before, "perplexity_after": after},
        "model": {"total_parameters": model.num_parameters(), "new_output_layer": new_head},
        "cost": {
            "train_seconds": seconds,
            "evaluation_seconds": measuring,
            "total_seconds": seconds + measuring,
        },
    }
    write_json(config.run_folder / "metrics.json", metrics)
    print(
        f"perplexity of the held-out texts {before:,.2f} → {after:,.2f}; {seconds:.0f} s of training\n"
        f"Fine-tune the adapted model, on the same split, with\n"
        f"  {command('train_classifier')} --dataset {data.dataset} --model_name_or_path {folder} …"
    )
    return metrics
