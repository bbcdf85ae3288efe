"""A run without data, weights or network: all that it checks before it reads a row, on a model of the real size.

A data set is known by its YAML, a hub model by configs/hub/models.yaml, and models are built on the meta device, where
parameters have shapes and no values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from opinionlm.adaptation.adapt.vocabulary import check_texts
from opinionlm.adaptation.build import check_fit
from opinionlm.adaptation.compatibility import check_vocabulary
from opinionlm.adaptation.methods import adapt_generative, apply_adaptation, count_parameters, trained_blocks
from opinionlm.config.checks import uses_task_tokens
from opinionlm.config.chosen_metric import SCORES, chosen_metric
from opinionlm.config.config import Config
from opinionlm.config.method_options import AdaptConfig, MethodConfig
from opinionlm.config.options import DataConfig, HeadConfig, ModelConfig
from opinionlm.data.encoding.data_templates import require_place_for_pairs, template_for
from opinionlm.data.encoding.templates import PromptTemplate, label_words
from opinionlm.data.encoding.tokenizers import entries_of_texts, load_tokenizer
from opinionlm.data.prepared import PreparedDataset, load_prepared
from opinionlm.data.spec import LABEL_TASKS, SPLITS, DatasetSpec, FileSpec, HubSpec
from opinionlm.data.spec_checks import canonical_columns
from opinionlm.data.spec_parsing import load_spec
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, new_backbone, read_model_config, trained_block_names
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.generative import generative_class, is_multimodal, unquantized_names
from opinionlm.models.hub_facts import hub_facts, known_config
from opinionlm.runs.prompting import check_data, check_model
from opinionlm.tasks import task_for
from opinionlm.tasks.answers import check_answers
from opinionlm.tasks.generation import answer_metric_names, check_decode
from opinionlm.tasks.head import HeadTask
from opinionlm.utils.shipped import find_shipped

# AdaLoRA's schedule is stretched over so many steps; what trains does not depend on them.
NOMINAL_STEPS = 1000
# Stand for the labels of a data set whose YAML names none, since only its files tell.
UNKNOWN_LABELS = Taxonomy.from_tree(["unknown 1", "unknown 2"])
UNKNOWN_TAGS = ("O", "B-unknown", "I-unknown")


@dataclass(frozen=True)
class Rehearsal:
    """What is known of a run beforehand.

    Attributes:
        rows: rows by split that the run reads, before any is removed; empty where nobody has counted them.
        parameters: all and the trainable ones, task tokens aside; empty where no model is trained by gradients.
        part: what trains at a time, or is chosen later, where the trainable ones do not tell.
        remarks: what a reader has to know: a model that another command makes first, facts that are not confirmed.
    """

    rows: Mapping[str, int]
    parameters: Mapping[str, int]
    part: str = ""
    remarks: tuple[str, ...] = ()


def rehearse(config: Config) -> Rehearsal:
    """Check a run of any script as far as it can be checked without its data and weights.

    Raises:
        UserError: what the run itself would be refused with.
    """
    prepared, rows = known_data(config.data)
    match config.script:
        case "train_classifier":
            parameters = rehearse_classifier(config, prepared)
        case "train_instruct":
            parameters = rehearse_writer(config, prepared)
        case _:
            parameters = rehearse_prompting(config, prepared)
    facts = hub_facts(config.model.model_name_or_path) if parameters else None
    remarks = []
    if facts is not None and facts.made_by and not find_shipped(config.model.model_name_or_path).exists():
        remarks.append(f"made first by: {facts.made_by}")
    if facts is not None and not facts.confirmed:
        remarks.append(f"not confirmed: {config.model.model_name_or_path} ({facts.source})")
    if parameters and config.script == "train_classifier" and prepared.taxonomy is UNKNOWN_LABELS:
        remarks.append(f"{prepared.name}: only the files tell how many labels it has; heads are counted for two")
    if parameters and prepared.tags is UNKNOWN_TAGS:
        remarks.append(f"{prepared.name}: only the files tell how many tags it has; heads are counted for three")
    return Rehearsal(rows, parameters, part_of(config.method, config.adapt) if parameters else "", tuple(remarks))


def part_of(method: MethodConfig, adapt: AdaptConfig) -> str:
    """What of a model trains at a time, or is chosen when the data are read."""
    match method.adaptation:
        case "adapt":
            return f"and sub-layers of up to {adapt.sensitivity_budget:.0%} of the backbone"
        case "lisa":
            return f"of them {method.lisa_blocks} blocks at a time"
        case _:
            return ""


def rehearse_classifier(config: Config, prepared: PreparedDataset) -> dict[str, int]:
    """A run of train_classifier.py; returns its numbers of parameters."""
    task = task_for(prepared, config)
    if config.training.engine == "tfidf":
        return {}
    if prepared.taxonomy is not UNKNOWN_LABELS:
        task.chosen_metric()
    model_config = config_of(config.model)
    method, max_length = config.method, config.data.max_length
    if uses_task_tokens(config.adapt, method.adaptation):
        check_texts(prepared, method.adaptation, config.source)
    check_fit(config.model, method, max_length, model_config, entries_of(config.model), generative=False)
    return classifier_parameters(task, model_config)


def rehearse_writer(config: Config, prepared: PreparedDataset) -> dict[str, int]:
    """A run of train_instruct.py; returns its numbers of parameters."""
    model_config = config_of(config.model)
    generative_class(model_config)
    template = template_for(config.instruct.prompt_template, prepared)
    require_place_for_pairs(template, prepared)
    check_answers(prepared, config)
    if prepared.taxonomy is not UNKNOWN_LABELS:
        chosen_metric(config.training, SCORES[prepared.task][0], answer_metric_names(prepared, config), config.source)
        if prepared.taxonomy is not None:
            label_words(template, prepared.taxonomy)
    check_chat(config.model, template)
    method, max_length = config.method, config.data.max_length
    check_fit(config.model, method, max_length, model_config, entries_of(config.model), generative=True)
    return writer_parameters(as_json(config.model), as_json(method))


def rehearse_prompting(config: Config, prepared: PreparedDataset) -> dict[str, int]:
    """A run of prompt.py; returns its numbers of parameters, none of which train."""
    model_config = config_of(config.model)
    template = template_for(config.instruct.prompt_template, prepared)
    check_model(config, model_config)
    check_data(config, template, prepared)
    if prepared.taxonomy is not None and prepared.taxonomy is not UNKNOWN_LABELS:
        label_words(template, prepared.taxonomy)
    check_vocabulary(config.model, model_config, entries_of(config.model))
    if config.prompt.method == "entailment":
        return {}
    check_decode(prepared, config.instruct)
    check_chat(config.model, template)
    return writer_parameters(as_json(config.model), method=None)


def check_chat(model: ModelConfig, template: PromptTemplate) -> None:
    """A hub model whose tokenizer is known to write no chat prompts.

    Raises:
        UserError: the template asks for them.
    """
    facts = hub_facts(model.model_name_or_path)
    if template.chat and facts is not None and not facts.chat:
        raise UserError(
            f"{template.source}: chat: true, but the tokenizer '{model.model_name_or_path}' has no chat "
            "template; set chat: false"
        )


# The model


def config_of(model: ModelConfig) -> PreTrainedConfig:
    """A model's configuration: of a hub model that is known, without a look at the hub."""
    name = model.model_name_or_path
    return known_config(name) if hub_facts(name) is not None and not Path(name).is_dir() else read_model_config(model)


