"""Losses per example, weighted exactly over an optimizer step."""
