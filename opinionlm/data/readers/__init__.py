"""Readers of files: lines, CSV, JSON, CoNLL, hub data sets, timestamps."""
