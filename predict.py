"""Label posts, tag words or score pairs with a trained model: any number of them, in constant memory.

    python predict.py --model outputs/<run>/best --input posts.csv --output labels.csv
    cat posts.txt | python predict.py --model outputs/<run>/best --input - --output - > labels.csv
    python predict.py --model outputs/<run>/best --input pairs.tsv --pair_column other --output scores.csv
    python predict.py --model outputs/<run>/best --input sentences.txt --output entities.conll
    python predict.py --model outputs/<run>/best --input posts.csv --output labels.csv --label_sets 0.9
    python predict.py --model outputs/<a>/best outputs/<b>/best --input posts.csv --output labels.csv
    python predict.py --model outputs/<run>/best --merge merged

What it does stands in opinionlm/scripts/predict.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.predict import main

if __name__ == "__main__":
    run_script(main)
