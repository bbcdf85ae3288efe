"""A trained language model: what it is and took, and the folder it is saved in."""

from __future__ import annotations

import shlex
from typing import Any

from transformers.trainer_utils import TrainOutput

from opinionlm.adaptation.methods import count_parameters
from opinionlm.config.chosen_metric import score_title
from opinionlm.config.config import Config
from opinionlm.data.contamination import TRAINED_TASKS, plain_texts, save_seen_texts
from opinionlm.data.encoding.label_lists import ListEncoder, QuestionEncoder
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.inference.input_forms import save_input_forms
from opinionlm.inference.saved_generative import SETTINGS, GenerativeSettings, loaded_as, save_generative
from opinionlm.models.backbones import anatomy_of, plain_backbone
from opinionlm.models.quantization import quantized_modules
from opinionlm.reporting.card_metadata import base_name, card_head, licence_note, trained_words
from opinionlm.reporting.model_card import cleaning_note, trust_section
from opinionlm.tasks.base import Decision, SplitResult
from opinionlm.tasks.generation import GenerationTask
from opinionlm.training.cost import block_flops
from opinionlm.training.instruct_data import AnswerSplit, shortened_texts, supervised_tokens
from opinionlm.training.instruct_trainer import InstructTrainer
from opinionlm.training.spending import Spent, cost_facts, describe_cost
from opinionlm.training.training_facts import training_facts, training_rows
from opinionlm.utils.files import partial_folder, publish, write_text


def save_best_answers(
    trainer: InstructTrainer,
    task: GenerationTask,
    decision: Decision,
    results: dict[str, SplitResult[Any]],
    numbers: dict[str, Any],
) -> None:
    """Write ``best/``, all at once: the model or its adapter, tokenizer, prompts, labels, answer rule and card."""
    config, model, options = task.config, trainer.model, task.options
    best = config.run_folder / "best"
    encoder, prepared = task.encoder, task.prepared
    placement = config.method.adaptation
    bottleneck = (placement, config.method.adapter_size) if placement in ("houlsby", "pfeiffer") else None
    is_whole = bottleneck is None and plain_backbone(model) is model
    settings = GenerativeSettings(
        task=prepared.task,
        template=encoder.template,
        taxonomy=prepared.taxonomy,
        max_length=config.data.max_length,
        max_answer_length=options.max_answer_length,
        decode=options.decode,
        score_normalisation=options.score_normalisation,
        calibration=options.calibration,
        num_beams=options.num_beams,
        base_model=None if is_whole else config.model.model_name_or_path,
        bottleneck=bottleneck,
        rule=decision.rule,
        cleaning=prepared.cleaning,
        base_options=None if is_whole else loaded_as(config.model, model),
        label_prior=decision.label_prior,
    )
    card = answer_card(task, decision, {name: result.scores for name, result in results.items()}, numbers)
    with partial_folder(best) as folder:
        save_generative(folder, model, encoder.tokenizer, settings)
        save_input_forms(folder, prepared, encoder.template.shows_context)
        # A classifier may go on from here, and must not be evaluated on what was read here.
        read = plain_texts(prepared.dataset["train"], prepared.task) if prepared.task in TRAINED_TASKS else []
        save_seen_texts(folder, config.model, read)
        write_text(folder / "README.md", card)
        publish(folder, best, is_current=lambda: False)


def answer_numbers(
    config: Config,
    trainer: InstructTrainer,
    train_output: TrainOutput,
    spent: Spent,
    splits: dict[str, AnswerSplit],
) -> dict[str, Any]:
    """What a trained model is and what it took: the sections ``train``, ``model`` and ``cost`` of ``metrics.json``."""
    model, state, supervised = trainer.model, trainer.state, supervised_tokens(splits)["train"]
    tokens = state.num_input_tokens_seen
    flops = train_flops(trainer, tokens, supervised, spent.preparation.cache_train_tokens)
    cost = cost_facts(
        spent.preparation, spent.train_seconds, spent.evaluation_seconds, tokens=tokens, train_flops=flops
    )
    return {
        "train": {
            **training_facts(config.training, config.robust.ema_decay, state, trainer.plan, train_output),
            "supervised_tokens": supervised,
            "shortened_texts": shortened_texts(splits),
            "rejected": {name: len(split.texts) - split.encoded["reason"].count("") for name, split in splits.items()},
        },
        "model": count_parameters(model) | {"quantized_modules": len(quantized_modules(model))},
        "cost": cost,
    }


