"""Signals: samples in, vital signs out. Integers only, causal, nothing allocated while sampling."""
