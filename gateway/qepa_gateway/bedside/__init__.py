"""The local page and API at the bedside."""
