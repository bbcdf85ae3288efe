"""Trackers of a run: Weights & Biases and TensorBoard."""
