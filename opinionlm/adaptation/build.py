"""From a config to a model that is ready to train: a classifier, a tagger or a scorer of pairs."""

from __future__ import annotations

from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

from opinionlm.adaptation.compatibility import check_family, check_length
from opinionlm.adaptation.methods import adapt_generative, apply_adaptation, trained_blocks
from opinionlm.config.config import Config
from opinionlm.data.encoding.platform_prefix import platforms_of
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.models.backbones import load_backbone
from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig
from opinionlm.models.generative import count_blocks, load_generative
from opinionlm.models.saved_backbone import saved_backbone
from opinionlm.models.tagger import OpinionTagger


def build_model(
    config: Config,
    model_config: PreTrainedConfig,
    prepared: PreparedDataset,
    vocabulary: int,
    total_steps: int | None = None,
    task_tokens: int = 0,
) -> OpinionClassifier:
    """Build the model that a prepared data set's task asks for.

    Args:
        config: the run's options.
        model_config: the pretrained model's own configuration, from `read_model_config`.
        prepared: the data; its label tree or tags decide the head's outputs.
        vocabulary: entries of the tokenizer, which the embedding must have rows for.
        total_steps: optimizer steps of the run; only AdaLoRA needs them.
        task_tokens: embedding rows to add; a classifier of texts alone can have some.

    Raises:
        UserError: see the builders; the task is one of text to text; or ``platform_prefix`` without platforms.
    """
    match prepared.task:
        case "sequence":
            model = build_classifier(config, model_config, prepared.taxonomy, vocabulary, total_steps, task_tokens)
            train = prepared.dataset["train"]
            model.config.text_pairs = "text_pair" in train.column_names
            if config.data.platform_prefix:
                model.config.platforms = platforms_of(train, config.data.dataset)
            return model
        case "token":
            return build_tagger(config, model_config, prepared.tags, vocabulary, total_steps)
        case "similarity":
            return build_scorer(config, model_config, vocabulary, total_steps)
        case task:
            raise UserError(
                f"{config.data.dataset}: task {task!r} is text to text, which train_instruct.py trains; "
                "train_classifier.py takes sequence, token and similarity"
            )


def build_classifier(
    config: Config,
    model_config: PreTrainedConfig,
    taxonomy: Taxonomy,
    vocabulary: int,
    total_steps: int | None = None,
    task_tokens: int = 0,
) -> OpinionClassifier:
    """Load the backbone, put a new head on it and freeze what the adaptation leaves alone.

    The weights of the head, then of task tokens, come from torch's global generator: seed it first. The
    head has one output per leaf of the tree.

    Raises:
        UserError: the model cannot be loaded, has fewer blocks than are to train, or belongs to another tokenizer.
    """
    model = OpinionClassifier.from_backbone(
        load_checked_backbone(config, model_config, vocabulary),
        taxonomy.leaves,
        head_hidden_sizes=config.model.head_hidden_sizes,
        head_bias=config.model.head_bias,
        pooling=config.model.pooling,
        classifier_dropout=config.model.classifier_dropout,
        # Not as a mapping: config.json is written with sorted keys.
        label_tree=taxonomy.to_lists(),
        max_length=config.data.max_length,
    )
    model.add_task_tokens(task_tokens)
    apply_adaptation(model, config.method, total_steps)
    return model


def build_tagger(
    config: Config,
    model_config: PreTrainedConfig,
    tags: tuple[str, ...],
    vocabulary: int,
    total_steps: int | None = None,
) -> OpinionTagger:
    """The same with one output per tag for every token.

    Raises:
        UserError: as in `build_classifier`.
    """
    model = OpinionTagger.from_backbone(
        load_checked_backbone(config, model_config, vocabulary),
        tags,
        head_hidden_sizes=config.model.head_hidden_sizes,
        head_bias=config.model.head_bias,
        classifier_dropout=config.model.classifier_dropout,
        max_length=config.data.max_length,
    )
    apply_adaptation(model, config.method, total_steps)
    return model


def build_scorer(
    config: Config, model_config: PreTrainedConfig, vocabulary: int, total_steps: int | None = None
) -> OpinionClassifier:
    """The same with a single output, the score of a pair of texts (regression).

    Raises:
        UserError: as in `build_classifier`.
    """
    model = OpinionClassifier.from_backbone(
        load_checked_backbone(config, model_config, vocabulary),
        ["score"],
        head_hidden_sizes=config.model.head_hidden_sizes,
        head_bias=config.model.head_bias,
        pooling=config.model.pooling,
        classifier_dropout=config.model.classifier_dropout,
        max_length=config.data.max_length,
        problem_type="regression",
    )
    model.config.text_pairs = True
    apply_adaptation(model, config.method, total_steps)
    return model


def load_checked_backbone(config: Config, model_config: PreTrainedConfig, vocabulary: int) -> PreTrainedModel:
    """The backbone, once it is known to fit the tokenizer and the adaptation.

    Raises:
        UserError: as in `build_classifier`.
    """
    rows = model_config.get_text_config().vocab_size
    if vocabulary > rows:
        raise UserError(
            f"tokenizer_name_or_path: the tokenizer has {vocabulary:,} entries, the embedding of "
            f"'{config.model.model_name_or_path}' {rows:,} rows; give the model's own tokenizer"
        )
    check_family(config.method, model_config, generative=False)
    check_length(config.method, model_config, config.data.max_length)
    if isinstance(model_config, OpinionClassifierConfig):
        return saved_backbone(config.model, model_config)
    blocks = trained_blocks(config.method, model_config.get_text_config().num_hidden_layers)
    return load_backbone(config.model, trained_blocks=blocks, config=model_config)


def build_generative(
    config: Config, model_config: PreTrainedConfig, encoder: PromptEncoder, total_steps: int
) -> PreTrainedModel | PeftModel:
    """Load a language model, choose what trains, and have it end its answers as the prompts say.

    Args:
        config: the run's options.
        model_config: the pretrained model's own configuration, from `read_model_config`.
        encoder: of the prompts; its tokenizer's padding and the answers' end become the model's.
        total_steps: optimizer steps of the run.

    Raises:
        UserError: the model cannot be loaded or adapted, is encoder-only, or belongs to another tokenizer.
    """
    rows, vocabulary = model_config.get_text_config().vocab_size, len(encoder.tokenizer)
    if vocabulary > rows:
        raise UserError(
            f"tokenizer_name_or_path: the tokenizer has {vocabulary:,} entries, the embedding of "
            f"'{config.model.model_name_or_path}' {rows:,} rows; give the model's own tokenizer"
        )
    check_family(config.method, model_config, generative=True)
    check_length(config.method, model_config, config.data.max_length)
    blocks = trained_blocks(config.method, count_blocks(model_config))
    model = load_generative(config.model, blocks, model_config)
    # Where the weights lay on the machine that trained them is nobody else's business.
    model.config.name_or_path = ""
    settings = model.generation_config
    settings.pad_token_id = encoder.tokenizer.pad_token_id
    settings.eos_token_id = sorted({encoder.tokenizer.eos_token_id, *encoder.end_ids})
    return adapt_generative(model, config.method, total_steps)
