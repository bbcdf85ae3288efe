"""Measurements of what the project claims about speed and memory; each prints a table of ratios and may write JSON."""
