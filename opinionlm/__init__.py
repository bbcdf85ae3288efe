"""opinionlm: adapt language models to label posts, compare the ways, and know what to trust.

``import opinionlm`` makes the saved models loadable with ``AutoModelForSequenceClassification.from_pretrained``,
and saved taggers with ``AutoModelForTokenClassification``; torch and transformers are imported when they are needed.
"""

import os

from opinionlm.registration import register_on_demand

__version__ = "0.1.0"

# Large tensors in large pages: on a Linux CPU every step takes fresh memory for its gradients, and with small pages a
# sixth of its time goes into page faults. torch reads this once, when it is imported; elsewhere it means nothing.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

register_on_demand()
