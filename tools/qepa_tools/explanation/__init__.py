"""Explanations of beats on recordings: why a beat got its class, and whether explanations are worth believing."""
