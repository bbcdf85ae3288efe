"""Train a classifier, a tagger or a scorer of pairs: a pretrained backbone, a head, and a choice of what trains.

    python train_classifier.py --config configs/quickstart.yaml
    accelerate launch --quiet train_classifier.py --config configs/gemma1b.yaml --learning_rate 3e-5

The YAML holds any of the options below; options on the command line win. The run folder output_dir/run_name gets
config.yaml, environment.json, predictions/, figures/, checkpoints/, best/ and, last of all, metrics.json.
"""

from __future__ import annotations

from typing import Any

from opinionlm.config.parser import parse_config
from opinionlm.runs.launch import launch_script


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config, once or once per seed; returns what `launch_script` does."""
    result = launch_script(parse_config(argv, description=__doc__))
    # Imported late, so that --help and config errors answer at once.
    from opinionlm.utils.distributed import leave

    leave()
    return result
