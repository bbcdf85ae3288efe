"""opinionlm: adapt language models to label posts, compare the ways, and know what to trust.

``import opinionlm`` makes the saved models loadable with ``AutoModelForSequenceClassification.from_pretrained``,
and saved taggers with ``AutoModelForTokenClassification``.
"""

import logging
import sys
import warnings

__version__ = "0.1.0"

# bitsandbytes warns on every CPU import that an optional kernel package is absent; nobody can act on it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# PEFT 0.21 asks every model it wraps by the old name of this property, which transformers 5.23 warns of.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

# Registration imports torch and transformers (about four seconds), which command-line help must not wait for.
if not {"-h", "--help"} & set(sys.argv):
    from opinionlm.adaptation.adapt.tokenizer import register_task_token_tokenizer
    from opinionlm.models.registration import register_auto_classes

    register_auto_classes()
    register_task_token_tokenizer()
