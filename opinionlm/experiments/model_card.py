"""The model card that every saved model carries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from opinionlm.config import Config, MethodConfig
from opinionlm.data.cleaning import saved_steps
from opinionlm.data.platform_prefix import platforms_of
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.report import cell
from opinionlm.evaluation.headline import choice_of, headline_of, score_title
from opinionlm.experiments.card_trust import trust_section
from opinionlm.experiments.card_words import task_words
from opinionlm.experiments.class_results import Fitted
from opinionlm.training.spending import describe_cost
from opinionlm.training.training_facts import training_rows


def model_card(
    config: Config,
    prepared: PreparedDataset,
    numbers: dict[str, Any],
    validation: dict[str, Any],
    test: dict[str, Any],
    fitted: Fitted,
) -> str:
    """A Markdown card with hub metadata: what the model is, how it was made, how good it is, how to use it.

    Args:
        config: options of the run.
        prepared: the data it was trained on.
        numbers: the sections ``train``, ``model`` and ``cost`` of ``metrics.json``.
        validation: scores on the validation split.
        test: scores on the test split.
        fitted: how labels of texts are decided, and the words beside the model; other tasks read neither.
    """
    headline = headline_of(prepared)
    words = task_words(prepared, config.run_folder / "best")
    rows = [
        f"| {name} | {validation[name]:.4f} | {test[name]:.4f} | {interval(test, name)} |" for name in headline.shown
    ]
    trust = trust_section(config, fitted.rule, test) if prepared.task == "sequence" else ""
    training, method, parameters = config.training, config.method, numbers["model"]
    fit_rows = "\n".join(f"| {name} | {value} |" for name, value in training_rows(config, numbers["train"]))
    # A path on the machine that trained it means nothing to others, and the hub takes only its own names.
    is_folder = Path(config.model.model_name_or_path).is_dir()
    name = Path(config.model.model_name_or_path).name if is_folder else config.model.model_name_or_path
    base_model = "" if is_folder else f"base_model: {name}\n"
    return f"""---
library_name: transformers
pipeline_tag: {words.pipeline}
{base_model}tags:
- opinionlm
- {words.tag}
---

# {training.run_name}

`{name}` fine-tuned to {words.purpose},
on `{prepared.name}` (fingerprint `{prepared.fingerprint[:16]}`), {date.today().isoformat()}.
{parameters["trainable_parameters"]:,} of {parameters["total_parameters"]:,} parameters were trained:
{trained_part(method)}.

## Use

```python
import opinionlm  # makes the model type known to transformers
from transformers import pipeline

{words.usage}
```

or for files of any size:
`python predict.py --model {config.run_folder / "best"} {words.options}`
{platform_note(config, prepared)}{cleaning_note(prepared)}{word_note(fitted)}
## {words.outputs_title}

{words.outputs}

## Scores

The checkpoint was chosen by validation {score_title(choice_of(prepared, config).name)}; the test split was read once.

| metric | validation | test | 95 % interval (test, bootstrap) |
| --- | --- | --- | --- |
{chr(10).join(rows)}

{f1_table(words.labels, validation, test)}{trust}## Training

| option | value |
| --- | --- |
| adaptation | {method.adaptation} |
| loss | {method.loss}{soft_label_note(config)} |
| class weights | {method.class_weights} |
{fit_rows}
| data type, 4-bit | {config.model.dtype}, {config.model.load_in_4bit} |
| max length | {config.data.max_length} tokens |
| seed | {training.seed} |
| cost | {describe_cost(numbers["cost"])} |

## Limits

{words.limits} Texts beyond {config.data.max_length} tokens are cut.
Do not use the answers as the sole ground for a decision about a person.
"""


def soft_label_note(config: Config) -> str:
    """How much of the target was soft labels, for the row of the loss; empty without them."""
    robust = config.robust
    return "" if robust.soft_labels is None else f", soft labels {robust.soft_label_share:.0%} of the target"


def platform_note(config: Config, prepared: PreparedDataset) -> str:
    """What to know about a model that reads platforms; nothing for any other."""
    if not config.data.platform_prefix:
        return ""
    known = platforms_of(prepared.dataset["train"], config.data.dataset)
    return (
        f"\nThe model reads the platform in front of every text: `{known[0]}: …` in a pipeline, and predict.py takes "
        f"`--platform_column`, or `--platform` ({', '.join(known)}).\n"
    )


def cleaning_note(prepared: PreparedDataset) -> str:
    """What was done to the training texts, so that others who feed the model do it too; nothing where nothing was."""
    steps = [name for name, _ in saved_steps(prepared.cleaning)]
    if not steps:
        return ""
    return (
        f"\nThe training texts were cleaned ({', '.join(steps)}; `cleaning` in the model's settings). predict.py does "
        "the same to new texts; a pipeline takes them as they are.\n"
    )


def word_note(fitted: Fitted) -> str:
    """What to know about a model that words stand beside; nothing for any other."""
    if fitted.blend is None or fitted.blend.share == 0:
        return ""
    words = fitted.blend.words
    return (
        f"\nTF-IDF over {len(words.vectorizer.vocabulary_):,} words and pairs of words ({words.parameters:,} "
        f"parameters of its own) has a share of {fitted.blend.share:g} in the answers. predict.py mixes it in; a "
        "pipeline gives the language model alone, whose scores are not those of the table above.\n"
    )


def interval(scores: dict[str, Any], name: str) -> str:
    """A score's interval as text, empty where none was computed."""
    bounds = scores.get(f"{name}_ci95")
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def f1_table(labels: Sequence[str], validation: dict[str, Any], test: dict[str, Any]) -> str:
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
