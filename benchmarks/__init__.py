"""Measurements of what the project claims about speed and memory; each prints a table of ratios and may write JSON."""

import opinionlm  # noqa: F401  (before transformers: it quiets an import warning that nobody can act on)
