"""Measurements that support the claims of the README; each program says how it measures."""

import opinionlm  # noqa: F401  (before transformers: registers the models and quiets bitsandbytes)
