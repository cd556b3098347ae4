"""The board itself: flash, dock, updates, health."""
