"""Generate the bundled sample data."""
