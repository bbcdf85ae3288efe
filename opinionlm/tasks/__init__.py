"""What differs between tasks: losses, evaluation, what is tabulated and drawn."""
