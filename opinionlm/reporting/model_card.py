"""The model card that every saved model carries."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from opinionlm.config.chosen_metric import score_title
from opinionlm.config.config import Config
from opinionlm.config.method_options import DecisionConfig, MethodConfig, RobustConfig
from opinionlm.config.options import DataConfig
from opinionlm.config.unread import choice
from opinionlm.data.cleaning import saved_steps
from opinionlm.data.encoding.ends import end_sizes
from opinionlm.data.encoding.features import PLATFORM, Feature, in_words, platforms_of
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.metrics import under_covers
from opinionlm.evaluation.multi_label_rules import MultiLabelRule, Rule
from opinionlm.models.precision import describe_dtype
from opinionlm.reporting.card_metadata import base_name, card_head, licence_note, trained_words
from opinionlm.tasks.base import Decision
from opinionlm.tasks.head import HeadTask
from opinionlm.training.spending import describe_cost
from opinionlm.training.training_facts import training_rows
from opinionlm.utils.markdown import cell


def model_card(
    task: HeadTask[Any], decision: Decision, numbers: dict[str, Any], scores: Mapping[str, Mapping[str, Any]]
) -> str:
    """A Markdown card with hub metadata: what the model is, how it was made, how good it is, how to use it.

    ``numbers`` are the sections ``train``, ``model`` and ``cost`` of ``metrics.json``.
    """
    config, prepared, validation, test = task.config, task.prepared, scores["validation"], scores["test"]
    words = task.card_text(config.run_folder / "best")
    is_tree = prepared.taxonomy is not None and prepared.taxonomy.depth > 1
    trust, raw = "", ""
    if task.decision_facts(decision):
        trust, raw = trust_section(config.decision, decision.rule, test, is_tree), raw_note(decision.rule)
    return f"""{card_head(task, words.pipeline, [words.tag], test)}
# {config.training.run_name}

`{base_name(config.model.model_name_or_path)}` fine-tuned to {words.purpose},
on `{prepared.name}` (fingerprint `{prepared.fingerprint[:16]}`), {date.today().isoformat()}.
{trained_words(numbers["model"])}:
{trained_part(config.method)}.

## Use

```python
import opinionlm  # makes the model type known to transformers
from transformers import pipeline

{words.usage}
```

or for files of any size:
`python -m opinionlm predict --model {shlex.quote(str(config.run_folder / "best"))} {words.options}`
{platform_note(platforms_of(task.features))}{feature_note(task.features)}{cleaning_note(prepared)}{word_note(decision)}{raw}
## {words.outputs_title}

{words.outputs}

## Scores

The checkpoint was chosen by validation {score_title(task.chosen_metric().name)}; the test split was read once.
{task.in_words(test)}
{score_table(task.shown_metrics, validation, test)}

{f1_table(words.labels, validation, test)}{trust}## Training

{training_table(config, numbers, prepared.task)}

## Limits

{words.limits} {length_note(config.data, task.reads_pairs)}
Do not use the answers as the sole ground for a decision about a person.
{licence_note(task)}
"""


def score_table(names: Sequence[str], validation: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """The scores of both splits, those of test with their intervals."""
    rows = [f"| {name} | {validation[name]:.4f} | {test[name]:.4f} | {interval(test, name)} |" for name in names]
    header = "| metric | validation | test | 95 % interval (test, bootstrap) |"
    return "\n".join([header, "| --- | --- | --- | --- |", *rows])


def training_table(config: Config, numbers: Mapping[str, Any], task: str) -> str:
    """How the model was made and what it cost."""
    method, model, parameters = config.method, config.model, numbers["model"]
    trained, total = parameters["trainable_parameters"], parameters["total_parameters"]
    rows = {
        "adaptation": method.adaptation,
        "loss": "squared error" if task == "similarity" else f"{method.loss}{soft_label_note(config.robust)}",
        "class weights": choice(config, "class_weights", {"task": task}),
        **dict(training_rows(config, numbers["train"])),
        "data type, 4-bit": f"{describe_dtype(model.dtype)}, {model.load_in_4bit}",
        "max length": f"{config.data.max_length} tokens",
        "seed": config.training.seed,
        "trained parameters": f"{trained:,} of {total:,}",
        "cost": describe_cost(numbers["cost"]),
    }
    return "\n".join(
        ["| option | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    )


def soft_label_note(robust: RobustConfig) -> str:
    """How much of the target was soft labels, for the row of the loss; empty without them."""
    return "" if robust.soft_labels is None else f", soft labels {robust.soft_label_share:.0%} of the target"


def length_note(data: DataConfig, reads_pairs: bool) -> str:
    """What becomes of long texts, or of long pairs of them."""
    if data.long_texts == "truncate" or reads_pairs:
        return f"Texts beyond {data.max_length} tokens are cut."
    if data.long_texts == "ends":
        head, tail = end_sizes(data.max_length)
        return (
            f"Of texts beyond {data.max_length} tokens opinionlm reads the first {head} and the last {tail}, special "
            f"tokens included; a pipeline with truncation=True reads their first {data.max_length}."
        )
    return (
        f"opinionlm reads texts beyond {data.max_length} tokens whole, in chunks that share {data.chunk_overlap} "
        f"tokens; a pipeline reads their first {data.max_length} alone."
    )


def platform_note(platforms: Sequence[str]) -> str:
    """What to know about a model that reads platforms; nothing for any other."""
    if not platforms:
        return ""
    return (
        f"\nThe model reads the platform in front of every text: `{platforms[0]}: …` in a pipeline, and opinionlm "
        f"takes `--platform_column`, or `--platform` ({', '.join(platforms)}).\n"
    )


def feature_note(features: Sequence[Feature]) -> str:
    """What to know about a model that reads columns beside the text; nothing for any other."""
    names = [feature for feature in features if feature.name != PLATFORM]
    if not names:
        return ""
    example = in_words(names, {feature.name: f"<{feature.name}>" for feature in names}, "<text>")
    return (
        f"\nThe model reads {', '.join(feature.name for feature in names)} in front of every text, in words: "
        f"`{example}` in a pipeline; opinionlm takes them from columns of the input.\n"
    )


def cleaning_note(prepared: PreparedDataset) -> str:
    """What was done to the training texts, so that others who feed the model do it too; nothing where nothing was."""
    steps = [name for name, _ in saved_steps(prepared.cleaning)]
    if not steps:
        return ""
    return (
        f"\nThe training texts were cleaned ({', '.join(steps)}; `cleaning` in the model's settings). opinionlm does "
        "the same to new texts; a pipeline takes them as they are.\n"
    )


def word_note(decision: Decision) -> str:
    """What to know about a model that words stand beside; nothing for any other."""
    if decision.interpolation is None or decision.interpolation.share == 0:
        return ""
    words = decision.interpolation.words
    return (
        f"\nTF-IDF over {len(words.vectorizer.vocabulary_):,} words and pairs of words ({words.parameters:,} "
        f"parameters of its own) has a share of {decision.interpolation.share:g} in the answers. opinionlm mixes it "
        "in; a pipeline gives the language model alone, whose scores are not those of the table above.\n"
    )


def raw_note(rule: Rule) -> str:
    """What a pipeline over ``best/`` leaves out: calibration and decision are no part of the logits."""
    if isinstance(rule, MultiLabelRule):
        differs = "whose labels at 0.5 are not those of the table below"
    elif rule.kind == "argmax":
        differs = "whose label is the same and whose score is not calibrated"
    else:
        differs = f"whose label is the likeliest; opinionlm decides by {rule.kind}, as the table below does"
    return (
        f"\nA pipeline over this folder gives probabilities before calibration, {differs}. `opinionlm export` makes "
        "the decision part of the model, where its last layer has room for it.\n"
    )


def interval(scores: Mapping[str, Any], name: str) -> str:
    """A score's interval as text, empty where none was computed."""
    bounds = scores.get(f"{name}_ci95")
    if bounds is None:
        return ""
    reason = under_covers(scores) if name == "macro_f1" else ""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" + (f" ({reason})" if reason else "")


