"""Teach a language model to write its answers: from a config to metrics."""

from __future__ import annotations

from functools import partial
from typing import Any

from opinionlm.adaptation.build import build_generative
from opinionlm.adaptation.callbacks import auxiliary_loss
from opinionlm.adaptation.parameter_groups import parameter_groups
from opinionlm.config.config import Config
from opinionlm.config.unread import refuse_unread
from opinionlm.data.contamination import refuse_seen_texts
from opinionlm.data.encoding.collators import InstructCollator, fixed_length
from opinionlm.data.encoding.prompts import PromptEncoder, label_words, load_template
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.loading import load_data
from opinionlm.models.backbones import read_model_config
from opinionlm.models.generative import generative_class
from opinionlm.runs.generation_results import answer_numbers, describe_answers, evaluate_splits, write_answer_results
from opinionlm.runs.run import Run
from opinionlm.tasks.generation import GenerationTask, answer_metric
from opinionlm.training.batching import batch_plan
from opinionlm.training.cost import reset_peak_memory
from opinionlm.training.instruct_data import answer_weights, encode_answer_splits, write_rejects
from opinionlm.training.instruct_trainer import InstructSplit, InstructTrainer


def train(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to metrics.

    Returns:
        The content of ``metrics.json``; None where the run is finished already, and in the processes that only help.
    """
    run = Run(config)
    if run.is_finished():
        return None
    model_config = read_model_config(config.model)
    generative_class(model_config)
    template = load_template(config.instruct.prompt_template)

    # Data: prompts and answers as token ids; what cannot be learned from is written down, never repaired.
    with run.main_first("data"):
        prepared = load_data(config.data)
        refuse_unread(config, task=prepared.task)
        refuse_seen_texts(config.model.model_name_or_path, prepared)
        run.choose_by(answer_metric(prepared, config))
        encoder = PromptEncoder(
            template,
            load_tokenizer(config.model),
            config.data.max_length,
            () if prepared.taxonomy is None else tuple(label_words(template, prepared.taxonomy)),
            config.instruct.max_answer_length,
            model_config.is_encoder_decoder,
        )
        splits = encode_answer_splits(prepared, encoder, config)
    class_weights = answer_weights(prepared, splits["train"], config)
    task = GenerationTask(config.instruct, encoder, prepared, class_weights.numpy())
    texts = {name: split.learned(class_weights) for name, split in splits.items()}
    readers = {
        name: InstructSplit(task.prompts(split.encoded["prompt_ids"]), texts[name]) for name, split in splits.items()
    }

    # Model
    run.seed()
    total_steps = run.total_steps(texts["train"])
    model = build_generative(config, model_config, encoder, total_steps)
    run.create(prepared)
    if run.is_main:
        write_rejects(run.folder / "rejects.csv", splits)
        print(describe_answers(config, prepared, encoder, splits, model))

    with run.tracker() as tracker:
        trainer = InstructTrainer(
            model=model,
            args=run.arguments,
            predict=task.predict,
            score=lambda outcome: task.numbers(splits["validation"].texts, outcome),
            plan=batch_plan(texts["train"], config, run.arguments),
            train_dataset=texts["train"],
            eval_dataset=readers["validation"],
            data_collator=InstructCollator(
                encoder.tokenizer.pad_token_id, model_config.is_encoder_decoder, fixed_length(config.data)
            ),
            callbacks=run.callbacks(tracker, model, total_steps),
            parameter_groups=parameter_groups(model, config.method, config.training),
            auxiliary_loss=partial(auxiliary_loss, model),
            max_nonfinite_steps=config.training.max_nonfinite_steps,
        )
        checkpoint = run.latest_checkpoint()
        reset_peak_memory()
        output = trainer.train(resume_from_checkpoint=checkpoint)
        seconds = run.clock.seconds

        # The trainer now holds the best checkpoint; test is read here, once.
        results = evaluate_splits(trainer, task, splits, readers, config)
        if not run.is_main:
            return None
        numbers = answer_numbers(config, trainer, output, (seconds, run.clock.seconds - seconds), splits)
        return write_answer_results(config, trainer, task, splits, results, numbers, tracker)
