"""The task of a data set whose answers a language model gives, once the options are known to fit it."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from opinionlm.config.chosen_metric import TASKS_OF
from opinionlm.config.config import Config
from opinionlm.config.unread import refuse_unread
from opinionlm.data.encoding.data_templates import require_place_for_pairs, template_for
from opinionlm.data.encoding.label_lists import encoder_class
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import Example, PromptTemplate, label_words
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.models.backbones import read_model_config
from opinionlm.models.generative import generative_class
from opinionlm.tasks.generation import TOKEN_BUDGET, GenerationTask, check_decode
from opinionlm.tasks.label_lists import LabelListTask


def generation_task(
    prepared: PreparedDataset,
    config: Config,
    encoder: PromptEncoder,
    examples: tuple[Example, ...] = (),
    budget: int = TOKEN_BUDGET,
) -> GenerationTask:
    """The task, by what its labels are; arguments as of `GenerationTask`."""
    task_class = LabelListTask if prepared.task == "multi_label" else GenerationTask
    return task_class(prepared, config, encoder, examples, budget)


def prompt_encoder(
    prepared: PreparedDataset,
    config: Config,
    template: PromptTemplate,
    tokenizer: PreTrainedTokenizerBase,
    model_config: PreTrainedConfig,
) -> PromptEncoder:
    """What writes the prompts of a data set.

    Args:
        prepared: the data; its label tree closes the set of answers.
        config: lengths of prompts and answers.
        template: how prompts are written.
        tokenizer: of the model.
        model_config: whether the model has an encoder.
    """
    words = () if prepared.taxonomy is None else tuple(label_words(template, prepared.taxonomy))
    return encoder_class(prepared.task, config.instruct.decode)(
        template,
        tokenizer,
        config.data.max_length,
        words,
        config.instruct.max_answer_length,
        model_config.is_encoder_decoder,
    )


def answer_task(prepared: PreparedDataset, config: Config) -> GenerationTask:
    """The task of a prepared data set for `train_instruct.py`, once the options are known to fit it.

    Raises:
        UserError: a task whose answers are no text, an option is for another task, template, tokenizer or model
            cannot be read, or the template has no place for the second texts of pairs.
    """
    model_config = read_model_config(config.model)
    generative_class(model_config)
    check_answers(prepared, config)
    template = template_for(config.instruct.prompt_template, prepared)
    require_place_for_pairs(template, prepared)
    encoder = prompt_encoder(prepared, config, template, load_tokenizer(config.model), model_config)
    return generation_task(prepared, config, encoder)


def check_answers(prepared: PreparedDataset, config: Config) -> None:
    """Whether the answers of a data set are of a kind that can be learned, and read as the options say.

    Raises:
        UserError: a task whose answers are no text, or an option that is for another task.
    """
    refuse_unread(config, task=prepared.task)
    if prepared.task not in TASKS_OF["train_instruct"]:
        raise UserError(
            f"dataset: task {prepared.task!r} has no answers in words; train_classifier.py takes it, "
            f"train_instruct.py takes {', '.join(TASKS_OF['train_instruct'])}"
        )
    check_decode(prepared, config.instruct)
