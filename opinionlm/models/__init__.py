"""Backbones of any family, classification heads, the classifier, quantisation."""
