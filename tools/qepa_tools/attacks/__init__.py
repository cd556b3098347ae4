"""Simulated attackers against the server's own rules: ``qepa simulate attack``."""
