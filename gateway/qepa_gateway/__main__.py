"""``python -m qepa_gateway``."""

from .main import main

main()