def f1_table(labels: Sequence[str], validation: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """F1 per label, with a blank line behind; nothing for a task without labels."""
    if not labels:
        return ""
    rows = [f"| {cell(label)} | {validation[f'f1_{label}']:.3f} | {test[f'f1_{label}']:.3f} |" for label in labels]
    return "\n".join(["| F1 per label | validation | test |", "| --- | --- | --- |", *rows]) + "\n\n"


def trained_part(method: MethodConfig) -> str:
    """What trained, in words."""
    match method.adaptation:
        case "full":
            return "every parameter"
        case "head_only":
            return "the head alone"
        case "top_blocks":
            return f"the top {method.trainable_blocks} block(s), the final norm and the head"
        case "adapt":
            return "the head, the sub-layers most sensitive to the task, and the embedding rows of its task tokens"
        case other:
            return f"the head and what `adaptation: {other}` trains or adds"


def trust_section(options: DecisionConfig, rule: Rule, test: Mapping[str, Any], is_tree: bool) -> str:
    """What was fitted on validation, and what it is worth on test: Markdown with a blank line behind."""
    coverage = options.label_set_coverage
    if isinstance(rule, MultiLabelRule):
        kind = f"{options.label_thresholds} thresholds, {min(rule.thresholds):.3f} to {max(rule.thresholds):.3f}"
        chance, platform_score = "", "subset_accuracy"
        missed = f"{test['false_negative_rate']:.1%} missed"
        sets = f"| label sets that may miss {1 - coverage:.0%} of a text's labels | {missed}"
    else:
        kind = rule.kind if rule.tau is None else f"{rule.kind}, τ {rule.tau:g}"
        chance = f"; {test['ece_if_calibrated']:.4f} is what chance gives perfect probabilities"
        platform_score = "accuracy"
        sets = (
            f"| label sets ({options.label_set_score}) for {coverage:.0%} | right in {test['label_set_coverage']:.1%}"
        )
    lines = [
        "## Trust",
        "",
        "What is fitted here was fitted on validation; the numbers are of test.",
        "",
        "| what | value |",
        "| --- | --- |",
        f"| decision | {kind} |",
        f"| temperature | {rule.temperature:.3f} |",
        f"| largest bias of a class | {max(rule.biases, key=abs, default=0.0):+.3f} nats |",
        f"| calibration error (ECE) | {test['ece_uncalibrated']:.4f} before it, {test['ece']:.4f} after it{chance} |",
        f"{sets}, {test['label_set_size']:.2f} labels on average |",
        "",
    ]
    if test["platforms"]:
        # Of a flat label set hierarchical F1 is micro-F1 under another name.
        scores = ["macro_f1", platform_score, *(["hierarchical_f1"] if is_tree else [])]
        lines.append(f"| platform | texts | {' | '.join(map(score_title, scores))} |")
        lines.append("| --- | --- |" + " --- |" * len(scores))
        lines += [
            f"| {name} | {own['rows']:,.0f} | {' | '.join(f'{own[score]:.4f}' for score in scores)} |"
            for name, own in test["platforms"].items()
        ]
        lines.append("")
    return "\n".join(lines) + "\n"
