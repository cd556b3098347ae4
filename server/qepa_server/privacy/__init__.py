"""Differential privacy of patients: what a round costs, who has budget left, the durable account."""
