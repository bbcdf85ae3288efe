"""Go on with a model's pretraining on the texts of a training split, without their labels, before it is fine-tuned.

    python pretrain.py --config configs/pretrain_cryptoqa.yaml
    python train_classifier.py --dataset <the same YAML> --model_name_or_path outputs/pretrain_cryptoqa-seed42/model …

Encoders (BERT, RoBERTa, ModernBERT, MiniLM) fill in masked words, causal models (GPT-2, Llama, Gemma) write the next
one (task-adaptive pretraining, Gururangan et al. 2020). Only texts of the training split are read, never those of
validation and test. A share of them is held out to measure the perplexity before and after. The run folder gets
config.yaml, environment.json, checkpoints/, model/ and, last of all, metrics.json; an interrupted run goes on.
"""

from __future__ import annotations

from typing import Any

from opinionlm.config.parser import parse_config
from opinionlm.runs.launch import announce
from opinionlm.runs.lock import locked_run
from opinionlm.utils.loading import libraries_loading


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run a config; returns the content of ``metrics.json``, None where the run was finished already."""
    config = parse_config(argv, description=__doc__, script="pretrain")

    with locked_run(config.training):
        announce(config)
        # Imported late, so that --help and config errors answer at once.
        with libraries_loading():
            from opinionlm.runs.pretrain import pretrain
            from opinionlm.utils.distributed import leave, quiet_libraries

        quiet_libraries()
        result = pretrain(config)
    leave()
    return result
