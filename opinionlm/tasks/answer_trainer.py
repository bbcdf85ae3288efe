"""What teaches a language model the answers of a task, and what it is asked once it is taught."""

from __future__ import annotations

from functools import partial

from peft import PeftModel
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from opinionlm.adaptation.callbacks import auxiliary_loss
from opinionlm.adaptation.parameter_groups import parameter_groups
from opinionlm.data.encoding.collators import InstructCollator, fixed_length
from opinionlm.tasks.base import Decision, Results
from opinionlm.tasks.generation import GenerationTask
from opinionlm.training.answer_prefix import AnswerPrefix
from opinionlm.training.batching import batch_plan
from opinionlm.training.instruct_data import AnswerSplit
from opinionlm.training.instruct_trainer import InstructSplit, InstructTrainer


def build_instruct_trainer(
    task: GenerationTask,
    model: PreTrainedModel | PeftModel,
    splits: dict[str, AnswerSplit],
    frozen: AnswerPrefix,
    arguments: TrainingArguments,
    callbacks: list[TrainerCallback],
) -> InstructTrainer:
    """The trainer of a language model whose adaptation is applied."""
    config, tokenizer, readers = task.config, task.encoder.tokenizer, frozen.readers
    train = readers["train"].learned
    return InstructTrainer(
        model=model,
        args=arguments,
        predict=task.predict,
        score=lambda outcome: task.numbers(splits["validation"].texts, outcome),
        prefix=frozen.prefix,
        plan=batch_plan(train, config.data, config.training, arguments),
        train_dataset=train,
        eval_dataset=readers["validation"],
        data_collator=InstructCollator(
            tokenizer.pad_token_id, model.config.is_encoder_decoder, fixed_length(config.data)
        ),
        callbacks=callbacks,
        parameter_groups=parameter_groups(model, config.method, config.training, config.model),
        auxiliary_loss=partial(auxiliary_loss, model),
        max_nonfinite_steps=config.training.max_nonfinite_steps,
    )


def evaluate_answers(
    task: GenerationTask,
    trainer: InstructTrainer,
    splits: dict[str, AnswerSplit],
    readers: dict[str, InstructSplit],
) -> tuple[Decision, Results]:
    """Fit on validation how answers follow, then read test, once; every process takes part."""
    outcome = trainer.outcome(readers["validation"], task.answer)
    decision = task.fit_decision(splits, outcome)
    results = {"validation": task.evaluate(splits["validation"].texts, outcome, decision)}
    outcome = trainer.outcome(readers["test"], task.answer)
    results["test"] = task.evaluate(splits["test"].texts, outcome, decision)
    return decision, results
