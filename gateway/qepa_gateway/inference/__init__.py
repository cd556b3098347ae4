"""Models at the bedside: what the gateway makes of the care stream while a consent is in force."""