def train_flops(trainer: InstructTrainer, tokens: int, supervised: int, cached_tokens: int) -> float:
    """Operations of the training run: the blocks for every token, the output layer for supervised ones.

    Frozen blocks whose output is kept run once per token whose states this run computed. Of an encoder-decoder model
    both halves are counted for every token of the prompt, the long one: an upper bound.
    """
    base = plain_backbone(trainer.model)
    embedding, head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    per_supervised = (6 if head.requires_grad else 4) * head.numel()
    answers = supervised * (trainer.state.epoch or 0.0)
    recomputed = trainer.args.activation_checkpointing
    blocks, prefix = anatomy_of(base).blocks, trainer.prefix
    frozen = 0 if prefix is None or trainer.train_dataset.states is None else prefix.prefix_blocks
    per_token = block_flops(blocks[frozen:], embedding.requires_grad, recomputed=recomputed)
    per_state = block_flops(blocks[:frozen], gradient_flows=False)
    return per_token * tokens + per_state * cached_tokens + per_supervised * answers


def asked_words(encoder: PromptEncoder) -> str:
    """How the labels of a text are asked for behind the prompt, where there may be several; a line of its own."""
    match encoder:
        case QuestionEncoder():
            example = encoder.written(0, True)
            return f"\nBehind it every label is asked about by itself, and yes weighed against no: `{example}`.\n"
        case ListEncoder():
            return f"\nThe answer is a list such as `{encoder.written(range(2))}`, or `{encoder.written(())}`.\n"
        case _:
            return ""


def answer_card(
    task: GenerationTask, decision: Decision, scores: dict[str, dict[str, Any]], numbers: dict[str, Any]
) -> str:
    """A Markdown card: what the model is, how it was made, how it is asked, how good it is."""
    config, prepared, parameters = task.config, task.prepared, numbers["model"]
    fit_rows = "\n".join(f"| {name} | {value} |" for name, value in training_rows(config, numbers["train"]))
    is_tree = prepared.taxonomy is not None and prepared.taxonomy.depth > 1
    trust = trust_section(config.decision, decision.rule, scores["test"], is_tree) if task.scores_labels else ""
    rows = [
        f"| {name} | {scores['validation'][name]:.4f} | {scores['test'][name]:.4f} |" for name in task.shown_metrics
    ]
    folder = shlex.quote(str(config.run_folder / "best"))
    prompt = task.encoder.template.render("TEXT", "", (), task.encoder.words)
    return f"""{card_head(task, "text-generation", [], scores["test"])}
# {config.training.run_name}

`{base_name(config.model.model_name_or_path)}` taught to answer prompts on `{prepared.name}`
(task {prepared.task}, fingerprint `{prepared.fingerprint[:16]}`) by instruction tuning with the loss on answer
tokens only.
{trained_words(parameters)}
({config.method.adaptation}).

## Use

`python -m opinionlm predict --model {folder} --input posts.csv --output answers.csv`
{cleaning_note(prepared)}
Prompts are written as in `{SETTINGS}`; for a text without examples:

```
{prompt}
```
{asked_words(task.encoder)}
## Scores

The checkpoint was chosen by validation {score_title(task.chosen_metric().name)}; the test split was read once.

| metric | validation | test |
| --- | --- | --- |
{chr(10).join(rows)}

{trust}## Training

| option | value |
| --- | --- |
{fit_rows}
| max length | {config.data.max_length} tokens |
| seed | {config.training.seed} |
| trained parameters | {parameters["trainable_parameters"]:,} of {parameters["total_parameters"]:,} |
| cost | {describe_cost(numbers["cost"])} |

{licence_note(task)}
"""