def entries_of(model: ModelConfig) -> int:
    """Entries of a model's tokenizer that texts can hold."""
    name = model.tokenizer_name_or_path or model.model_name_or_path
    facts = hub_facts(name)
    return local_entries(name) if facts is None or Path(name).is_dir() else facts.tokenizer


@cache
def local_entries(name: str) -> int:
    """The same of a tokenizer in a folder."""
    return entries_of_texts(load_tokenizer(ModelConfig(model_name_or_path=name)))


@cache
def plain_backbone_of(name: str, with_pooler: bool) -> PreTrainedModel:
    """The backbone of a hub model or folder on the meta device, for heads to be put on; never adapted."""
    with torch.device("meta"):
        return new_backbone(config_of(ModelConfig(model_name_or_path=name)), with_pooler=with_pooler)


def classifier_parameters(task: HeadTask, model_config: PreTrainedConfig) -> dict[str, int]:
    """Parameters of a classifier, tagger or scorer, whose head always trains.

    Raises:
        UserError: the adaptation cannot work on the model.
    """
    options = task.model_options(model_config)
    with torch.device("meta"):
        plain = plain_backbone_of(options.model_name_or_path, options.pooling == "pooler")
        head = size_of(task.add_head(plain, options).head)
    total, trainable = adapted_backbone(as_json(options), as_json(task.config.method))
    return {"total_parameters": total + head, "trainable_parameters": trainable + head}


def as_json(options: ModelConfig | MethodConfig) -> str:
    """Options as a text, which a cache can know again."""
    return json.dumps(asdict(options))


