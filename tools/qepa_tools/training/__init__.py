"""Data sets for the models at the bedside, made from recordings by the board's own code."""
