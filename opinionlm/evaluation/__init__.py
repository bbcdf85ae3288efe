"""Metrics, hierarchical scores, predictions."""
