"""Make a data set from raw files: clean, remove copies, split, report.

    python preprocess.py --config configs/datasets/cryptoqa.yaml
    python preprocess.py --config configs/datasets/cryptoqa.yaml --suspects

What it does stands in opinionlm/scripts/preprocess.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.preprocess import main

if __name__ == "__main__":
    run_script(main)
