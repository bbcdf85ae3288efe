"""What stands around runs: tracking, figures, pretraining of the bundled miniature."""
