"""Saved models in forms that need nothing of this package: classes of transformers, or one modelling file."""
