"""Rounds: opening, collecting, settling."""
