"""Ways of adapting a model: which parameters train and what is added to it."""
