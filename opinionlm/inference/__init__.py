"""Saved models that answer."""
