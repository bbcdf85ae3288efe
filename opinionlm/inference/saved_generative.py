"""``best/`` of a generative run: the model or its adapter, the tokenizer, and how it is asked and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding.label_lists import encoder_class
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import PromptTemplate, label_words, template_from
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError, one_line
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.multi_label_rules import Rule
from opinionlm.inference.options import Precision
from opinionlm.inference.saved_decision import rule_facts, rule_from
from opinionlm.models.backbones import plain_backbone
from opinionlm.training.checkpoints import save_trained_weights
from opinionlm.utils.files import write_json

SETTINGS = "opinionlm.json"


@dataclass(frozen=True)
class GenerativeSettings:
    """What has to be known to ask a saved model as in training.

    Attributes:
        task: of the data.
        template: how prompts are written.
        taxonomy: the labels; None for tasks with free answers.
        max_length: of prompt and answer, as `PromptEncoder` takes it.
        max_answer_length: tokens left for a free answer, and the longest that is generated.
        decode: ``score`` or ``generate``.
        score_normalisation: ``sum`` or ``mean``.
        calibration: ``none``, ``contextual`` or ``batch``.
        num_beams: width of the beam search.
        base_model: name or path of the model that an adapter belongs to, None for a whole model.
        bottleneck: placement (``houlsby`` or ``pfeiffer``) and width of bottleneck adapters, which are ours and not
            PEFT's; None for every other method.
        rule: how labels follow from label scores, one or any number; without any fit, the likeliest label.
        cleaning: what was done to the training texts, see `opinionlm.data.cleaning.text_options`; None for nothing.
        base_options: how the base model of an adapter was loaded, see `loaded_as`; None of folders from before.
        label_prior: what ``calibration: batch`` takes out; empty for all else, and of folders from before, where it is
            taken from the texts of one call.
    """

    task: str
    template: PromptTemplate
    taxonomy: Taxonomy | None
    max_length: int
    max_answer_length: int
    decode: Literal["score", "generate"]
    score_normalisation: Literal["sum", "mean"]
    calibration: Literal["none", "contextual", "batch"]
    num_beams: int
    base_model: str | None
    bottleneck: tuple[Literal["houlsby", "pfeiffer"], int] | None = None
    rule: Rule = AnswerRule()
    cleaning: dict[str, Any] | None = None
    base_options: dict[str, Any] | None = None
    label_prior: Sequence[float] = ()

    def encoder(self, tokenizer: PreTrainedTokenizerBase, encoder_decoder: bool) -> PromptEncoder:
        """The encoder of prompts that training used."""
        words = () if self.taxonomy is None else tuple(label_words(self.template, self.taxonomy))
        encoder = encoder_class(self.task, self.decode)
        return encoder(self.template, tokenizer, self.max_length, words, self.max_answer_length, encoder_decoder)

    def model_options(self, folder: Path, precision: Precision) -> ModelConfig:
        """How the model, or the base model of the adapter, in a folder is loaded; its tokenizer lies there too.

        Raises:
            UserError: the base model's weights were random ones, which are gone.
        """
        options: dict[str, Any] = {"dtype": "auto"} | (self.base_options or {})
        if precision != "auto":
            options["dtype"] = precision
        if options.get("random_weights"):
            raise UserError(
                f"--model: {folder} holds an adapter beside random weights, which are saved nowhere; train it with "
                "random_weights: false, or adaptation: full"
            )
        name = self.base_model or str(folder)
        return ModelConfig(model_name_or_path=name, tokenizer_name_or_path=str(folder), **options)


def loaded_as(options: ModelConfig, model: PreTrainedModel | PeftModel) -> dict[str, Any]:
    """What of a base model's loading decides an adapter's answers: options of `ModelConfig`.

    Args:
        options: that training loaded the base model with.
        model: the trained one.
    """
    return {
        "model_revision": options.model_revision,
        # What auto and fastest were where it was trained.
        "dtype": str(plain_backbone(model).dtype).removeprefix("torch."),
        "load_in_4bit": options.load_in_4bit,
        "bnb_4bit_quant_type": options.bnb_4bit_quant_type,
        "bnb_4bit_use_double_quant": options.bnb_4bit_use_double_quant,
        "random_weights": options.random_weights,
    }


def save_generative(
    folder: Path,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: GenerativeSettings,
) -> None:
    """Write a model (or, of an adapted one, the adapter), its tokenizer and its settings."""
    if settings.bottleneck is None:
        model.save_pretrained(str(folder))
    else:
        save_trained_weights(model, folder)
    save_tokenizer(tokenizer, folder, settings.max_length, pads_right=False)
    content = {one.name: getattr(settings, one.name) for one in fields(settings) if one.name != "taxonomy"}
    content |= {"template": settings.template.to_dict(), "rule": rule_facts(settings.rule)}
    content["labels"] = None if settings.taxonomy is None else settings.taxonomy.to_lists()
    write_json(folder / SETTINGS, content)


def read_settings(folder: Path) -> GenerativeSettings:
    """The settings of a saved model.

    Raises:
        UserError: the folder has none, or they are damaged.
    """
    path = folder / SETTINGS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tree = content.pop("labels")
        template = template_from(content.pop("template"), str(path))
        # Folders written before there were rules have none.
        rule = rule_from(content.pop("rule"), str(path)) if "rule" in content else AnswerRule()
        return GenerativeSettings(
            template=template, taxonomy=None if tree is None else Taxonomy.from_tree(tree), rule=rule, **content
        )
    except FileNotFoundError:
        raise UserError(f"{folder}: holds no {SETTINGS}; give the best/ folder of a train_instruct.py run") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({one_line(error)}); copy the whole folder again") from error
