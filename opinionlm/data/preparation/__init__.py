"""From raw rows to a prepared data set: clean, remove copies, split, report."""
