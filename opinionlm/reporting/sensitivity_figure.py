"""Figure of an AdaPT selection: which sub-layers train, and what made them sensitive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opinionlm.adaptation.adapt.selection import ScoredModule, Selection
from opinionlm.reporting.figures import BLUE, GREY, styled

PALE = "#BBD7E8"


@styled
def sensitivity_figure(selection: Selection) -> Figure:
    """Dispersion, gradient norm and score of every sub-layer, topmost block first; what trains is dark."""
    modules = selection.modules[::-1]
    figure = Figure(figsize=(9.5, 1.6 + 0.24 * len(modules)), layout="constrained")
    columns = figure.subplots(1, 3, sharey=True)
    _bars(columns[0], modules, [module.dispersion for module in modules], "Index of dispersion")
    _bars(columns[1], modules, [module.gradient_norm for module in modules], "Gradient norm per text")
    kind = "standardised" if selection.standardise else "raw"
    _bars(columns[2], modules, [module.score for module in modules], f"Score ({kind}, β = {selection.beta:g})")
    columns[2].axvline(0.0, color=GREY, linewidth=0.8)
    names = [f"{module.block} {module.kind.replace('_', '-')}" for module in modules]
    columns[0].set_yticks(range(len(modules)), names)
    columns[0].set_ylim(len(modules) - 0.4, -0.6)
    trained = sum(module.selected for module in modules)
    figure.suptitle(
        f"{trained} of {len(modules)} sub-layers train: {selection.share:.1%} of the "
        f"parameters (budget {selection.budget:.0%}), measured on {selection.examples:,} texts",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _bars(axes: Axes, modules: Sequence[ScoredModule], values: Sequence[float], title: str) -> None:
    """One measure of all sub-layers."""
    colours = [BLUE if module.selected else PALE for module in modules]
    axes.barh(np.arange(len(modules)), values, height=0.72, color=colours)
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
