"""The predictions of one split, as all that shows them reads them; every kind of task has its own."""

from __future__ import annotations

from typing import Any

from opinionlm.evaluation.charts import Chart
from opinionlm.utils.markdown import Table


class Predictions:
    """Gold and predicted labels, tags or scores of one split, rows in the order of its texts."""

    def intervals(self) -> dict[str, Any]:
        """95 % bootstrap intervals of the main scores, as ``<name>_ci95``."""
        return {}

    def charts(self) -> dict[str, Chart]:
        """What figures show of the split, by name."""
        return {}

    def tables(self) -> dict[str, Table]:
        """Small tables of the split, by name."""
        return {}
