"""The release desk: which models are where, pushed and taken back under a signature."""
