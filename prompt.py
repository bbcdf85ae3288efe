"""Label texts without training: ask a language model with zero, one or several examples, or an entailment model.

    python prompt.py --config configs/gemma3_mini_prompt.yaml
    python prompt.py --config configs/gemma1b_prompt.yaml --shots 10 --seeds 0..2 --calibration contextual
    python prompt.py --method entailment --model_name_or_path facebook/bart-large-mnli

What it does stands in opinionlm/scripts/prompt.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.prompt import main

if __name__ == "__main__":
    run_script(main)
