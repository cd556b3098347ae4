"""What the flash's main.py holds: start the application."""

from qepa_board.app import run

run()
