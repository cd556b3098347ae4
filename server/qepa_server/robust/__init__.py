"""Robust aggregation over cells."""
