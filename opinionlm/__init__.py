"""opinionlm: adapt language models to label posts, compare the ways, and know what to trust.

``import opinionlm`` makes the saved models loadable with ``AutoModelForSequenceClassification.from_pretrained``,
and saved taggers with ``AutoModelForTokenClassification``; torch and transformers are imported when they are needed.
"""

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from opinionlm.errors import UserError
from opinionlm.registration import register_on_demand

if TYPE_CHECKING:
    from opinionlm.api import compare, load, prepare, prepare_blocks, prompt, train, train_instruct

__version__ = "0.1.0"
__all__ = ["UserError", "compare", "load", "prepare", "prepare_blocks", "prompt", "train", "train_instruct"]

# Large tensors in large pages: on a Linux CPU every step takes fresh memory for its gradients, and with small pages a
# sixth of its time goes into page faults. torch reads this once, when it is imported; elsewhere it means nothing.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# What two libraries say that nobody can act on, from wherever they are first imported: bitsandbytes, which peft
# imports, that an optional kernel package is absent; transformers 5.23, that PEFT 0.21 asks every model it wraps by
# the old name of a property.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

register_on_demand()


def __getattr__(name: str) -> Any:
    """The functions of `opinionlm.api`, loaded when the first of them is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opinionlm import api

    return getattr(api, name)
