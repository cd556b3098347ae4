"""Opening sums."""
