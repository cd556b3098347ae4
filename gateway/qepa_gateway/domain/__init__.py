"""What the gateway decides, without I/O, clock or database: replay, keys, admission, rounds, sums."""
