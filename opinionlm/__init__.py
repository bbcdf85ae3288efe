"""opinionlm: adapt language models to label posts, compare the ways, and know what to trust."""

__version__ = "0.1.0"