@cache
def adapted_backbone(model: str, method: str) -> tuple[int, int]:
    """All and trainable parameters of an adapted backbone; a table asks for one for every data set and rate.

    Args:
        model: from `as_json`.
        method: likewise.
    """
    options, adaptation = ModelConfig(**json.loads(model)), MethodConfig(**json.loads(method))
    model_config, with_pooler = config_of(options), options.pooling == "pooler"
    blocks = trained_blocks(adaptation, model_config.get_text_config().num_hidden_layers)
    if options.load_in_4bit:
        trained_block_names(model_config, blocks)
    with torch.device("meta"):
        # Any head will do: it is taken off again, and its pooling alone says whether BERT's pooler trains.
        plain = new_backbone(model_config, with_pooler=with_pooler)
        classifier = OpinionClassifier.from_backbone(plain, ["any"], HeadConfig(pooling=options.pooling))
        apply_adaptation(classifier, adaptation, NOMINAL_STEPS)
    counts, head = count_parameters(classifier), size_of(classifier.head)
    return counts["total_parameters"] - head, counts["trainable_parameters"] - head


@cache
def writer_parameters(model: str, method: str | None) -> dict[str, int]:
    """Parameters of a language model with its output layer.

    Args:
        model: from `as_json`.
        method: likewise; None where nothing trains.

    Raises:
        UserError: the adaptation cannot work on the model.
    """
    options = ModelConfig(**json.loads(model))
    model_config = config_of(options)
    text_config = model_config.get_text_config() if is_multimodal(model_config) else model_config
    with torch.device("meta"):
        writer = generative_class(model_config).from_config(text_config)
        if method is None:
            return {"total_parameters": count_parameters(writer)["total_parameters"], "trainable_parameters": 0}
        adaptation = MethodConfig(**json.loads(method))
        blocks = trained_blocks(adaptation, len(anatomy_of(writer).blocks))
        if options.load_in_4bit:
            unquantized_names(model_config, blocks)
        counts = count_parameters(adapt_generative(writer, adaptation, NOMINAL_STEPS))
    return {name: counts[name] for name in ("total_parameters", "trainable_parameters")}


def size_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


# The data


def known_data(data: DataConfig) -> tuple[PreparedDataset, dict[str, int]]:
    """A data set as far as its YAML tells, and the rows that the run reads of it.

    A prepared folder is read as it is.
    """
    if Path(data.dataset).is_dir():
        prepared = load_prepared(data.dataset)
        rows = {name: len(prepared.dataset[name]) for name in SPLITS}
    else:
        prepared, rows = yaml_data(data.dataset)
    limits = {"train": data.max_train_samples, "validation": data.max_eval_samples, "test": data.max_eval_samples}
    return prepared, {name: min(count, limits[name] or count) for name, count in rows.items()}


@cache
def yaml_data(dataset: str) -> tuple[PreparedDataset, dict[str, int]]:
    """What a dataset YAML tells; a table reads one for many cells."""
    spec = load_spec(dataset)
    return described_data(spec), rows_of(spec)


def rows_of(spec: DatasetSpec) -> dict[str, int]:
    """Rows by split: of a balanced subset those that are drawn, else those that the publisher counts."""
    if spec.balance is not None:
        return {name: getattr(spec.balance, name) for name in SPLITS}
    if spec.published is None:
        return {}
    return {name: count for name in SPLITS if (count := getattr(spec.published, name))}


def described_data(spec: DatasetSpec) -> PreparedDataset:
    """A data set of one blank row per platform, with the columns of its task."""
    sources: list[FileSpec | HubSpec] = [*spec.files, *([spec.hub] if spec.hub else [])]
    # Where a column names the platforms, only the data tell which there are.
    platforms = sorted({"unknown" if "platform" in one.columns else one.platform for one in sources})
    optional = {"text_pair", "time", "group", "context", "sentences"}
    mapped = {name for one in sources for name in one.columns}
    columns = [name for name in canonical_columns(spec) if name not in optional or name in mapped]
    rows = {name: platforms if name == "platform" else [""] * len(platforms) for name in columns}
    tags = () if spec.published is None else spec.published.tags
    if spec.task == "token" and not tags:
        tags = UNKNOWN_TAGS
    return PreparedDataset(
        dataset=DatasetDict(dict.fromkeys(SPLITS, Dataset.from_dict(rows))),
        taxonomy=UNKNOWN_LABELS if spec.labels is None and spec.task in LABEL_TASKS else spec.labels,
        features=spec.features,
        name=spec.name,
        fingerprint="",
        path=Path(),
        task=spec.task,
        tags=tags,
        score_range=spec.score_range,
    )
