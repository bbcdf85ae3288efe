"""Trainer, losses, callbacks, checkpoints and the run folder."""
