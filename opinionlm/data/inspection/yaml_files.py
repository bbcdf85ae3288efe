"""The two YAML files about a file of one's own: what the data are, and a run that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from opinionlm.data.inspection.forms import FileForm
from opinionlm.data.inspection.roles import Roles
from opinionlm.data.taxonomy import Taxonomy

TEXTS = ("text", "text_pair")
# Few texts make few steps of an epoch.
FEW_RECORDS, EPOCHS, EPOCHS_OF_FEW, BATCH_TOKENS, BATCH_TOKENS_OF_FEW = 2_000, 4, 10, 2_048, 512
# Small data are learned in fewer epochs than planned, or not at all.
PATIENCE = {"early_stopping_patience": 3}
TASK_COMMENTS = {
    "sequence": "one label per text",
    "multi_label": "any number of labels per text",
    "similarity": "a score per pair of texts",
    "token": "a tag per word",
}


def canonical_columns(roles: Roles) -> dict[str, str]:
    """Canonical name → column of the file, as `columns` of a dataset YAML."""
    match roles.task:
        case "token":
            columns = {"tokens": roles.texts[0], "tags": roles.labels[0]}
        case "similarity":
            columns = dict(zip(TEXTS, roles.texts, strict=False)) | {"score": roles.labels[0]}
        case "sequence" | "multi_label":
            levels = ["label"] if len(roles.labels) == 1 else [f"level{n}" for n in range(1, len(roles.labels) + 1)]
            columns = dict(zip(TEXTS, roles.texts, strict=False)) | dict(zip(levels, roles.labels, strict=True))
    return ({"id": roles.id} if roles.id else {}) | columns


def dataset_keys(form: FileForm, roles: Roles, name: str) -> dict[str, Any]:
    """The keys of the dataset YAML, without its labels."""
    file: dict[str, Any] = {"path": form.path.name, "columns": canonical_columns(roles)}
    file |= {"encoding": form.encoding} if form.encoding != "utf-8" else {}
    file |= {"delimiter": form.delimiter} if form.delimiter else {}
    file |= {"field_names": list(form.field_names)} if form.field_names else {}
    file |= {"label_separator": roles.separator} if roles.separator else {}
    subject = {"token": "Sentences", "similarity": "Pairs of texts"}.get(roles.task, "Texts")
    about = f" labelled by {', '.join(roles.labels)}" if roles.task in ("sequence", "multi_label") else ""
    keys: dict[str, Any] = {"name": name, "task": roles.task, "description": f"{subject} of {form.path.name}{about}."}
    if roles.task == "similarity":
        scores = [float(value) for value in form.columns[roles.labels[0]].values]
        keys["score_range"] = [min(scores), max(scores)]
    return keys | {"files": [file]}


def dataset_text(form: FileForm, roles: Roles, keys: dict[str, Any], labels: Taxonomy | None, command: str) -> str:
    """The dataset YAML; its first line is the command that prepares the data."""
    used = {*roles.texts, *roles.labels, roles.id}
    others = [name for name in form.columns if name not in used]
    lines = [
        f"# {command}",
        "# Written by `opinionlm init`; every key of such a file stands in docs/dataset_yaml.md.",
        written({"name": keys["name"]}),
        f"{written({'task': keys['task']})}  # {TASK_COMMENTS[roles.task]}",
        "# What the texts are: for the model card, and for a language model that is asked about them.",
        written({"description": keys["description"]}),
        "# licence: CC BY 4.0",
        "# Left: what the program calls a column; right: what the file calls it.",
    ]
    lines += [f"# Not used: {', '.join(others)}"] if others else []
    if times := [name for name in others if form.columns[name].holds_times]:
        lines.append(
            f"# Under columns, `time: {times[0]}` gives scores over time, and `split: {{by: time}}` splits by it."
        )
    lines.append(written({key: value for key, value in keys.items() if key in ("files", "score_range")}))
    if labels is not None:
        lines.append("# In the order of tables and figures; without this key they are taken from the data.")
        lines.append(written({"labels": labels.to_lists()}))
    lines += ["# Cut at random with equal shares of every label; `by: time` trains on the earliest texts."]
    lines += [written({"split": {"train": 0.7, "validation": 0.2, "test": 0.1}})]
    return "\n".join(lines) + "\n"


def run_keys(roles: Roles, records: int) -> dict[str, Any]:
    """The options of a run that suit the bundled model on two processor cores."""
    head = {"pooling": "mean", "head_hidden_sizes": [256]} if roles.task != "token" else {}
    few = records <= FEW_RECORDS
    keys = head | {
        "max_length": 256,
        "max_tokens_per_batch": BATCH_TOKENS_OF_FEW if few else BATCH_TOKENS,
        "learning_rate": 1.0e-3,
        "weight_decay": 0.1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.15,
        "num_train_epochs": EPOCHS_OF_FEW if few else EPOCHS,
    }
    return keys | PATIENCE if few else keys


def run_text(form: FileForm, roles: Roles, dataset: Path, run_name: str, model: str, commands: tuple[str, str]) -> str:
    """The run YAML; its first lines are the commands that train, and that label new texts."""
    keys = run_keys(roles, form.records)
    lines = [
        f"# {commands[0]}",
        f"# {commands[1]}",
        "# Any option may be added (docs/options.md) or given on the command line, which wins.",
        written({"dataset": str(dataset), "data_dir": str(form.path.parent)}),
        "# outputs/<run_name> gets the results; another model or method belongs into another folder.",
        written({"run_name": run_name}),
        "report_to: none  # or wandb, tensorboard",
        "# The bundled miniature needs no network and no GPU. A larger model learns more: with the hub at hand, try",
        "# sentence-transformers/all-MiniLM-L6-v2 with learning_rate 1.0e-4, head_lr_factor 10 and",
        "# many_labels_lr_factor 2, and leave head_hidden_sizes out.",
        written({"model_name_or_path": model, "adaptation": "full"}),
        written(keys),
    ]
    return "\n".join(lines) + "\n"


def written(keys: dict[str, Any]) -> str:
    """Keys as YAML: a line each where it is long enough, text in quotes where it needs them."""
    # None writes inner collections on one line, and a mapping of single values too.
    parts = [
        yaml.safe_dump(
            {key: value},
            sort_keys=False,
            allow_unicode=True,
            width=100,
            default_flow_style=None if isinstance(value, list | dict) else False,
        )
        for key, value in keys.items()
    ]
    return "".join(parts).rstrip()
