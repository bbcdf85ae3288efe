"""The figure of a data report: how long the texts are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from opinionlm.data.figure_text import make_readable


def draw_token_lengths(path: Path, parts: list[tuple[str, np.ndarray]]) -> None:
    """One histogram per platform, on a common logarithmic axis, with the median marked.

    Args:
        path: the PNG file to write.
        parts: lengths in tokens by platform; where there are several, the last one is all of them together.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    if len(parts) > 1:
        parts = parts[:-1]
    longest = max(int(tokens.max()) for _, tokens in parts)
    bins = np.unique(np.round(np.geomspace(1, max(longest, 2) + 1, 40)).astype(int))
    # A Figure of its own instead of pyplot: no global state, no window system.
    figure = Figure(figsize=(7, 0.8 + 1.7 * len(parts)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, tokens) in zip(axes, parts, strict=True):
        axis.hist(np.maximum(tokens, 1), bins=bins, color="#0072B2", edgecolor="white", linewidth=0.4)
        axis.axvline(np.median(tokens), color="#D55E00", linestyle="--", linewidth=1.5)
        title = f"{name}: {len(tokens):,} posts, median {np.median(tokens):g}, longest {int(tokens.max()):,} tokens"
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.set_ylabel("posts")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].set_xlabel("length in tokens (logarithmic); dashed: median")
    make_readable(figure).savefig(path)
