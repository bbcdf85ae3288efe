"""opinionlm: adapt language models to label posts, compare the ways, and know what to trust.

``import opinionlm`` makes the saved models loadable with ``AutoModelForSequenceClassification.from_pretrained``,
and saved taggers with ``AutoModelForTokenClassification``.
"""

import gc
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.errors import UserError

if TYPE_CHECKING:
    from opinionlm.api import compare, load, prepare, prompt, train, train_instruct

__version__ = "0.1.0"
__all__ = ["UserError", "compare", "load", "prepare", "prompt", "train", "train_instruct"]

# bitsandbytes warns on every CPU import that an optional kernel package is absent; nobody can act on it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# PEFT 0.21 asks every model it wraps by the old name of this property, which transformers 5.23 warns of.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

# Large tensors in large pages: on a Linux CPU every step takes fresh memory for its gradients, and with small pages a
# sixth of its time goes into page faults. torch reads this once, when it is imported; elsewhere it means nothing.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# Registration imports torch and transformers: four seconds and half a gigabyte. Help must not wait for them; cleaning
# posts has no use for them, and each of its processes would pay again.
WITHOUT_MODELS = "OPINIONLM_WITHOUT_MODELS"
_cleans_posts = WITHOUT_MODELS in os.environ or any(Path(script).name == "preprocess.py" for script in sys.argv[:1])
if not ({"-h", "--help"} & set(sys.argv) or _cleans_posts):
    # Imports make millions of objects that stay: looking for garbage among them takes a quarter of their time.
    _collects = gc.isenabled()
    gc.disable()
    from opinionlm.adaptation.adapt.tokenizer import register_task_token_tokenizer
    from opinionlm.models.tagger import register_auto_classes

    register_auto_classes()
    register_task_token_tokenizer()
    if _collects:
        gc.enable()


def __getattr__(name: str) -> Any:
    """The functions of `opinionlm.api`, loaded when the first of them is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opinionlm import api

    return getattr(api, name)
