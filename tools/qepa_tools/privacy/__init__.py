"""The ``qepa privacy`` commands: what patients have spent, and what a budget buys."""
