"""Pretrain the bundled miniature of Gemma 3."""
