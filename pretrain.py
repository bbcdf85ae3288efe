"""Go on with a model's pretraining on the texts of a training split, without their labels, before it is fine-tuned.

    python pretrain.py --config configs/pretrain_cryptoqa.yaml
    python train_classifier.py --dataset <the same YAML> --model_name_or_path outputs/pretrain_cryptoqa-seed42/model …

What it does stands in opinionlm/scripts/pretrain.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.pretrain import main

if __name__ == "__main__":
    run_script(main)
