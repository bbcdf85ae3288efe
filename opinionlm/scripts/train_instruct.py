"""Teach a language model to write its answers: prompts from a template, a loss on the answers' tokens alone.

    python train_instruct.py --config configs/gemma3_mini_instruct.yaml --data_dir ../shared/data
    accelerate launch train_instruct.py --config configs/gemma1b_instruct.yaml --learning_rate 3e-5

The YAML holds any of the options below; options on the command line win. The run folder output_dir/run_name gets
config.yaml, environment.json, rejects.csv, predictions/, figures/, checkpoints/, best/ and, last, metrics.json.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from opinionlm.config.config import Config
from opinionlm.config.parser import parse_config
from opinionlm.runs.lock import locked_run


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config, once or once per seed; returns what `opinionlm.runs.seeds.train_seeds` does."""
    config = parse_config(argv, description=__doc__, script="train_instruct")
    with locked_run(config):
        # Imported late, so that --help and config errors answer at once.
        from opinionlm.runs.seeds import train_seeds
        from opinionlm.utils.distributed import leave, quiet_libraries

        quiet_libraries()
        result = train_seeds(config, train)
    leave()
    return result


def train(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to metrics."""
    from transformers import EarlyStoppingCallback, set_seed

    from opinionlm.adaptation.build import build_generative
    from opinionlm.adaptation.callbacks import auxiliary_loss, training_callbacks
    from opinionlm.adaptation.parameter_groups import check_schedule, parameter_groups
    from opinionlm.config.unread import refuse_unread
    from opinionlm.data.contamination import refuse_seen_texts
    from opinionlm.data.encoding.collators import InstructCollator
    from opinionlm.data.encoding.prompts import PromptEncoder, label_words, load_template
    from opinionlm.data.encoding.tokenizers import load_tokenizer
    from opinionlm.data.loading import load_data
    from opinionlm.models.backbones import read_model_config
    from opinionlm.models.generative import generative_class
    from opinionlm.reporting.tracking.base import NoTracking
    from opinionlm.reporting.tracking.open import TrackingCallback, open_tracking
    from opinionlm.runs.folder import create_run, environment, is_finished
    from opinionlm.runs.generation_results import answer_numbers, describe_answers, judge_splits, write_answer_results
    from opinionlm.tasks.generation import Judge, answer_choice
    from opinionlm.training.arguments import choose_by, training_arguments
    from opinionlm.training.batching import batch_plan, optimizer_steps
    from opinionlm.training.callbacks import ConsoleCallback, TrainingClock
    from opinionlm.training.checkpoints import latest_checkpoint
    from opinionlm.training.cost import reset_peak_memory
    from opinionlm.training.instruct_data import answer_weights, encode_answer_splits, write_rejects
    from opinionlm.training.instruct_trainer import InstructSplit, InstructTrainer

    arguments = training_arguments(config)
    is_main = arguments.process_index == 0
    with arguments.main_process_first(desc="run folder"):
        if is_finished(config, is_main):
            print(f"{config.run_folder} is finished already; overwrite: true trains it again")
            return None

    model_config = read_model_config(config.model)
    generative_class(model_config)
    template = load_template(config.instruct.prompt_template)

    # Data: prompts and answers as token ids; what cannot be learned from is written down, never repaired.
    data, options = config.data, config.instruct
    with arguments.main_process_first(desc="data"):
        prepared = load_data(data)
        refuse_unread(config, task=prepared.task)
        refuse_seen_texts(config.model.model_name_or_path, prepared)
        chosen = answer_choice(prepared, config)
        choose_by(arguments, chosen)
        tokenizer = load_tokenizer(config.model)
        words = () if prepared.taxonomy is None else tuple(label_words(template, prepared.taxonomy))
        two_stacks = model_config.is_encoder_decoder
        encoder = PromptEncoder(template, tokenizer, data.max_length, words, options.max_answer_length, two_stacks)
        splits = encode_answer_splits(prepared, encoder, config)
    class_weights = answer_weights(prepared, splits["train"], config)
    judge = Judge(options, encoder, prepared, class_weights.numpy())
    texts = {name: split.learned(class_weights) for name, split in splits.items()}
    readers = {
        name: InstructSplit(judge.prompts(split.encoded["prompt_ids"]), texts[name]) for name, split in splits.items()
    }

    set_seed(config.training.seed)
    plan = batch_plan(texts["train"], config, arguments)
    total_steps = optimizer_steps(plan, arguments)
    check_schedule(arguments, config.source, total_steps)
    model = build_generative(config, model_config, encoder, total_steps)
    facts = environment(config, prepared.fingerprint)
    if is_main:
        create_run(config, facts, prepared.taxonomy)
        write_rejects(config.run_folder / "rejects.csv", splits)
        print(describe_answers(config, prepared, encoder, splits, model))

    with open_tracking(config, config.run_folder, facts) if is_main else NoTracking() as tracker:
        callbacks = [
            ConsoleCallback([chosen.name], chosen.greater_is_better),
            TrackingCallback(tracker),
            clock := TrainingClock(),
        ]
        callbacks += training_callbacks(model, config.method, total_steps)
        if config.training.early_stopping_patience is not None:
            callbacks.append(EarlyStoppingCallback(config.training.early_stopping_patience))
        trainer = InstructTrainer(
            model=model,
            args=arguments,
            predict=judge.predict,
            score=lambda outcome: judge.numbers(splits["validation"].texts, outcome),
            plan=plan,
            train_dataset=texts["train"],
            eval_dataset=readers["validation"],
            data_collator=InstructCollator(
                tokenizer.pad_token_id, two_stacks, data.max_length if data.pad_to_max else None
            ),
            callbacks=callbacks,
            parameter_groups=parameter_groups(model, config.method, config.training),
            auxiliary_loss=partial(auxiliary_loss, model),
            max_nonfinite_steps=config.training.max_nonfinite_steps,
        )
        with arguments.main_process_first(desc="checkpoint"):
            checkpoint = latest_checkpoint(config, is_main)
        reset_peak_memory()
        outcome = trainer.train(resume_from_checkpoint=checkpoint)
        seconds = clock.seconds

        # The trainer now holds the best checkpoint; test is read here, once.
        results, rule = judge_splits(trainer, judge, splits, readers, config)
        if not is_main:
            return None
        numbers = answer_numbers(config, trainer, outcome, (seconds, clock.seconds - seconds), splits)
        return write_answer_results(config, trainer, numbers, judge, splits, results, rule, tracker)
