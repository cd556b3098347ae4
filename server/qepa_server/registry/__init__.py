"""Models: versions, signatures, releases."""
