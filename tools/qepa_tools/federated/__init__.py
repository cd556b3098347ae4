"""Rounds of learning in the true protocol, in memory: what protection, privacy and hostile boards cost in accuracy."""
