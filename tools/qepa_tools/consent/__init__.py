"""The consent desk: what patients allow, signed, and taken back."""
