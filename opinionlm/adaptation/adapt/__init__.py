"""AdaPT (Krishnan, Wang and Kong): task tokens from closed sequences, sparse fine-tuning by sensitivity."""
