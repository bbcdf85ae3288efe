"""Teach a language model to write its answers: prompts from a template, a loss on the answers' tokens alone.

    python train_instruct.py --config configs/gemma3_mini_instruct.yaml
    accelerate launch --quiet train_instruct.py --config configs/gemma1b_instruct.yaml --learning_rate 3e-5

What it does stands in opinionlm/scripts/train_instruct.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.train_instruct import main

if __name__ == "__main__":
    run_script(main)
