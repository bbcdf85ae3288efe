"""Linear reference models: TF-IDF and logistic regression, and their interpolation with a network."""
