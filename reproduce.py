"""Reproduce tables of papers: run what is missing of a grid, then put the numbers beside the published ones.

    python reproduce.py configs/tables/methods_bert_emotion.yaml --scale small
    python reproduce.py configs/tables/*.yaml --scale smoke --dry_run

What it does stands in opinionlm/scripts/reproduce.py.
"""

import sys

from opinionlm.errors import run_script
from opinionlm.scripts.reproduce import main

if __name__ == "__main__":
    run_script(lambda: sys.exit(main()))
