"""From prepared texts to token ids and batches."""
