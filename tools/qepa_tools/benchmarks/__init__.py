"""Benchmarks behind ``qepa bench``: ratios against a peer or the machine's own limit, taken in the same run."""
