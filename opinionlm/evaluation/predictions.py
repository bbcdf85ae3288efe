"""The predictions of one split, as all that shows them reads them; every kind of task has its own."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from opinionlm.evaluation.charts import Chart
from opinionlm.utils.markdown import Table


class Predictions:
    """Gold and predicted labels, tags or scores of one split, rows in the order of its texts.

    Attributes:
        of_texts: whether every text has labels of its own, so that `scores_of` can leave texts out.
    """

    of_texts: ClassVar[bool] = False

    def scores_of(self, rows: np.ndarray) -> dict[str, Any]:
        """Main scores of some rows, bool ``(rows,)``, with their intervals; macro-F1 is one of them.

        Raises:
            NotImplementedError: not `of_texts`.
        """
        raise NotImplementedError(f"{type(self).__name__} are no labels of texts")

    def intervals(self) -> dict[str, Any]:
        """95 % bootstrap intervals of the main scores, as ``<name>_ci95``."""
        return {}

    def charts(self) -> dict[str, Chart]:
        """What figures show of the split, by name."""
        return {}

    def tables(self) -> dict[str, Table]:
        """Small tables of the split, by name."""
        return {}

    def remarks(self) -> list[str]:
        """What a person should know before the answers are used, a line each."""
        return []
