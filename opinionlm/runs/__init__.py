"""One run: its folder, its results, its seeds."""
