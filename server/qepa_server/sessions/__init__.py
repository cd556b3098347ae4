"""Gateways: certificates, sealed sessions, presence."""
