"""The three streams: aggregate (rounds), care, alert."""
