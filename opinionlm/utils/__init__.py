"""Helpers without a subject of ours: files, YAML, environment, processes, Markdown."""
