"""`opinionlm init`."""
