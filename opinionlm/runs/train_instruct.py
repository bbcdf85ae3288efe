"""Teach a language model to write its answers: from a config to metrics."""

from __future__ import annotations

from typing import Any

from opinionlm.adaptation.build import build_generative
from opinionlm.config.config import Config
from opinionlm.runs.generation_results import answer_numbers, save_best_answers
from opinionlm.runs.results import describe_run, finish_run, run_metrics
from opinionlm.runs.run import Run
from opinionlm.tasks.answer_trainer import build_instruct_trainer, evaluate_answers
from opinionlm.tasks.answers import answer_task
from opinionlm.training.answer_prefix import answer_prefix
from opinionlm.training.cost import reset_peak_memory
from opinionlm.training.instruct_data import write_rejects
from opinionlm.training.spending import Spent


def train(config: Config) -> dict[str, Any] | None:
    """Run one config from raw or prepared data to metrics.

    Returns:
        The content of ``metrics.json``; None where the run is finished already, and in the processes that only help.
    """
    run = Run(config)
    if run.is_finished():
        return None
    config = run.pinned()

    # Data: prompts and answers as token ids; what cannot be learned from is written down, never repaired.
    prepared = run.load_data()
    task = answer_task(prepared, config)
    run.choose_by(task.chosen_metric())
    with run.main_first("token ids"):
        splits = task.encode()
    readers = task.readers(splits)

    # Model
    run.seed()
    total_steps = run.total_steps(readers["train"].learned)
    model = build_generative(config.model, config.method, config.data.max_length, task.encoder, total_steps)
    run.create(prepared, {"prompt_template_fingerprint": task.encoder.template.fingerprint})
    if run.is_main:
        write_rejects(run.folder / "rejects.csv", splits)
        print(describe_run(task, splits, model, total_steps, run.arguments))

    with run.tracker() as tracker:
        # What frozen blocks compute never changes: compute it once, then run only what lies above them.
        frozen = answer_prefix(model, readers, config.method, run.arguments, task.encoder.tokenizer.pad_token_id)
        preparation = run.total_preparation(frozen.preparation())
        callbacks = run.callbacks(tracker, model, total_steps)
        trainer = build_instruct_trainer(task, model, splits, frozen, run.arguments, callbacks)
        checkpoint = run.latest_checkpoint()
        reset_peak_memory()
        output = trainer.train(resume_from_checkpoint=checkpoint)
        seconds = run.clock.seconds
        # The trainer now holds the best checkpoint.
        decision, results = evaluate_answers(task, trainer, splits, frozen.readers)
        if not run.is_main:
            return None
        spent = Spent(preparation, seconds, run.clock.seconds - seconds)
        numbers = answer_numbers(config, trainer, output, spent, splits)
        save_best_answers(trainer, task, decision, results, numbers)
        metrics = run_metrics(task, numbers, results, decision)
        texts = {name: split.texts for name, split in splits.items()}
        return finish_run(task, metrics, texts, results, tracker, trainer.state.log_history)
