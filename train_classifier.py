"""Train a classifier: a pretrained backbone, a head, a choice of what trains, and a loss that knows the imbalance.

    python train_classifier.py --config configs/quickstart.yaml
    accelerate launch train_classifier.py --config configs/gemma1b.yaml --learning_rate 3e-5

The YAML holds any of the options below; options on the command line win. The run folder output_dir/run_name gets
config.yaml, environment.json, predictions/, figures/, checkpoints/, best/ and, last of all, metrics.json.
"""

from __future__ import annotations

import time
from pathlib import Path

from opinionlm.errors import run_script
from opinionlm.parsing import parse_config


def main(argv: list[str] | None = None) -> dict | None:
    """Run one config from raw or prepared data to metrics; returns the metrics, None where nothing was left to do."""
    config = parse_config(argv, description=__doc__)

    # Imported late, so that --help and config errors answer at once.
    from opinionlm.data.pipeline import prepare_or_load
    from opinionlm.experiments.tracking import TrackingCallback, open_tracking
    from transformers import EarlyStoppingCallback, set_seed

    from opinionlm.adaptation.build import build_classifier
    from opinionlm.data.encoding import collator_for, load_tokenizer
    from opinionlm.evaluation.metrics import metric_function
    from opinionlm.experiments.results import describe_run, evaluate_splits, save_best, write_results
    from opinionlm.training.arguments import training_arguments
    from opinionlm.training.callbacks import ConsoleCallback
    from opinionlm.training.checkpoints import latest_checkpoint
    from opinionlm.training.cost import reset_peak_memory
    from opinionlm.training.losses import WeightedCrossEntropy
    from opinionlm.training.processes import leave, quiet_libraries
    from opinionlm.training.runs import environment, open_run, write_json
    from opinionlm.training.splits import class_weights_for, encode_splits
    from opinionlm.training.trainer import OpinionTrainer

    quiet_libraries()
    arguments = training_arguments(config)
    with arguments.main_process_first(desc="run folder"):
        if not open_run(config, is_main=arguments.process_index == 0):
            print(f"{config.run_folder} is finished already; overwrite: true trains it again")
            return None

    # Data: raw files are prepared once, and every process reads the same prepared folder.
    with arguments.main_process_first(desc="data"):
        prepared = prepare_or_load(
            config.data.dataset, Path(config.data.data_dir), Path(config.data.prepared_dir)
        )
        tokenizer = load_tokenizer(config.model)
        splits = encode_splits(prepared, tokenizer, config)
    taxonomy = prepared.taxonomy
    weights = class_weights_for(splits["train"], taxonomy, config)

    # Model: seeded before the head's weights are drawn.
    set_seed(config.training.seed)
    model = build_classifier(config, taxonomy)

    facts = environment(config, prepared.fingerprint)
    tracker = None
    if arguments.process_index == 0:
        write_json(config.run_folder / "environment.json", facts)
        print(describe_run(config, prepared, splits, model))
        tracker = open_tracking(config, config.run_folder, facts)

    callbacks = [ConsoleCallback()]
    if tracker is not None:
        callbacks.append(TrackingCallback(tracker))
    if config.training.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(config.training.early_stopping_patience))
    trainer = OpinionTrainer(
        model=model,
        args=arguments,
        loss=WeightedCrossEntropy(weights),
        train_dataset=splits["train"].encoded,
        eval_dataset=splits["validation"].encoded,
        data_collator=collator_for(config.data, tokenizer),
        compute_metrics=metric_function(taxonomy, weights.numpy()),
        callbacks=callbacks,
    )

    checkpoint = latest_checkpoint(config.run_folder / "checkpoints")
    if checkpoint is not None and config.training.resume_from_checkpoint:
        print(f"Continuing from {checkpoint}")
    else:
        checkpoint = None
    reset_peak_memory()
    started = time.perf_counter()
    train_output = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    train_seconds = time.perf_counter() - started

    # The trainer holds the best checkpoint by validation macro-F1 now; test is read here, once.
    results = evaluate_splits(trainer, splits, taxonomy, weights)
    if arguments.process_index == 0:
        save_best(model, tokenizer, config, prepared, results)
        metrics = write_results(
            config, trainer, train_output, train_seconds, splits, results, taxonomy, tracker
        )
    else:
        metrics = None
    leave(arguments)
    return metrics


if __name__ == "__main__":
    run_script(main)
