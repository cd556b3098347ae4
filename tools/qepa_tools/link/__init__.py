"""The `qepa link` commands."""
