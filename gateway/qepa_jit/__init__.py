"""Numba for hot loops: compiled once a machine and kept on disk, by programs that may all start at once."""
