"""The run folder: what a run leaves behind, written so that a finished run is one that has ``metrics.json``."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from opinionlm.config.config import HARMLESS, Config
from opinionlm.config.options import EVALUATION_SEED
from opinionlm.config.unread import is_read
from opinionlm.data.encoding.data_templates import AUTO
from opinionlm.data.encoding.templates import load_template
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.reporting.tracking.base import TENSORBOARD, WANDB_RUN_ID
from opinionlm.runs.lock import refuse_held
from opinionlm.utils.environment import PACKAGES, git_commit, installed_version, processor_name
from opinionlm.utils.files import clear_temporaries, file_sha256, write_json, write_text
from opinionlm.utils.shipped import find_model, find_shipped, tokenizer_digest

# What is no option and yet decides what a run computes; those of `input_fingerprints` among them.
START: tuple[str, ...] = ("data_fingerprint", "model_fingerprint", "processes", "soft_labels_fingerprint")
START += ("prompt_template_fingerprint", "tokenizer_fingerprint")


def is_finished(config: Config, is_main: bool = True) -> bool:
    """Whether a run of this name and the same options is finished, so that nothing is left to do.

    Deletes the folder first under ``overwrite``. A folder that holds neither results nor checkpoints is nobody's.

    Args:
        config: the run's options.
        is_main: whether this process writes; the others only look, after the main one is done.

    Raises:
        UserError: the folder belongs to a run with other options, or with other content of the files that they name;
            or it is to be deleted and another process writes it.
    """
    folder = config.run_folder
    if config.training.overwrite and folder.is_dir() and is_main:
        refuse_held(folder)
        shutil.rmtree(folder)
    stored, finished = folder / "config.yaml", (folder / "metrics.json").is_file()
    if not stored.is_file() or not (finished or any(folder.glob("checkpoints/checkpoint-*"))):
        return False
    # An option that is younger than the run had no effect on it, as its default has none.
    then = Config(script=config.script).flat() | yaml.safe_load(stored.read_text(encoding="utf-8"))
    # What the chosen way does not read was no part of it, whatever older versions let it say.
    difference = [name for name in changed_options(then, config.flat()) if is_read(config, name)]
    if difference:
        raise UserError(
            f"{folder}: holds a run with other options ({', '.join(difference)}); give another run_name, or "
            "overwrite: true to delete it"
        )
    require_same_evaluation(folder, config.flat())
    require_same_start(folder, input_fingerprints(config))
    return finished


def require_same_evaluation(folder: Path, options: dict[str, Any]) -> None:
    """A run from when ``max_eval_samples`` drew with the run's own seed has other texts than its siblings have now.

    Args:
        folder: of a run that has begun.
        options: that it was asked for with; only ``seed`` and ``max_eval_samples`` are read.

    Raises:
        UserError: the texts differ.
    """
    if options.get("max_eval_samples") is None or options.get("seed") == EVALUATION_SEED:
        return
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # it does not tell
    if isinstance(facts, dict) and facts.get("evaluation_seed") != EVALUATION_SEED:
        raise UserError(
            f"{folder}: max_eval_samples: this run drew its validation and test texts with its own seed; they are now "
            "the same for every seed. Train it anew with overwrite: true (a table: --force), or give another run_name"
        )


def goes_on(config: Config) -> bool:
    """Whether a run continues from checkpoints, where they can be used."""
    return config.training.resume_from_checkpoint and any(config.run_folder.glob("checkpoints/checkpoint-*"))


def create_run(config: Config, facts: dict[str, Any], taxonomy: Taxonomy | None) -> None:
    """Make the folder of a run, with its options, its environment and, where there is one, its label tree.

    Called when data and model are known to be usable, so that a mistake in the config leaves nothing behind.

    Raises:
        UserError: the folder cannot be written, or holds checkpoints that were trained on something else.
    """
    folder = config.run_folder
    if goes_on(config):
        require_same_start(folder, facts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if holds_another_run(folder, config, facts):
            forget_tracking(folder)
        for each in (folder, folder / "predictions"):
            clear_temporaries(each)
        write_text(folder / "config.yaml", config_text(config))
        write_json(folder / "environment.json", facts)
        if taxonomy is not None:
            write_json(folder / "labels.json", taxonomy.to_lists())
    except OSError as error:
        raise UserError(f"output_dir: cannot write {folder}: {error.strerror}") from error


def config_text(config: Config) -> str:
    """Every option as YAML, those that differ from the defaults on top: what makes the run what it is."""
    options, defaults = config.flat(), Config(script=config.script).flat()
    chosen = {name: value for name, value in options.items() if name not in defaults or value != defaults[name]}
    others = {name: value for name, value in options.items() if name not in chosen}
    parts = [yaml.safe_dump(part, sort_keys=False, allow_unicode=True) if part else "" for part in (chosen, others)]
    return f"# What differs from the defaults:\n{parts[0]}\n# As by default:\n{parts[1]}"


def require_same_start(folder: Path, facts: dict[str, Any]) -> None:
    """What is no option and yet decides what a run computes has to be what it was when the run began.

    Args:
        folder: of a run that has begun.
        facts: of `START` what is known now. What the folder does not tell is not compared: older versions noted less.

    Raises:
        UserError: the data were prepared anew with another content, the pretrained model or another file that the run
            reads is another one, or another number of processes trains.
    """
    stored = noted_start(folder)
    if changed := changed_start(stored, facts):
        name = changed[0]
        raise UserError(
            f"{folder}: its run began with {name} {stored[name]}, and this is {facts[name]}; restore that to go on, "
            "or begin anew with overwrite: true"
        )


def noted_start(folder: Path) -> dict[str, Any]:
    """What the ``environment.json`` of a run tells; nothing where it cannot be read, as options are compared too."""
    try:
        return json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def changed_start(stored: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Names of `START` that both tell and that differ."""
    return [name for name in START if name in stored and name in facts and stored[name] != facts[name]]


