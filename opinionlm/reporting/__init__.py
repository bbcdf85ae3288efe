"""What people look at: figures and model cards."""
