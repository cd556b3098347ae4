"""How the model learns from what was opened."""
