"""Conformance suite for key-management entities after ETSI GS QKD 014 V1.1.1, ours and others."""
