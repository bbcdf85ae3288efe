"""One self-contained HTML page that compares the runs of an output folder."""
