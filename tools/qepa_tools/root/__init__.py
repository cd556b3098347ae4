"""The offline root, for whoever keeps it."""
