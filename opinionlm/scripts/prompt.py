"""Label texts without training: ask a language model with zero, one or several examples, or an entailment model.

    python prompt.py --config configs/gemma3_mini_prompt.yaml
    python prompt.py --config configs/gemma1b_prompt.yaml --shots 10 --seeds 0..2 --calibration contextual
    python prompt.py --method entailment --model_name_or_path facebook/bart-large-mnli

The YAML holds any of the options below; options on the command line win. Examples come from train alone, in equal
numbers per class, drawn with the seed; with several seeds each is one execution, and mean and spread are reported.
The run folder output_dir/run_name gets config.yaml, environment.json, predictions/, figures/ and metrics.json.
"""

from __future__ import annotations

from typing import Any

from opinionlm.config.config import Config
from opinionlm.config.parser import parse_config
from opinionlm.runs.launch import announce
from opinionlm.runs.lock import locked_run
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config, once or once per seed.

    Returns:
        What ``metrics.json`` (or the summary over seeds) holds; None where nothing was left to do.
    """
    config = parse_config(argv, description=__doc__, script="prompt")

    with locked_run(config.training):
        announce(config)
        return ask(config)


def ask(config: Config) -> dict[str, Any] | None:
    """Run a config whose run folders are this process's; returns what `main` does."""
    # Imported late, so that --help and config errors answer at once.
    with libraries_loading():
        from opinionlm.runs.folder import is_finished
        from opinionlm.runs.prompting import load_model, open_run, open_task, run_prompting
        from opinionlm.runs.seeds import seed_configs, stored_metrics, summarise_seeds
        from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    configs = [config] if config.training.seeds is None else seed_configs(config)
    result = None
    pending = []
    for one in configs:
        if is_finished(one):
            print(f"{one.run_folder} is finished already; overwrite: true asks again")
        else:
            pending.append(one)
    if pending:
        # Everything that can go wrong without the model goes wrong here, for all seeds.
        task = open_task(config)
        runs = [open_run(one, task) for one in pending]
        model = load_model(config, task)
        for run in runs:
            result = run_prompting(run, task, model)
    if config.training.seeds is not None:
        result = summarise_seeds(
            config.training, {one.training.seed: stored_metrics(one.run_folder) for one in configs}
        )
    return result
