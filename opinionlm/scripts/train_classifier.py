"""Train a classifier, a tagger or a scorer of pairs: a pretrained backbone, a head, and a choice of what trains.

    python train_classifier.py --config configs/quickstart.yaml
    accelerate launch train_classifier.py --config configs/gemma1b.yaml --learning_rate 3e-5

The YAML holds any of the options below; options on the command line win. The run folder output_dir/run_name gets
config.yaml, environment.json, predictions/, figures/, checkpoints/, best/ and, last of all, metrics.json.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from opinionlm.config.config import Config
from opinionlm.config.parser import parse_config
from opinionlm.runs.lock import locked_run


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config, once or once per seed; returns what `opinionlm.runs.seeds.train_seeds` does."""
    config = parse_config(argv, description=__doc__)
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

    from opinionlm.adaptation.adapt.vocabulary import with_task_tokens
    from opinionlm.adaptation.build import build_model
    from opinionlm.adaptation.callbacks import training_callbacks
    from opinionlm.adaptation.parameter_groups import check_schedule
    from opinionlm.data.contamination import refuse_seen_texts
    from opinionlm.data.encoding.collators import collator_for
    from opinionlm.data.encoding.tokenizers import load_tokenizer
    from opinionlm.data.loading import load_data
    from opinionlm.models.backbones import read_model_config
    from opinionlm.models.classifier import whole_backbone_frozen
    from opinionlm.models.frozen_prefix import PrefixStandIn
    from opinionlm.reporting.tracking.base import NoTracking
    from opinionlm.reporting.tracking.open import TrackingCallback, open_tracking
    from opinionlm.runs.adapt_results import save_preparation
    from opinionlm.runs.folder import create_run, environment, is_finished
    from opinionlm.runs.results import describe_run, run_numbers, save_best, write_results
    from opinionlm.runs.tfidf_baseline import train_floor
    from opinionlm.tasks.base import choice_of, headline_of
    from opinionlm.tasks.evaluation import chosen_score, evaluate_splits, kept_outputs, validation_scores
    from opinionlm.tasks.losses import loss_for
    from opinionlm.training.adapt_selection import choose_sublayers
    from opinionlm.training.arguments import choose_by, training_arguments
    from opinionlm.training.batching import batch_plan, optimizer_steps
    from opinionlm.training.callbacks import ConsoleCallback, TrainingClock
    from opinionlm.training.checkpoints import latest_checkpoint
    from opinionlm.training.cost import reset_peak_memory
    from opinionlm.training.ema import describe_average
    from opinionlm.training.engines import check_task, fit, new_engine
    from opinionlm.training.fsdp import gather_weights
    from opinionlm.training.losses.deferred_weighting import loss_callbacks
    from opinionlm.training.prefix_cache_building import cached_splits
    from opinionlm.training.spending import add_preparation, preparation_of
    from opinionlm.training.splits import encode_splits

    arguments = training_arguments(config)
    is_main = arguments.process_index == 0
    with arguments.main_process_first(desc="run folder"):
        if is_finished(config, is_main):
            print(f"{config.run_folder} is finished already; overwrite: true trains it again")
            return None

    # Data: raw files are prepared once; every process reads the same prepared folder.
    with arguments.main_process_first(desc="data"):
        prepared = load_data(config.data)
    check_task(config, prepared.task)
    if config.training.engine == "tfidf":
        return train_floor(config, prepared) if is_main else None
    refuse_seen_texts(config.model.model_name_or_path, prepared)
    chosen = choice_of(prepared, config)
    choose_by(arguments, chosen)
    model_config = read_model_config(config.model)
    with arguments.main_process_first(desc="token ids"):
        tokenizer, vocabulary = with_task_tokens(load_tokenizer(config.model), model_config, prepared, config)
        splits = encode_splits(prepared, tokenizer, config)
    loss = loss_for(splits["train"], prepared, config)

    # Model: seeded before the head's weights are drawn.
    set_seed(config.training.seed)
    total_steps = optimizer_steps(batch_plan(splits["train"].reader(None), config, arguments), arguments)
    check_schedule(arguments, config.source, total_steps)
    task_tokens = len(vocabulary.sequences)
    model = build_model(config, model_config, prepared, len(tokenizer), total_steps, task_tokens)
    train_texts = splits["train"].reader(None)
    choice = choose_sublayers(model, loss, train_texts, tokenizer.pad_token_id, prepared, config, arguments)
    facts = environment(config, prepared.fingerprint)
    if is_main:
        create_run(config, facts, prepared.taxonomy)
        save_preparation(config.run_folder, vocabulary, choice, tokenizer)
        print(describe_run(config, prepared, splits, model))
        if config.robust.ema_decay is not None:
            print(describe_average(config.robust.ema_decay, total_steps))

    # What frozen blocks compute never changes: compute it once, then run only what lies above them.
    encoded = {name: split.encoded for name, split in splits.items()}
    states = cached_splits(model, encoded, config, arguments, tokenizer.pad_token_id)
    readers = {name: split.reader(None if states is None else states[name]) for name, split in splits.items()}
    stand_in = None if states is None or whole_backbone_frozen(model) else PrefixStandIn(model)
    spent = preparation_of(vocabulary.seconds, choice.seconds, states, int(train_texts.lengths.sum()))
    if is_main:
        spent = add_preparation(config, prepared.fingerprint, spent)

    tracker = open_tracking(config, config.run_folder, facts) if is_main else NoTracking()
    with tracker, stand_in or nullcontext():
        clock = TrainingClock()
        console = ConsoleCallback([chosen.name, *headline_of(prepared).shown[:2]], chosen.greater_is_better)
        callbacks = [console, TrackingCallback(tracker), clock]
        callbacks += [*training_callbacks(model, config.method, total_steps), *loss_callbacks(loss, config)]
        if config.training.early_stopping_patience is not None:
            callbacks.append(EarlyStoppingCallback(config.training.early_stopping_patience))
        scores = validation_scores(prepared, splits["validation"], loss)
        collator, kept = collator_for(config.data, tokenizer), kept_outputs(prepared)
        engine = new_engine(config, model, arguments, loss, readers, collator, scores, kept, callbacks)
        with arguments.main_process_first(desc="checkpoint"):
            checkpoint = latest_checkpoint(config, is_main)
        reset_peak_memory()
        outcome = fit(engine, config, readers, checkpoint, chosen_score(prepared))
        seconds = clock.seconds

        # The engine now holds the best model by the validation score; test is read here, once.
        results, fitted = evaluate_splits(engine, splits, readers, prepared, config)
        both_seconds = (seconds, clock.seconds - seconds)
        metrics = None
        gather_weights(model)
        if is_main:
            if stand_in is not None:
                stand_in.restore()
            numbers = run_numbers(
                config, engine, outcome, both_seconds, spent, splits, readers, prepared, fitted, choice
            )
            save_best(model, tokenizer, config, prepared, results, fitted, numbers)
            history = engine.state.log_history
            metrics = write_results(config, numbers, splits, results, fitted, prepared, tracker, history)
    return metrics
