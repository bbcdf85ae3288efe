"""Teach a language model to write its answers: prompts from a template, a loss on the answers' tokens alone.

    python train_instruct.py --config configs/gemma3_mini_instruct.yaml --data_dir ../shared/data
    accelerate launch train_instruct.py --config configs/gemma1b_instruct.yaml --learning_rate 3e-5

The YAML holds any of the options below; options on the command line win. The run folder output_dir/run_name gets
config.yaml, environment.json, rejects.csv, predictions/, figures/, checkpoints/, best/ and, last, metrics.json.
"""

from __future__ import annotations

from typing import Any

from opinionlm.config.parser import parse_config
from opinionlm.runs.lock import locked_run
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config, once or once per seed; returns what `opinionlm.runs.seeds.train_seeds` does."""
    config = parse_config(argv, description=__doc__, script="train_instruct")
    with locked_run(config):
        # Imported late, so that --help and config errors answer at once.
        with libraries_loading():
            from opinionlm.runs.seeds import train_seeds
            from opinionlm.runs.train_instruct import train
            from opinionlm.utils.distributed import leave, quiet_libraries

        quiet_libraries()
        result = train_seeds(config, train)
    leave()
    return result
