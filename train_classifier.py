"""Train a classifier, a tagger or a scorer of pairs: a pretrained backbone, a head, and a choice of what trains.

    python train_classifier.py --config configs/quickstart.yaml
    accelerate launch --quiet train_classifier.py --config configs/gemma1b.yaml --learning_rate 3e-5

What it does stands in opinionlm/scripts/train_classifier.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.train_classifier import main

if __name__ == "__main__":
    run_script(main)
