"""Write a trained model in a form that loads where opinionlm is absent.

    python export.py outputs/<run>
    python export.py outputs/<run> --format remote_code
    python export.py outputs/<run> --format onnx

What it does stands in opinionlm/scripts/export.py.
"""

from opinionlm.errors import run_script
from opinionlm.scripts.export import main

if __name__ == "__main__":
    run_script(main)
