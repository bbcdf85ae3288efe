"""Train a classifier, a tagger or a scorer of pairs: a pretrained backbone, a head, and a choice of what trains.

    python train_classifier.py --config configs/quickstart.yaml
    accelerate launch train_classifier.py --config configs/gemma1b.yaml --learning_rate 3e-5

The YAML holds any of the options below; options on the command line win. The run folder output_dir/run_name gets
config.yaml, environment.json, predictions/, figures/, checkpoints/, best/ and, last of all, metrics.json.
"""

from __future__ import annotations

from typing import Any

from opinionlm.config.parser import parse_config
from opinionlm.runs.lock import locked_run
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config, once or once per seed; returns what `opinionlm.runs.seeds.train_seeds` does."""
    config = parse_config(argv, description=__doc__)
    with locked_run(config):
        # Imported late, so that --help and config errors answer at once.
        with libraries_loading():
            from opinionlm.runs.seeds import train_seeds
            from opinionlm.runs.train_classifier import train
            from opinionlm.utils.distributed import leave, quiet_libraries

        quiet_libraries()
        result = train_seeds(config, train)
    leave()
    return result
