"""From raw files to model inputs: label trees, readers, cleaning, splits, statistics, encoding."""
