"""The model card that every saved model carries."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from opinionlm.config import Config
from opinionlm.data.prepared import PreparedDataset


def model_card(
    config: Config,
    prepared: PreparedDataset,
    parameters: dict[str, int],
    validation: dict[str, Any],
    test: dict[str, Any],
) -> str:
    """A Markdown card with hub metadata: what the model is, how it was made, how good it is, how to use it.

    Args:
        config: options of the run.
        prepared: the data it was trained on.
        parameters: total and trainable parameters.
        validation: scores on the validation split.
        test: scores on the test split.
    """
    taxonomy = prepared.taxonomy
    levels = [f"level{level}_macro_f1" for level in range(1, taxonomy.depth + 1)]
    rows = [
        f"| {name} | {validation[name]:.4f} | {test[name]:.4f} | {interval(test, name)} |"
        for name in ("macro_f1", "accuracy", "weighted_f1", *levels, "hierarchical_f1", "ece")
    ]
    per_label = [
        f"| {label} | {validation[f'f1_{label}']:.3f} | {test[f'f1_{label}']:.3f} |" for label in taxonomy.leaves
    ]
    paths = "\n".join(f"- {' › '.join(path)}" for path in taxonomy.paths)
    training, method = config.training, config.method
    schedule = f"{training.learning_rate:g}, {training.lr_scheduler_type}, warm-up {training.warmup_steps:g}"
    how = (
        f"the top {method.trainable_blocks} block(s), the final norm and the head"
        if (method.adaptation == "top_blocks")
        else {"full": "every parameter", "head_only": "the head alone"}[method.adaptation]
    )
    # A path on the machine that trained it means nothing to others, and the hub takes only its own names.
    is_folder = Path(config.model.model_name_or_path).is_dir()
    name = Path(config.model.model_name_or_path).name if is_folder else config.model.model_name_or_path
    base_model = "" if is_folder else f"base_model: {name}\n"
    return f"""---
library_name: transformers
pipeline_tag: text-classification
{base_model}tags:
- opinionlm
- hierarchical-text-classification
metrics:
- f1
- accuracy
---

# {training.run_name}

`{name}` fine-tuned to label texts with the {len(taxonomy.leaves)} leaves of a label tree,
on `{prepared.name}` (fingerprint `{prepared.fingerprint[:16]}`), {date.today().isoformat()}.
{parameters["trainable_parameters"]:,} of {parameters["total_parameters"]:,} parameters were trained: {how}.

## Use

```python
import opinionlm  # makes the model type known to transformers
from transformers import pipeline

classify = pipeline("text-classification", model="{config.run_folder / "best"}")
classify("Is this coin still worth holding?", truncation=True)
```

or, for files of any size, with every level and probability:
`python predict.py --model {config.run_folder / "best"} --input posts.csv --output labels.csv`

## Labels

{paths}

## Scores

The checkpoint was chosen by validation macro-F1; the test split was read once.

| metric | validation | test | 95 % interval (test, bootstrap) |
| --- | --- | --- | --- |
{chr(10).join(rows)}

| F1 per label | validation | test |
| --- | --- | --- |
{chr(10).join(per_label)}

## Training

| option | value |
| --- | --- |
| adaptation | {method.adaptation} |
| class weights | {method.class_weights} |
| learning rate, schedule | {schedule} |
| batch × accumulation | {training.per_device_train_batch_size} × {training.gradient_accumulation_steps} |
| epochs | {training.num_train_epochs:g} |
| weight decay, clipping | {training.weight_decay:g}, {training.max_grad_norm:g} |
| data type, 4-bit | {config.model.dtype}, {config.model.load_in_4bit} |
| max length | {config.data.max_length} tokens |
| seed | {training.seed} |

## Limits

The labels are those of the training data and carry its annotators' judgement, platforms, languages and time. Rare
labels rest on few examples: look at their own F1 and at the intervals above before trusting them. Texts beyond
{config.data.max_length} tokens are cut. Do not use the labels as the sole ground for a decision about a person.
"""


def interval(scores: dict[str, Any], name: str) -> str:
    """A score's interval as text, empty where none was computed."""
    bounds = scores.get(f"{name}_ci95")
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
