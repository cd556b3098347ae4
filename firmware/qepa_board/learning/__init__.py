"""Learning on the board: beat features, models, local updates."""