def input_fingerprints(config: Config) -> dict[str, str]:
    """Hashes of the files that a run reads beside its data and its model, by their names in ``environment.json``.

    Files that are not there any more, of which a finished run needs none, and tokenizers of the hub have none.

    Raises:
        UserError: a prompt template that is there cannot be read.
    """
    found = {}
    labels, template, tokenizer = (
        config.robust.soft_labels,
        config.instruct.prompt_template,
        config.model.tokenizer_name_or_path,
    )
    if labels is not None and Path(labels).is_file():
        found["soft_labels_fingerprint"] = file_sha256(Path(labels))
    if template not in (None, AUTO) and find_shipped(template, "configs/prompts").is_file():
        found["prompt_template_fingerprint"] = load_template(template).fingerprint
    if tokenizer is not None and find_model(tokenizer).is_dir():
        found["tokenizer_fingerprint"] = tokenizer_digest(find_model(tokenizer))
    return found


def revision_of(folder: Path) -> str | None:
    """The commit of the hub's model that a run began with; None where its folder does not tell."""
    return noted_start(folder).get("model_fingerprint")


def holds_another_run(folder: Path, config: Config, facts: dict[str, Any]) -> bool:
    """Whether a folder is left over from a run with other options or files, which never came to a checkpoint."""
    try:
        stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        known = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        then = Config(script=config.script).flat() | stored
        return bool(changed_options(then, config.flat()) or changed_start(known, facts))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return True


def forget_tracking(folder: Path) -> None:
    """Have trackers begin a new run: that of before is not this one. W&B's own files stay, to be synced for itself."""
    (folder / WANDB_RUN_ID).unlink(missing_ok=True)
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)


def changed_options(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Names of the options whose values differ between two flat configs, those without effect left out."""
    names = (stored.keys() | current.keys()) - HARMLESS
    return sorted(name for name in names if stored.get(name) != current.get(name))


def environment(config: Config, data_fingerprint: str) -> dict[str, Any]:
    """What is needed to tell why two runs differ: versions, commit, hardware, seeds, data, other files."""
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return {
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "git_commit": git_commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": config.training.seed,
        "evaluation_seed": EVALUATION_SEED,
        "data_fingerprint": data_fingerprint,
        **input_fingerprints(config),
    }
